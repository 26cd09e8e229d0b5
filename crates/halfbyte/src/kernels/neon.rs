//! The lanes in NEON, which every 64-bit ARM has: four registers of four lanes.

#[cfg_attr(
    not(test),
    expect(clippy::wildcard_imports, reason = "some fifty intrinsics, all with telling names")
)]
use std::arch::aarch64::*;
use std::arch::asm;

use super::buffer::Line;
use super::lanes::{Codes, Lanes, load_lines};

/// Proof of NEON, and how bytes are multiplied.
///
/// # Safety
///
/// Values must exist only where the processor has NEON and what the methods use.
pub(super) unsafe trait Dot: Copy + Send + Sync {
    /// As [`Lanes::MAX_TILE`].
    const MAX_TILE: usize;
    /// As [`Lanes::dot_i8`], without a bias. Bytes of at most 127 are the same as signed ones.
    fn dot(self, acc: Ints, w: Bytes, x: i32) -> Ints;
    /// As [`Lanes::dots`].
    fn dots<const W: usize>(
        self,
        codes: Codes,
        lines: &[Bytes],
        x: &[[i32; W]],
        start: [Ints; W],
    ) -> [Ints; W];
    /// As [`Lanes::arrange`].
    #[inline(always)]
    fn arrange(self, lines: [Bytes; 8]) -> [Bytes; 8] {
        lines
    }
    /// As [`Lanes::dots_arranged`].
    #[inline(always)]
    fn dots_arranged<const W: usize>(
        self,
        codes: Codes,
        lines: &[Bytes],
        x: &[[i32; W]],
        start: [Ints; W],
    ) -> [Ints; W] {
        self.dots(codes, lines, x, start)
    }
}

/// Sixteen i32.
pub(super) type Ints = [int32x4_t; 4];
/// Sixty-four bytes.
pub(super) type Bytes = [uint8x16_t; 4];

/// Four registers of four lanes; `D` is the proof.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Neon<D>(pub(super) D);

/// Four IEEE half floats as f32.
///
/// In assembly because its intrinsic is younger than the oldest compiler that we support.
#[inline]
#[target_feature(enable = "neon")]
fn widen_f16(x: uint16x4_t) -> float32x4_t {
    let wide;
    // SAFETY: NEON is on; only registers and the floating-point status change.
    unsafe {
        asm!(
            "fcvtl {wide:v}.4s, {x:v}.4h",
            wide = out(vreg) wide,
            x = in(vreg) x,
            options(pure, nomem, nostack),
        );
    }
    wide
}

impl<D: Dot> Neon<D> {
    /// Sixteen little-endian 16-bit elements.
    #[inline(always)]
    fn load_u16(self, x: &[u8; 32]) -> [uint16x4_t; 4] {
        let (quads, _) = x.as_chunks::<8>();
        let bytes = all!(vld1_u8, [0, 1, 2, 3].map(|i| quads[i].as_ptr()));
        all!(vreinterpret_u16_u8, bytes)
    }
}

impl<D: Dot> Lanes for Neon<D> {
    type F = [float32x4_t; 4];
    type I = Ints;
    type B = Bytes;

    const I8_BIAS: i32 = 0;
    const MAX_TILE: usize = D::MAX_TILE;
    const SUMS: usize = 4;
    const BY_TOKEN: bool = false;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        [simd!(vdupq_n_f32(x)); 4]
    }
    #[inline(always)]
    fn load(self, x: &[f32; 16]) -> Self::F {
        let (quads, _) = x.as_chunks::<4>();
        std::array::from_fn(|i| simd!(vld1q_f32(quads[i].as_ptr())))
    }
    #[inline(always)]
    fn store(self, x: Self::F, out: &mut [f32; 16]) {
        for (quad, x) in out.as_chunks_mut::<4>().0.iter_mut().zip(x) {
            simd!(vst1q_f32(quad.as_mut_ptr(), x));
        }
    }
    #[inline(always)]
    fn load_f16(self, x: &[u8; 32]) -> Self::F {
        all!(widen_f16, self.load_u16(x))
    }
    #[inline(always)]
    fn load_bf16(self, x: &[u8; 32]) -> Self::F {
        let bits = all!(vshll_n_u16::<16>, self.load_u16(x));
        all!(vreinterpretq_f32_u32, bits)
    }
    #[inline(always)]
    fn load_i8(self, x: &[u8; 16]) -> Self::I {
        let bytes = simd!(vld1q_s8(x.as_ptr().cast()));
        let low = simd!(vget_low_s8(bytes));
        let low = simd!(vmovl_s8(low));
        let high = simd!(vmovl_high_s8(bytes));
        let (first, third) = (simd!(vget_low_s16(low)), simd!(vget_low_s16(high)));
        [
            simd!(vmovl_s16(first)),
            simd!(vmovl_high_s16(low)),
            simd!(vmovl_s16(third)),
            simd!(vmovl_high_s16(high)),
        ]
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        all!(vaddq_f32, a, b)
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        all!(vsubq_f32, a, b)
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        all!(vmulq_f32, a, b)
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        all!(vdivq_f32, a, b)
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        all!(vfmaq_f32, c, a, b)
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        // Not `fmax`: that one returns NaN where either is.
        let greater = all!(vcgtq_f32, a, b);
        all!(vbslq_f32, greater, a, b)
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        let less = all!(vcltq_f32, a, b);
        all!(vbslq_f32, less, a, b)
    }
    #[inline(always)]
    fn round(self, x: Self::F) -> Self::I {
        all!(vcvtnq_s32_f32, x)
    }
    #[inline(always)]
    fn splat_i(self, x: i32) -> Self::I {
        [simd!(vdupq_n_s32(x)); 4]
    }
    #[inline(always)]
    fn store_i(self, x: Self::I, out: &mut [i32; 16]) {
        for (quad, x) in out.as_chunks_mut::<4>().0.iter_mut().zip(x) {
            simd!(vst1q_s32(quad.as_mut_ptr(), x));
        }
    }
    #[inline(always)]
    fn add_i(self, a: Self::I, b: Self::I) -> Self::I {
        all!(vaddq_s32, a, b)
    }
    #[inline(always)]
    fn mul_i(self, a: Self::I, b: Self::I) -> Self::I {
        all!(vmulq_s32, a, b)
    }
    #[inline(always)]
    fn max_i(self, a: Self::I, b: Self::I) -> Self::I {
        all!(vmaxq_s32, a, b)
    }
    #[inline(always)]
    fn max_lanes(self, x: Self::I) -> i32 {
        let low = simd!(vmaxq_s32(x[0], x[1]));
        let high = simd!(vmaxq_s32(x[2], x[3]));
        let most = simd!(vmaxq_s32(low, high));
        simd!(vmaxvq_s32(most))
    }
    #[inline(always)]
    fn sum_lanes_i(self, x: Self::I) -> i32 {
        let low = simd!(vaddq_s32(x[0], x[1]));
        let high = simd!(vaddq_s32(x[2], x[3]));
        let sums = simd!(vaddq_s32(low, high));
        simd!(vaddvq_s32(sums))
    }
    #[inline(always)]
    fn narrow(self, x: Self::I) -> [i32; 4] {
        let [first, third] = [x[0], x[2]].map(|x| simd!(vmovn_s32(x)));
        let low = simd!(vmovn_high_s32(first, x[1]));
        let high = simd!(vmovn_high_s32(third, x[3]));
        let low = simd!(vmovn_s16(low));
        let bytes = simd!(vmovn_high_s16(low, high));
        let mut words = [0; 4];
        simd!(vst1q_s8(words.as_mut_ptr().cast(), bytes));
        words
    }
    #[inline(always)]
    fn and_i(self, a: Self::I, b: Self::I) -> Self::I {
        all!(vandq_s32, a, b)
    }
    #[inline(always)]
    fn or_i(self, a: Self::I, b: Self::I) -> Self::I {
        all!(vorrq_s32, a, b)
    }
    #[inline(always)]
    fn shl_i(self, a: Self::I, n: u32) -> Self::I {
        let n = simd!(vdupq_n_s32(n.cast_signed()));
        all!(vshlq_s32, a, [n; 4])
    }
    #[inline(always)]
    fn shr_i(self, a: Self::I, n: u32) -> Self::I {
        // To the right is to the left by less than nothing.
        let n = simd!(vdupq_n_s32(-n.cast_signed()));
        let bits = all!(vreinterpretq_u32_s32, a);
        let moved = all!(vshlq_u32, bits, [n; 4]);
        all!(vreinterpretq_s32_u32, moved)
    }
    #[inline(always)]
    fn to_f(self, x: Self::I) -> Self::F {
        all!(vcvtq_f32_s32, x)
    }
    #[inline(always)]
    fn as_i(self, x: Self::F) -> Self::I {
        all!(vreinterpretq_s32_f32, x)
    }
    #[inline(always)]
    fn as_f(self, x: Self::I) -> Self::F {
        all!(vreinterpretq_f32_s32, x)
    }
    #[inline(always)]
    fn load_line(self, x: &[u8; 64]) -> Self::B {
        let (quads, _) = x.as_chunks::<16>();
        std::array::from_fn(|i| simd!(vld1q_u8(quads[i].as_ptr())))
    }
    #[inline(always)]
    fn store_line(self, x: Self::B, out: &mut [u8; 64]) {
        for (quad, x) in out.as_chunks_mut::<16>().0.iter_mut().zip(x) {
            simd!(vst1q_u8(quad.as_mut_ptr(), x));
        }
    }
    #[inline(always)]
    fn line_as_i(self, x: Self::B) -> Self::I {
        all!(vreinterpretq_s32_u8, x)
    }
    #[inline(always)]
    fn i_as_line(self, x: Self::I) -> Self::B {
        all!(vreinterpretq_u8_s32, x)
    }
    #[inline(always)]
    fn low_nibbles(self, x: Self::B) -> Self::B {
        let mask = simd!(vdupq_n_u8(15));
        all!(vandq_u8, x, [mask; 4])
    }
    #[inline(always)]
    fn high_nibbles(self, x: Self::B) -> Self::B {
        all!(vshrq_n_u8::<4>, x)
    }
    #[inline(always)]
    fn lookup(self, table: &[i8; 16], x: Self::B) -> Self::B {
        let table = simd!(vld1q_u8(table.as_ptr().cast()));
        all!(vqtbl1q_u8, [table; 4], x)
    }
    #[inline(always)]
    fn dot_u7(self, acc: Self::I, w: Self::B, x: i32) -> Self::I {
        self.0.dot(acc, w, x)
    }
    #[inline(always)]
    fn dot_i8(self, acc: Self::I, w: Self::B, x: i32) -> Self::I {
        self.0.dot(acc, w, x)
    }
    #[inline(always)]
    fn dots<const W: usize>(
        self,
        codes: Codes,
        lines: &[Self::B],
        x: &[[i32; W]],
        start: [Self::I; W],
    ) -> [Self::I; W] {
        self.0.dots(codes, lines, x, start)
    }
    #[inline(always)]
    fn arrange(self, lines: [Self::B; 8], _offset: i8) -> [Self::B; 8] {
        self.0.arrange(lines)
    }
    #[inline(always)]
    fn dots_arranged<const W: usize>(
        self,
        codes: Codes,
        lines: &[Line],
        x: &[[i32; W]],
        start: [Self::I; W],
    ) -> [Self::I; W] {
        let loaded = load_lines(self, lines);
        self.0.dots_arranged(codes, &loaded[..lines.len()], x, start)
    }
}
