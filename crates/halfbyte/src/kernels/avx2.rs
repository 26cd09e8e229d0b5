//! AVX2 (with FMA and F16C): bytes are multiplied in pairs that add up in i16.

use std::arch::asm;
use std::arch::x86_64::{
    __m256i, _mm256_abs_epi8, _mm256_add_epi32, _mm256_madd_epi16, _mm256_maddubs_epi16,
    _mm256_set1_epi16, _mm256_set1_epi32, _mm256_setzero_si256, _mm256_sign_epi8,
};

use super::buffer::Line;
use super::lanes::{Codes, load_lines};
use super::ymm::{Dot, Ints, Ymm, by_line};

/// Multiplies with `vpmaddubsw`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Maddubs(());

/// AVX2, FMA and F16C: Intel since Haswell (2013), AMD since Excavator (2015).
pub(super) type Avx2 = Ymm<Maddubs>;

set!(Avx2, Ymm(Maddubs(())), is_x86_feature_detected: "avx2", "fma", "f16c");

/// `acc + Σ₂ u·s` in i16, for sums that fit.
///
/// In assembly because the compiler would sum up token by token, with weights and sums on the
/// stack, not line by line, with the tokens' sums in registers.
#[inline]
#[target_feature(enable = "avx2")]
fn add_pairs(acc: __m256i, u: __m256i, s: __m256i) -> __m256i {
    let mut sum = acc;
    // SAFETY: AVX2 is on; only registers change.
    unsafe {
        asm!(
            "vpmaddubsw {pairs}, {u}, {s}",
            "vpaddw {sum}, {sum}, {pairs}",
            pairs = out(ymm_reg) _,
            sum = inout(ymm_reg) sum,
            u = in(ymm_reg) u,
            s = in(ymm_reg) s,
            options(nomem, nostack, preserves_flags),
        );
    }
    sum
}

/// Half a line of a panel.
///
/// In assembly, which keeps its place among [`add_pairs`], because the compiler would load all
/// lines of a group first and put half of them on the stack.
#[inline]
#[target_feature(enable = "avx2")]
fn load_here(half: &[u8; 32]) -> __m256i {
    let loaded;
    // SAFETY: AVX2 is on; reads the 32 bytes of `half`.
    unsafe {
        asm!(
            "vmovdqu {loaded}, [{half}]",
            loaded = out(ymm_reg) loaded,
            half = in(reg) half.as_ptr(),
            options(readonly, nostack, preserves_flags),
        );
    }
    loaded
}

/// Lines whose products add up within i16 ([`Codes`]); `None` for signed ones.
#[inline(always)]
const fn lines_in_i16(codes: Codes) -> Option<usize> {
    match codes {
        Codes::Nibbles => Some(8),
        Codes::U6 => Some(2),
        Codes::U7 => Some(1),
        Codes::I8 => None,
    }
}

/// Where the lines of codes are.
trait Lines: Copy {
    /// Half `h` of line `j`.
    fn half(self, j: usize, h: usize) -> __m256i;
}

impl Lines for &[Ints] {
    #[inline(always)]
    fn half(self, j: usize, h: usize) -> __m256i {
        self[j][h]
    }
}

impl Lines for &[Line] {
    #[inline(always)]
    fn half(self, j: usize, h: usize) -> __m256i {
        let (halves, _) = self[j].0.as_chunks();
        simd!(load_here(&halves[h]))
    }
}

impl Maddubs {
    /// `Σ₂ u·s` for unsigned `u` and signed `s` whose pair sums stay within i16.
    #[inline(always)]
    fn pairs(self, u: Ints, s: Ints) -> Ints {
        both!(_mm256_maddubs_epi16, u, s)
    }

    /// `acc` plus the sum of each dword's two i16.
    #[inline(always)]
    fn widen(self, acc: Ints, pairs: Ints) -> Ints {
        let ones = simd!(_mm256_set1_epi16(1));
        let quads = both!(_mm256_madd_epi16, pairs, [ones, ones]);
        both!(_mm256_add_epi32, acc, quads)
    }

    #[inline(always)]
    fn add_line<const W: usize>(self, line: Ints, x: &[i32; W], pairs: &mut [Ints; W]) {
        for t in 0..W {
            let x = simd!(_mm256_set1_epi32(x[t]));
            pairs[t][0] = simd!(add_pairs(pairs[t][0], line[0], x));
            pairs[t][1] = simd!(add_pairs(pairs[t][1], line[1], x));
        }
    }

    /// Adds up as many lines in i16 as `most` fit there, then in i32.
    #[inline(always)]
    fn narrow_dots<const W: usize>(
        self,
        most: usize,
        lines: impl Lines,
        x: &[[i32; W]],
        mut sums: [Ints; W],
    ) -> [Ints; W] {
        let zero = [simd!(_mm256_setzero_si256()); 2];
        for first in (0..x.len()).step_by(most) {
            let mut pairs = [zero; W];
            each_line!(J in 0 1 2 3 4 5 6 7 => if J < most && first + J < x.len() {
                let line = [lines.half(first + J, 0), lines.half(first + J, 1)];
                self.add_line(line, &x[first + J], &mut pairs);
            });
            for t in 0..W {
                sums[t] = self.widen(sums[t], pairs[t]);
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
        match lines_in_i16(codes) {
            Some(most) => self.narrow_dots(most, lines, x, start),
            None => by_line(Ymm(self), lines, x, start, |acc, w, x| self.dot_i8(acc, w, x)),
        }
    }

    #[inline(always)]
    fn dots_arranged<const W: usize>(
        self,
        codes: Codes,
        lines: &[Line],
        x: &[[i32; W]],
        start: [Ints; W],
    ) -> [Ints; W] {
        if let Some(most) = lines_in_i16(codes) {
            return self.narrow_dots(most, lines, x, start);
        }
        let loaded = load_lines(Ymm(self), lines);
        self.dots(codes, &loaded[..lines.len()], x, start)
    }
}
