//! 4-bit codes that index a table: IQ4_NL, IQ4_XS, MXFP4.

use super::blocks::{F16_MAX, f16_at, inverse, put_f16, put_nibbles, round_to_f16, saturate};
use super::fit;

/// The values of IQ4_NL's and IQ4_XS's codes: denser near zero, as weights are.
///
/// Source: ggml `kvalues_iq4nl`.
pub(super) const IQ4_VALUES: [i8; 16] =
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// Twice the values of MXFP4's codes (E2M1 floats: 0, 0.5, 1, 1.5, 2, 3, 4, 6 and negatives).
///
/// Code 8, minus zero in E2M1, is plain zero here, as in ggml.
/// Source: OCP Microscaling Formats (MX) v1.0, §5.3.3.
pub(super) const MXFP4_VALUES: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

pub(super) fn decode_iq4_nl(block: &[u8; 18], out: &mut [f32; 32]) {
    look_up(f16_at(block, 0), &IQ4_VALUES, &block[2..], out);
}

/// Least squares over both signs of the scale: −127 may stand for the largest value or the lowest.
pub(super) fn encode_iq4_nl(x: &[f32; 32], out: &mut [u8; 18]) {
    let x = saturate(x, -113.0 * F16_MAX, 113.0 * F16_MAX);
    let largest = x.iter().fold(0.0f32, |amax, v| amax.max(v.abs()));
    let starts = IQ4_STARTS.iter().flat_map(|s| [s * inverse(largest), -s * inverse(largest)]);
    let d = round_to_f16(fit::scale(&x, iq4_nearest, starts));
    let id = inverse(d);
    put_f16(out, 0, d);
    let code = |value| IQ4_VALUES.partition_point(|&v| f32::from(v) < value) as u8;
    put_nibbles(&mut out[2..], &iq4_nearest(x.map(|v| v * id)).map(code));
}

/// Where the search lets the largest element fall on the table: to its ends and a little beyond.
const IQ4_STARTS: [f32; 10] = [88.0, 95.0, 101.0, 107.0, 113.0, 118.0, 123.0, 128.0, 135.0, 143.0];

/// The nearest value of the table for each of `x`.
fn iq4_nearest(x: [f32; 32]) -> [f32; 32] {
    let mut values = [f32::from(IQ4_VALUES[0]); 32];
    // Table outside, elements inside: the inner loop compares and selects vectors, 8 times faster.
    for pair in IQ4_VALUES.windows(2) {
        let (low, high) = (f32::from(pair[0]), f32::from(pair[1]));
        let middle = (low + high) / 2.0;
        for i in 0..32 {
            values[i] = if x[i] > middle { high } else { values[i] };
        }
    }
    values
}

/// 136 bytes: f16 d, 8 scales of 6 bits (upper 2 bits together), 128 bytes of codes.
pub(super) fn decode_iq4_xs(block: &[u8; 136], out: &mut [f32; 256]) {
    let d = f16_at(block, 0);
    for (j, values) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let scale = d * f32::from(iq4_xs_scale(block, j));
        look_up(scale, &IQ4_VALUES, &block[8 + 16 * j..][..16], values);
    }
}

/// Scale `j` of 8 in an IQ4_XS block, −32..32.
pub(super) fn iq4_xs_scale(block: &[u8; 136], j: usize) -> i8 {
    let low = (block[4 + j / 2] >> (4 * (j % 2))) & 15;
    let high = (block[2 + j / 4] >> (2 * (j % 4))) & 3;
    (low | high << 4).cast_signed() - 32
}

pub(super) fn decode_mxfp4(block: &[u8; 17], out: &mut [f32; 32]) {
    look_up(half_e8m0(block[0]), &MXFP4_VALUES, &block[1..], out);
}

/// 2^(e − 128): half of the MX scale, since [`MXFP4_VALUES`] are doubled. Below e = 2 subnormal.
pub(super) fn half_e8m0(e: u8) -> f32 {
    let e = u32::from(e);
    f32::from_bits(if e < 2 { 0x0020_0000 << e } else { (e - 1) << 23 })
}

/// Decodes 32 codes: byte b holds element b (low half) and b + 16.
fn look_up(scale: f32, values: &[i8; 16], halves: &[u8], out: &mut [f32; 32]) {
    for b in 0..16 {
        out[b] = scale * f32::from(values[usize::from(halves[b] & 15)]);
        out[b + 16] = scale * f32::from(values[usize::from(halves[b] >> 4)]);
    }
}
