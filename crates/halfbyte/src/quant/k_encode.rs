//! Encoding of Q4_K and Q6_K by least squares.
//!
//! First every sub-block gets its own best scale in f32 (`fit.rs`). The block's f16 factor then
//! follows from the largest of them, the small integers are chosen by the error that the elements
//! really get, trying the neighbours too, and the factor is fitted again to all of these choices.
//! Weights count alike; nothing else is known about their importance here.

use super::blocks::{F16_MAX, inverse, put_f16, round_to_f16, saturate};
use super::fit;
use super::k_quants::put_scales_and_mins;

/// How often the small integers and the f16 factors are fitted to each other.
const ROUNDS: usize = 2;

/// A Q4_K block before it is written: x ≈ d·scale·q − dmin·min, by sub-blocks of 32.
#[derive(Clone, Copy)]
struct Q4K {
    d: f32,
    dmin: f32,
    scales: [u8; 8],
    mins: [u8; 8],
    codes: [[f32; 32]; 8],
    error: f32,
}

pub(super) fn encode_q4_k(x: &[f32; 256], out: &mut [u8; 144]) {
    // What the largest dmin and minimum can form: keeps both factors within f16.
    let x = saturate(x, -63.0 * F16_MAX, 63.0 * F16_MAX);
    let x: [[f32; 32]; 8] = std::array::from_fn(|j| std::array::from_fn(|i| x[32 * j + i]));
    let fitted = x.map(|x| fit::scale_and_min(&x));
    let largest = |of: fn((f32, f32)) -> f32| fitted.iter().fold(0.0f32, |a, &f| a.max(of(f)));
    let (d, dmin) = (round_to_f16(largest(|f| f.0) / 63.0), round_to_f16(largest(|f| f.1) / 63.0));
    let mut best = Q4K::choose(&x, d, dmin, fitted);
    for _ in 1..ROUNDS {
        let (d, dmin) = best.refit_factors(&x);
        let next = Q4K::choose(&x, d, dmin, best.fitted());
        if next.error < best.error {
            best = next;
        }
    }
    best.write(out);
}

impl Q4K {
    /// The best integers around `fitted`, the scale and minimum wanted for each sub-block.
    fn choose(x: &[[f32; 32]; 8], d: f32, dmin: f32, fitted: [(f32, f32); 8]) -> Self {
        let mut block =
            Self { d, dmin, scales: [0; 8], mins: [0; 8], codes: [[0.0; 32]; 8], error: 0.0 };
        for j in 0..8 {
            let mut best_error = f32::INFINITY;
            for scale in neighbours(fitted[j].0 * inverse(d)) {
                for min in neighbours(fitted[j].1 * inverse(dmin)) {
                    let actual = (d * f32::from(scale), dmin * f32::from(min));
                    let codes = fit::affine_codes(&x[j], actual);
                    let error = fit::affine_error(&x[j], &codes, actual);
                    if error < best_error {
                        best_error = error;
                        (block.scales[j], block.mins[j], block.codes[j]) = (scale, min, codes);
                    }
                }
            }
            block.error += best_error;
        }
        block
    }

    /// Each sub-block's scale and minimum as they decode.
    fn fitted(&self) -> [(f32, f32); 8] {
        std::array::from_fn(|j| {
            (self.d * f32::from(self.scales[j]), self.dmin * f32::from(self.mins[j]))
        })
    }

    /// The factors that are best for these integers: least squares over the whole block.
    fn refit_factors(&self, x: &[[f32; 32]; 8]) -> (f32, f32) {
        // x ≈ d·a − dmin·b with a = scale·q, b = min: the normal equations, in f64.
        let [mut aa, mut ab, mut bb, mut ax, mut bx] = [0.0f64; 5];
        for j in 0..8 {
            let (scale, b) = (f64::from(self.scales[j]), f64::from(self.mins[j]));
            let (q, ones) = (&self.codes[j], &[1.0; 32]);
            let (sum_q, sum_x) = (f64::from(fit::dot(q, ones)), f64::from(fit::dot(&x[j], ones)));
            aa += scale * scale * f64::from(fit::dot(q, q));
            ab += scale * b * sum_q;
            bb += 32.0 * b * b;
            ax += scale * f64::from(fit::dot(&x[j], q));
            bx += b * sum_x;
        }
        let determinant = aa * bb - ab * ab;
        let (d, dmin) = if determinant > 0.0 {
            ((ax * bb - bx * ab) / determinant, (ax * ab - bx * aa) / determinant)
        } else {
            (if aa > 0.0 { ax / aa } else { 0.0 }, f64::from(self.dmin))
        };
        (round_to_f16(d as f32), round_to_f16(dmin as f32))
    }

    fn write(&self, out: &mut [u8; 144]) {
        put_f16(out, 0, self.d);
        put_f16(out, 2, self.dmin);
        put_scales_and_mins(&mut out[4..16], &self.scales, &self.mins);
        for (pair, bytes) in self.codes.as_chunks::<2>().0.iter().zip(out[16..].chunks_mut(32)) {
            for (i, byte) in bytes.iter_mut().enumerate() {
                *byte = pair[0][i] as u8 | (pair[1][i] as u8) << 4;
            }
        }
    }
}

/// The 6-bit integers next to `wanted`: below, nearest, above.
fn neighbours(wanted: f32) -> [u8; 3] {
    let nearest = fit::round_small(wanted.clamp(0.0, 63.0)) as u8;
    [nearest.saturating_sub(1), nearest, (nearest + 1).min(63)]
}

/// A Q6_K block before it is written: x ≈ d·scale·q, by sub-blocks of 16.
#[derive(Clone, Copy)]
struct Q6K {
    d: f32,
    scales: [i8; 16],
    codes: [[f32; 16]; 16],
    error: f32,
}

pub(super) fn encode_q6_k(x: &[f32; 256], out: &mut [u8; 210]) {
    // What the largest factor, scale and code can form.
    let limit = 31.0 * 127.0 * F16_MAX;
    let x = saturate(x, -limit, limit);
    let x: [[f32; 16]; 16] = std::array::from_fn(|g| std::array::from_fn(|i| x[16 * g + i]));
    let fitted = x.map(|x| q6_scale(&x));
    let largest = fitted.iter().fold(0.0f32, |a, &s| if s.abs() > a.abs() { s } else { a });
    // −128, the longer end of an i8, for the largest scale.
    let mut best = Q6K::choose(&x, round_to_f16(largest / -128.0), fitted);
    for _ in 1..ROUNDS {
        let next = Q6K::choose(&x, best.refit_factor(&x), best.fitted());
        if next.error < best.error {
            best = next;
        }
    }
    best.write(out);
}

impl Q6K {
    /// The best integers around `fitted`, the scale wanted for each sub-block.
    fn choose(x: &[[f32; 16]; 16], d: f32, fitted: [f32; 16]) -> Self {
        let mut block = Self { d, scales: [0; 16], codes: [[0.0; 16]; 16], error: 0.0 };
        for g in 0..16 {
            let mut best_error = f32::INFINITY;
            let nearest = fit::round_small((fitted[g] * inverse(d)).clamp(-128.0, 127.0)) as i8;
            for scale in [nearest.saturating_sub(1), nearest, nearest.saturating_add(1)] {
                let actual = d * f32::from(scale);
                let codes = x[g].map(|x| q6_nearest(x * inverse(actual)));
                let rest: [f32; 16] = std::array::from_fn(|i| x[g][i] - actual * codes[i]);
                let error = fit::dot(&rest, &rest);
                if error < best_error {
                    best_error = error;
                    (block.scales[g], block.codes[g]) = (scale, codes);
                }
            }
            block.error += best_error;
        }
        block
    }

    /// Each sub-block's scale as it decodes.
    fn fitted(&self) -> [f32; 16] {
        self.scales.map(|scale| self.d * f32::from(scale))
    }

    /// The factor that is best for these integers: least squares over the whole block.
    fn refit_factor(&self, x: &[[f32; 16]; 16]) -> f32 {
        let (mut aa, mut ax) = (0.0f64, 0.0f64);
        for g in 0..16 {
            let (scale, q) = (f64::from(self.scales[g]), &self.codes[g]);
            aa += scale * scale * f64::from(fit::dot(q, q));
            ax += scale * f64::from(fit::dot(&x[g], q));
        }
        round_to_f16(if aa > 0.0 { (ax / aa) as f32 } else { 0.0 })
    }

    fn write(&self, out: &mut [u8; 210]) {
        out.fill(0);
        for (e, &q) in self.codes.as_flattened().iter().enumerate() {
            let code = (q + 32.0) as u8;
            out[64 * (e / 128) + e % 64] |= (code & 15) << (4 * (e % 128 / 64));
            out[128 + 32 * (e / 128) + e % 32] |= (code >> 4) << (2 * (e % 128 / 32));
        }
        for (byte, scale) in out[192..208].iter_mut().zip(self.scales) {
            *byte = scale.cast_unsigned();
        }
        put_f16(out, 208, self.d);
    }
}

/// The best scale of one sub-block, of either sign: code −32 is one step longer than 31.
fn q6_scale(x: &[f32; 16]) -> f32 {
    let extreme = x.iter().fold(0.0f32, |a, &v| if v.abs() > a.abs() { v } else { a });
    fit::scale(x, |v| v.map(q6_nearest), Q6_STARTS.iter().map(|s| -s * inverse(extreme)))
}

/// Where the search lets the largest element fall: about code −32.
const Q6_STARTS: [f32; 12] =
    [30.0, 30.6, 31.1, 31.4, 31.7, 32.0, 32.3, 32.6, 32.9, 33.3, 33.8, 34.4];

/// The nearest code, −32..=31, as a float.
fn q6_nearest(v: f32) -> f32 {
    fit::round_small(v.clamp(-32.0, 31.0))
}
