//! Decoding of the two-level blocks of 256: Q2_K, Q3_K, Q4_K, Q5_K, Q6_K.
//!
//! A block has one or two f16 factors; its sub-blocks of 16 or 32 have small integer scales under
//! them. All products of the fields are exact in f32 (at most 24 bits), so the order in which they
//! are formed does not matter; only the subtraction of a minimum rounds.

use super::blocks::f16_at;

/// 84 bytes: 16 scales (low half) and minima (high), 64 bytes of 2-bit codes, f16 d, f16 dmin.
pub(super) fn decode_q2_k(block: &[u8; 84], out: &mut [f32; 256]) {
    let (d, dmin) = (f16_at(block, 80), f16_at(block, 82));
    for (g, values) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let scale = d * f32::from(block[g] & 15);
        let min = dmin * f32::from(block[g] >> 4);
        let codes = two_bits(&block[16..80], g);
        for i in 0..16 {
            values[i] = scale * f32::from(codes[i]) - min;
        }
    }
}

/// 110 bytes: 32 bytes of third bits, 64 bytes of 2-bit codes, 16 scales of 6 bits, f16 d.
pub(super) fn decode_q3_k(block: &[u8; 110], out: &mut [f32; 256]) {
    let d = f16_at(block, 108);
    let (high, packed) = (&block[..32], &block[96..108]);
    for (g, values) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let scale = d * f32::from(q3_k_scale(packed, g));
        let (codes, third) = (two_bits(&block[32..96], g), bits::<1>(high, 16 * (g % 2), g / 2));
        for i in 0..16 {
            values[i] = scale * (f32::from(codes[i] | third[i] << 2) - 4.0);
        }
    }
}

/// 144 bytes: f16 d, f16 dmin, 8 scales and minima of 6 bits, 128 bytes of 4-bit codes.
pub(super) fn decode_q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    let (d, dmin) = (f16_at(block, 0), f16_at(block, 2));
    for (j, values) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, min) = scale_and_min(&block[4..16], j);
        let (scale, min) = (d * f32::from(scale), dmin * f32::from(min));
        let halves = &block[16 + 32 * (j / 2)..][..32];
        for (value, byte) in values.iter_mut().zip(halves) {
            *value = scale * f32::from((byte >> (4 * (j % 2))) & 15) - min;
        }
    }
}

/// 176 bytes: as Q4_K, with 32 bytes of fifth bits before the 4-bit codes.
pub(super) fn decode_q5_k(block: &[u8; 176], out: &mut [f32; 256]) {
    let (d, dmin) = (f16_at(block, 0), f16_at(block, 2));
    let fifth = &block[16..48];
    for (j, values) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, min) = scale_and_min(&block[4..16], j);
        let (scale, min) = (d * f32::from(scale), dmin * f32::from(min));
        let halves = &block[48 + 32 * (j / 2)..][..32];
        for (i, value) in values.iter_mut().enumerate() {
            let code = ((halves[i] >> (4 * (j % 2))) & 15) | ((fifth[i] >> j) & 1) << 4;
            *value = scale * f32::from(code) - min;
        }
    }
}

/// 210 bytes: 128 bytes of low halves, 64 of upper 2 bits, 16 scales (i8), f16 d.
pub(super) fn decode_q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let d = f16_at(block, 208);
    for (g, values) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let scale = d * f32::from(block[192 + g].cast_signed());
        let low = bits::<4>(block, 64 * (g / 8) + 16 * (g % 4), 4 * (g % 8 / 4));
        let high = two_bits(&block[128..192], g);
        for i in 0..16 {
            values[i] = scale * (f32::from(low[i] | high[i] << 4) - 32.0);
        }
    }
}

/// The 2-bit fields of elements 16g.. of 256: a byte holds 4 elements that are 32 apart.
fn two_bits(bytes: &[u8], g: usize) -> [u8; 16] {
    bits::<2>(bytes, 32 * (g / 8) + 16 * (g % 2), 2 * (g % 8 / 2))
}

/// A field of `WIDTH` bits out of each of the 16 bytes from `at` on.
fn bits<const WIDTH: usize>(bytes: &[u8], at: usize, shift: usize) -> [u8; 16] {
    let bytes = &bytes[at..][..16];
    std::array::from_fn(|i| (bytes[i] >> shift) & ((1 << WIDTH) - 1))
}

/// Scale `g` of 16 in Q3_K, −32..32.
pub(super) fn q3_k_scale(packed: &[u8], g: usize) -> i8 {
    let low = (packed[g % 8] >> (4 * (g / 8))) & 15;
    let high = (packed[8 + g % 4] >> (2 * (g / 4))) & 3;
    (low | high << 4).cast_signed() - 32
}

/// Scale and minimum `j` of 8 in the 12 bytes of Q4_K and Q5_K, each 0..64.
pub(super) fn scale_and_min(packed: &[u8], j: usize) -> (u8, u8) {
    if j < 4 {
        return (packed[j] & 63, packed[j + 4] & 63);
    }
    let scale = (packed[j + 4] & 15) | (packed[j - 4] >> 6) << 4;
    let min = (packed[j + 4] >> 4) | (packed[j] >> 6) << 4;
    (scale, min)
}

/// Writes what [`scale_and_min`] reads.
pub(super) fn put_scales_and_mins(packed: &mut [u8], scales: &[u8; 8], mins: &[u8; 8]) {
    for j in 0..4 {
        let (scale, min) = (scales[j + 4], mins[j + 4]);
        packed[j] = scales[j] | (scale >> 4) << 6;
        packed[j + 4] = mins[j] | (min >> 4) << 6;
        packed[j + 8] = (scale & 15) | (min & 15) << 4;
    }
}
