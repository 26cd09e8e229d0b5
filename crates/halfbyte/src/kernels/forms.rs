//! The packed forms: what weights look like in memory, whatever their encoding on disk.
//!
//! Rows are grouped by sixteen, one row a lane. A group's bytes follow each other in the order in
//! which a kernel reads them, so a thread reads one sequential stream. README.md draws the layouts.

use super::buffer::Buffer;
use super::lanes::LANES;
use crate::error::{Error, Result};

/// How the scales, and minima, of four-bit weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// As 16-bit float.
    F16,
    /// As 32-bit float.
    F32,
}

/// One of the packed forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// 4 bits, `scale · (n − 8)`, a scale per 32.
    Q4(Scale),
    /// 4 bits, `scale · table[n]`, a scale per 32.
    Q4Codebook(Scale, &'static [i8; 16]),
    /// 4 bits, `scale · n + min`, a scale and a minimum per 32.
    Q4Affine(Scale),
    /// 4 bits, `scale · n + scale · zero`, f16 scale and zero point per 32.
    Q4Zero,
    /// 4 bits, two-level scales and minima: Q4_K at its native size.
    Q4K,
    /// 6 bits, two-level scales: Q6_K at its native size.
    Q6K,
    /// 8 bits, f16 scale per 32.
    Q8,
    /// 8 bits, f32 scale per 16.
    Q8Halves,
    /// 7 unsigned bits, `scale · n + min`, f32 scale and minimum per 32.
    Q8Affine,
    /// 7 unsigned bits, `scale · n + min`, f32 scale and minimum per 16.
    Q8AffineHalves,
    /// 16-bit IEEE floats.
    F16,
    /// 16-bit brain floats.
    BF16,
    /// 32-bit floats.
    F32,
}

/// The shapes in which a product wants its activations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// As int8 codes with their scales and sums.
    pub(crate) codes: bool,
    /// As f32.
    pub(crate) floats: bool,
    /// As int8 codes of the columns in another order, which are gathered from the floats.
    pub(crate) gathered: bool,
}

impl std::ops::BitOr for Needs {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self {
            codes: self.codes | other.codes,
            floats: self.floats | other.floats,
            gathered: self.gathered | other.gathered,
        }
    }
}

impl Form {
    /// Bytes of sixteen rows of `k` weights; `None` if that overflows.
    pub(crate) fn group_bytes(self, k: usize) -> Option<usize> {
        let (unit_len, unit_bytes) = match self {
            Self::Q4(Scale::F16) | Self::Q4Codebook(Scale::F16, _) => (64, 64 + 2 * 256),
            Self::Q4(Scale::F32) | Self::Q4Codebook(Scale::F32, _) => (32, 64 + 256),
            Self::Q4Affine(Scale::F16) | Self::Q4Zero => (32, 64 + 256),
            Self::Q4Affine(Scale::F32) => (32, 128 + 256),
            Self::Q4K => (256, 256 + 8 * 256),
            Self::Q6K => (256, 320 + 8 * 384),
            Self::Q8 => (64, 64 + 2 * 512),
            Self::Q8Halves => (32, 128 + 512),
            Self::Q8Affine => (32, 128 + 512),
            Self::Q8AffineHalves => (32, 256 + 512),
            Self::F16 | Self::BF16 => (2, 64),
            Self::F32 => (1, 64),
        };
        k.div_ceil(unit_len).checked_mul(unit_bytes)
    }

    /// Whether the weights are floats, multiplied by float activations.
    pub(crate) fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::BF16 | Self::F32)
    }

    /// What a product with weights of this form needs of its activations.
    pub(crate) fn needs(self) -> Needs {
        Needs { codes: !self.is_float(), floats: self.is_float(), gathered: false }
    }
}

/// A weight matrix (n, k) in a packed form.
#[derive(Debug)]
pub(crate) struct Packed {
    form: Form,
    n: usize,
    k: usize,
    group_bytes: usize,
    data: Buffer,
}

impl Packed {
    /// An all-zero matrix of `n` rows and `k` columns, to be filled by [`groups_mut`](Self::groups_mut).
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`].
    pub(crate) fn zeroed(form: Form, n: usize, k: usize) -> Result<Self> {
        let group_bytes = form.group_bytes(k).ok_or(Error::OutOfMemory { bytes: usize::MAX })?;
        let bytes = group_bytes.checked_mul(n.div_ceil(LANES));
        let data = Buffer::zeroed(bytes.ok_or(Error::OutOfMemory { bytes: usize::MAX })?)?;
        Ok(Self { form, n, k, group_bytes, data })
    }

    /// A matrix (n, k) in memory of the test's own.
    #[cfg(test)]
    pub(super) fn new(form: Form, (n, k): (usize, usize), data: Buffer) -> Self {
        let group_bytes = data.len() / n.div_ceil(LANES);
        assert_eq!(Some(group_bytes), form.group_bytes(k));
        Self { form, n, k, group_bytes, data }
    }

    pub(crate) fn form(&self) -> Form {
        self.form
    }
    /// Rows: output features.
    pub(crate) fn n(&self) -> usize {
        self.n
    }
    /// Columns: input features.
    pub(crate) fn k(&self) -> usize {
        self.k
    }
    /// Groups of sixteen rows, the last one padded with zero rows.
    pub(crate) fn n_groups(&self) -> usize {
        self.n.div_ceil(LANES)
    }
    pub(crate) fn group_bytes(&self) -> usize {
        self.group_bytes
    }
    /// Bytes in memory.
    pub(crate) fn n_bytes(&self) -> usize {
        self.group_bytes * self.n_groups()
    }
    /// The bytes of group `g`.
    #[inline(always)]
    pub(super) fn group(&self, g: usize) -> &[u8] {
        &self.data[g * self.group_bytes..][..self.group_bytes]
    }
    /// All bytes, group after group.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.data
    }
    /// All groups' bytes, group after group.
    pub(crate) fn groups_mut(&mut self) -> &mut [u8] {
        &mut self.data
    }
}
