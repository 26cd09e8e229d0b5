//! Sixteen rows side by side: the transposition behind every packed form.
//!
//! Rows are words of eight bytes, and a store holds a dword of two rows: plain 64-bit arithmetic,
//! several times faster than memory delivers the rows. A line is written from its first byte to its
//! last before the next: jumping between lines costs a factor of four (Q4_K: 2.6 GB/s a core, in
//! order 10.6).

use crate::kernels::LANES;

/// A block, of `B` bytes, of each row.
pub(super) struct Blocks<'a, const B: usize> {
    rows: [&'a [[u8; B]]; LANES],
    b: usize,
}

impl<const B: usize> Blocks<'_, B> {
    /// The block of row `r`.
    #[inline(always)]
    pub(super) fn row(&self, r: usize) -> &[u8; B] {
        &self.rows[r][self.b]
    }

    /// `N` bytes of row `r`'s block, from byte `at` on.
    #[inline(always)]
    pub(super) fn field<const N: usize>(&self, r: usize, at: usize) -> [u8; N] {
        field(self.row(r), at)
    }

    /// `W` words of row `r`'s block, from byte `at` on.
    #[inline(always)]
    pub(super) fn words<const W: usize>(&self, r: usize, at: usize) -> [u64; W] {
        words(self.row(r), at)
    }
}

/// What follows the last whole block, of `B` bytes, of each row.
pub(super) fn after_blocks<'a, const B: usize>(rows: &[&'a [u8]; LANES]) -> [&'a [u8]; LANES] {
    rows.map(|row| row.as_chunks::<B>().1)
}

/// Calls `pack(b, blocks)` for block `b`, of `B` bytes, of all rows, which are of one length.
#[inline(always)]
pub(super) fn each_block<const B: usize>(
    rows: &[&[u8]; LANES],
    mut pack: impl FnMut(usize, &Blocks<'_, B>),
) {
    let rows = rows.map(|row| row.as_chunks::<B>().0);
    let n = rows.iter().map(|row| row.len()).min().unwrap_or(0);
    // Cut to one length, which the compiler then knows `b` to be below.
    let mut blocks = Blocks { rows: rows.map(|row| &row[..n]), b: 0 };
    for b in 0..n {
        blocks.b = b;
        pack(b, &blocks);
    }
}

/// Unit `i`, of `U` bytes, of a packed group.
#[inline(always)]
pub(super) fn unit<const U: usize>(group: &mut [u8], i: usize) -> &mut [u8; U] {
    group[i * U..].first_chunk_mut().expect("a group holds whole units")
}

/// Writes `N` bytes of each row r, `field(r)`, side by side from byte `at` on.
#[inline(always)]
pub(super) fn put<const N: usize>(out: &mut [u8], at: usize, field: impl Fn(usize) -> [u8; N]) {
    let (lanes, _) = out[at..at + LANES * N].as_chunks_mut::<N>();
    for r in 0..LANES {
        lanes[r] = field(r);
    }
}

/// Writes dword j of the words of each row r, `words(r)`, to line j from byte `at` on.
#[inline(always)]
pub(super) fn put_lines<const W: usize>(
    out: &mut [u8],
    at: usize,
    words: impl Fn(usize) -> [u64; W],
) {
    let (lines, _) = out[at..at + 128 * W].as_chunks_mut::<8>();
    for p in 0..LANES / 2 {
        let (x, y) = (words(2 * p), words(2 * p + 1));
        for w in 0..W {
            lines[16 * w + p] = (x[w] & 0xFFFF_FFFF | y[w] << 32).to_le_bytes();
            lines[16 * w + 8 + p] = (x[w] >> 32 | y[w] & !0xFFFF_FFFF).to_le_bytes();
        }
    }
}

#[inline(always)]
fn field<const N: usize>(block: &[u8], at: usize) -> [u8; N] {
    *block[at..].first_chunk().expect("blocks are cut to their size")
}

/// `W` little-endian words of `bytes`, from byte `at` on.
#[inline(always)]
pub(super) fn words<const W: usize>(bytes: &[u8], at: usize) -> [u64; W] {
    std::array::from_fn(|i| u64::from_le_bytes(field(bytes, at + 8 * i)))
}

/// The low (`half` 0) or high (1) four bits of 32 bytes, as the forms have them: elements i and
/// i + 16 share a byte.
#[inline(always)]
pub(super) fn nibbles([a, b, c, d]: [u64; 4], half: usize) -> [u64; 2] {
    const LOW: u64 = 0x0F0F_0F0F_0F0F_0F0F;
    if half == 0 {
        [a & LOW | (c & LOW) << 4, b & LOW | (d & LOW) << 4]
    } else {
        [(a >> 4) & LOW | c & !LOW, (b >> 4) & LOW | d & !LOW]
    }
}
