//! NEON whose bytes are multiplied and added in fours.

use std::arch::aarch64::{int32x4_t, uint8x16_t, vdupq_n_s32, vld1q_s32};
use std::arch::asm;

use super::lanes::Codes;
use super::neon::{Bytes, Dot, Ints, Neon};
use super::terms::each_token;

/// Multiplies with `sdot`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sdot(());

/// NEON with dot products: Cortex-A55 and A75 (2017), Neoverse N1, Apple A13 and M1.
pub(super) type NeonDot = Neon<Sdot>;

set!(NeonDot, Neon(Sdot(())), is_aarch64_feature_detected: "neon", "dotprod");

/// `acc + Σ₄ w·x` in each lane, with the four bytes at lane `LANE` of `x`.
///
/// In assembly because the intrinsics are not stable yet.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn sdot<const LANE: usize>(acc: int32x4_t, w: uint8x16_t, x: int32x4_t) -> int32x4_t {
    let mut sum = acc;
    // SAFETY: the dot products are on; only registers change.
    unsafe {
        asm!(
            "sdot {sum:v}.4s, {w:v}.16b, {x:v}.4b[{lane}]",
            sum = inout(vreg) sum,
            w = in(vreg) w,
            x = in(vreg) x,
            lane = const LANE,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

impl Sdot {
    /// The proof.
    ///
    /// # Safety
    ///
    /// The processor has NEON and dotprod.
    pub(super) const unsafe fn new() -> Self {
        Self(())
    }

    /// `acc` plus a line's dot products with lane `lane` of `x`.
    #[inline(always)]
    fn dot_lane(self, acc: Ints, w: Bytes, x: int32x4_t, lane: usize) -> Ints {
        // Where this is inlined the lane is known: one arm remains.
        match lane {
            0 => all!(sdot::<0>, acc, w, [x; 4]),
            1 => all!(sdot::<1>, acc, w, [x; 4]),
            2 => all!(sdot::<2>, acc, w, [x; 4]),
            _ => all!(sdot::<3>, acc, w, [x; 4]),
        }
    }

    /// Four words from `at`, or fewer and zeros.
    #[inline(always)]
    fn quad(self, words: &[i32], at: usize) -> int32x4_t {
        let rest = &words[at..];
        let mut padded = [0; 4];
        let four: &[i32; 4] = rest.first_chunk().unwrap_or_else(|| {
            padded[..rest.len()].copy_from_slice(rest);
            &padded
        });
        simd!(vld1q_s32(four.as_ptr()))
    }

    /// Adds a line's dot products with W words from `first`, four words a load.
    #[inline(always)]
    fn add_line<const W: usize>(
        self,
        line: Bytes,
        words: &[i32],
        first: usize,
        sums: &mut [Ints; W],
    ) {
        each_token!(TOKEN < W => {
            let at = first + TOKEN;
            let x = self.quad(words, at / 4 * 4);
            sums[TOKEN] = self.dot_lane(sums[TOKEN], line, x, at % 4);
        });
    }
}

// SAFETY: only `detect` of `NeonDot` and of `NeonI8mm` makes a value, after it found NEON and dotprod.
unsafe impl Dot for Sdot {
    // Sixteen sums, a line and the activations leave the tokens' f32 sums some registers.
    const MAX_TILE: usize = 4;

    #[inline(always)]
    fn dot(self, acc: Ints, w: Bytes, x: i32) -> Ints {
        let x = simd!(vdupq_n_s32(x));
        self.dot_lane(acc, w, x, 0)
    }

    #[inline(always)]
    fn dots<const W: usize>(
        self,
        _: Codes,
        lines: &[Bytes],
        x: &[[i32; W]],
        start: [Ints; W],
    ) -> [Ints; W] {
        let (mut sums, words) = (start, x.as_flattened());
        each_line!(J in 0 1 2 3 4 5 6 7 => if J < lines.len() {
            self.add_line(lines[J], words, J * W, &mut sums);
        });
        sums
    }
}
