//! AVX-512 with VNNI: bytes are multiplied and added in one instruction.

use std::arch::x86_64::{
    __m512i, _mm512_add_epi32, _mm512_dpbusd_epi32, _mm512_set1_epi8, _mm512_set1_epi32,
    _mm512_setzero_si512, _mm512_xor_si512,
};

use super::lanes::Codes;
use super::zmm::{Dot, Zmm};

/// Multiplies with the 512-bit form of `vpdpbusd`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dpbusd512(());

/// AVX-512 F, BW, VL, DQ and VNNI: Intel since Cascade Lake (2019), AMD since Zen 4 (2022).
pub(super) type Avx512Vnni = Zmm<Dpbusd512>;

set!(
    Avx512Vnni,
    Zmm(Dpbusd512(())),
    is_x86_feature_detected: "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vnni", "avx2",
    "fma", "f16c"
);

// SAFETY: only `Avx512Vnni::detect` and `Amx::detect` make a value, after they found AVX-512 F, BW, VL, DQ and VNNI.
unsafe impl Dot for Dpbusd512 {
    // vpdpbusd multiplies unsigned by signed bytes: signed weights are moved up by 128.
    const I8_BIAS: i32 = 128;

    #[inline(always)]
    fn dot_u7(self, acc: __m512i, w: __m512i, x: __m512i) -> __m512i {
        simd!(_mm512_dpbusd_epi32(acc, w, x))
    }

    #[inline(always)]
    fn dot_i8(self, acc: __m512i, w: __m512i, x: __m512i) -> __m512i {
        let bias = simd!(_mm512_set1_epi8(-128));
        let w = simd!(_mm512_xor_si512(w, bias));
        self.dot_u7(acc, w, x)
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
        // With few tokens the chain of sums is what takes time: cut in two, it takes half.
        let half = if const { W <= 4 } { lines.len() / 2 } else { 0 };
        let zero = simd!(_mm512_setzero_si512());
        let first = self.chain(codes, &lines[..half], &x[..half], t, zero);
        let sum = self.chain(codes, &lines[half..], &x[half..], t, start);
        if half == 0 { sum } else { simd!(_mm512_add_epi32(first, sum)) }
    }
}

impl Dpbusd512 {
    /// # Safety
    ///
    /// The processor has AVX-512 F, BW, VL, DQ and VNNI.
    pub(super) unsafe fn new() -> Self {
        Self(())
    }

    #[inline(always)]
    fn chain<const W: usize>(
        self,
        codes: Codes,
        lines: &[__m512i],
        x: &[[i32; W]],
        t: usize,
        start: __m512i,
    ) -> __m512i {
        let mut sum = start;
        for (line, x) in lines.iter().zip(x) {
            let x = simd!(_mm512_set1_epi32(x[t]));
            sum = match codes {
                Codes::Nibbles | Codes::U6 | Codes::U7 => self.dot_u7(sum, *line, x),
                Codes::I8 => self.dot_i8(sum, *line, x),
            };
        }
        sum
    }
}
