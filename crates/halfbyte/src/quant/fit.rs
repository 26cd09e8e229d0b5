//! Least-squares fits of a block's scale (and minimum) to its values.
//!
//! Both searches try a list of starting scales. For each they give every element its nearest code,
//! solve for the scale that is best for these codes in closed form, and repeat once, since the
//! codes move with the scale. The candidate with the smallest squared error wins. This costs more
//! than taking the extremes as the ends of the range, and saves up to a tenth of the error.

/// The scale s that makes Σ (x − s·v)² small, where v is `nearest` of x / s.
///
/// `starts` are candidates of 1/s. 0 if nothing but zeros (or no usable start) is there.
/// With v given, s = Σ x·v / Σ v² is best, and lowers the squared error by (Σ x·v)² / Σ v².
pub(super) fn scale<const N: usize>(
    x: &[f32; N],
    nearest: impl Fn([f32; N]) -> [f32; N],
    starts: impl Iterator<Item = f32>,
) -> f32 {
    let (mut best, mut best_gain) = (0.0, 0.0);
    for start in starts {
        let mut inverse = start;
        for _ in 0..ROUNDS {
            let v = nearest(x.map(|x| x * inverse));
            let (xv, vv) = (dot(x, &v), dot(&v, &v));
            let gain = xv * xv / vv;
            if gain > best_gain {
                (best, best_gain) = (xv / vv, gain);
            }
            inverse = vv / xv;
            if !inverse.is_finite() {
                break;
            }
        }
    }
    best
}

/// The scale s ≥ 0 and minimum m ≥ 0 that make Σ (x − s·q + m)² small, for codes q of 0..=15.
///
/// A block of positive values has m = 0: the encodings that use this cannot raise their lowest
/// value above 0.
pub(super) fn scale_and_min(x: &[f32; 32]) -> (f32, f32) {
    let low = x.iter().fold(0.0f32, |low, &v| low.min(v));
    let high = x.iter().fold(low, |high, &v| high.max(v));
    let sum_x = sum(x);
    let mut best = (0.0, (-sum_x / 32.0).max(0.0));
    let mut best_error = affine_error(x, &[0.0; 32], best);
    for span in AFFINE_SPANS {
        let mut fitted = ((high - low) / span, -low);
        for _ in 0..ROUNDS {
            let q = affine_codes(x, fitted);
            let Some(solved) = solve_affine(x, &q, sum_x) else { break };
            fitted = solved;
            let error = affine_error(x, &q, fitted);
            if error < best_error {
                (best, best_error) = (fitted, error);
            }
        }
    }
    best
}

/// The codes 0..=15 nearest to `x` under a scale and a minimum, as floats.
pub(super) fn affine_codes(x: &[f32; 32], (scale, min): (f32, f32)) -> [f32; 32] {
    let inverse = super::blocks::inverse(scale);
    x.map(|x| round_small(((x + min) * inverse).clamp(0.0, 15.0)))
}

/// Σ (x − scale·q + min)².
pub(super) fn affine_error(x: &[f32; 32], q: &[f32; 32], (scale, min): (f32, f32)) -> f32 {
    let rest: [f32; 32] = std::array::from_fn(|i| x[i] - scale * q[i] + min);
    dot(&rest, &rest)
}

/// `v` rounded to an integer, halves to even, for |v| < 2²².
///
/// Adding 1.5·2²³ leaves no bits for a fraction. `f32::round_ties_even` is a function call per
/// element on plain x86-64; this is two additions, and runs on vectors.
pub(super) fn round_small(v: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0;
    (v + SHIFT) - SHIFT
}

/// Σ a·b over 8 fixed lanes; N a multiple of 8.
pub(super) fn dot<const N: usize>(a: &[f32; N], b: &[f32; N]) -> f32 {
    let mut lanes = [0.0f32; 8];
    for (a, b) in a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0) {
        for i in 0..8 {
            lanes[i] += a[i] * b[i];
        }
    }
    lanes.iter().sum()
}

/// Σ a, as [`dot`].
fn sum<const N: usize>(a: &[f32; N]) -> f32 {
    dot(a, &[1.0; N])
}

/// Least squares for codes `q`; `None` if they are all zero.
fn solve_affine(x: &[f32; 32], q: &[f32; 32], sum_x: f32) -> Option<(f32, f32)> {
    let (sum_q, qq, xq) = (sum(q), dot(q, q), dot(x, q));
    if qq == 0.0 {
        return None;
    }
    let determinant = 32.0 * qq - sum_q * sum_q;
    let scale = (32.0 * xq - sum_x * sum_q) / determinant;
    let min = (scale * sum_q - sum_x) / 32.0;
    // Equal codes determine a scale, but no minimum next to it.
    if determinant > 0.0 && min >= 0.0 { Some((scale, min)) } else { Some((xq / qq, 0.0)) }
}

/// How often codes and scale are fitted to each other from one start.
const ROUNDS: usize = 2;

/// Steps between the lowest and the highest value that the affine search starts from: 15 spends
/// all codes on the range; more clip its ends, which pays since few values are there.
const AFFINE_SPANS: [f32; 8] = [13.5, 14.25, 15.0, 15.75, 16.5, 17.5, 18.5, 20.0];
