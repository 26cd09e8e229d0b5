//! AVX-VNNI: AVX2 whose bytes are multiplied and added in one instruction.

use std::arch::x86_64::{_mm256_dpbusd_avx_epi32, _mm256_set1_epi8, _mm256_xor_si256};

use super::lanes::Codes;
use super::ymm::{Dot, Ints, Ymm, by_line};

/// Multiplies with the VEX form of `vpdpbusd`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dpbusd(());

/// AVX-VNNI, AVX2, FMA and F16C: Intel since Alder Lake (2021), AMD since Zen 5 (2024).
pub(super) type AvxVnni = Ymm<Dpbusd>;

set!(AvxVnni, Ymm(Dpbusd(())), is_x86_feature_detected: "avxvnni", "avx2", "fma", "f16c");

// SAFETY: only `AvxVnni::detect` makes a value, after it found AVX2, FMA and F16C, and AVX-VNNI.
unsafe impl Dot for Dpbusd {
    // vpdpbusd multiplies unsigned by signed bytes: signed weights are moved up by 128.
    const I8_BIAS: i32 = 128;

    #[inline(always)]
    fn dot_u7(self, acc: Ints, w: Ints, x: Ints) -> Ints {
        both!(_mm256_dpbusd_avx_epi32, acc, w, x)
    }

    #[inline(always)]
    fn dot_i8(self, acc: Ints, w: Ints, x: Ints) -> Ints {
        let bias = simd!(_mm256_set1_epi8(-128));
        self.dot_u7(acc, both!(_mm256_xor_si256, w, [bias, bias]), x)
    }

    #[inline(always)]
    fn dots<const W: usize>(
        self,
        codes: Codes,
        lines: &[Ints],
        x: &[[i32; W]],
        start: [Ints; W],
    ) -> [Ints; W] {
        by_line(Ymm(self), lines, x, start, |acc, w, x| match codes {
            Codes::Nibbles | Codes::U6 | Codes::U7 => self.dot_u7(acc, w, x),
            Codes::I8 => self.dot_i8(acc, w, x),
        })
    }
}
