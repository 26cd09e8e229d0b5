//! Rows of any encoding → a packed form. Exact: every weight keeps its value.

use std::ops::Range;

use rayon::prelude::*;

use super::Encoding;
use super::blocks::f16_at;
use super::codebook::{IQ4_VALUES, MXFP4_VALUES, half_e8m0, iq4_xs_scale};
use super::interleave::{Blocks, after_blocks, each_block, nibbles, put, put_lines, unit, words};
use super::legacy::part_neighbours;
use super::widen::{self, Wide};
use crate::error::{Error, Result};
use crate::kernels::{Form, LANES, Packed, Scale, zeroed};

/// Packed bytes that a thread makes in one go: enough to be worth a call to the system, little next
/// to the memory that a model takes.
const TASK_BYTES: usize = 1 << 20;

/// Packs the rows that `row` gives (n of them, k elements each) into the form of their encoding.
///
/// Runs on the calling rayon pool.
///
/// # Errors
///
/// [`Error::OutOfMemory`], [`Error::Shape`] if k is not a whole number of blocks.
pub(crate) fn pack<'a>(
    encoding: Encoding,
    shape: (usize, usize),
    row: impl Fn(usize) -> &'a [u8] + Sync,
) -> Result<Packed> {
    pack_and(encoding, shape, row, |_| Ok(()))
}

/// As [`pack`]; `done` hears which rows will not be asked for any more.
///
/// # Errors
///
/// As [`pack`]; that of `done`, which ends the packing.
pub(crate) fn pack_and<'a>(
    encoding: Encoding,
    (n, k): (usize, usize),
    row: impl Fn(usize) -> &'a [u8] + Sync,
    done: impl Fn(Range<usize>) -> Result<()> + Sync,
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
    let groups_per_task = (TASK_BYTES / group_bytes).max(1);
    let groups = &mut packed.groups_mut()[..group_bytes * n_groups];
    let tasks = groups.par_chunks_mut(groups_per_task * group_bytes).enumerate();
    tasks.try_for_each(|(task, out)| {
        let first = task * groups_per_task;
        for (g, out) in (first..).zip(out.chunks_exact_mut(group_bytes)) {
            let rows: [&[u8]; LANES] = std::array::from_fn(|lane| {
                let i = g * LANES + lane;
                if i < n { row(i) } else { &zeros }
            });
            pack_group(encoding, &rows, out);
        }
        done(first * LANES..n.min((first + groups_per_task) * LANES))
    })?;
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
        Encoding::Q4_0_V1 | Encoding::Q4_0_V2 => Form::Q4(Scale::F32),
        Encoding::Q4_1 => Form::Q4Affine(Scale::F16),
        Encoding::Q4_Z => Form::Q4Zero,
        Encoding::Q4_1_V1 | Encoding::Q4_1_V2 => Form::Q4Affine(Scale::F32),
        Encoding::Q5_0 | Encoding::Q5_0_V1 | Encoding::Q8_0 => Form::Q8,
        Encoding::Q5_1 | Encoding::Q5_1_V1 | Encoding::Q5_K => Form::Q8Affine,
        Encoding::Q2_K | Encoding::Q4_3 => Form::Q8AffineHalves,
        Encoding::Q3_K | Encoding::Q4_2 | Encoding::Q8_0_V1 => Form::Q8Halves,
        Encoding::Q4_K => Form::Q4K,
        Encoding::Q6_K => Form::Q6K,
        Encoding::IQ4_NL => Form::Q4Codebook(Scale::F16, &IQ4_VALUES),
        Encoding::IQ4_XS => Form::Q4Codebook(Scale::F32, &IQ4_VALUES),
        Encoding::MXFP4 => Form::Q4Codebook(Scale::F32, &MXFP4_VALUES),
    }
}

/// Packs sixteen rows: a transposition of 4-byte pieces, plus widening where the form is wider.
///
/// The offsets are those of `kernels/tiles.rs`.
fn pack_group(encoding: Encoding, rows: &[&[u8]; LANES], out: &mut [u8]) {
    match encoding {
        Encoding::F32 => f32s(rows, out),
        Encoding::F16 | Encoding::BF16 => f16s(rows, out),
        Encoding::Q4_0 | Encoding::IQ4_NL => each_block::<18>(rows, |b, x| {
            let unit = unit::<576>(out, b / 2);
            put::<2>(unit, b % 2 * 32, |r| x.field(r, 0));
            put_lines::<2>(unit, 64 + b % 2 * 256, |r| x.words(r, 2));
        }),
        Encoding::Q4_1 | Encoding::Q4_Z => each_block::<20>(rows, |b, x| {
            let unit = unit::<320>(out, b);
            put::<2>(unit, 0, |r| x.field(r, 0));
            put::<2>(unit, 32, |r| x.field(r, 2));
            put_lines::<2>(unit, 64, |r| x.words(r, 4));
        }),
        Encoding::Q8_0 => each_block::<34>(rows, |b, x| {
            let unit = unit::<1088>(out, b / 2);
            put::<2>(unit, b % 2 * 32, |r| x.field(r, 0));
            put_lines::<4>(unit, 64 + b % 2 * 512, |r| x.words(r, 2));
        }),
        Encoding::Q4_K => each_block(rows, |b, x| q4_k(unit(out, b), x)),
        Encoding::Q6_K => each_block(rows, |b, x| q6_k(unit(out, b), x)),
        Encoding::MXFP4 => each_block::<17>(rows, |b, x| {
            let unit = unit::<320>(out, b);
            put(unit, 0, |r| half_e8m0(x.row(r)[0]).to_le_bytes());
            put_lines::<2>(unit, 64, |r| x.words(r, 1));
        }),
        Encoding::IQ4_XS => each_block::<136>(rows, |b, x| {
            for j in 0..8 {
                let unit = unit::<320>(out, 8 * b + j);
                // Exact: 11 bits of f16 times 6 bits fit f32's 24.
                let scale = |x: &[u8; 136]| f16_at(x, 0) * f32::from(iq4_xs_scale(x, j));
                put(unit, 0, |r| scale(x.row(r)).to_le_bytes());
                put_lines::<2>(unit, 64, |r| x.words(r, 8 + 16 * j));
            }
        }),
        Encoding::Q4_0_V1 => q4_f32(rows, out, part_neighbours),
        Encoding::Q4_0_V2 => q4_f32(rows, out, |nibbles| nibbles),
        Encoding::Q4_1_V1 => q4_f32_affine(rows, out, part_neighbours),
        Encoding::Q4_1_V2 => q4_f32_affine(rows, out, |nibbles| nibbles),
        Encoding::Q4_2 => widened::<20>(encoding, rows, out),
        Encoding::Q5_0 | Encoding::Q5_0_V1 => widened::<22>(encoding, rows, out),
        Encoding::Q5_1 | Encoding::Q5_1_V1 | Encoding::Q4_3 => widened::<24>(encoding, rows, out),
        Encoding::Q8_0_V1 => widened::<36>(encoding, rows, out),
        Encoding::Q5_K => widened::<176>(encoding, rows, out),
        Encoding::Q2_K => widened::<84>(encoding, rows, out),
        Encoding::Q3_K => widened::<110>(encoding, rows, out),
    }
}

/// Column k of row r stands at 16k + r.
fn f32s(rows: &[&[u8]; LANES], out: &mut [u8]) {
    each_block::<64>(rows, |b, x| {
        put_lines::<8>(unit::<1024>(out, b), 0, |r| x.words(r, 0));
    });
    let rest = after_blocks::<64>(rows);
    let whole = (rows[0].len() - rest[0].len()) / 4;
    each_block::<4>(&rest, |k, x| put(unit::<64>(out, whole + k), 0, |r| *x.row(r)));
}

/// Column k of row r stands at 16k + r.
fn f16s(rows: &[&[u8]; LANES], out: &mut [u8]) {
    each_block::<8>(rows, |b, x| {
        let (columns, _) = unit::<128>(out, b).as_chunks_mut::<32>();
        for p in 0..LANES / 2 {
            let [[x], [y]] = [2 * p, 2 * p + 1].map(|r| x.words(r, 0));
            for (i, column) in columns.iter_mut().enumerate() {
                let both = x >> (16 * i) & 0xFFFF | (y >> (16 * i) & 0xFFFF) << 16;
                column.as_chunks_mut().0[p] = (both as u32).to_le_bytes();
            }
        }
    });
    let rest = after_blocks::<8>(rows);
    let whole = (rows[0].len() - rest[0].len()) / 2;
    each_block::<2>(&rest, |k, x| put(unit::<32>(out, whole + k), 0, |r| *x.row(r)));
}

/// Blocks of an f32 scale and 16 bytes, which `order` brings into the forms' order.
#[inline(always)]
fn q4_f32(rows: &[&[u8]; LANES], out: &mut [u8], order: impl Fn([u64; 2]) -> [u64; 2]) {
    each_block::<20>(rows, |b, x| {
        let unit = unit::<320>(out, b);
        put::<4>(unit, 0, |r| x.field(r, 0));
        put_lines::<2>(unit, 64, |r| order(x.words(r, 4)));
    });
}

/// As [`q4_f32`], with a minimum after the scale.
#[inline(always)]
fn q4_f32_affine(rows: &[&[u8]; LANES], out: &mut [u8], order: impl Fn([u64; 2]) -> [u64; 2]) {
    each_block::<24>(rows, |b, x| {
        let unit = unit::<384>(out, b);
        put::<4>(unit, 0, |r| x.field(r, 0));
        put::<4>(unit, 64, |r| x.field(r, 4));
        put_lines::<2>(unit, 128, |r| order(x.words(r, 8)));
    });
}

/// Q4_K keeps columns 64c..64c + 32 in low and the next 32 in high nibbles of the same bytes; the
/// form pairs columns i and i + 16 of the same 32, as Q4_0 does.
fn q4_k(unit: &mut [u8; 2304], x: &Blocks<'_, 144>) {
    put::<2>(unit, 0, |r| x.field(r, 0));
    put::<2>(unit, 32, |r| x.field(r, 2));
    (0..3).for_each(|u| put::<4>(unit, 64 + 64 * u, |r| x.field(r, 4 + 4 * u)));
    for c in 0..4 {
        for half in 0..2 {
            let at = 256 + 512 * c + 256 * half;
            put_lines(unit, at, |r| nibbles(x.words(r, 16 + 32 * c), half));
        }
    }
}

/// Q6_K's planes reordered into groups of 32 columns: sixteen nibble bytes, then for each half of
/// 16 columns four bytes of bit pairs, pair z for columns 4z..4z + 4.
fn q6_k(unit: &mut [u8; 3392], x: &Blocks<'_, 210>) {
    put::<2>(unit, 0, |r| x.field(r, 208));
    (0..16).for_each(|s| put(unit, 64 + 16 * s, |r| [x.row(r)[192 + s]]));
    for h in 0..2 {
        for s in 0..2 {
            for half in 0..2 {
                let at = 320 + 384 * (4 * h + s + 2 * half);
                put_lines(unit, at, |r| nibbles(x.words(r, 64 * h + 32 * s), half));
            }
        }
        let high: [[u64; 4]; LANES] =
            std::array::from_fn(|r| q6_k_dwords(x.words(r, 128 + 32 * h)));
        for k in 0..4 {
            let at = 576 + 384 * (4 * h + k);
            put_lines(unit, at, |r| [q6_k_pairs(high[r], 2 * k)]);
        }
    }
}

/// Dword z of the first and of the second sixteen of 32 bytes side by side, for each z.
fn q6_k_dwords([a, b, c, d]: [u64; 4]) -> [u64; 4] {
    let first = |x: u64, y: u64| x & 0xFFFF_FFFF | y << 32;
    let second = |x: u64, y: u64| x >> 32 | y & !0xFFFF_FFFF;
    [first(a, c), second(a, c), first(b, d), second(b, d)]
}

/// The bit pairs at `shift` in each byte, those of dword z moved to bits 2z.
fn q6_k_pairs([z0, z1, z2, z3]: [u64; 4], shift: usize) -> u64 {
    let pairs = |z: u64| z >> shift & 0x0303_0303_0303_0303;
    pairs(z0) | pairs(z1) << 2 | pairs(z2) << 4 | pairs(z3) << 6
}

/// Widens blocks to bytes with f32 (or f16) scales, 32 columns at a time.
fn widened<const B: usize>(encoding: Encoding, rows: &[&[u8]; LANES], out: &mut [u8]) {
    let (form, per_block) = (form(encoding), encoding.block_len() / 32);
    each_block::<B>(rows, |b, x| {
        for g in 0..per_block {
            let wide: [Wide; LANES] = std::array::from_fn(|r| widen::group(encoding, x.row(r), g));
            let codes = |r: usize| words::<4>(&wide[r].codes, 0);
            let at = b * per_block + g;
            match form {
                Form::Q8 => {
                    let unit = unit::<1088>(out, at / 2);
                    put::<2>(unit, at % 2 * 32, |r| x.field(r, 0));
                    put_lines(unit, 64 + at % 2 * 512, codes);
                }
                Form::Q8Affine => {
                    let unit = unit::<640>(out, at);
                    put(unit, 0, |r| wide[r].scale[0].to_le_bytes());
                    put(unit, 64, |r| wide[r].min[0].to_le_bytes());
                    put_lines(unit, 128, codes);
                }
                Form::Q8Halves => {
                    let unit = unit::<640>(out, at);
                    put(unit, 0, |r| wide[r].scale[0].to_le_bytes());
                    put(unit, 64, |r| wide[r].scale[1].to_le_bytes());
                    put_lines(unit, 128, codes);
                }
                _ => {
                    let unit = unit::<768>(out, at);
                    for half in 0..2 {
                        put(unit, 64 * half, |r| wide[r].scale[half].to_le_bytes());
                        put(unit, 128 + 64 * half, |r| wide[r].min[half].to_le_bytes());
                    }
                    put_lines(unit, 256, codes);
                }
            }
        }
    });
}

#[cfg(test)]
mod tests;
