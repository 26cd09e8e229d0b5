//! NEON alone: bytes are multiplied in i16 and add up there.

use std::arch::aarch64::{
    int16x8_t, int32x4_t, uint8x16_t, vdupq_n_s16, vdupq_n_s32, vpadalq_s16, vpaddq_s16,
    vreinterpretq_u8_s32,
};
use std::arch::asm;

use super::lanes::Codes;
use super::neon::{Bytes, Dot, Ints, Neon};

/// Multiplies with `smlal`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Smlal(());

/// NEON: every 64-bit ARM.
pub(super) type NeonBase = Neon<Smlal>;

set!(NeonBase, Neon(Smlal(())), is_aarch64_feature_detected: "neon");

/// Sums of the products of sixteen bytes, in the order of the bytes.
type Products = [int16x8_t; 2];

/// `acc` plus the products of signed bytes, for sums that fit.
///
/// All of this in assembly because the compiler would take the broadcast activations apart again.
#[inline]
#[target_feature(enable = "neon")]
fn add_products(acc: Products, w: uint8x16_t, x: uint8x16_t) -> Products {
    let [mut low, mut high] = acc;
    // SAFETY: NEON is on; only registers change.
    unsafe {
        asm!(
            "smlal {low:v}.8h, {w:v}.8b, {x:v}.8b",
            "smlal2 {high:v}.8h, {w:v}.16b, {x:v}.16b",
            low = inout(vreg) low,
            high = inout(vreg) high,
            w = in(vreg) w,
            x = in(vreg) x,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    [low, high]
}

/// `acc + Σ₄ w·x` in each lane, where sums of two products fit i16.
#[inline]
#[target_feature(enable = "neon")]
fn dot_line(acc: int32x4_t, w: uint8x16_t, x: uint8x16_t) -> int32x4_t {
    let mut sum = acc;
    // SAFETY: NEON is on; only registers change.
    unsafe {
        asm!(
            "smull {low:v}.8h, {w:v}.8b, {x:v}.8b",
            "smull2 {high:v}.8h, {w:v}.16b, {x:v}.16b",
            "addp {low:v}.8h, {low:v}.8h, {high:v}.8h",
            "sadalp {sum:v}.4s, {low:v}.8h",
            low = out(vreg) _,
            high = out(vreg) _,
            sum = inout(vreg) sum,
            w = in(vreg) w,
            x = in(vreg) x,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

/// `acc + Σ₄ w·x + Σ₄ v·y` in each lane, where sums of four products fit i16.
#[inline]
#[target_feature(enable = "neon")]
fn dot_two_lines(
    acc: int32x4_t,
    w: uint8x16_t,
    x: uint8x16_t,
    v: uint8x16_t,
    y: uint8x16_t,
) -> int32x4_t {
    let mut sum = acc;
    // SAFETY: NEON is on; only registers change.
    unsafe {
        asm!(
            "smull {low:v}.8h, {w:v}.8b, {x:v}.8b",
            "smull2 {high:v}.8h, {w:v}.16b, {x:v}.16b",
            "smlal {low:v}.8h, {v:v}.8b, {y:v}.8b",
            "smlal2 {high:v}.8h, {v:v}.16b, {y:v}.16b",
            "addp {low:v}.8h, {low:v}.8h, {high:v}.8h",
            "sadalp {sum:v}.4s, {low:v}.8h",
            low = out(vreg) _,
            high = out(vreg) _,
            sum = inout(vreg) sum,
            w = in(vreg) w,
            x = in(vreg) x,
            v = in(vreg) v,
            y = in(vreg) y,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

impl Smlal {
    #[inline(always)]
    fn broadcast(self, x: i32) -> uint8x16_t {
        let x = simd!(vdupq_n_s32(x));
        simd!(vreinterpretq_u8_s32(x))
    }

    /// All lines add up in i16.
    #[inline(always)]
    fn nibbles<const W: usize>(
        self,
        lines: &[Bytes],
        x: &[[i32; W]],
        mut sums: [Ints; W],
    ) -> [Ints; W] {
        let zero = [[simd!(vdupq_n_s16(0)); 2]; 4];
        let mut products = [zero; W];
        each_line!(J in 0 1 2 3 4 5 6 7 => if J < lines.len() {
            for t in 0..W {
                let x = self.broadcast(x[J][t]);
                products[t] = all!(add_products, products[t], lines[J], [x; 4]);
            }
        });
        for t in 0..W {
            for i in 0..4 {
                let [low, high] = products[t][i];
                let pairs = simd!(vpaddq_s16(low, high));
                sums[t][i] = simd!(vpadalq_s16(sums[t][i], pairs));
            }
        }
        sums
    }

    /// Lines add up in i16 two by two.
    #[inline(always)]
    fn by_two_lines<const W: usize>(
        self,
        lines: &[Bytes],
        x: &[[i32; W]],
        mut sums: [Ints; W],
    ) -> [Ints; W] {
        let (pairs, last) = lines.as_chunks::<2>();
        each_line!(J in 0 1 2 3 => if J < pairs.len() {
            let [w, v] = pairs[J];
            for t in 0..W {
                let (x, y) = (self.broadcast(x[2 * J][t]), self.broadcast(x[2 * J + 1][t]));
                sums[t] = all!(dot_two_lines, sums[t], w, [x; 4], v, [y; 4]);
            }
        });
        self.by_line(last, &x[lines.len() - last.len()..], sums)
    }

    /// Only a line's own products add up in i16.
    #[inline(always)]
    fn by_line<const W: usize>(
        self,
        lines: &[Bytes],
        x: &[[i32; W]],
        mut sums: [Ints; W],
    ) -> [Ints; W] {
        each_line!(J in 0 1 2 3 4 5 6 7 => if J < lines.len() {
            for t in 0..W {
                sums[t] = self.dot(sums[t], lines[J], x[J][t]);
            }
        });
        sums
    }
}

// SAFETY: only `NeonBase::detect` makes a value, after it found NEON.
unsafe impl Dot for Smlal {
    // Sums in i16 are eight registers a token: with more tokens they spill the 32.
    const MAX_TILE: usize = 2;

    #[inline(always)]
    fn dot(self, acc: Ints, w: Bytes, x: i32) -> Ints {
        // 2 · 128 · 127 fits i16.
        all!(dot_line, acc, w, [self.broadcast(x); 4])
    }

    #[inline(always)]
    fn dots<const W: usize>(
        self,
        codes: Codes,
        lines: &[Bytes],
        x: &[[i32; W]],
        start: [Ints; W],
    ) -> [Ints; W] {
        match codes {
            Codes::Nibbles => self.nibbles(lines, x, start),
            Codes::U6 => self.by_two_lines(lines, x, start),
            Codes::U7 | Codes::I8 => self.by_line(lines, x, start),
        }
    }
}
