//! The encodings that are floats already: F32, F16, BF16; a block is one element.

use half::{bf16, f16};

use super::blocks::widen_f16;

pub(super) fn decode_f32(block: &[u8; 4], out: &mut [f32; 1]) {
    *out = [f32::from_le_bytes(*block)];
}

pub(super) fn encode_f32(x: &[f32; 1], out: &mut [u8; 4]) {
    *out = x[0].to_le_bytes();
}

pub(super) fn decode_f16(block: &[u8; 2], out: &mut [f32; 1]) {
    *out = [widen_f16(u16::from_le_bytes(*block))];
}

/// Rounds to nearest even; beyond ±65504 the result is infinite, as IEEE 754 has it.
pub(super) fn encode_f16(x: &[f32; 1], out: &mut [u8; 2]) {
    *out = f16::from_f32(x[0]).to_le_bytes();
}

pub(super) fn decode_bf16(block: &[u8; 2], out: &mut [f32; 1]) {
    *out = [bf16::from_le_bytes(*block).to_f32()];
}

/// Rounds to nearest even; NaN stays NaN.
pub(super) fn encode_bf16(x: &[f32; 1], out: &mut [u8; 2]) {
    *out = bf16::from_f32(x[0]).to_le_bytes();
}
