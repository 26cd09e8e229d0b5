//! One tensor of a checkpoint: rows of bytes in GGUF's order, whatever order the file has.

use crate::error::Result;
use crate::kernels::zeroed;
use crate::quant::Encoding;

/// How a matrix's rows as stored map to the rows that GGUF prescribes.
///
/// Vectors never need one: the loader brings them into GGUF's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowOrder {
    /// As GGUF has them.
    Natural,
    /// Rotary halves of each head interleaved: GGUF row (h, 2i + j) is stored row (h, j·D/2 + i).
    InterleaveHalves {
        /// Heads in the tensor.
        heads: usize,
    },
    /// Per-head `[q k v]` triples parted: GGUF row (part, h, d) is stored row (h, part, d).
    SplitQkv {
        /// Heads in the tensor.
        heads: usize,
    },
}

impl RowOrder {
    /// Whether this order is a permutation of `n_rows` rows.
    pub(super) fn fits(self, n_rows: usize) -> bool {
        let parts = match self {
            Self::Natural => return true,
            Self::InterleaveHalves { heads } => heads.checked_mul(2),
            Self::SplitQkv { heads } => heads.checked_mul(3),
        };
        parts.is_some_and(|p| p != 0 && n_rows.is_multiple_of(p))
    }

    /// The stored row of GGUF row `row`, below `n_rows` if `row` is; needs [`fits`](Self::fits).
    pub(super) fn stored_row(self, row: usize, n_rows: usize) -> usize {
        match self {
            Self::Natural => row,
            Self::InterleaveHalves { heads } => {
                let head_dim = n_rows / heads;
                let (head, within) = (row / head_dim, row % head_dim);
                head * head_dim + within % 2 * (head_dim / 2) + within / 2
            }
            Self::SplitQkv { heads } => {
                let head_dim = n_rows / heads / 3;
                let (part, head) = (row / (heads * head_dim), row / head_dim % heads);
                (head * 3 + part) * head_dim + row % head_dim
            }
        }
    }

    /// The elements of a vector, of `size` bytes each, in GGUF's order; needs [`fits`](Self::fits).
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub(super) fn elements(self, stored: &[u8], size: usize) -> Result<Vec<u8>> {
        let mut out = zeroed(stored.len())?;
        let n = stored.len() / size;
        for (element, to) in out.chunks_exact_mut(size).enumerate() {
            let start = self.stored_row(element, n) * size;
            to.copy_from_slice(stored.get(start..start + size).unwrap_or_default());
        }
        Ok(out)
    }
}

/// A matrix of `n_rows` rows that is stored column after column, row after row; elements have
/// `size` bytes.
///
/// # Errors
///
/// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
pub(super) fn upright(stored: &[u8], n_rows: usize, size: usize) -> Result<Vec<u8>> {
    let mut out = zeroed(stored.len())?;
    let n_rows = n_rows.max(1);
    let row_bytes = stored.len() / n_rows;
    for (row, out) in out.chunks_exact_mut(row_bytes.max(1)).enumerate() {
        let elements = stored.chunks_exact(size).skip(row).step_by(n_rows);
        for (to, from) in out.chunks_exact_mut(size).zip(elements) {
            to.copy_from_slice(from);
        }
    }
    Ok(out)
}

/// One tensor of a checkpoint: bytes that were proved to lie in the file.
///
/// Also proved: `n_rows · row_len` is the product of `dims` and no dimension is zero, the bytes
/// are exactly the rows in `encoding`, and the row order is a permutation.
#[derive(Clone, Copy, Debug)]
pub struct TensorView<'a> {
    pub(super) name: &'a str,
    pub(super) dims: &'a [usize],
    pub(super) encoding: Encoding,
    pub(super) bytes: &'a [u8],
    pub(super) row_order: RowOrder,
    pub(super) n_rows: usize,
    pub(super) row_len: usize,
    pub(super) row_bytes: usize,
    pub(super) columns: Option<&'a [u32]>,
}

impl<'a> TensorView<'a> {
    /// The GGUF name.
    pub fn name(&self) -> &'a str {
        self.name
    }
    /// The shape, outermost dimension first: (out, in) for a matrix, (n) for a vector.
    pub fn dims(&self) -> &'a [usize] {
        self.dims
    }
    /// How the elements are stored.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }
    /// How the rows of the file map to the rows that [`row`](Self::row) gives.
    pub fn row_order(&self) -> RowOrder {
        self.row_order
    }
    /// Which column of the matrix each stored one is; `None` where they are in order.
    ///
    /// Blocks of a row share a scale, so columns that were quantized together are stored together.
    pub fn columns(&self) -> Option<&'a [u32]> {
        self.columns
    }
    /// Rows: the product of all dimensions but the innermost. A vector is one row.
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }
    /// Elements of a row: the innermost dimension.
    pub fn row_len(&self) -> usize {
        self.row_len
    }
    /// The bytes of row `row` in GGUF's row order, its columns in the order of
    /// [`columns`](Self::columns).
    ///
    /// # Panics
    ///
    /// If `row >= n_rows()`.
    pub fn row(&self, row: usize) -> &'a [u8] {
        assert!(row < self.n_rows, "row {row} of {} in {}", self.n_rows, self.name);
        let start = self.row_order.stored_row(row, self.n_rows) * self.row_bytes;
        self.bytes
            .get(start..start + self.row_bytes)
            .expect("the row order permutes n_rows rows, and the bytes are exactly those rows")
    }
    /// Bytes of the whole tensor.
    pub fn n_bytes(&self) -> usize {
        self.bytes.len()
    }
    /// Decodes the whole tensor in GGUF order, row after row.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        let mut out: Vec<f32> = zeroed(self.n_rows.saturating_mul(self.row_len))?;
        for (row, chunk) in out.chunks_exact_mut(self.row_len).enumerate() {
            self.decode_row(row, chunk);
        }
        Ok(out)
    }
    /// Decodes row `row` in GGUF's row order, with its columns in order.
    ///
    /// # Panics
    ///
    /// If `row >= n_rows()`, or `out` has other than [`row_len`](Self::row_len) elements.
    pub fn decode_row(&self, row: usize, out: &mut [f32]) {
        self.encoding.decode(self.row(row), out);
        if let Some(columns) = self.columns {
            let stored = out.to_vec();
            for (&column, value) in columns.iter().zip(stored) {
                if let Some(slot) = out.get_mut(column as usize) {
                    *slot = value;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_orders_are_the_permutations_of_the_converters() {
        let order = RowOrder::InterleaveHalves { heads: 2 };
        let stored: Vec<_> = (0..12).map(|r| order.stored_row(r, 12)).collect();
        assert_eq!(stored, [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]);
        // Two heads of two: stored h0[q q k k v v] h1[q q k k v v].
        let order = RowOrder::SplitQkv { heads: 2 };
        let stored: Vec<_> = (0..12).map(|r| order.stored_row(r, 12)).collect();
        assert_eq!(stored, [0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11]);
    }

    #[test]
    fn vectors_and_matrices_get_into_order() {
        // Two bytes an element, which say its place as stored.
        let stored: Vec<u8> = (0..24).collect();
        let places = |bytes: &[u8]| -> Vec<u8> {
            let (elements, rest) = bytes.as_chunks();
            assert!(rest.is_empty() && elements.iter().all(|[low, high]| low + 1 == *high));
            elements.iter().map(|[low, _]| low / 2).collect()
        };
        let order = RowOrder::InterleaveHalves { heads: 2 };
        let elements = order.elements(&stored, 2).unwrap();
        assert_eq!(places(&elements), [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]);
        for (n_rows, wanted) in [
            (3, [0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11]),
            (2, [0, 2, 4, 6, 8, 10, 1, 3, 5, 7, 9, 11]),
            (1, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
            (12, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
        ] {
            assert_eq!(places(&upright(&stored, n_rows, 2).unwrap()), wanted, "{n_rows} rows");
        }
        assert!(upright(&[], usize::MAX, 2).unwrap().is_empty());
    }

    #[test]
    fn orders_that_do_not_divide_the_rows_do_not_fit() {
        for (order, n_rows, fits) in [
            (RowOrder::Natural, 7, true),
            (RowOrder::InterleaveHalves { heads: 2 }, 12, true),
            (RowOrder::InterleaveHalves { heads: 2 }, 6, false),
            (RowOrder::InterleaveHalves { heads: 0 }, 6, false),
            (RowOrder::InterleaveHalves { heads: usize::MAX }, 6, false),
            (RowOrder::SplitQkv { heads: 2 }, 12, true),
            (RowOrder::SplitQkv { heads: 2 }, 10, false),
        ] {
            assert_eq!(order.fits(n_rows), fits, "{order:?} over {n_rows} rows");
        }
    }
}
