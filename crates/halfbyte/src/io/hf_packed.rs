//! Matrices in four bits as GPTQ and AWQ store them → rows of blocks with an integer zero point.
//!
//! A matrix (n out, k in) is three tensors: codes, zero points and scales, the latter two once for
//! each group of columns. A weight is `scale · (code − zero)`. That is exact in
//! [`Encoding::Q4_0`] where all zero points are 8, else in [`Encoding::Q4_Z`]. Scales that f16 cannot
//! hold make them [`Encoding::Q4_0_V2`] and [`Encoding::Q4_1_V2`], the latter with `scale · zero`
//! rounded to f32. Columns that were quantized out of order (`g_idx`, "act-order") are brought
//! together by their groups, and the tensor says in which order they stand. Where groups are no
//! multiples of 32 columns, weights become f32, exactly.
//!
//! Source: `AutoGPTQ`, `auto_gptq/nn_modules/qlinear`; `AutoAWQ`, `awq/modules/linear/gemm.py`.

use std::borrow::Cow;

use ::safetensors::Dtype;
use half::f16;
use rayon::prelude::*;

use super::hf_packing::{Method, Packing};
use super::safetensors;
use crate::error::{Error, Result};
use crate::kernels::zeroed;
use crate::quant::Encoding;

/// Codes in a word of 32 bits.
const PER_WORD: usize = 8;
/// Columns of a block.
const BLOCK: usize = 32;
/// Rows that a thread converts at a time: one line of 64 bytes of words.
const ROWS: usize = 16;
/// The zero point of a symmetric matrix, and that of [`Encoding::Q4_0`].
const MIDDLE: u8 = 8;
/// Where AWQ keeps rows 0..8 in a word.
const AWQ_PLACES: [usize; PER_WORD] = [0, 4, 1, 5, 2, 6, 3, 7];

/// One of a packed matrix's tensors, its elements row after row.
#[derive(Debug)]
pub(super) struct Part<'a> {
    pub(super) name: String,
    pub(super) dtype: Dtype,
    pub(super) dims: Vec<usize>,
    pub(super) bytes: Cow<'a, [u8]>,
}

/// The tensors of a packed matrix.
#[derive(Debug)]
pub(super) struct Parts<'a> {
    pub(super) codes: Part<'a>,
    pub(super) zeros: Part<'a>,
    pub(super) scales: Part<'a>,
    /// The group of each column.
    pub(super) groups: Option<Part<'a>>,
}

/// A matrix (n, k) in an encoding of this crate.
#[derive(Debug)]
pub(super) struct Repacked {
    pub(super) dims: Vec<usize>,
    pub(super) encoding: Encoding,
    pub(super) bytes: Vec<u8>,
    /// Which column of the matrix each stored one is, if they are out of order.
    pub(super) columns: Option<Vec<u32>>,
}

/// A packed matrix, its sizes proved.
struct Matrix<'a> {
    method: Method,
    n: usize,
    k: usize,
    codes: &'a [[u8; 4]],
    /// Zero points, (groups, n).
    zeros: Vec<u8>,
    /// Scales, (groups, n).
    scales: Vec<f32>,
    /// The group of each stored column.
    group_of: Vec<u32>,
    /// The column of the matrix that each stored one is.
    columns: Vec<u32>,
}

/// Brings a packed matrix into an encoding of this crate.
///
/// # Errors
///
/// [`Error::Config`] naming the tensor whose shape or values do not fit, [`Error::OutOfMemory`].
pub(super) fn repack(packing: Packing, parts: &Parts<'_>) -> Result<Repacked> {
    let mut matrix = Matrix::new(packing, parts)?;
    let (n, k) = (matrix.n, matrix.k);
    let is_uniform = |block: &[u32]| block.iter().all(|group| Some(group) == block.first());
    let is_symmetric = matrix.zeros.iter().all(|&zero| zero == MIDDLE);
    let fits_f16 = matrix.scales.iter().all(|&scale| f16::from_f32(scale).to_f32() == scale);
    let encoding = match (is_symmetric, fits_f16) {
        _ if !matrix.group_of.chunks(BLOCK).all(is_uniform) => Encoding::F32,
        (true, true) => Encoding::Q4_0,
        (false, true) => Encoding::Q4_Z,
        (true, false) => Encoding::Q4_0_V2,
        (false, false) => Encoding::Q4_1_V2,
    };
    let in_order = matrix.columns.is_sorted();
    if encoding == Encoding::F32 {
        matrix.restore_order();
    }
    let too_large = || Error::OutOfMemory { bytes: usize::MAX };
    let row_bytes = encoding.row_bytes(k).ok_or_else(too_large)?;
    let mut bytes = zeroed(n.checked_mul(row_bytes).ok_or_else(too_large)?)?;
    bytes.par_chunks_mut(ROWS * row_bytes).enumerate().for_each(|(chunk, out)| {
        for block in 0..k / BLOCK {
            for (i, row) in out.chunks_exact_mut(row_bytes).enumerate() {
                let block_bytes = row_bytes / (k / BLOCK);
                let out = row.chunks_exact_mut(block_bytes).nth(block).unwrap_or_default();
                matrix.write(encoding, (chunk * ROWS + i, block * BLOCK), out);
            }
        }
    });
    let columns = (!in_order && encoding != Encoding::F32).then_some(matrix.columns);
    Ok(Repacked { dims: vec![n, k], encoding, bytes, columns })
}

fn wrong(part: &Part<'_>, reason: String) -> Error {
    Error::config(format!("tensor {}", part.name), reason)
}

/// The words of a part of that shape.
fn words<'p>(part: &'p Part<'_>, dims: [usize; 2]) -> Result<&'p [[u8; 4]]> {
    if part.dtype != Dtype::I32 && part.dtype != Dtype::U32 {
        return Err(wrong(part, format!("has dtype {}, expected I32", part.dtype)));
    }
    expect_dims(part, &dims)?;
    Ok(part.bytes.as_chunks().0)
}

fn expect_dims(part: &Part<'_>, dims: &[usize]) -> Result<()> {
    if part.dims != dims {
        let (tensor, expected) = (part.name.clone(), dims.to_vec());
        return Err(Error::Shape { tensor, expected, found: part.dims.clone() });
    }
    Ok(())
}

impl<'a> Matrix<'a> {
    fn new(packing: Packing, parts: &'a Parts<'_>) -> Result<Self> {
        let Parts { codes, zeros, scales, groups } = parts;
        let &[rows, columns] = codes.dims.as_slice() else {
            return Err(wrong(codes, format!("has shape {:?}, no matrix", codes.dims)));
        };
        let wider = |size: usize| size.checked_mul(PER_WORD);
        let (n, k) = match packing.method {
            Method::Gptq { .. } => (Some(columns), wider(rows)),
            Method::Awq => (wider(columns), Some(rows)),
        };
        let (Some(n), Some(k)) = (n, k) else {
            return Err(wrong(codes, format!("of shape {:?} is too large", codes.dims)));
        };
        if n == 0 || k == 0 || !k.is_multiple_of(BLOCK) || !n.is_multiple_of(PER_WORD) {
            let reason = format!("holds {n} × {k} weights, not multiples of {PER_WORD} × {BLOCK}");
            return Err(wrong(codes, reason));
        }
        let n_groups = scales.dims.first().copied().unwrap_or(0);
        expect_dims(scales, &[n_groups.max(1), n])?;
        if n_groups > k {
            return Err(wrong(scales, format!("has {n_groups} groups for {k} columns")));
        }
        let method = packing.method;
        let words_of_zeros = words(zeros, [n_groups, n / PER_WORD])?;
        let zeros = (0..n_groups * n).map(|i| {
            let word = words_of_zeros.get(i / PER_WORD).copied().unwrap_or_default();
            match method {
                Method::Gptq { exact_zeros } => {
                    // Zero points are 0 to 15: the 15 that stands for "0 less one" goes around.
                    (nibble(word, i % PER_WORD) + u8::from(!exact_zeros)) & 15
                }
                Method::Awq => nibble(word, awq_place(i)),
            }
        });
        let group_of = match groups {
            Some(part) => listed_groups(part, k, n_groups)?,
            None => regular_groups(packing, scales, k)?,
        };
        let mut columns: Vec<u32> = (0..).take(k).collect();
        let group = |column: u32| group_of.get(column as usize).copied().unwrap_or(0);
        columns.sort_by_key(|&column| group(column));
        Ok(Self {
            method,
            n,
            k,
            codes: words(codes, [rows, codes.dims.last().copied().unwrap_or(0)])?,
            zeros: zeros.collect(),
            scales: floats(scales)?,
            group_of: columns.iter().map(|&column| group(column)).collect(),
            columns,
        })
    }

    /// Puts the stored columns back into their own order.
    fn restore_order(&mut self) {
        let mut both: Vec<_> =
            self.columns.iter().copied().zip(self.group_of.iter().copied()).collect();
        both.sort_unstable();
        (self.columns, self.group_of) = both.into_iter().unzip();
    }

    fn code(&self, row: usize, column: usize) -> u8 {
        let (at, place) = match self.method {
            Method::Gptq { .. } => (column / PER_WORD * self.n + row, column % PER_WORD),
            Method::Awq => (column * (self.n / PER_WORD) + row / PER_WORD, awq_place(row)),
        };
        nibble(self.codes.get(at).copied().unwrap_or_default(), place)
    }

    /// Writes the weights of `row` in the 32 stored columns from `first` on.
    fn write(&self, encoding: Encoding, (row, first): (usize, usize), out: &mut [u8]) {
        let columns = self.columns.get(first..first + BLOCK).unwrap_or_default();
        let groups = self.group_of.get(first..first + BLOCK).unwrap_or_default();
        let mut codes = [0; BLOCK];
        for (code, &column) in codes.iter_mut().zip(columns) {
            *code = self.code(row, column as usize);
        }
        let scale_and_zero = |group: u32| {
            let at = group as usize * self.n + row;
            let scale = self.scales.get(at).copied().unwrap_or_default();
            (scale, f32::from(self.zeros.get(at).copied().unwrap_or_default()))
        };
        if encoding == Encoding::F32 {
            for ((out, code), &group) in out.as_chunks_mut().0.iter_mut().zip(codes).zip(groups) {
                let (scale, zero) = scale_and_zero(group);
                *out = (scale * (f32::from(code) - zero)).to_le_bytes();
            }
            return;
        }
        let (scale, zero) = scale_and_zero(groups.first().copied().unwrap_or(0));
        let half = |value| f16::from_f32(value).to_le_bytes();
        let mut head = [0; 8];
        let (first, second) = head.split_at_mut(4);
        let n_head = match encoding {
            Encoding::Q4_0 | Encoding::Q4_Z => {
                let [a, b] = half(scale);
                let [c, d] = half(-zero);
                first.copy_from_slice(&[a, b, c, d]);
                if encoding == Encoding::Q4_0 { 2 } else { 4 }
            }
            _ => {
                first.copy_from_slice(&scale.to_le_bytes());
                second.copy_from_slice(&(scale * -zero).to_le_bytes());
                if encoding == Encoding::Q4_0_V2 { 4 } else { 8 }
            }
        };
        let Some((out_head, nibbles)) = out.split_at_mut_checked(n_head) else { return };
        out_head.iter_mut().zip(head).for_each(|(out, byte)| *out = byte);
        let (low, high) = codes.split_at(BLOCK / 2);
        for ((byte, low), high) in nibbles.iter_mut().zip(low).zip(high) {
            *byte = low | high << 4;
        }
    }
}

fn nibble(word: [u8; 4], place: usize) -> u8 {
    (u32::from_le_bytes(word) >> (4 * place)) as u8 & 15
}

fn awq_place(row: usize) -> usize {
    AWQ_PLACES.get(row % PER_WORD).copied().unwrap_or(0)
}

fn floats(part: &Part<'_>) -> Result<Vec<f32>> {
    let Some(encoding) = safetensors::encoding(part.dtype) else {
        return Err(wrong(part, format!("has dtype {}, expected F16", part.dtype)));
    };
    let mut values: Vec<f32> = zeroed(part.bytes.len() / encoding.block_bytes())?;
    encoding.decode(&part.bytes, &mut values);
    Ok(values)
}

/// The group of each column as `g_idx` lists them.
fn listed_groups(part: &Part<'_>, k: usize, n_groups: usize) -> Result<Vec<u32>> {
    if part.dtype != Dtype::I32 {
        return Err(wrong(part, format!("has dtype {}, expected I32", part.dtype)));
    }
    expect_dims(part, &[k])?;
    let groups = part.bytes.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes));
    let groups: Vec<u32> = groups.collect();
    match groups.iter().position(|&group| group as usize >= n_groups) {
        None => Ok(groups),
        Some(at) => {
            let group = groups.get(at).map_or(0, |group| group.cast_signed());
            Err(wrong(part, format!("puts column {at} into group {group} of {n_groups}")))
        }
    }
}

/// Groups of equal size, the last one perhaps smaller.
fn regular_groups(packing: Packing, scales: &Part<'_>, k: usize) -> Result<Vec<u32>> {
    let n_groups = scales.dims.first().copied().unwrap_or(1);
    let size = packing.group_size.unwrap_or_else(|| k.div_ceil(n_groups));
    if k.div_ceil(size) != n_groups {
        let reason = format!("has {n_groups} groups of {size} columns for {k} columns");
        return Err(wrong(scales, reason));
    }
    Ok((0..k).map(|column| (column / size) as u32).collect())
}
