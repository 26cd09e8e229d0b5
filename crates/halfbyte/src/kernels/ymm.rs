//! The lanes in AVX2 with FMA and F16C, two registers of eight: AVX2 itself, and AVX-VNNI.

#[cfg_attr(
    not(test),
    expect(clippy::wildcard_imports, reason = "some forty intrinsics, all with telling names")
)]
use std::arch::x86_64::*;

use super::buffer::Line;
use super::lanes::{Codes, Lanes, load_lines};

/// Proof of AVX2, FMA and F16C, and how they multiply bytes.
///
/// # Safety
///
/// Values must exist only where the processor has these features.
pub(super) unsafe trait Dot: Copy + Send + Sync {
    /// What [`dot_i8`](Self::dot_i8) adds to each weight.
    const I8_BIAS: i32;
    /// As [`Lanes::dot_u7`], in either register.
    fn dot_u7(self, acc: Ints, w: Ints, x: Ints) -> Ints;
    /// As [`Lanes::dot_i8`], in either register.
    fn dot_i8(self, acc: Ints, w: Ints, x: Ints) -> Ints;
    /// As [`Lanes::dots`].
    fn dots<const W: usize>(
        self,
        codes: Codes,
        lines: &[Ints],
        x: &[[i32; W]],
        start: [Ints; W],
    ) -> [Ints; W];
    /// As [`Lanes::dots_arranged`].
    #[inline(always)]
    fn dots_arranged<const W: usize>(
        self,
        codes: Codes,
        lines: &[Line],
        x: &[[i32; W]],
        start: [Ints; W],
    ) -> [Ints; W] {
        let loaded = load_lines(Ymm(self), lines);
        self.dots(codes, &loaded[..lines.len()], x, start)
    }
}

/// Sixteen i32, or 64 bytes.
pub(super) type Ints = [__m256i; 2];

/// Two registers of eight lanes; `D` is the proof.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ymm<D>(pub(super) D);

/// Adds up line by line, so that each is loaded once for all tokens.
#[inline(always)]
pub(super) fn by_line<D: Dot, const W: usize>(
    isa: Ymm<D>,
    lines: &[Ints],
    x: &[[i32; W]],
    mut sums: [Ints; W],
    dot: impl Fn(Ints, Ints, Ints) -> Ints,
) -> [Ints; W] {
    for (line, x) in lines.iter().zip(x) {
        for (sum, x) in sums.iter_mut().zip(x) {
            *sum = dot(*sum, *line, isa.splat_i(*x));
        }
    }
    sums
}

impl<D: Dot> Lanes for Ymm<D> {
    type F = [__m256; 2];
    type I = Ints;
    type B = Ints;

    const I8_BIAS: i32 = D::I8_BIAS;
    // Two registers a lane group: more than four tokens spill the sixteen registers.
    const MAX_TILE: usize = 4;
    const SUMS: usize = 4;
    const BY_TOKEN: bool = false;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        [simd!(_mm256_set1_ps(x)); 2]
    }
    #[inline(always)]
    fn load(self, x: &[f32; 16]) -> Self::F {
        let (halves, _) = x.as_chunks::<8>();
        let low = simd!(_mm256_loadu_ps(halves[0].as_ptr()));
        [low, simd!(_mm256_loadu_ps(halves[1].as_ptr()))]
    }
    #[inline(always)]
    fn store(self, x: Self::F, out: &mut [f32; 16]) {
        let (halves, _) = out.as_chunks_mut::<8>();
        simd!(_mm256_storeu_ps(halves[0].as_mut_ptr(), x[0]));
        simd!(_mm256_storeu_ps(halves[1].as_mut_ptr(), x[1]));
    }
    #[inline(always)]
    fn load_f16(self, x: &[u8; 32]) -> Self::F {
        let (halves, _) = x.as_chunks::<16>();
        let low = simd!(_mm_loadu_si128(halves[0].as_ptr().cast()));
        let high = simd!(_mm_loadu_si128(halves[1].as_ptr().cast()));
        both!(_mm256_cvtph_ps, [low, high])
    }
    #[inline(always)]
    fn load_bf16(self, x: &[u8; 32]) -> Self::F {
        let (halves, _) = x.as_chunks::<16>();
        let low = simd!(_mm_loadu_si128(halves[0].as_ptr().cast()));
        let high = simd!(_mm_loadu_si128(halves[1].as_ptr().cast()));
        let wide = both!(_mm256_cvtepu16_epi32, [low, high]);
        let bits = both!(_mm256_slli_epi32::<16>, wide);
        both!(_mm256_castsi256_ps, bits)
    }
    #[inline(always)]
    fn load_i8(self, x: &[u8; 16]) -> Self::I {
        let bytes = simd!(_mm_loadu_si128(x.as_ptr().cast()));
        let high = simd!(_mm_srli_si128::<8>(bytes));
        both!(_mm256_cvtepi8_epi32, [bytes, high])
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_add_ps, a, b)
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_sub_ps, a, b)
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_mul_ps, a, b)
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_div_ps, a, b)
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        both!(_mm256_fmadd_ps, a, b, c)
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_max_ps, a, b)
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_min_ps, a, b)
    }
    #[inline(always)]
    fn round(self, x: Self::F) -> Self::I {
        both!(_mm256_cvtps_epi32, x)
    }
    #[inline(always)]
    fn splat_i(self, x: i32) -> Self::I {
        [simd!(_mm256_set1_epi32(x)); 2]
    }
    #[inline(always)]
    fn store_i(self, x: Self::I, out: &mut [i32; 16]) {
        let (halves, _) = out.as_chunks_mut::<8>();
        simd!(_mm256_storeu_si256(halves[0].as_mut_ptr().cast(), x[0]));
        simd!(_mm256_storeu_si256(halves[1].as_mut_ptr().cast(), x[1]));
    }
    #[inline(always)]
    fn add_i(self, a: Self::I, b: Self::I) -> Self::I {
        both!(_mm256_add_epi32, a, b)
    }
    #[inline(always)]
    fn mul_i(self, a: Self::I, b: Self::I) -> Self::I {
        both!(_mm256_mullo_epi32, a, b)
    }
    #[inline(always)]
    fn max_i(self, a: Self::I, b: Self::I) -> Self::I {
        both!(_mm256_max_epi32, a, b)
    }
    #[inline(always)]
    fn and_i(self, a: Self::I, b: Self::I) -> Self::I {
        both!(_mm256_and_si256, a, b)
    }
    #[inline(always)]
    fn or_i(self, a: Self::I, b: Self::I) -> Self::I {
        both!(_mm256_or_si256, a, b)
    }
    #[inline(always)]
    fn shl_i(self, a: Self::I, n: u32) -> Self::I {
        let n = simd!(_mm_cvtsi32_si128(n.cast_signed()));
        both!(_mm256_sll_epi32, a, [n, n])
    }
    #[inline(always)]
    fn shr_i(self, a: Self::I, n: u32) -> Self::I {
        let n = simd!(_mm_cvtsi32_si128(n.cast_signed()));
        both!(_mm256_srl_epi32, a, [n, n])
    }
    #[inline(always)]
    fn to_f(self, x: Self::I) -> Self::F {
        both!(_mm256_cvtepi32_ps, x)
    }
    #[inline(always)]
    fn as_i(self, x: Self::F) -> Self::I {
        both!(_mm256_castps_si256, x)
    }
    #[inline(always)]
    fn as_f(self, x: Self::I) -> Self::F {
        both!(_mm256_castsi256_ps, x)
    }
    #[inline(always)]
    fn load_line(self, x: &[u8; 64]) -> Self::B {
        let (halves, _) = x.as_chunks::<32>();
        let low = simd!(_mm256_loadu_si256(halves[0].as_ptr().cast()));
        [low, simd!(_mm256_loadu_si256(halves[1].as_ptr().cast()))]
    }
    #[inline(always)]
    fn prefetch(self, address: *const u8) {
        simd!(_mm_prefetch::<_MM_HINT_T0>(address.cast()));
    }
    #[inline(always)]
    fn prefetch_once(self, address: *const u8) {
        self.prefetch(address);
    }
    #[inline(always)]
    fn line_as_i(self, x: Self::B) -> Self::I {
        x
    }
    #[inline(always)]
    fn i_as_line(self, x: Self::I) -> Self::B {
        x
    }
    #[inline(always)]
    fn low_nibbles(self, x: Self::B) -> Self::B {
        let mask = simd!(_mm256_set1_epi8(15));
        both!(_mm256_and_si256, x, [mask, mask])
    }
    #[inline(always)]
    fn high_nibbles(self, x: Self::B) -> Self::B {
        self.low_nibbles(both!(_mm256_srli_epi16::<4>, x))
    }
    #[inline(always)]
    fn lookup(self, table: &[i8; 16], x: Self::B) -> Self::B {
        let table = simd!(_mm_loadu_si128(table.as_ptr().cast()));
        let table = simd!(_mm256_broadcastsi128_si256(table));
        both!(_mm256_shuffle_epi8, [table, table], x)
    }
    #[inline(always)]
    fn dot_u7(self, acc: Self::I, w: Self::B, x: i32) -> Self::I {
        self.0.dot_u7(acc, w, self.splat_i(x))
    }
    #[inline(always)]
    fn dot_i8(self, acc: Self::I, w: Self::B, x: i32) -> Self::I {
        self.0.dot_i8(acc, w, self.splat_i(x))
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
    fn dots_arranged<const W: usize>(
        self,
        codes: Codes,
        lines: &[Line],
        x: &[[i32; W]],
        start: [Self::I; W],
    ) -> [Self::I; W] {
        self.0.dots_arranged(codes, lines, x, start)
    }
}
