//! The lanes in AVX2 with FMA and F16C: two registers of eight lanes.

#[cfg_attr(
    not(test),
    expect(clippy::wildcard_imports, reason = "some forty intrinsics, all with telling names")
)]
use std::arch::x86_64::*;

use super::Op;
use super::lanes::Lanes;

/// Proof that the processor has AVX2, FMA and F16C.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// The proof, where the processor has the instructions.
    ///
    /// The list is that of [`run`]'s `target_feature`.
    pub(crate) fn detect() -> Option<Self> {
        let found = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        found.then_some(Self(()))
    }
}

/// Runs `op` compiled for these instructions.
pub(super) fn run<O: Op>(isa: Avx2, op: O) -> O::Output {
    #[target_feature(enable = "avx2,fma,f16c")]
    fn inner<O: Op>(isa: Avx2, op: O) -> O::Output {
        op.run(isa)
    }
    // SAFETY: `isa` proves that the processor has every feature that `inner` enables.
    unsafe { inner(isa, op) }
}

/// One operation on registers, sound because `self` proves the features.
macro_rules! simd {
    ($e:expr) => {{
        // SAFETY: a value of `Avx2` exists only where `detect` found these instructions.
        unsafe { $e }
    }};
}

/// The same operation on both registers.
macro_rules! both {
    ($op:expr, $a:expr $(, $b:expr)*) => {
        [simd!($op($a[0] $(, $b[0])*)), simd!($op($a[1] $(, $b[1])*))]
    };
}

impl Avx2 {
    /// `acc + Σ₄ u·s` for unsigned `u` and signed `s` whose pair sums stay within i16.
    #[inline(always)]
    fn dot_pairs(self, acc: [__m256i; 2], u: [__m256i; 2], s: [__m256i; 2]) -> [__m256i; 2] {
        let pairs = both!(_mm256_maddubs_epi16, u, s);
        let ones = simd!(_mm256_set1_epi16(1));
        let quads = both!(_mm256_madd_epi16, pairs, [ones, ones]);
        both!(_mm256_add_epi32, acc, quads)
    }
}

impl Lanes for Avx2 {
    type F = [__m256; 2];
    type I = [__m256i; 2];
    type B = [__m256i; 2];

    const I8_BIAS: i32 = 0;
    // Two registers a lane group: more than four tokens spill the sixteen registers.
    const MAX_TILE: usize = 4;

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
        // 2 · 127 · 127 fits i16: maddubs cannot saturate.
        let x = simd!(_mm256_set1_epi32(x));
        self.dot_pairs(acc, w, [x, x])
    }
    #[inline(always)]
    fn dot_i8(self, acc: Self::I, w: Self::B, x: i32) -> Self::I {
        // |w| · (x with w's sign): 2 · 128 · 127 fits i16.
        let x = simd!(_mm256_set1_epi32(x));
        let signed = both!(_mm256_sign_epi8, [x, x], w);
        self.dot_pairs(acc, both!(_mm256_abs_epi8, w), signed)
    }
}
