//! Encodings that have no packed form of their own, as bytes with scales: exact.

use super::blocks::{f16_at, f32_at};
use super::{Encoding, legacy};

/// Thirty-two weights: `scale · code + min`, scale and minimum per 16.
pub(super) struct Wide {
    /// Signed bytes for symmetric encodings, else unsigned of at most 31.
    pub(super) codes: [u8; 32],
    pub(super) scale: [f32; 2],
    pub(super) min: [f32; 2],
}

/// Columns 32g..32g + 32 of a block. The layouts are those of the encodings' decoders.
pub(super) fn group(encoding: Encoding, block: &[u8], g: usize) -> Wide {
    match encoding {
        Encoding::Q5_0 => {
            let codes = five_bits(&block[2..6], &block[6..22]);
            wide(codes.map(|c| c.wrapping_sub(16)), [f16_at(block, 0); 2], [0.0; 2])
        }
        Encoding::Q5_1 => {
            let codes = five_bits(&block[4..8], &block[8..24]);
            wide(codes, [f16_at(block, 0); 2], [f16_at(block, 2); 2])
        }
        Encoding::Q5_0_V1 => {
            let codes = legacy::five_bits(&block[2..22]);
            wide(codes.map(|c| c.wrapping_sub(16)), [f16_at(block, 0); 2], [0.0; 2])
        }
        Encoding::Q5_1_V1 => {
            wide(legacy::five_bits(&block[4..24]), [f16_at(block, 0); 2], [f16_at(block, 2); 2])
        }
        Encoding::Q4_2 => {
            let codes = legacy::q4_2_codes(block).map(|c| c.wrapping_sub(8));
            wide(codes, [f16_at(block, 0), f16_at(block, 10)], [0.0; 2])
        }
        Encoding::Q4_3 => {
            let [scale, min] = [0, 2].map(|at| [f16_at(block, at), f16_at(block, at + 12)]);
            wide(legacy::q4_3_codes(block), scale, min)
        }
        Encoding::Q8_0_V1 => {
            let codes = std::array::from_fn(|i| block[4 + i]);
            wide(codes, [f32_at(block, 0); 2], [0.0; 2])
        }
        Encoding::Q5_K => q5_k(block, g),
        Encoding::Q2_K => q2_k(block, g),
        Encoding::Q3_K => q3_k(block, g),
        other => unreachable!("{} has a packed form of its own", other.name()),
    }
}

fn wide(codes: [u8; 32], scale: [f32; 2], min: [f32; 2]) -> Wide {
    Wide { codes, scale, min }
}

/// Element i: a nibble (low for i < 16, else high) and bit i of `high`.
fn five_bits(high: &[u8], nibbles: &[u8]) -> [u8; 32] {
    std::array::from_fn(|i| {
        let low = (nibbles[i % 16] >> (4 * (i / 16))) & 15;
        low | ((high[i / 8] >> (i % 8)) & 1) << 4
    })
}

fn q5_k(block: &[u8], g: usize) -> Wide {
    let (sub, min) = super::k_quants::scale_and_min(&block[4..16], g);
    let (qh, qs) = (&block[16..48], &block[48 + g / 2 * 32..]);
    let codes = std::array::from_fn(|i| (qs[i] >> (4 * (g % 2))) & 15 | ((qh[i] >> g) & 1) << 4);
    let scale = f16_at(block, 0) * f32::from(sub);
    wide(codes, [scale; 2], [-(f16_at(block, 2) * f32::from(min)); 2])
}

fn q2_k(block: &[u8], g: usize) -> Wide {
    let (h, k) = (g / 4, g % 4);
    let codes = std::array::from_fn(|i| (block[16 + 32 * h + i] >> (2 * k)) & 3);
    let (d, dmin) = (f16_at(block, 80), f16_at(block, 82));
    let part = |half: usize| block[2 * g + half];
    let scale = [0, 1].map(|half| d * f32::from(part(half) & 15));
    wide(codes, scale, [0, 1].map(|half| -(dmin * f32::from(part(half) >> 4))))
}

fn q3_k(block: &[u8], g: usize) -> Wide {
    let (h, k) = (g / 4, g % 4);
    let codes = std::array::from_fn(|i| {
        let low = (block[32 + 32 * h + i] >> (2 * k)) & 3;
        let high = (block[i] >> g) & 1;
        if high == 1 { low } else { low.wrapping_sub(4) }
    });
    let d = f16_at(block, 108);
    let scale = [0, 1]
        .map(|half| d * f32::from(super::k_quants::q3_k_scale(&block[96..108], 2 * g + half)));
    wide(codes, scale, [0.0; 2])
}
