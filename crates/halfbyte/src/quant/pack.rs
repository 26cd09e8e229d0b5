//! Rows of any encoding → a packed form. Exact: every weight keeps its value.

use rayon::prelude::*;

use super::Encoding;
use super::blocks::f16_at;
use super::codebook::{IQ4_VALUES, MXFP4_VALUES, half_e8m0, iq4_xs_scale};
use crate::error::{Error, Result};
use crate::kernels::{Form, LANES, Packed, Scale, zeroed};

/// Packs the rows that `row` gives (n of them, k elements each) into the form of their encoding.
///
/// Runs on the calling rayon pool.
///
/// # Errors
///
/// [`Error::OutOfMemory`], [`Error::Shape`] if k is not a whole number of blocks.
pub(crate) fn pack<'a>(
    encoding: Encoding,
    (n, k): (usize, usize),
    row: impl Fn(usize) -> &'a [u8] + Sync,
) -> Result<Packed> {
    let Some(row_bytes) = encoding.row_bytes(k) else {
        return Err(Error::Shape {
            tensor: encoding.name().into(),
            expected: vec![n, k.next_multiple_of(encoding.block_len())],
            found: vec![n, k],
        });
    };
    let mut packed = Packed::zeroed(form(encoding), n, k)?;
    let (group_bytes, n_groups) = (packed.group_bytes(), packed.n_groups());
    let zeros = zeroed::<u8>(row_bytes)?;
    let groups = &mut packed.groups_mut()[..group_bytes * n_groups];
    groups.par_chunks_exact_mut(group_bytes).enumerate().for_each(|(g, out)| {
        let rows: [&[u8]; LANES] = std::array::from_fn(|lane| {
            let i = g * LANES + lane;
            if i < n { row(i) } else { &zeros }
        });
        pack_group(encoding, &rows, out);
    });
    Ok(packed)
}

/// Bytes of a packed (n, k) matrix of that encoding; `None` if that overflows.
pub(crate) fn packed_bytes(encoding: Encoding, n: usize, k: usize) -> Option<usize> {
    form(encoding).group_bytes(k)?.checked_mul(n.div_ceil(LANES))
}

/// The packed form that holds an encoding's weights exactly.
fn form(encoding: Encoding) -> Form {
    match encoding {
        Encoding::F32 => Form::F32,
        Encoding::F16 => Form::F16,
        Encoding::BF16 => Form::BF16,
        Encoding::Q4_0 => Form::Q4(Scale::F16),
        Encoding::Q4_1 => Form::Q4Affine,
        Encoding::Q5_0 | Encoding::Q8_0 => Form::Q8,
        Encoding::Q5_1 | Encoding::Q5_K => Form::Q8Affine,
        Encoding::Q2_K => Form::Q8AffineHalves,
        Encoding::Q3_K => Form::Q8Halves,
        Encoding::Q4_K => Form::Q4K,
        Encoding::Q6_K => Form::Q6K,
        Encoding::IQ4_NL => Form::Q4Codebook(Scale::F16, &IQ4_VALUES),
        Encoding::IQ4_XS => Form::Q4Codebook(Scale::F32, &IQ4_VALUES),
        Encoding::MXFP4 => Form::Q4Codebook(Scale::F32, &MXFP4_VALUES),
    }
}

/// Packs sixteen rows: a transposition of 4-byte pieces, plus widening where the form is wider.
fn pack_group(encoding: Encoding, rows: &[&[u8]; LANES], out: &mut [u8]) {
    let block = encoding.block_bytes();
    for (lane, row) in rows.iter().enumerate() {
        match encoding {
            Encoding::F32 => elements::<4>(row, out, lane),
            Encoding::F16 | Encoding::BF16 => elements::<2>(row, out, lane),
            _ => {
                for (b, block) in row.chunks_exact(block).enumerate() {
                    pack_block(encoding, block, b, lane, out);
                }
            }
        }
    }
}

/// Column k of lane r stands at (16k + r) elements.
fn elements<const N: usize>(row: &[u8], out: &mut [u8], lane: usize) {
    let columns = out.chunks_exact_mut(LANES * N);
    for (x, column) in row.as_chunks::<N>().0.iter().zip(columns) {
        column[lane * N..][..N].copy_from_slice(x);
    }
}

/// Packs block `b` of one row. The offsets are those of `kernels/tiles.rs`.
fn pack_block(encoding: Encoding, block: &[u8], b: usize, lane: usize, out: &mut [u8]) {
    match encoding {
        Encoding::Q4_0 | Encoding::IQ4_NL => {
            let unit = &mut out[b / 2 * 576..][..576];
            put(unit, b % 2 * 32 + 2 * lane, &block[..2]);
            lines(&mut unit[64 + b % 2 * 256..], lane, &block[2..18]);
        }
        Encoding::Q4_1 => {
            let unit = &mut out[b * 320..][..320];
            put(unit, 2 * lane, &block[..2]);
            put(unit, 32 + 2 * lane, &block[2..4]);
            lines(&mut unit[64..], lane, &block[4..20]);
        }
        Encoding::Q8_0 => {
            let unit = &mut out[b / 2 * 1088..][..1088];
            put(unit, b % 2 * 32 + 2 * lane, &block[..2]);
            lines(&mut unit[64 + b % 2 * 512..], lane, &block[2..34]);
        }
        Encoding::Q4_K => pack_q4_k(block, &mut out[b * 2304..][..2304], lane),
        Encoding::Q6_K => pack_q6_k(block, &mut out[b * 3392..][..3392], lane),
        Encoding::MXFP4 => {
            let unit = &mut out[b * 320..][..320];
            put(unit, 4 * lane, &half_e8m0(block[0]).to_le_bytes());
            lines(&mut unit[64..], lane, &block[1..17]);
        }
        Encoding::IQ4_XS => {
            let d = f16_at(block, 0);
            let bytes = block.first_chunk().expect("blocks are cut to their size");
            for j in 0..8 {
                let unit = &mut out[(8 * b + j) * 320..][..320];
                // Exact: 11 bits of f16 times 6 bits fit f32's 24.
                let scale = d * f32::from(iq4_xs_scale(bytes, j));
                put(unit, 4 * lane, &scale.to_le_bytes());
                lines(&mut unit[64..], lane, &block[8 + 16 * j..][..16]);
            }
        }
        _ => pack_widened(encoding, block, b, lane, out),
    }
}

/// Widens a block to bytes with f32 (or f16) scales, 32 columns at a time.
fn pack_widened(encoding: Encoding, block: &[u8], b: usize, lane: usize, out: &mut [u8]) {
    let per_block = encoding.block_len() / 32;
    for g in 0..per_block {
        let wide = super::widen::group(encoding, block, g);
        let at = b * per_block + g;
        match form(encoding) {
            Form::Q8 => {
                let unit = &mut out[at / 2 * 1088..][..1088];
                put(unit, at % 2 * 32 + 2 * lane, &block[..2]);
                lines(&mut unit[64 + at % 2 * 512..], lane, &wide.codes);
            }
            Form::Q8Affine => {
                let unit = &mut out[at * 640..][..640];
                put(unit, 4 * lane, &wide.scale[0].to_le_bytes());
                put(unit, 64 + 4 * lane, &wide.min[0].to_le_bytes());
                lines(&mut unit[128..], lane, &wide.codes);
            }
            Form::Q8Halves => {
                let unit = &mut out[at * 640..][..640];
                for half in 0..2 {
                    put(unit, 64 * half + 4 * lane, &wide.scale[half].to_le_bytes());
                }
                lines(&mut unit[128..], lane, &wide.codes);
            }
            _ => {
                let unit = &mut out[at * 768..][..768];
                for half in 0..2 {
                    put(unit, 64 * half + 4 * lane, &wide.scale[half].to_le_bytes());
                    put(unit, 128 + 64 * half + 4 * lane, &wide.min[half].to_le_bytes());
                }
                lines(&mut unit[256..], lane, &wide.codes);
            }
        }
    }
}

fn put(out: &mut [u8], at: usize, bytes: &[u8]) {
    out[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Dword j of `codes` goes to lane `lane` of line j.
fn lines(out: &mut [u8], lane: usize, codes: &[u8]) {
    for (dword, line) in codes.as_chunks::<4>().0.iter().zip(out.chunks_exact_mut(64)) {
        line[4 * lane..][..4].copy_from_slice(dword);
    }
}

/// Q4_K keeps columns 64c..64c + 32 in low and the next 32 in high nibbles of the same bytes; the
/// form pairs columns i and i + 16 of the same 32, as Q4_0 does.
fn pack_q4_k(block: &[u8], unit: &mut [u8], lane: usize) {
    put(unit, 2 * lane, &block[..2]);
    put(unit, 32 + 2 * lane, &block[2..4]);
    lines(&mut unit[64..256], lane, &block[4..16]);
    for g in 0..8 {
        let bytes = &block[16 + g / 2 * 32..][..32];
        let code = |i: usize| (bytes[i] >> (4 * (g % 2))) & 15;
        let codes: [u8; 16] = std::array::from_fn(|i| code(i) | code(i + 16) << 4);
        lines(&mut unit[256 + 256 * g..], lane, &codes);
    }
}

/// Q6_K's planes reordered into groups of 32 columns: sixteen nibble bytes, then for each half of
/// 16 columns four bytes of bit pairs, pair z for columns 4z..4z + 4.
fn pack_q6_k(block: &[u8], unit: &mut [u8], lane: usize) {
    put(unit, 2 * lane, &block[208..210]);
    for (s, &sub) in block[192..208].iter().enumerate() {
        unit[64 + 16 * s + lane] = sub;
    }
    for g in 0..8 {
        let (h, k) = (g / 4, g % 4);
        let low = |c: usize| (block[64 * h + c + 32 * (k & 1)] >> (4 * (k / 2))) & 15;
        let high = |c: usize| (block[128 + 32 * h + c] >> (2 * k)) & 3;
        let codes: [u8; 16] = std::array::from_fn(|i| low(i) | low(i + 16) << 4);
        let at = 320 + 384 * g;
        lines(&mut unit[at..at + 256], lane, &codes);
        let planes: [u8; 8] = std::array::from_fn(|i| {
            let first = 16 * (i / 4) + i % 4;
            (0..4).fold(0, |bits, z| bits | high(first + 4 * z) << (2 * z))
        });
        lines(&mut unit[at + 256..at + 384], lane, &planes);
    }
}
