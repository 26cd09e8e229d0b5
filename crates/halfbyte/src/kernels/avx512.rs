//! AVX-512 without VNNI: bytes are multiplied in pairs that add up in i16.

use std::arch::x86_64::{
    __m512i, _mm512_abs_epi8, _mm512_add_epi16, _mm512_add_epi32, _mm512_madd_epi16,
    _mm512_maddubs_epi16, _mm512_mask_sub_epi8, _mm512_movepi8_mask, _mm512_set1_epi16,
    _mm512_set1_epi32, _mm512_setzero_si512,
};

use super::lanes::Codes;
use super::zmm::{Dot, Zmm};

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
    fn narrow_dot<const W: usize>(
        self,
        most: usize,
        lines: &[__m512i],
        x: &[[i32; W]],
        t: usize,
        mut sum: __m512i,
    ) -> __m512i {
        for (lines, x) in lines.chunks(most).zip(x.chunks(most)) {
            let mut acc = simd!(_mm512_setzero_si512());
            for (line, x) in lines.iter().zip(x) {
                let x = simd!(_mm512_set1_epi32(x[t]));
                let pairs = self.pairs(*line, x);
                acc = simd!(_mm512_add_epi16(acc, pairs));
            }
            sum = self.widen(sum, acc);
        }
        sum
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
    fn dot_lines<const W: usize>(
        self,
        codes: Codes,
        lines: &[__m512i],
        x: &[[i32; W]],
        t: usize,
        start: __m512i,
    ) -> __m512i {
        match codes {
            Codes::Nibbles => self.narrow_dot(8, lines, x, t, start),
            Codes::U6 => self.narrow_dot(2, lines, x, t, start),
            Codes::U7 => self.narrow_dot(1, lines, x, t, start),
            Codes::I8 => {
                let mut sum = start;
                for (line, x) in lines.iter().zip(x) {
                    let x = simd!(_mm512_set1_epi32(x[t]));
                    sum = self.dot_i8(sum, *line, x);
                }
                sum
            }
        }
    }
}
