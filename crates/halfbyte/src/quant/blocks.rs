//! What all families share: loops over whole blocks, f16 fields, values that can be stored.

use half::f16;

/// Decodes `bytes`, blocks of `B` bytes, into `out`, blocks of `N` elements.
///
/// # Panics
///
/// If the two do not hold the same number of whole blocks.
pub(super) fn decode_blocks<const B: usize, const N: usize>(
    bytes: &[u8],
    out: &mut [f32],
    decode: impl Fn(&[u8; B], &mut [f32; N]),
) {
    let ((bytes, odd), (out, rest)) = (bytes.as_chunks::<B>(), out.as_chunks_mut::<N>());
    assert!(odd.is_empty() && rest.is_empty() && bytes.len() == out.len(), "not the same blocks");
    for (block, values) in bytes.iter().zip(out) {
        decode(block, values);
    }
}

/// Encodes `row`, blocks of `N` elements, into `out`, blocks of `B` bytes.
///
/// # Panics
///
/// If the two do not hold the same number of whole blocks.
pub(super) fn encode_blocks<const B: usize, const N: usize>(
    row: &[f32],
    out: &mut [u8],
    encode: impl Fn(&[f32; N], &mut [u8; B]),
) {
    let ((row, rest), (out, odd)) = (row.as_chunks::<N>(), out.as_chunks_mut::<B>());
    assert!(odd.is_empty() && rest.is_empty() && row.len() == out.len(), "not the same blocks");
    for (values, block) in row.iter().zip(out) {
        encode(values, block);
    }
}

/// The little-endian f16 at byte `at`.
pub(super) fn f16_at(block: &[u8], at: usize) -> f32 {
    widen_f16(u16::from_le_bytes([block[at], block[at + 1]]))
}

/// The little-endian f32 at byte `at`.
pub(super) fn f32_at(block: &[u8], at: usize) -> f32 {
    f32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
}

/// The f32 equal to an f16, given by its bits; NaNs become quiet.
///
/// The exponent is moved into place and its bias made right by a product, which is exact and
/// normalizes subnormals too. `half` calls a function per number; this is inlined into vector
/// loops (a row of F16: 7 times faster).
pub(super) fn widen_f16(bits: u16) -> f32 {
    let (sign, magnitude) = (u32::from(bits & 0x8000) << 16, u32::from(bits & 0x7fff));
    // 2^(127 − 15).
    let finite = (f32::from_bits(magnitude << 13) * f32::from_bits(0x7780_0000)).to_bits();
    let special = 0x7f80_0000 | magnitude << 13 | u32::from(magnitude > 0x7c00) << 22;
    f32::from_bits(sign | if magnitude < 0x7c00 { finite } else { special })
}

/// Writes `value`, rounded to f16, at byte `at`.
pub(super) fn put_f16(block: &mut [u8], at: usize, value: f32) {
    block[at..at + 2].copy_from_slice(&f16::from_f32(value).to_le_bytes());
}

/// The value nearest to `value` that f16 holds; beyond its range ±[`F16_MAX`], never infinite.
pub(super) fn round_to_f16(value: f32) -> f32 {
    f16::from_f32(value.clamp(-F16_MAX, F16_MAX)).to_f32()
}

/// The largest finite f16.
pub(super) const F16_MAX: f32 = 65504.0;

/// `x` with every element in `low..=high`: NaN becomes 0, what is beyond (±∞ too) saturates.
///
/// With limits that keep the scales within f16, a block then decodes to finite numbers only,
/// and a broken weight does not spoil its neighbours.
pub(super) fn saturate<const N: usize>(x: &[f32; N], low: f32, high: f32) -> [f32; N] {
    x.map(|v| if v.is_nan() { 0.0 } else { v.clamp(low, high) })
}

/// 1 / `scale`, or 0 where that is no finite number (such a scale is zero as an f16).
pub(super) fn inverse(scale: f32) -> f32 {
    let inverse = 1.0 / scale;
    if inverse.is_finite() { inverse } else { 0.0 }
}

/// Writes 32 codes of 4 bits: byte b holds element b (low half) and b + 16.
///
/// A fifth bit, if a code has one, is left out.
pub(super) fn put_nibbles(out: &mut [u8], codes: &[u8; 32]) {
    for b in 0..16 {
        out[b] = (codes[b] & 15) | (codes[b + 16] << 4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widening_agrees_with_half_for_every_f16() {
        for bits in 0..=u16::MAX {
            let expected = f16::from_bits(bits).to_f32();
            assert_eq!(widen_f16(bits).to_bits(), expected.to_bits(), "{bits:#06x}");
        }
    }
}
