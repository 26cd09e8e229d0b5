//! The vector operations that every kernel is written in: sixteen lanes, one weight row each.
//!
//! A kernel is generic over [`Lanes`] and never names an instruction set. Each operation is exact
//! or correctly rounded, so all implementations give the same bits, and [`Scalar`](super::Scalar)
//! is the specification of the others.

use std::ops::Range;

use super::buffer::Line;

/// Lanes of a vector, and rows of a weight tile.
pub(crate) const LANES: usize = 16;

/// Sixteen f32, sixteen i32, and a line of 64 bytes (four for each lane).
///
/// A value of an implementing type is the proof that the processor has the instructions.
pub(crate) trait Lanes: Copy + Send + Sync {
    /// Sixteen f32.
    type F: Copy;
    /// Sixteen i32.
    type I: Copy;
    /// Sixty-four bytes: bytes 4r..4r+4 belong to lane r.
    type B: Copy;

    /// What [`dot_i8`](Self::dot_i8) adds to each weight before it multiplies.
    const I8_BIAS: i32;
    /// Tokens that the matrix kernel keeps in registers at once, one of the widths of tiles.
    const MAX_TILE: usize;
    /// Sums of sixteen f32 that fit in registers beside what is multiplied.
    const SUMS: usize = 2;
    /// Whether panels are multiplied with [`products`](Self::products). Then they meet tiles of
    /// sixteen tokens, whose words stand token by token.
    const MATRICES: bool = false;
    /// Whether the lines of a group stay in registers while token after token is multiplied, or the
    /// tokens' sums while line after line is.
    const BY_TOKEN: bool = true;

    fn splat(self, x: f32) -> Self::F;
    fn load(self, x: &[f32; 16]) -> Self::F;
    fn store(self, x: Self::F, out: &mut [f32; 16]);
    /// Sixteen little-endian IEEE half floats.
    fn load_f16(self, x: &[u8; 32]) -> Self::F;
    /// Sixteen little-endian brain floats.
    fn load_bf16(self, x: &[u8; 32]) -> Self::F;
    /// Sixteen signed bytes.
    fn load_i8(self, x: &[u8; 16]) -> Self::I;
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a · b + c`, rounded once.
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `a` where `a > b`, else `b` (so `b` where either is NaN).
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a` where `a < b`, else `b` (so `b` where either is NaN).
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    /// Nearest integer, ties to even; the input is within i32.
    fn round(self, x: Self::F) -> Self::I;

    fn splat_i(self, x: i32) -> Self::I;
    fn store_i(self, x: Self::I, out: &mut [i32; 16]);
    fn add_i(self, a: Self::I, b: Self::I) -> Self::I;
    /// The low 32 bits of the product.
    fn mul_i(self, a: Self::I, b: Self::I) -> Self::I;
    fn max_i(self, a: Self::I, b: Self::I) -> Self::I;
    /// The largest lane.
    #[inline(always)]
    fn max_lanes(self, x: Self::I) -> i32 {
        let mut lanes = [0; LANES];
        self.store_i(x, &mut lanes);
        lanes.into_iter().fold(i32::MIN, Ord::max)
    }
    /// The sum of all lanes, which is within i32.
    #[inline(always)]
    fn sum_lanes_i(self, x: Self::I) -> i32 {
        let mut lanes = [0; LANES];
        self.store_i(x, &mut lanes);
        lanes.into_iter().sum()
    }
    /// The lanes as signed bytes, four to a word, little-endian; each is within i8.
    #[inline(always)]
    fn narrow(self, x: Self::I) -> [i32; 4] {
        let mut lanes = [0; LANES];
        self.store_i(x, &mut lanes);
        let (quads, _) = lanes.as_chunks::<4>();
        std::array::from_fn(|i| i32::from_le_bytes(quads[i].map(|x| x as u8)))
    }
    fn and_i(self, a: Self::I, b: Self::I) -> Self::I;
    fn or_i(self, a: Self::I, b: Self::I) -> Self::I;
    /// Shift left by `n` < 32.
    fn shl_i(self, a: Self::I, n: u32) -> Self::I;
    /// Logical shift right by `n` < 32.
    fn shr_i(self, a: Self::I, n: u32) -> Self::I;
    /// Exact for |x| ≤ 2²⁴, else to nearest.
    fn to_f(self, x: Self::I) -> Self::F;
    /// The same bits as integers.
    fn as_i(self, x: Self::F) -> Self::I;
    /// The same bits as floats.
    fn as_f(self, x: Self::I) -> Self::F;

    fn load_line(self, x: &[u8; 64]) -> Self::B;
    #[inline(always)]
    fn store_line(self, x: Self::B, out: &mut [u8; 64]) {
        let mut dwords = [0; LANES];
        self.store_i(self.line_as_i(x), &mut dwords);
        for (out, dword) in out.as_chunks_mut::<4>().0.iter_mut().zip(dwords) {
            *out = dword.to_le_bytes();
        }
    }
    /// The line as sixteen little-endian i32.
    fn line_as_i(self, x: Self::B) -> Self::I;
    /// The reverse of [`line_as_i`](Self::line_as_i).
    fn i_as_line(self, x: Self::I) -> Self::B;
    /// The low four bits of each byte.
    fn low_nibbles(self, x: Self::B) -> Self::B;
    /// The high four bits of each byte, moved down.
    fn high_nibbles(self, x: Self::B) -> Self::B;
    /// `table[x]` for each byte `x` < 16.
    fn lookup(self, table: &[i8; 16], x: Self::B) -> Self::B;
    /// `acc + Σ₄ w·x` in each lane: unsigned weights of at most 127, four signed activations
    /// packed in `x` (little-endian bytes, −127..=127).
    fn dot_u7(self, acc: Self::I, w: Self::B, x: i32) -> Self::I;
    /// `acc + Σ₄ (w + I8_BIAS)·x` in each lane: signed weights.
    fn dot_i8(self, acc: Self::I, w: Self::B, x: i32) -> Self::I;

    /// Asks for the cache line at `address`, which may be anywhere; changes nothing.
    #[inline(always)]
    fn prefetch(self, _address: *const u8) {}

    /// [`prefetch`](Self::prefetch) of what is read once, by a loop that waits for memory: into the
    /// cache from where that is quickest.
    #[inline(always)]
    fn prefetch_once(self, _address: *const u8) {}

    /// `start + Σ w·x` over at most eight lines for token t; `x[j][t]` goes with line j.
    ///
    /// The same sum as [`dot_u7`](Self::dot_u7) or [`dot_i8`](Self::dot_i8) gives line by line: an
    /// instruction set overrides it where it can accumulate narrower.
    #[inline(always)]
    fn dot_lines<const W: usize>(
        self,
        codes: Codes,
        lines: &[Self::B],
        x: &[[i32; W]],
        t: usize,
        start: Self::I,
    ) -> Self::I {
        let mut sum = start;
        for (line, x) in lines.iter().zip(x) {
            sum = match codes {
                Codes::Nibbles | Codes::U6 | Codes::U7 => self.dot_u7(sum, *line, x[t]),
                Codes::I8 => self.dot_i8(sum, *line, x[t]),
            };
        }
        sum
    }

    /// [`dot_lines`](Self::dot_lines) of all W tokens, where [`BY_TOKEN`](Self::BY_TOKEN) is false.
    #[inline(always)]
    fn dots<const W: usize>(
        self,
        codes: Codes,
        lines: &[Self::B],
        x: &[[i32; W]],
        start: [Self::I; W],
    ) -> [Self::I; W] {
        let mut sums = start;
        for (t, sum) in sums.iter_mut().enumerate() {
            *sum = self.dot_lines(codes, lines, x, t, *sum);
        }
        sums
    }

    /// A group's lines as [`dots_arranged`](Self::dots_arranged) or [`products`](Self::products)
    /// wants them: panels keep them so. `offset` is what `products` is to subtract from each code.
    #[inline(always)]
    fn arrange(self, lines: [Self::B; 8], _offset: i8) -> [Self::B; 8] {
        lines
    }

    /// As [`dots`](Self::dots), over arranged lines in memory: the eight of a group or either half.
    #[inline(always)]
    fn dots_arranged<const W: usize>(
        self,
        codes: Codes,
        lines: &[Line],
        x: &[[i32; W]],
        start: [Self::I; W],
    ) -> [Self::I; W] {
        let loaded = load_lines(self, lines);
        self.dots(codes, &loaded[..lines.len()], x, start)
    }

    /// Before [`products`](Self::products), on each thread. Until [`end_matrices`](Self::end_matrices)
    /// nothing else on it may use the processor's tiles.
    #[inline(always)]
    fn begin_matrices(self) {}

    /// After the last of them.
    #[inline(always)]
    fn end_matrices(self) {}

    /// `Σ (code − offset)·x` of sixteen tokens, over the lines `which` of a group's arranged ones: the
    /// eight or either half. `x[t]` are token t's words.
    ///
    /// # Panics
    ///
    /// If `which` is something else.
    #[inline(always)]
    fn products(
        self,
        arranged: &[Line; 8],
        x: &[[i32; 8]; LANES],
        which: Range<usize>,
    ) -> [Self::I; LANES] {
        products_by_line(self, arranged, x, which)
    }
}

/// [`Lanes::products`] without matrices: nothing but a specification.
#[inline(always)]
pub(super) fn products_by_line<L: Lanes>(
    isa: L,
    arranged: &[Line; 8],
    x: &[[i32; 8]; LANES],
    which: Range<usize>,
) -> [L::I; LANES] {
    let lines = load_lines(isa, arranged);
    let mut sums = [isa.splat_i(0); LANES];
    for (sum, x) in sums.iter_mut().zip(x) {
        for j in which.clone() {
            let bias: i32 = x[j].to_le_bytes().map(|x| i32::from(x.cast_signed())).iter().sum();
            *sum = isa.add_i(*sum, isa.splat_i(-L::I8_BIAS * bias));
            *sum = isa.dot_i8(*sum, lines[j], x[j]);
        }
    }
    sums
}

/// What the bytes of a line of weights hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codes {
    /// Unsigned, at most 15: eight lines' products fit i16, 32 · 15 · 127 / 2 = 30 480.
    Nibbles,
    /// Unsigned, at most 63: two lines' products fit i16, 4 · 63 · 127 = 32 004.
    U6,
    /// Unsigned, at most 127.
    U7,
    /// Signed.
    I8,
}

/// The largest of sixteen lanes, none of them NaN.
#[inline(always)]
pub(crate) fn max_lanes(mut x: [f32; LANES]) -> f32 {
    for width in [8, 4, 2, 1] {
        for i in 0..width {
            x[i] = if x[i] > x[i + width] { x[i] } else { x[i + width] };
        }
    }
    x[0]
}

/// Adds sixteen lanes in the one fixed order: halves onto halves.
#[inline(always)]
pub(crate) fn sum_lanes(mut x: [f32; LANES]) -> f32 {
    for width in [8, 4, 2, 1] {
        for i in 0..width {
            x[i] += x[i + width];
        }
    }
    x[0]
}

/// The first (at most sixteen) elements of `x`, then `padding`.
#[inline(always)]
pub(crate) fn load_padded<L: Lanes>(isa: L, x: &[f32], padding: f32) -> L::F {
    if let Some(full) = x.first_chunk::<LANES>() {
        return isa.load(full);
    }
    let mut lanes = [padding; LANES];
    lanes[..x.len()].copy_from_slice(x);
    isa.load(&lanes)
}

/// At most eight lines; those that are missing hold anything.
#[inline(always)]
pub(crate) fn load_lines<L: Lanes>(isa: L, lines: &[Line]) -> [L::B; 8] {
    let mut loaded = [isa.load_line(&[0; 64]); 8];
    for (loaded, line) in loaded.iter_mut().zip(lines) {
        *loaded = isa.load_line(&line.0);
    }
    loaded
}

/// Stores as many lanes as `out` holds, at most sixteen.
#[inline(always)]
pub(crate) fn store_prefix<L: Lanes>(isa: L, x: L::F, out: &mut [f32]) {
    if let Some(full) = out.first_chunk_mut::<LANES>() {
        return isa.store(x, full);
    }
    let mut lanes = [0.0; LANES];
    isa.store(x, &mut lanes);
    let n = out.len();
    out.copy_from_slice(&lanes[..n]);
}
