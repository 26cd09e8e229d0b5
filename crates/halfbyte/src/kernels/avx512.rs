//! AVX-512 without VNNI: bytes are multiplied in pairs that add up in i16.

use std::arch::x86_64::{
    __m512i, _mm512_abs_epi8, _mm512_add_epi16, _mm512_add_epi32, _mm512_madd_epi16,
    _mm512_maddubs_epi16, _mm512_mask_sub_epi8, _mm512_movepi8_mask, _mm512_set1_epi16,
    _mm512_setzero_si512,
};

use super::lanes::Codes;
use super::zmm::{Dot, Zmm, by_token};

/// Multiplies with the 512-bit form of `vpmaddubsw`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Maddubs512(());

/// AVX-512 F, BW, VL and DQ: Intel since Skylake-SP (2017).
pub(super) type Avx512 = Zmm<Maddubs512>;

set!(
    Avx512,
    Zmm(Maddubs512(())),
    is_x86_feature_detected: "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx2", "fma", "f16c"
);

impl Maddubs512 {
    /// `Σ₂ u·s` for unsigned `u` and signed `s` whose pair sums stay within i16.
    #[inline(always)]
    fn pairs(self, u: __m512i, s: __m512i) -> __m512i {
        simd!(_mm512_maddubs_epi16(u, s))
    }

    /// `acc` plus the sum of each dword's two i16.
    #[inline(always)]
    fn widen(self, acc: __m512i, pairs: __m512i) -> __m512i {
        let ones = simd!(_mm512_set1_epi16(1));
        let quads = simd!(_mm512_madd_epi16(pairs, ones));
        simd!(_mm512_add_epi32(acc, quads))
    }

    /// Adds up as many lines in i16 as `most` fit there, then in i32.
    #[inline(always)]
    fn narrow_dots<const W: usize>(
        self,
        most: usize,
        lines: &[__m512i],
        x: &[[i32; W]],
        mut sums: [__m512i; W],
    ) -> [__m512i; W] {
        let zero = simd!(_mm512_setzero_si512());
        for (lines, x) in lines.chunks(most).zip(x.chunks(most)) {
            let dot = |acc, w, x| {
                let pairs = self.pairs(w, x);
                simd!(_mm512_add_epi16(acc, pairs))
            };
            let pairs = by_token(Zmm(self), lines, x, [zero; W], dot);
            for (sum, pairs) in sums.iter_mut().zip(pairs) {
                *sum = self.widen(*sum, pairs);
            }
        }
        sums
    }
}

// SAFETY: only `Avx512::detect` makes a value, after it found AVX-512 F, BW, VL and DQ.
unsafe impl Dot for Maddubs512 {
    const I8_BIAS: i32 = 0;

    #[inline(always)]
    fn dot_u7(self, acc: __m512i, w: __m512i, x: __m512i) -> __m512i {
        // 2 · 127 · 127 fits i16: maddubs cannot saturate.
        self.widen(acc, self.pairs(w, x))
    }

    #[inline(always)]
    fn dot_i8(self, acc: __m512i, w: __m512i, x: __m512i) -> __m512i {
        // |w| · (x with w's sign): 2 · 128 · 127 fits i16. AVX-512 has no vpsignb.
        let negative = simd!(_mm512_movepi8_mask(w));
        let zero = simd!(_mm512_setzero_si512());
        let signed = simd!(_mm512_mask_sub_epi8(x, negative, zero, x));
        let size = simd!(_mm512_abs_epi8(w));
        self.widen(acc, self.pairs(size, signed))
    }

    #[inline(always)]
    fn dots<const W: usize>(
        self,
        codes: Codes,
        lines: &[__m512i],
        x: &[[i32; W]],
        start: [__m512i; W],
    ) -> [__m512i; W] {
        match codes {
            Codes::Nibbles => self.narrow_dots(8, lines, x, start),
            Codes::U6 => self.narrow_dots(2, lines, x, start),
            Codes::U7 => self.narrow_dots(1, lines, x, start),
            Codes::I8 => by_token(Zmm(self), lines, x, start, |acc, w, x| self.dot_i8(acc, w, x)),
        }
    }
}
