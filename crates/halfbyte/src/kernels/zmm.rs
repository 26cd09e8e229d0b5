//! The lanes in AVX-512, one register of sixteen: with VNNI, and without.

#[cfg_attr(
    not(test),
    expect(clippy::wildcard_imports, reason = "some forty intrinsics, all with telling names")
)]
use std::arch::x86_64::*;

use std::ops::Range;

use super::buffer::Line;
use super::lanes::{Codes, LANES, Lanes, products_by_line};

/// Proof of AVX-512 F, BW, VL and DQ, and how they multiply bytes.
///
/// # Safety
///
/// Values must exist only where the processor has these features.
pub(super) unsafe trait Dot: Copy + Send + Sync {
    /// What [`dot_i8`](Self::dot_i8) adds to each weight.
    const I8_BIAS: i32;
    /// As [`Lanes::MATRICES`].
    const MATRICES: bool = false;
    /// As [`Lanes::dot_u7`].
    fn dot_u7(self, acc: __m512i, w: __m512i, x: __m512i) -> __m512i;
    /// As [`Lanes::dot_i8`].
    fn dot_i8(self, acc: __m512i, w: __m512i, x: __m512i) -> __m512i;
    /// As [`Lanes::dot_lines`].
    fn dot_lines<const W: usize>(
        self,
        codes: Codes,
        lines: &[__m512i],
        x: &[[i32; W]],
        t: usize,
        start: __m512i,
    ) -> __m512i;
    /// As [`Lanes::begin_matrices`].
    #[inline(always)]
    fn begin_matrices(self) {}
    /// As [`Lanes::end_matrices`].
    #[inline(always)]
    fn end_matrices(self) {}
    /// As [`Lanes::arrange`].
    #[inline(always)]
    fn arrange(self, lines: [__m512i; 8], _offset: i8) -> [__m512i; 8] {
        lines
    }
    /// As [`Lanes::products`].
    #[inline(always)]
    fn products(
        self,
        _arranged: &[Line; 8],
        _x: &[[i32; 8]; LANES],
        _which: Range<usize>,
    ) -> [__m512i; LANES] {
        unreachable!("only where `MATRICES` is set")
    }
}

/// One register of sixteen lanes; `D` is the proof.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Zmm<D>(pub(super) D);

impl<D: Dot> Lanes for Zmm<D> {
    type F = __m512;
    type I = __m512i;
    type B = __m512i;

    const I8_BIAS: i32 = D::I8_BIAS;
    // 12 accumulators, 8 weight lines, scale and temporaries fill the 32 registers.
    const MAX_TILE: usize = 12;
    const MATRICES: bool = D::MATRICES;
    const SUMS: usize = 16;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        simd!(_mm512_set1_ps(x))
    }
    #[inline(always)]
    fn load(self, x: &[f32; 16]) -> Self::F {
        simd!(_mm512_loadu_ps(x.as_ptr()))
    }
    #[inline(always)]
    fn store(self, x: Self::F, out: &mut [f32; 16]) {
        simd!(_mm512_storeu_ps(out.as_mut_ptr(), x));
    }
    #[inline(always)]
    fn load_f16(self, x: &[u8; 32]) -> Self::F {
        let halves = simd!(_mm256_loadu_si256(x.as_ptr().cast()));
        simd!(_mm512_cvtph_ps(halves))
    }
    #[inline(always)]
    fn load_bf16(self, x: &[u8; 32]) -> Self::F {
        let halves = simd!(_mm256_loadu_si256(x.as_ptr().cast()));
        let wide = simd!(_mm512_cvtepu16_epi32(halves));
        let bits = simd!(_mm512_slli_epi32::<16>(wide));
        simd!(_mm512_castsi512_ps(bits))
    }
    #[inline(always)]
    fn load_i8(self, x: &[u8; 16]) -> Self::I {
        let bytes = simd!(_mm_loadu_si128(x.as_ptr().cast()));
        simd!(_mm512_cvtepi8_epi32(bytes))
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        simd!(_mm512_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        simd!(_mm512_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        simd!(_mm512_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        simd!(_mm512_div_ps(a, b))
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        simd!(_mm512_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        simd!(_mm512_max_ps(a, b))
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        simd!(_mm512_min_ps(a, b))
    }
    #[inline(always)]
    fn round(self, x: Self::F) -> Self::I {
        simd!(_mm512_cvtps_epi32(x))
    }
    #[inline(always)]
    fn splat_i(self, x: i32) -> Self::I {
        simd!(_mm512_set1_epi32(x))
    }
    #[inline(always)]
    fn store_i(self, x: Self::I, out: &mut [i32; 16]) {
        simd!(_mm512_storeu_si512(out.as_mut_ptr().cast(), x));
    }
    #[inline(always)]
    fn add_i(self, a: Self::I, b: Self::I) -> Self::I {
        simd!(_mm512_add_epi32(a, b))
    }
    #[inline(always)]
    fn mul_i(self, a: Self::I, b: Self::I) -> Self::I {
        simd!(_mm512_mullo_epi32(a, b))
    }
    #[inline(always)]
    fn max_i(self, a: Self::I, b: Self::I) -> Self::I {
        simd!(_mm512_max_epi32(a, b))
    }
    #[inline(always)]
    fn max_lanes(self, x: Self::I) -> i32 {
        simd!(_mm512_reduce_max_epi32(x))
    }
    #[inline(always)]
    fn sum_lanes_i(self, x: Self::I) -> i32 {
        simd!(_mm512_reduce_add_epi32(x))
    }
    #[inline(always)]
    fn narrow(self, x: Self::I) -> [i32; 4] {
        let bytes = simd!(_mm512_cvtepi32_epi8(x));
        let mut words = [0; 4];
        simd!(_mm_storeu_si128(words.as_mut_ptr().cast(), bytes));
        words
    }
    #[inline(always)]
    fn and_i(self, a: Self::I, b: Self::I) -> Self::I {
        simd!(_mm512_and_si512(a, b))
    }
    #[inline(always)]
    fn or_i(self, a: Self::I, b: Self::I) -> Self::I {
        simd!(_mm512_or_si512(a, b))
    }
    #[inline(always)]
    fn shl_i(self, a: Self::I, n: u32) -> Self::I {
        let n = simd!(_mm_cvtsi32_si128(n.cast_signed()));
        simd!(_mm512_sll_epi32(a, n))
    }
    #[inline(always)]
    fn shr_i(self, a: Self::I, n: u32) -> Self::I {
        let n = simd!(_mm_cvtsi32_si128(n.cast_signed()));
        simd!(_mm512_srl_epi32(a, n))
    }
    #[inline(always)]
    fn to_f(self, x: Self::I) -> Self::F {
        simd!(_mm512_cvtepi32_ps(x))
    }
    #[inline(always)]
    fn as_i(self, x: Self::F) -> Self::I {
        simd!(_mm512_castps_si512(x))
    }
    #[inline(always)]
    fn as_f(self, x: Self::I) -> Self::F {
        simd!(_mm512_castsi512_ps(x))
    }
    #[inline(always)]
    fn load_line(self, x: &[u8; 64]) -> Self::B {
        simd!(_mm512_loadu_si512(x.as_ptr().cast()))
    }
    #[inline(always)]
    fn store_line(self, x: Self::B, out: &mut [u8; 64]) {
        simd!(_mm512_storeu_si512(out.as_mut_ptr().cast(), x));
    }
    #[inline(always)]
    fn prefetch(self, address: *const u8) {
        simd!(_mm_prefetch::<_MM_HINT_T0>(address.cast()));
    }
    // Level 2 has three times as many requests on their way as level 1: 5 % more on an Intel Xeon.
    #[inline(always)]
    fn prefetch_once(self, address: *const u8) {
        simd!(_mm_prefetch::<_MM_HINT_T1>(address.cast()));
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
        let mask = simd!(_mm512_set1_epi8(15));
        simd!(_mm512_and_si512(x, mask))
    }
    #[inline(always)]
    fn high_nibbles(self, x: Self::B) -> Self::B {
        self.low_nibbles(simd!(_mm512_srli_epi16::<4>(x)))
    }
    #[inline(always)]
    fn lookup(self, table: &[i8; 16], x: Self::B) -> Self::B {
        let table = simd!(_mm_loadu_si128(table.as_ptr().cast()));
        let table = simd!(_mm512_broadcast_i32x4(table));
        simd!(_mm512_shuffle_epi8(table, x))
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
    fn dot_lines<const W: usize>(
        self,
        codes: Codes,
        lines: &[Self::B],
        x: &[[i32; W]],
        t: usize,
        start: Self::I,
    ) -> Self::I {
        self.0.dot_lines(codes, lines, x, t, start)
    }
    #[inline(always)]
    fn begin_matrices(self) {
        self.0.begin_matrices();
    }
    #[inline(always)]
    fn end_matrices(self) {
        self.0.end_matrices();
    }
    #[inline(always)]
    fn arrange(self, lines: [Self::B; 8], offset: i8) -> [Self::B; 8] {
        self.0.arrange(lines, offset)
    }
    #[inline(always)]
    fn products(
        self,
        arranged: &[Line; 8],
        x: &[[i32; 8]; LANES],
        which: Range<usize>,
    ) -> [Self::I; LANES] {
        if const { D::MATRICES } {
            self.0.products(arranged, x, which)
        } else {
            products_by_line(self, arranged, x, which)
        }
    }
}
