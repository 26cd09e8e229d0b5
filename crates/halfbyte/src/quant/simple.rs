//! Blocks of 32 with one scale: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, read and written; `Q4_Z`, read.
//!
//! The encoders write the very bytes of the reference quantizers for every finite input that the
//! encoding can hold. Beyond that they saturate, see [`saturate`].
//!
//! Source: the arithmetic (order, rounding, f64 product) of gguf-py `gguf/quants.py`, MIT.

use super::blocks::{F16_MAX, f16_at, inverse, put_f16, put_nibbles, saturate};

pub(super) fn decode_q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = f16_at(block, 0);
    for b in 0..16 {
        let byte = block[2 + b];
        out[b] = d * (f32::from(byte & 15) - 8.0);
        out[b + 16] = d * (f32::from(byte >> 4) - 8.0);
    }
}

pub(super) fn encode_q4_0(x: &[f32; 32], out: &mut [u8; 18]) {
    let (d, codes) = symmetric_codes::<8>(x);
    put_f16(out, 0, d);
    put_nibbles(&mut out[2..], &codes);
}

pub(super) fn decode_q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let (d, m) = (f16_at(block, 0), f16_at(block, 2));
    for b in 0..16 {
        let byte = block[4 + b];
        out[b] = d * f32::from(byte & 15) + m;
        out[b + 16] = d * f32::from(byte >> 4) + m;
    }
}

pub(super) fn encode_q4_1(x: &[f32; 32], out: &mut [u8; 20]) {
    let (d, m, codes) = affine_codes::<15>(x);
    put_f16(out, 0, d);
    put_f16(out, 2, m);
    put_nibbles(&mut out[4..], &codes);
}

/// Exact for zero points of up to 11 bits, such as GPTQ's and AWQ's.
pub(super) fn decode_q4_z(block: &[u8; 20], out: &mut [f32; 32]) {
    let d = f16_at(block, 0);
    let m = d * f16_at(block, 2);
    for b in 0..16 {
        let byte = block[4 + b];
        out[b] = d * f32::from(byte & 15) + m;
        out[b + 16] = d * f32::from(byte >> 4) + m;
    }
}

pub(super) fn decode_q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let d = f16_at(block, 0);
    for (value, code) in out.iter_mut().zip(five_bit_codes(&block[2..])) {
        *value = d * (f32::from(code) - 16.0);
    }
}

pub(super) fn encode_q5_0(x: &[f32; 32], out: &mut [u8; 22]) {
    let (d, codes) = symmetric_codes::<16>(x);
    put_f16(out, 0, d);
    put_five_bit_codes(&mut out[2..], &codes);
}

pub(super) fn decode_q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let (d, m) = (f16_at(block, 0), f16_at(block, 2));
    for (value, code) in out.iter_mut().zip(five_bit_codes(&block[4..])) {
        *value = d * f32::from(code) + m;
    }
}

pub(super) fn encode_q5_1(x: &[f32; 32], out: &mut [u8; 24]) {
    let (d, m, codes) = affine_codes::<31>(x);
    put_f16(out, 0, d);
    put_f16(out, 2, m);
    put_five_bit_codes(&mut out[4..], &codes);
}

pub(super) fn decode_q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let d = f16_at(block, 0);
    for (value, &byte) in out.iter_mut().zip(&block[2..]) {
        *value = d * f32::from(byte.cast_signed());
    }
}

pub(super) fn encode_q8_0(x: &[f32; 32], out: &mut [u8; 34]) {
    let x = saturate(x, -127.0 * F16_MAX, 127.0 * F16_MAX);
    let d = x.iter().fold(0.0f32, |amax, v| amax.max(v.abs())) / 127.0;
    let id = inverse(d);
    put_f16(out, 0, d);
    for (byte, v) in out[2..].iter_mut().zip(x) {
        *byte = round_half_away(v * id).cast_unsigned();
    }
}

/// `v` in ±127.5, rounded; halves away from zero.
///
/// The fraction is exact in f32, so this is `f32::round` without its call on plain x86-64.
fn round_half_away(v: f32) -> i8 {
    let whole = v as i8;
    let fraction = v - f32::from(whole);
    whole.saturating_add(i8::from(fraction >= 0.5)).saturating_sub(i8::from(fraction <= -0.5))
}

/// A scale and 32 codes in 0..2·`HALF` such that x ≈ d·(code − `HALF`).
///
/// The first element of the largest size, with its sign, gets code 0. The product is formed in
/// f64 and rounded to f32 with the offset added, which is what a fused multiply-add gives.
fn symmetric_codes<const HALF: u8>(x: &[f32; 32]) -> (f32, [u8; 32]) {
    let half = f32::from(HALF);
    let x = saturate(x, -half * F16_MAX, half * F16_MAX);
    let mut extreme = 0.0f32;
    for v in x {
        if v.abs() > extreme.abs() {
            extreme = v;
        }
    }
    let d = extreme / -half;
    let (id, offset) = (f64::from(inverse(d)), f64::from(half) + 0.5);
    let codes = x.map(|v| ((f64::from(v) * id + offset) as f32) as u8);
    (d, codes.map(|code| code.min(2 * HALF - 1)))
}

/// A scale, a minimum and 32 codes in 0..=`TOP` such that x ≈ d·code + m.
fn affine_codes<const TOP: u8>(x: &[f32; 32]) -> (f32, f32, [u8; 32]) {
    let top = f32::from(TOP);
    // The lowest value must fit in m, the distance to the highest in `TOP` steps of d.
    let x = saturate(x, -F16_MAX, (top - 1.0) * F16_MAX);
    let low = x.iter().fold(F16_MAX, |low, &v| low.min(v));
    let high = x.iter().fold(low, |high, &v| high.max(v));
    let d = (high - low) / top;
    let id = inverse(d);
    let codes = x.map(|v| ((v - low) * id + 0.5) as u8);
    (d, low, codes.map(|code| code.min(TOP)))
}

/// The codes of Q5_0 and Q5_1: `fields` is a u32 of fifth bits, then 16 bytes of low halves.
fn five_bit_codes(fields: &[u8]) -> [u8; 32] {
    let (fifth, halves) = fields.split_at(4);
    std::array::from_fn(|i| {
        let low = if i < 16 { halves[i] & 15 } else { halves[i - 16] >> 4 };
        low | ((fifth[i / 8] >> (i % 8)) & 1) << 4
    })
}

/// Writes what [`five_bit_codes`] reads.
fn put_five_bit_codes(fields: &mut [u8], codes: &[u8; 32]) {
    let (fifth, halves) = fields.split_at_mut(4);
    fifth.fill(0);
    for (i, code) in codes.iter().enumerate() {
        fifth[i / 8] |= (code >> 4) << (i % 8);
    }
    put_nibbles(halves, codes);
}
