//! The lanes in SSE2, which every x86-64 has: four registers of four lanes.
//!
//! What SSE2 lacks is computed exactly from what it has: fused multiply-add in f64, half floats by
//! moving bits, byte products in i16.

#[cfg_attr(
    not(test),
    expect(clippy::wildcard_imports, reason = "some fifty intrinsics, all with telling names")
)]
use std::arch::x86_64::*;

use super::lanes::Lanes;

/// Proof of SSE2.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sse2(());

set!(Sse2, Sse2(()), is_x86_feature_detected: "sse2");

impl Sse2 {
    /// `a · b + c`, rounded once, for two lanes: the method of `fma.rs`, with masks for branches.
    #[inline(always)]
    fn fma_f64(self, a: __m128d, b: __m128d, c: __m128d) -> __m128d {
        let p = simd!(_mm_mul_pd(a, b));
        let sum = simd!(_mm_add_pd(p, c));
        let back = simd!(_mm_sub_pd(sum, p));
        let kept_p = simd!(_mm_sub_pd(sum, back));
        let lost_p = simd!(_mm_sub_pd(p, kept_p));
        let lost_c = simd!(_mm_sub_pd(c, back));
        let error = simd!(_mm_add_pd(lost_p, lost_c));
        let sign = simd!(_mm_set1_pd(-0.0));
        let size = simd!(_mm_andnot_pd(sign, error));
        // False where the error is NaN or infinite: those sums stay as they are.
        let (zero, infinity) = (simd!(_mm_setzero_pd()), simd!(_mm_set1_pd(f64::INFINITY)));
        let finite = simd!(_mm_cmplt_pd(size, infinity));
        let inexact = simd!(_mm_cmpgt_pd(size, zero));
        let adjust = simd!(_mm_and_pd(finite, inexact));
        let adjust = simd!(_mm_castpd_si128(adjust));
        let bits = simd!(_mm_castpd_si128(sum));
        let one = simd!(_mm_set1_epi64x(1));
        let even = simd!(_mm_andnot_si128(bits, one));
        // One where the mantissa is even and the sum inexact: up or down to the odd neighbour.
        let step = simd!(_mm_and_si128(even, adjust));
        let signs = simd!(_mm_xor_pd(error, sum));
        let signs = simd!(_mm_castpd_si128(signs));
        let inward = simd!(_mm_srli_epi64::<63>(signs));
        let down = simd!(_mm_and_si128(step, inward));
        let twice = simd!(_mm_slli_epi64::<1>(down));
        let up = simd!(_mm_add_epi64(bits, step));
        let odd = simd!(_mm_sub_epi64(up, twice));
        simd!(_mm_castsi128_pd(odd))
    }

    /// `a · b + c`, rounded once, for four lanes.
    #[inline(always)]
    fn fma_f32(self, a: __m128, b: __m128, c: __m128) -> __m128 {
        let low = self.fma_f64(self.low_f64(a), self.low_f64(b), self.low_f64(c));
        let high = self.fma_f64(self.high_f64(a), self.high_f64(b), self.high_f64(c));
        let low = simd!(_mm_cvtpd_ps(low));
        let high = simd!(_mm_cvtpd_ps(high));
        simd!(_mm_movelh_ps(low, high))
    }

    #[inline(always)]
    fn low_f64(self, x: __m128) -> __m128d {
        simd!(_mm_cvtps_pd(x))
    }

    #[inline(always)]
    fn high_f64(self, x: __m128) -> __m128d {
        let high = simd!(_mm_movehl_ps(x, x));
        simd!(_mm_cvtps_pd(high))
    }

    /// Where the mask is set `a`, else `b`.
    #[inline(always)]
    fn choose(self, mask: __m128i, a: __m128i, b: __m128i) -> __m128i {
        let a = simd!(_mm_and_si128(mask, a));
        let b = simd!(_mm_andnot_si128(mask, b));
        simd!(_mm_or_si128(a, b))
    }

    /// Four IEEE half floats in the low halves of dwords.
    #[inline(always)]
    fn half_to_f32(self, x: __m128i) -> __m128 {
        let limit = |bits: i32| simd!(_mm_set1_epi32(bits));
        let magnitude = simd!(_mm_and_si128(x, limit(0x7fff)));
        let sign = simd!(_mm_xor_si128(x, magnitude));
        let sign = simd!(_mm_slli_epi32::<16>(sign));
        // With half's exponent in float's place, 2¹¹² repairs the bias, of subnormals too.
        let moved = simd!(_mm_slli_epi32::<13>(magnitude));
        let moved = simd!(_mm_castsi128_ps(moved));
        let scale = simd!(_mm_set1_ps(f32::from_bits(0x7780_0000)));
        let finite = simd!(_mm_mul_ps(moved, scale));
        let finite = simd!(_mm_castps_si128(finite));
        // Infinity and NaN get float's exponent, and NaN its quiet bit.
        let endless = simd!(_mm_cmpgt_epi32(magnitude, limit(0x7bff)));
        let exponent = simd!(_mm_and_si128(endless, limit(0x7f80_0000)));
        let nan = simd!(_mm_cmpgt_epi32(magnitude, limit(0x7c00)));
        let quiet = simd!(_mm_and_si128(nan, limit(0x0040_0000)));
        let special = simd!(_mm_or_si128(exponent, quiet));
        let special = simd!(_mm_or_si128(special, sign));
        let value = simd!(_mm_or_si128(finite, special));
        simd!(_mm_castsi128_ps(value))
    }

    /// Eight 16-bit elements of either half as the low halves of dwords.
    #[inline(always)]
    fn load_u16(self, x: &[u8; 32]) -> [__m128i; 4] {
        let (halves, _) = x.as_chunks::<16>();
        let zero = simd!(_mm_setzero_si128());
        let low = simd!(_mm_loadu_si128(halves[0].as_ptr().cast()));
        let high = simd!(_mm_loadu_si128(halves[1].as_ptr().cast()));
        [
            simd!(_mm_unpacklo_epi16(low, zero)),
            simd!(_mm_unpackhi_epi16(low, zero)),
            simd!(_mm_unpacklo_epi16(high, zero)),
            simd!(_mm_unpackhi_epi16(high, zero)),
        ]
    }

    /// The signed bytes at even places as i16.
    #[inline(always)]
    fn even(self, x: __m128i) -> __m128i {
        let moved = simd!(_mm_slli_epi16::<8>(x));
        simd!(_mm_srai_epi16::<8>(moved))
    }

    /// The signed bytes at odd places as i16.
    #[inline(always)]
    fn odd(self, x: __m128i) -> __m128i {
        simd!(_mm_srai_epi16::<8>(x))
    }
}

impl Lanes for Sse2 {
    type F = [__m128; 4];
    type I = [__m128i; 4];
    type B = [__m128i; 4];

    const I8_BIAS: i32 = 0;
    // A lane group is four of the sixteen registers: more tokens only spill.
    const MAX_TILE: usize = 2;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        [simd!(_mm_set1_ps(x)); 4]
    }
    #[inline(always)]
    fn load(self, x: &[f32; 16]) -> Self::F {
        let (quads, _) = x.as_chunks::<4>();
        std::array::from_fn(|i| simd!(_mm_loadu_ps(quads[i].as_ptr())))
    }
    #[inline(always)]
    fn store(self, x: Self::F, out: &mut [f32; 16]) {
        for (quad, x) in out.as_chunks_mut::<4>().0.iter_mut().zip(x) {
            simd!(_mm_storeu_ps(quad.as_mut_ptr(), x));
        }
    }
    #[inline(always)]
    fn load_f16(self, x: &[u8; 32]) -> Self::F {
        self.load_u16(x).map(|x| self.half_to_f32(x))
    }
    #[inline(always)]
    fn load_bf16(self, x: &[u8; 32]) -> Self::F {
        let bits = all!(_mm_slli_epi32::<16>, self.load_u16(x));
        all!(_mm_castsi128_ps, bits)
    }
    #[inline(always)]
    fn load_i8(self, x: &[u8; 16]) -> Self::I {
        let x = simd!(_mm_loadu_si128(x.as_ptr().cast()));
        // Each byte four times: the arithmetic shift keeps the topmost.
        let low = simd!(_mm_unpacklo_epi8(x, x));
        let high = simd!(_mm_unpackhi_epi8(x, x));
        let dwords = [
            simd!(_mm_unpacklo_epi16(low, low)),
            simd!(_mm_unpackhi_epi16(low, low)),
            simd!(_mm_unpacklo_epi16(high, high)),
            simd!(_mm_unpackhi_epi16(high, high)),
        ];
        all!(_mm_srai_epi32::<24>, dwords)
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        all!(_mm_add_ps, a, b)
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        all!(_mm_sub_ps, a, b)
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        all!(_mm_mul_ps, a, b)
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        all!(_mm_div_ps, a, b)
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        std::array::from_fn(|i| self.fma_f32(a[i], b[i], c[i]))
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        all!(_mm_max_ps, a, b)
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        all!(_mm_min_ps, a, b)
    }
    #[inline(always)]
    fn round(self, x: Self::F) -> Self::I {
        all!(_mm_cvtps_epi32, x)
    }
    #[inline(always)]
    fn splat_i(self, x: i32) -> Self::I {
        [simd!(_mm_set1_epi32(x)); 4]
    }
    #[inline(always)]
    fn store_i(self, x: Self::I, out: &mut [i32; 16]) {
        for (quad, x) in out.as_chunks_mut::<4>().0.iter_mut().zip(x) {
            simd!(_mm_storeu_si128(quad.as_mut_ptr().cast(), x));
        }
    }
    #[inline(always)]
    fn add_i(self, a: Self::I, b: Self::I) -> Self::I {
        all!(_mm_add_epi32, a, b)
    }
    #[inline(always)]
    fn mul_i(self, a: Self::I, b: Self::I) -> Self::I {
        std::array::from_fn(|i| {
            // The low 32 bits of a product do not depend on signs.
            let even = simd!(_mm_mul_epu32(a[i], b[i]));
            let [a, b] = [a[i], b[i]].map(|x| simd!(_mm_srli_epi64::<32>(x)));
            let odd = simd!(_mm_mul_epu32(a, b));
            let even = simd!(_mm_shuffle_epi32::<0b10_00>(even));
            let odd = simd!(_mm_shuffle_epi32::<0b10_00>(odd));
            simd!(_mm_unpacklo_epi32(even, odd))
        })
    }
    #[inline(always)]
    fn max_i(self, a: Self::I, b: Self::I) -> Self::I {
        let greater = all!(_mm_cmpgt_epi32, a, b);
        std::array::from_fn(|i| self.choose(greater[i], a[i], b[i]))
    }
    #[inline(always)]
    fn narrow(self, x: Self::I) -> [i32; 4] {
        let low = simd!(_mm_packs_epi32(x[0], x[1]));
        let high = simd!(_mm_packs_epi32(x[2], x[3]));
        let mut words = [0; 4];
        let bytes = simd!(_mm_packs_epi16(low, high));
        simd!(_mm_storeu_si128(words.as_mut_ptr().cast(), bytes));
        words
    }
    #[inline(always)]
    fn and_i(self, a: Self::I, b: Self::I) -> Self::I {
        all!(_mm_and_si128, a, b)
    }
    #[inline(always)]
    fn or_i(self, a: Self::I, b: Self::I) -> Self::I {
        all!(_mm_or_si128, a, b)
    }
    #[inline(always)]
    fn shl_i(self, a: Self::I, n: u32) -> Self::I {
        let n = simd!(_mm_cvtsi32_si128(n.cast_signed()));
        all!(_mm_sll_epi32, a, [n; 4])
    }
    #[inline(always)]
    fn shr_i(self, a: Self::I, n: u32) -> Self::I {
        let n = simd!(_mm_cvtsi32_si128(n.cast_signed()));
        all!(_mm_srl_epi32, a, [n; 4])
    }
    #[inline(always)]
    fn to_f(self, x: Self::I) -> Self::F {
        all!(_mm_cvtepi32_ps, x)
    }
    #[inline(always)]
    fn as_i(self, x: Self::F) -> Self::I {
        all!(_mm_castps_si128, x)
    }
    #[inline(always)]
    fn as_f(self, x: Self::I) -> Self::F {
        all!(_mm_castsi128_ps, x)
    }
    #[inline(always)]
    fn load_line(self, x: &[u8; 64]) -> Self::B {
        let (quads, _) = x.as_chunks::<16>();
        std::array::from_fn(|i| simd!(_mm_loadu_si128(quads[i].as_ptr().cast())))
    }
    #[inline(always)]
    fn store_line(self, x: Self::B, out: &mut [u8; 64]) {
        for (quad, x) in out.as_chunks_mut::<16>().0.iter_mut().zip(x) {
            simd!(_mm_storeu_si128(quad.as_mut_ptr().cast(), x));
        }
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
        let mask = simd!(_mm_set1_epi8(15));
        all!(_mm_and_si128, x, [mask; 4])
    }
    #[inline(always)]
    fn high_nibbles(self, x: Self::B) -> Self::B {
        self.low_nibbles(all!(_mm_srli_epi16::<4>, x))
    }
    #[inline(always)]
    fn lookup(self, table: &[i8; 16], x: Self::B) -> Self::B {
        // No byte shuffle in SSE2: each entry is laid where its index stands.
        let mut found = [simd!(_mm_setzero_si128()); 4];
        for (i, entry) in (0..).zip(table) {
            let (index, entry) = (simd!(_mm_set1_epi8(i)), simd!(_mm_set1_epi8(*entry)));
            let here = all!(_mm_cmpeq_epi8, x, [index; 4]);
            let here = all!(_mm_and_si128, here, [entry; 4]);
            found = all!(_mm_or_si128, found, here);
        }
        found
    }
    #[inline(always)]
    fn dot_u7(self, acc: Self::I, w: Self::B, x: i32) -> Self::I {
        // Bytes of at most 127 are the same as signed ones.
        self.dot_i8(acc, w, x)
    }
    #[inline(always)]
    fn dot_i8(self, acc: Self::I, w: Self::B, x: i32) -> Self::I {
        let x = simd!(_mm_set1_epi32(x));
        let (even, odd) = (self.even(x), self.odd(x));
        std::array::from_fn(|i| {
            let evens = simd!(_mm_madd_epi16(self.even(w[i]), even));
            let odds = simd!(_mm_madd_epi16(self.odd(w[i]), odd));
            let quads = simd!(_mm_add_epi32(evens, odds));
            simd!(_mm_add_epi32(acc[i], quads))
        })
    }
}
