//! Fused multiply-add for processors that lack the instruction.

/// `a · b + c`, rounded once.
///
/// With the instruction it is one; without, the product is exact in f64 (48 of 53 bits), the sum is
/// rounded to odd there, and rounding to odd with more than two spare bits makes the final rounding
/// to f32 the correct one.
///
/// Source: S. Boldo and G. Melquiond, "Emulation of FMA and correctly rounded sums: proved
/// algorithms using rounding to odd", IEEE Transactions on Computers 57 (2008).
#[inline(always)]
pub(crate) fn fma(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(any(target_feature = "fma", target_arch = "aarch64")) {
        a.mul_add(b, c)
    } else {
        emulated(a, b, c)
    }
}

#[inline(always)]
fn emulated(a: f32, b: f32, c: f32) -> f32 {
    let (p, c) = (f64::from(a) * f64::from(b), f64::from(c));
    let sum = p + c;
    // Knuth's two-sum: `error` is exactly what rounding `p + c` lost.
    let back = sum - p;
    let error = (p - (sum - back)) + (c - back);
    let bits = sum.to_bits();
    if error == 0.0 || !error.is_finite() || bits & 1 == 1 {
        return sum as f32;
    }
    // Round to odd: the neighbour on the error's side has the odd mantissa.
    let away = (error > 0.0) == (sum > 0.0);
    f64::from_bits(if away { bits + 1 } else { bits - 1 }) as f32
}

#[cfg(test)]
mod tests {
    use super::emulated;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    #[test]
    fn emulated_fma_is_correctly_rounded() {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        let mut special =
            vec![0.0, -0.0, 1.0, -1.0, f32::MIN_POSITIVE, 1e-45, f32::MAX, f32::INFINITY];
        special.extend([1.0 + f32::EPSILON, 1.0 - f32::EPSILON / 2.0, 3e-39, 16_777_216.0]);
        let check = |a: f32, b: f32, c: f32| {
            let (got, want) = (emulated(a, b, c), a.mul_add(b, c));
            let same = got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan());
            assert!(same, "fma({a:e}, {b:e}, {c:e}) = {got:e}, want {want:e}");
        };
        for &a in &special {
            for &b in &special {
                for &c in &special {
                    check(a, b, c);
                    check(-a, b, c);
                }
            }
        }
        for _ in 0..2_000_000 {
            let (a, b) = (f32::from_bits(rng.next_u32()), f32::from_bits(rng.next_u32()));
            check(a, b, f32::from_bits(rng.next_u32()));
            // Near-cancelling sums are where double rounding would show.
            let near = a as f64 * b as f64 * (1.0 + f64::from(rng.next_u32() as i32) * 1e-16);
            check(a, b, -near as f32);
        }
    }
}
