//! The lanes in plain Rust: the specification of every other instruction set.

use half::f16;

use super::Op;
use super::fma::fma;
use super::lanes::{LANES, Lanes};
use super::set::Set;

/// Sixteen lanes one after another; every processor has them. Tests have them with matrices, too.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scalar<const MATRICES: bool = false>;

#[inline(always)]
fn map<T: Copy, U>(x: [T; LANES], f: impl Fn(T) -> U) -> [U; LANES] {
    x.map(f)
}

#[inline(always)]
fn zip<T: Copy, U>(a: [T; LANES], b: [T; LANES], f: impl Fn(T, T) -> U) -> [U; LANES] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

impl<const MATRICES: bool> Set for Scalar<MATRICES> {
    const FEATURES: &'static [&'static str] = &[];

    fn missing() -> Vec<&'static str> {
        Vec::new()
    }

    fn detect() -> Option<Self> {
        Some(Self)
    }

    #[inline]
    fn run<O: Op>(self, op: O) -> O::Output {
        op.run(self)
    }
}

impl<const MATRICES: bool> Lanes for Scalar<MATRICES> {
    type F = [f32; LANES];
    type I = [i32; LANES];
    type B = [u8; 64];

    const I8_BIAS: i32 = 0;
    // What needs no matrices must fit in a few tiles.
    const MAX_TILE: usize = if MATRICES { 12 } else { 2 };
    const MATRICES: bool = MATRICES;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        [x; LANES]
    }
    #[inline(always)]
    fn load(self, x: &[f32; 16]) -> Self::F {
        *x
    }
    #[inline(always)]
    fn store(self, x: Self::F, out: &mut [f32; 16]) {
        *out = x;
    }
    #[inline(always)]
    fn load_f16(self, x: &[u8; 32]) -> Self::F {
        std::array::from_fn(|i| f16::from_le_bytes([x[2 * i], x[2 * i + 1]]).to_f32())
    }
    #[inline(always)]
    fn load_bf16(self, x: &[u8; 32]) -> Self::F {
        std::array::from_fn(|i| f32::from_le_bytes([0, 0, x[2 * i], x[2 * i + 1]]))
    }
    #[inline(always)]
    fn load_i8(self, x: &[u8; 16]) -> Self::I {
        map(*x, |b| i32::from(b.cast_signed()))
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        std::array::from_fn(|i| fma(a[i], b[i], c[i]))
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn round(self, x: Self::F) -> Self::I {
        map(x, |x| x.round_ties_even() as i32)
    }
    #[inline(always)]
    fn splat_i(self, x: i32) -> Self::I {
        [x; LANES]
    }
    #[inline(always)]
    fn store_i(self, x: Self::I, out: &mut [i32; 16]) {
        *out = x;
    }
    #[inline(always)]
    fn add_i(self, a: Self::I, b: Self::I) -> Self::I {
        zip(a, b, i32::wrapping_add)
    }
    #[inline(always)]
    fn mul_i(self, a: Self::I, b: Self::I) -> Self::I {
        zip(a, b, i32::wrapping_mul)
    }
    #[inline(always)]
    fn max_i(self, a: Self::I, b: Self::I) -> Self::I {
        zip(a, b, Ord::max)
    }
    #[inline(always)]
    fn and_i(self, a: Self::I, b: Self::I) -> Self::I {
        zip(a, b, |a, b| a & b)
    }
    #[inline(always)]
    fn or_i(self, a: Self::I, b: Self::I) -> Self::I {
        zip(a, b, |a, b| a | b)
    }
    #[inline(always)]
    fn shl_i(self, a: Self::I, n: u32) -> Self::I {
        map(a, |a| a << n)
    }
    #[inline(always)]
    fn shr_i(self, a: Self::I, n: u32) -> Self::I {
        map(a, |a| (a.cast_unsigned() >> n).cast_signed())
    }
    #[inline(always)]
    fn to_f(self, x: Self::I) -> Self::F {
        map(x, |x| x as f32)
    }
    #[inline(always)]
    fn as_i(self, x: Self::F) -> Self::I {
        map(x, |x| x.to_bits().cast_signed())
    }
    #[inline(always)]
    fn as_f(self, x: Self::I) -> Self::F {
        map(x, |x| f32::from_bits(x.cast_unsigned()))
    }
    #[inline(always)]
    fn load_line(self, x: &[u8; 64]) -> Self::B {
        *x
    }
    #[inline(always)]
    fn line_as_i(self, x: Self::B) -> Self::I {
        let (quads, _) = x.as_chunks::<4>();
        std::array::from_fn(|i| i32::from_le_bytes(quads[i]))
    }
    #[inline(always)]
    fn i_as_line(self, x: Self::I) -> Self::B {
        std::array::from_fn(|i| x[i / 4].to_le_bytes()[i % 4])
    }
    #[inline(always)]
    fn low_nibbles(self, x: Self::B) -> Self::B {
        x.map(|b| b & 15)
    }
    #[inline(always)]
    fn high_nibbles(self, x: Self::B) -> Self::B {
        x.map(|b| b >> 4)
    }
    #[inline(always)]
    fn lookup(self, table: &[i8; 16], x: Self::B) -> Self::B {
        x.map(|b| table[usize::from(b & 15)].cast_unsigned())
    }
    #[inline(always)]
    fn dot_u7(self, acc: Self::I, w: Self::B, x: i32) -> Self::I {
        let x = x.to_le_bytes().map(|b| i32::from(b.cast_signed()));
        let (w, _) = w.as_chunks::<4>();
        std::array::from_fn(|i| acc[i] + (0..4).map(|t| i32::from(w[i][t]) * x[t]).sum::<i32>())
    }
    #[inline(always)]
    fn dot_i8(self, acc: Self::I, w: Self::B, x: i32) -> Self::I {
        let x = x.to_le_bytes().map(|b| i32::from(b.cast_signed()));
        let (w, _) = w.as_chunks::<4>();
        std::array::from_fn(|i| {
            acc[i] + (0..4).map(|t| i32::from(w[i][t].cast_signed()) * x[t]).sum::<i32>()
        })
    }
    #[inline(always)]
    fn arrange(self, lines: [Self::B; 8], offset: i8) -> [Self::B; 8] {
        let signed = |byte: u8| byte.cast_signed().wrapping_sub(offset).cast_unsigned();
        if MATRICES { lines.map(|line| line.map(signed)) } else { lines }
    }
}
