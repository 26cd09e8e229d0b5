//! AVX2 (with FMA and F16C): bytes are multiplied in pairs that add up in i16.

use std::arch::x86_64::{
    _mm256_abs_epi8, _mm256_add_epi16, _mm256_add_epi32, _mm256_madd_epi16, _mm256_maddubs_epi16,
    _mm256_set1_epi16, _mm256_setzero_si256, _mm256_sign_epi8,
};

use super::lanes::Codes;
use super::ymm::{Dot, Ints, Ymm, by_line};

/// Multiplies with `vpmaddubsw`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Maddubs(());

/// AVX2, FMA and F16C: Intel since Haswell (2013), AMD since Excavator (2015).
pub(super) type Avx2 = Ymm<Maddubs>;

set!(Avx2, Ymm(Maddubs(())), is_x86_feature_detected: "avx2", "fma", "f16c");

impl Maddubs {
    /// `Σ₂ u·s` for unsigned `u` and signed `s` whose pair sums stay within i16.
    #[inline(always)]
    fn pairs(self, u: Ints, s: Ints) -> Ints {
        both!(_mm256_maddubs_epi16, u, s)
    }

    /// Sums of i16, that stay within i16.
    #[inline(always)]
    fn add_pairs(self, a: Ints, b: Ints) -> Ints {
        both!(_mm256_add_epi16, a, b)
    }

    /// `acc` plus the sum of each dword's two i16.
    #[inline(always)]
    fn widen(self, acc: Ints, pairs: Ints) -> Ints {
        let ones = simd!(_mm256_set1_epi16(1));
        let quads = both!(_mm256_madd_epi16, pairs, [ones, ones]);
        both!(_mm256_add_epi32, acc, quads)
    }

    /// Adds up as many lines in i16 as `most` fit there, then in i32.
    #[inline(always)]
    fn narrow_dots<const W: usize>(
        self,
        most: usize,
        lines: &[Ints],
        x: &[[i32; W]],
        mut sums: [Ints; W],
    ) -> [Ints; W] {
        let zero = [simd!(_mm256_setzero_si256()); 2];
        for (lines, x) in lines.chunks(most).zip(x.chunks(most)) {
            let dot = |acc, w, x| self.add_pairs(acc, self.pairs(w, x));
            let pairs = by_line(Ymm(self), lines, x, [zero; W], dot);
            for (sum, pairs) in sums.iter_mut().zip(pairs) {
                *sum = self.widen(*sum, pairs);
            }
        }
        sums
    }
}

// SAFETY: only `Avx2::detect` makes a value, after it found AVX2, FMA and F16C.
unsafe impl Dot for Maddubs {
    const I8_BIAS: i32 = 0;

    #[inline(always)]
    fn dot_u7(self, acc: Ints, w: Ints, x: Ints) -> Ints {
        // 2 · 127 · 127 fits i16: maddubs cannot saturate.
        self.widen(acc, self.pairs(w, x))
    }

    #[inline(always)]
    fn dot_i8(self, acc: Ints, w: Ints, x: Ints) -> Ints {
        // |w| · (x with w's sign): 2 · 128 · 127 fits i16.
        let signed = both!(_mm256_sign_epi8, x, w);
        self.widen(acc, self.pairs(both!(_mm256_abs_epi8, w), signed))
    }

    #[inline(always)]
    fn dots<const W: usize>(
        self,
        codes: Codes,
        lines: &[Ints],
        x: &[[i32; W]],
        start: [Ints; W],
    ) -> [Ints; W] {
        match codes {
            Codes::Nibbles => self.narrow_dots(8, lines, x, start),
            Codes::U6 => self.narrow_dots(2, lines, x, start),
            Codes::U7 => self.narrow_dots(1, lines, x, start),
            Codes::I8 => by_line(Ymm(self), lines, x, start, |acc, w, x| self.dot_i8(acc, w, x)),
        }
    }
}
