//! NEON whose bytes are multiplied two rows by two tokens at a time, where there are tokens enough.

use std::arch::aarch64::{
    int32x2_t, int32x4_t, uint8x16_t, vdup_n_s32, vdupq_n_s32, vld1_s32, vreinterpretq_s32_u8,
    vreinterpretq_u8_s32, vuzp1q_s32, vuzp2q_s32, vzip1q_s32, vzip2q_s32,
};
use std::arch::asm;

use super::lanes::Codes;
use super::neon::{Bytes, Dot, Ints, Neon};
use super::neondot::Sdot;

/// Multiplies with `smmla` in panels, and with `sdot` where weights stream past.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Smmla(Sdot);

/// NEON with int8 matrix products: Cortex-A510 and A710 (2021), Neoverse V1, Apple A15 and M2.
pub(super) type NeonI8mm = Neon<Smmla>;

set!(
    NeonI8mm,
    // SAFETY: `detect` evaluates this only where it found all three features.
    Neon(Smmla(unsafe { Sdot::new() })),
    is_aarch64_feature_detected: "neon", "dotprod", "i8mm"
);

/// `acc` plus two rows of eight bytes times two tokens of eight bytes: row 0 with token 0 and 1,
/// row 1 with token 0 and 1.
///
/// In assembly because the intrinsic is not stable yet.
#[inline]
#[target_feature(enable = "neon,i8mm")]
fn smmla(acc: int32x4_t, w: uint8x16_t, x: int32x4_t) -> int32x4_t {
    let mut sums = acc;
    // SAFETY: the matrix products are on; only registers change.
    unsafe {
        asm!(
            "smmla {sums:v}.4s, {w:v}.16b, {x:v}.16b",
            sums = inout(vreg) sums,
            w = in(vreg) w,
            x = in(vreg) x,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

/// Words of `a` and `b` in turn.
///
/// In assembly because the compiler would load with `ld4`, which is many operations in one.
#[inline]
#[target_feature(enable = "neon")]
fn zip(a: int32x2_t, b: int32x2_t) -> int32x4_t {
    let zipped;
    // SAFETY: NEON is on; only registers change.
    unsafe {
        asm!(
            "zip1 {zipped:v}.4s, {a:v}.4s, {b:v}.4s",
            zipped = out(vreg) zipped,
            a = in(vreg) a,
            b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    zipped
}

impl Smmla {
    /// Two neighbouring words, or the last one twice.
    #[inline(always)]
    fn two(self, words: &[i32], at: usize) -> int32x2_t {
        match words[at..].first_chunk::<2>() {
            Some(two) => simd!(vld1_s32(two.as_ptr())),
            None => simd!(vdup_n_s32(words[at])),
        }
    }

    /// Eight bytes of one token, eight bytes of the next: two quads each.
    #[inline(always)]
    fn two_tokens(self, first: &[i32], second: &[i32], t: usize) -> int32x4_t {
        let (first, second) = (self.two(first, t), self.two(second, t));
        simd!(zip(first, second))
    }
}

// SAFETY: only `NeonI8mm::detect` makes a value, after it found NEON, dotprod and i8mm.
unsafe impl Dot for Smmla {
    const MAX_TILE: usize = Sdot::MAX_TILE;

    #[inline(always)]
    fn dot(self, acc: Ints, w: Bytes, x: i32) -> Ints {
        self.0.dot(acc, w, x)
    }

    #[inline(always)]
    fn dots<const W: usize>(
        self,
        codes: Codes,
        lines: &[Bytes],
        x: &[[i32; W]],
        start: [Ints; W],
    ) -> [Ints; W] {
        self.0.dots(codes, lines, x, start)
    }

    /// Two lines of four bytes a row become one of rows 0, 1, 4, 5, …, and one of rows 2, 3, 6,
    /// 7, …, eight bytes a row.
    #[inline(always)]
    fn arrange(self, mut lines: [Bytes; 8]) -> [Bytes; 8] {
        for pair in lines.as_chunks_mut::<2>().0 {
            let first = all!(vreinterpretq_s32_u8, pair[0]);
            let second = all!(vreinterpretq_s32_u8, pair[1]);
            let rows = [all!(vzip1q_s32, first, second), all!(vzip2q_s32, first, second)];
            *pair = [all!(vreinterpretq_u8_s32, rows[0]), all!(vreinterpretq_u8_s32, rows[1])];
        }
        lines
    }

    /// Two by two the sums of two tokens are kept in the order of [`smmla`].
    #[inline(always)]
    fn dots_arranged<const W: usize>(
        self,
        _: Codes,
        lines: &[Bytes],
        x: &[[i32; W]],
        start: [Ints; W],
    ) -> [Ints; W] {
        let (mut sums, pairs) = (start, lines.as_chunks::<2>().0);
        let mut even = [[simd!(vdupq_n_s32(0)); 4]; W];
        let mut odd = even;
        for t in (0..W).step_by(2) {
            let next = start[(t + 1).min(W - 1)];
            even[t] = all!(vzip1q_s32, start[t], next);
            odd[t] = all!(vzip2q_s32, start[t], next);
        }
        each_line!(J in 0 1 2 3 => if J < pairs.len() {
            let mut tokens = [simd!(vdupq_n_s32(0)); W];
            for t in (0..W).step_by(2) {
                tokens[t] = self.two_tokens(&x[2 * J], &x[2 * J + 1], t);
            }
            // Register by register, so that no more than one of the weights is live at a time.
            for i in 0..4 {
                for t in (0..W).step_by(2) {
                    even[t][i] = simd!(smmla(even[t][i], pairs[J][0][i], tokens[t]));
                    odd[t][i] = simd!(smmla(odd[t][i], pairs[J][1][i], tokens[t]));
                }
            }
        });
        for t in (0..W).step_by(2) {
            sums[t] = all!(vuzp1q_s32, even[t], odd[t]);
            if t + 1 < W {
                sums[t + 1] = all!(vuzp2q_s32, even[t], odd[t]);
            }
        }
        sums
    }
}
