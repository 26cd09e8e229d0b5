//! Exponential functions in lanes: our own polynomials, the same bits on every processor.

use super::lanes::Lanes;

/// `eˣ`, relative error below 2e-7; inputs are clamped to [−87, 88], so never 0 or infinite.
///
/// Source: argument reduction by Cody and Waite's two-part ln 2; Taylor coefficients to degree 7
/// on |r| ≤ ln 2 / 2, where the remainder is below 6e-9.
#[inline(always)]
pub(crate) fn exp<L: Lanes>(isa: L, x: L::F) -> L::F {
    let x = isa.max(x, isa.splat(-87.0));
    let x = isa.min(x, isa.splat(88.0));
    let n = isa.round(isa.mul(x, isa.splat(std::f32::consts::LOG2_E)));
    let whole = isa.to_f(n);
    let r = isa.fma(whole, isa.splat(-0.693_359_4), x);
    let r = isa.fma(whole, isa.splat(2.121_944_4e-4), r);
    let mut p = isa.splat(1.0 / 5040.0);
    for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = isa.fma(p, r, isa.splat(c));
    }
    // p is in [0.7, 1.42] and n in [−126, 127]: adding to the exponent stays in range.
    isa.as_f(isa.add_i(isa.as_i(p), isa.shl_i(n, 23)))
}

/// `tanh x`, absolute error below 2e-7.
#[inline(always)]
fn tanh<L: Lanes>(isa: L, x: L::F) -> L::F {
    let sign = isa.and_i(isa.as_i(x), isa.splat_i(i32::MIN));
    let magnitude = isa.as_f(isa.and_i(isa.as_i(x), isa.splat_i(i32::MAX)));
    let t = exp(isa, isa.mul(magnitude, isa.splat(-2.0)));
    let one = isa.splat(1.0);
    let y = isa.div(isa.sub(one, t), isa.add(one, t));
    isa.as_f(isa.or_i(isa.as_i(y), sign))
}

/// `erf x`, absolute error below 3e-7.
///
/// Source: M. Abramowitz and I. Stegun, Handbook of Mathematical Functions (1964), 7.1.26.
#[inline(always)]
pub(crate) fn erf<L: Lanes>(isa: L, x: L::F) -> L::F {
    let sign = isa.and_i(isa.as_i(x), isa.splat_i(i32::MIN));
    let magnitude = isa.as_f(isa.and_i(isa.as_i(x), isa.splat_i(i32::MAX)));
    let one = isa.splat(1.0);
    let t = isa.div(one, isa.fma(magnitude, isa.splat(0.327_591_1), one));
    let mut p = isa.splat(1.061_405_4);
    for c in [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6, 0.0] {
        p = isa.fma(p, t, isa.splat(c));
    }
    let square = isa.mul(magnitude, magnitude);
    let tail = exp(isa, isa.sub(isa.splat(0.0), square));
    let y = isa.sub(one, isa.mul(p, tail));
    isa.as_f(isa.or_i(isa.as_i(y), sign))
}

/// `x · σ(x)`.
#[inline(always)]
pub(crate) fn silu<L: Lanes>(isa: L, x: L::F) -> L::F {
    let e = exp(isa, isa.sub(isa.splat(0.0), x));
    isa.div(x, isa.add(isa.splat(1.0), e))
}

/// GELU in its tanh form, `x/2 · (1 + tanh(√(2/π)·(x + 0.044715·x³)))`.
///
/// Source: D. Hendrycks and K. Gimpel, "Gaussian Error Linear Units" (2016), arXiv:1606.08415.
#[inline(always)]
pub(crate) fn gelu_tanh<L: Lanes>(isa: L, x: L::F) -> L::F {
    let cube = isa.mul(isa.mul(x, x), x);
    let inner = isa.fma(cube, isa.splat(0.044_715), x);
    let t = tanh(isa, isa.mul(inner, isa.splat(0.797_884_6)));
    isa.mul(isa.mul(x, isa.splat(0.5)), isa.add(isa.splat(1.0), t))
}

/// GELU in its exact form, `x/2 · (1 + erf(x/√2))`.
#[inline(always)]
pub(crate) fn gelu_erf<L: Lanes>(isa: L, x: L::F) -> L::F {
    let e = erf(isa, isa.mul(x, isa.splat(std::f32::consts::FRAC_1_SQRT_2)));
    isa.mul(isa.mul(x, isa.splat(0.5)), isa.add(isa.splat(1.0), e))
}
