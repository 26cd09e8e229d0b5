//! The blocks of spring 2023, and what they are called today.
//!
//! Until ggjt version 2 neighbouring elements shared a byte (`_V1`); until version 3 scales of
//! Q4_0, Q4_1 and Q8_0 were f32 (`_V1`, `_V2`). Codes never changed their meaning, so an old block
//! becomes one of today by moving nibbles and rounding its scales: [`modernize`].
//!
//! Source: ggml-org/llama.cpp, `ggml.c` of April 2023 and its pull requests 1405 and 1508.

use super::Encoding;
use super::blocks::{f16_at, f32_at, put_f16, put_nibbles, round_to_f16};

pub(super) fn decode_q4_0_v1(block: &[u8; 20], out: &mut [f32; 32]) {
    symmetric(f32_at(block, 0), neighbours(&block[4..]), out);
}

pub(super) fn decode_q4_0_v2(block: &[u8; 20], out: &mut [f32; 32]) {
    symmetric(f32_at(block, 0), halves(&block[4..]), out);
}

pub(super) fn decode_q4_1_v1(block: &[u8; 24], out: &mut [f32; 32]) {
    affine(f32_at(block, 0), f32_at(block, 4), neighbours(&block[8..]), out);
}

pub(super) fn decode_q4_1_v2(block: &[u8; 24], out: &mut [f32; 32]) {
    affine(f32_at(block, 0), f32_at(block, 4), halves(&block[8..]), out);
}

pub(super) fn decode_q4_2(blocks: &[u8; 20], out: &mut [f32; 32]) {
    let codes = q4_2_codes(blocks);
    for (i, out) in out.iter_mut().enumerate() {
        *out = f16_at(blocks, i / 16 * 10) * (f32::from(codes[i]) - 8.0);
    }
}

pub(super) fn decode_q4_3(blocks: &[u8; 24], out: &mut [f32; 32]) {
    let codes = q4_3_codes(blocks);
    for (i, out) in out.iter_mut().enumerate() {
        let at = i / 16 * 12;
        *out = f16_at(blocks, at) * f32::from(codes[i]) + f16_at(blocks, at + 2);
    }
}

pub(super) fn decode_q5_0_v1(block: &[u8; 22], out: &mut [f32; 32]) {
    let d = f16_at(block, 0);
    for (out, code) in out.iter_mut().zip(five_bits(&block[2..])) {
        *out = d * (f32::from(code) - 16.0);
    }
}

pub(super) fn decode_q5_1_v1(block: &[u8; 24], out: &mut [f32; 32]) {
    affine(f16_at(block, 0), f16_at(block, 2), five_bits(&block[4..]), out);
}

pub(super) fn decode_q8_0_v1(block: &[u8; 36], out: &mut [f32; 32]) {
    let d = f32_at(block, 0);
    for (out, &byte) in out.iter_mut().zip(&block[4..]) {
        *out = d * f32::from(byte.cast_signed());
    }
}

fn symmetric(d: f32, codes: [u8; 32], out: &mut [f32; 32]) {
    *out = codes.map(|code| d * (f32::from(code) - 8.0));
}

fn affine(d: f32, m: f32, codes: [u8; 32], out: &mut [f32; 32]) {
    *out = codes.map(|code| d * f32::from(code) + m);
}

/// Codes of 4 bits: byte b holds elements 2b (low half) and 2b + 1.
fn neighbours(bytes: &[u8]) -> [u8; 32] {
    std::array::from_fn(|i| (bytes[i / 2] >> (4 * (i % 2))) & 15)
}

/// Codes of 4 bits: byte b holds elements b (low half) and b + 16.
fn halves(bytes: &[u8]) -> [u8; 32] {
    std::array::from_fn(|i| (bytes[i % 16] >> (4 * (i / 16))) & 15)
}

/// Neighbours with a fifth bit: a u32 of those, then 16 bytes of low halves.
pub(super) fn five_bits(fields: &[u8]) -> [u8; 32] {
    let low = neighbours(&fields[4..20]);
    std::array::from_fn(|i| low[i] | ((fields[i / 8] >> (i % 8)) & 1) << 4)
}

/// Two blocks of a scale and eight bytes.
pub(super) fn q4_2_codes(blocks: &[u8]) -> [u8; 32] {
    std::array::from_fn(|i| (blocks[i / 16 * 10 + 2 + i % 16 / 2] >> (4 * (i % 2))) & 15)
}

/// Two blocks of a scale, a minimum and eight bytes.
pub(super) fn q4_3_codes(blocks: &[u8]) -> [u8; 32] {
    std::array::from_fn(|i| (blocks[i / 16 * 12 + 4 + i % 16 / 2] >> (4 * (i % 2))) & 15)
}

/// Nibbles of neighbours, 16 bytes as words, brought into today's order.
#[inline(always)]
pub(super) fn part_neighbours([first, second]: [u64; 2]) -> [u64; 2] {
    let low = |half: usize| spread(first >> (32 * half)) | spread(second >> (32 * half)) << 4;
    [low(0), low(1)]
}

/// The eight nibbles of the low 32 bits, one in each byte.
#[inline(always)]
fn spread(x: u64) -> u64 {
    let x = x & 0xFFFF_FFFF;
    let x = (x | x << 16) & 0x0000_FFFF_0000_FFFF;
    let x = (x | x << 8) & 0x00FF_00FF_00FF_00FF;
    (x | x << 4) & 0x0F0F_0F0F_0F0F_0F0F
}

/// The encoding of today that differs from one of 2023 only in its order and its scales' width.
pub(crate) fn modern(encoding: Encoding) -> Option<Encoding> {
    Layout::of(encoding).map(|layout| layout.modern)
}

/// Rewrites a row of blocks of 2023 in the [`modern`] encoding; whether every weight is the same.
///
/// Scales that f16 cannot hold are rounded, beyond its range to its largest.
///
/// # Panics
///
/// If `row` and `out` do not hold the same number of blocks, or there is no modern encoding.
pub(crate) fn modernize(encoding: Encoding, row: &[u8], out: &mut [u8]) -> bool {
    let layout = Layout::of(encoding).expect("only encodings with a modern one are rewritten");
    let (old, new) = (encoding.block_bytes(), layout.modern.block_bytes());
    assert_eq!(row.len() / old, out.len() / new, "not the same blocks");
    let mut exact = true;
    for (block, out) in row.chunks_exact(old).zip(out.chunks_exact_mut(new)) {
        exact &= layout.rewrite(block, out);
    }
    exact
}

/// Where a block of 2023 differs from the one of today.
struct Layout {
    modern: Encoding,
    /// Scales and minima in front.
    scales: usize,
    /// Whether they are f32.
    wide: bool,
    /// Whether neighbours share a byte.
    neighbours: bool,
}

impl Layout {
    fn of(encoding: Encoding) -> Option<Self> {
        let (modern, scales, wide, neighbours) = match encoding {
            Encoding::Q4_0_V1 => (Encoding::Q4_0, 1, true, true),
            Encoding::Q4_0_V2 => (Encoding::Q4_0, 1, true, false),
            Encoding::Q4_1_V1 => (Encoding::Q4_1, 2, true, true),
            Encoding::Q4_1_V2 => (Encoding::Q4_1, 2, true, false),
            Encoding::Q5_0_V1 => (Encoding::Q5_0, 1, false, true),
            Encoding::Q5_1_V1 => (Encoding::Q5_1, 2, false, true),
            Encoding::Q8_0_V1 => (Encoding::Q8_0, 1, true, false),
            _ => return None,
        };
        Some(Self { modern, scales, wide, neighbours })
    }

    fn rewrite(&self, block: &[u8], out: &mut [u8]) -> bool {
        let (scales, codes) = block.split_at(self.scales * if self.wide { 4 } else { 2 });
        let (out_scales, out_codes) = out.split_at_mut(self.scales * 2);
        let mut exact = true;
        if self.wide {
            for (i, out) in out_scales.chunks_exact_mut(2).enumerate() {
                let scale = f32_at(scales, 4 * i);
                let rounded = round_to_f16(scale);
                exact &= rounded.to_bits() == scale.to_bits();
                put_f16(out, 0, rounded);
            }
        } else {
            out_scales.copy_from_slice(scales);
        }
        out_codes.copy_from_slice(codes);
        if self.neighbours {
            // Fifth bits, where there are any, stand before the nibbles and stay.
            let at = codes.len() - 16;
            let low = neighbours(&codes[at..]);
            put_nibbles(&mut out_codes[at..], &low);
        }
        exact
    }
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::super::blocks::F16_MAX;
    use super::*;

    #[test]
    fn rewritten_blocks_keep_codes_and_round_scales() {
        for encoding in Encoding::all().filter(|&e| modern(e).is_some()) {
            let today = modern(encoding).unwrap();
            let mut block: Vec<u8> =
                (0..encoding.block_bytes()).map(|i| (i * 37 + 11) as u8).collect();
            let wide = Layout::of(encoding).unwrap().wide;
            for (scale, exact) in [(0.25f32, true), (0.1, !wide)] {
                let layout = Layout::of(encoding).unwrap();
                for i in 0..layout.scales {
                    if wide {
                        block[4 * i..4 * i + 4].copy_from_slice(&scale.to_le_bytes());
                    } else {
                        let scale = f16::from_f32(scale).to_le_bytes();
                        block[2 * i..2 * i + 2].copy_from_slice(&scale);
                    }
                }
                let mut out = vec![0; today.block_bytes()];
                assert_eq!(modernize(encoding, &block, &mut out), exact, "{}", encoding.name());
                let (mut want, mut found) = ([0.0; 32], [0.0; 32]);
                encoding.decode(&block, &mut want);
                today.decode(&out, &mut found);
                for (found, want) in found.iter().zip(want) {
                    let bound = if exact { 0.0 } else { want.abs() / 1024.0 };
                    assert!((found - want).abs() <= bound, "{}: {found} {want}", encoding.name());
                }
            }
        }
    }

    #[test]
    fn scales_beyond_f16_saturate() {
        let mut block = [0; 20];
        block[..4].copy_from_slice(&1e9f32.to_le_bytes());
        let mut out = [0; 18];
        assert!(!modernize(Encoding::Q4_0_V1, &block, &mut out));
        assert_eq!(f16_at(&out, 0), F16_MAX);
    }
}
