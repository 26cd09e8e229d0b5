//! How lanes of keys and values are read: from a cache of each type, or unpacked.

use crate::kernels::{LANES, Lanes, Line};
use crate::nn::block_cache::{BLOCK, CacheShape};

/// Where the keys or the values of one head in one block are.
pub(super) trait Cached {
    /// What they are kept in.
    type Part: ?Sized;
    /// Element `d` of keys 16i..16i + 16.
    fn keys<L: Lanes>(isa: L, shape: &CacheShape, part: &Self::Part, i: usize, d: usize) -> L::F;
    /// Elements 16c..16c + 16 of value `j`.
    fn value<L: Lanes>(isa: L, shape: &CacheShape, part: &Self::Part, j: usize, c: usize) -> L::F;
}

pub(super) struct F16;
pub(super) struct F32;
pub(super) struct Q8;
/// Keys and values that [`unpack`] wrote.
pub(super) struct Unpacked;

#[inline(always)]
fn line<const N: usize>(part: &[u8], at: usize) -> &[u8; N] {
    part[at..].first_chunk().expect("caches hold whole lanes")
}

#[inline(always)]
fn load_f32<L: Lanes>(isa: L, bytes: &[u8; 64]) -> L::F {
    isa.as_f(isa.line_as_i(isa.load_line(bytes)))
}

impl Cached for F16 {
    type Part = [u8];

    #[inline(always)]
    fn keys<L: Lanes>(isa: L, shape: &CacheShape, part: &[u8], i: usize, d: usize) -> L::F {
        isa.load_f16(line(part, 2 * LANES * (i * shape.padded_dim() + d)))
    }
    #[inline(always)]
    fn value<L: Lanes>(isa: L, shape: &CacheShape, part: &[u8], j: usize, c: usize) -> L::F {
        isa.load_f16(line(part, 2 * (j * shape.padded_dim() + LANES * c)))
    }
}

impl Cached for F32 {
    type Part = [u8];

    #[inline(always)]
    fn keys<L: Lanes>(isa: L, shape: &CacheShape, part: &[u8], i: usize, d: usize) -> L::F {
        load_f32(isa, line(part, 4 * LANES * (i * shape.padded_dim() + d)))
    }
    #[inline(always)]
    fn value<L: Lanes>(isa: L, shape: &CacheShape, part: &[u8], j: usize, c: usize) -> L::F {
        load_f32(isa, line(part, 4 * (j * shape.padded_dim() + LANES * c)))
    }
}

impl Cached for Q8 {
    type Part = [u8];

    #[inline(always)]
    fn keys<L: Lanes>(isa: L, shape: &CacheShape, part: &[u8], i: usize, d: usize) -> L::F {
        let dim = shape.padded_dim();
        let codes = isa.load_i8(line(part, LANES * (i * dim + d)));
        let scale = line(part, BLOCK * dim + 4 * LANES * (i * (dim / 32) + d / 32));
        isa.mul(load_f32(isa, scale), isa.to_f(codes))
    }
    #[inline(always)]
    fn value<L: Lanes>(isa: L, shape: &CacheShape, part: &[u8], j: usize, c: usize) -> L::F {
        let dim = shape.padded_dim();
        let codes = isa.load_i8(line(part, j * dim + LANES * c));
        let scale = line(part, BLOCK * dim + 4 * (j * (dim / 32) + c / 2));
        isa.mul(isa.splat(f32::from_le_bytes(*scale)), isa.to_f(codes))
    }
}

impl Cached for Unpacked {
    type Part = [Line];

    #[inline(always)]
    fn keys<L: Lanes>(isa: L, shape: &CacheShape, part: &[Line], i: usize, d: usize) -> L::F {
        load_f32(isa, &part[i * shape.padded_dim() + d].0)
    }
    #[inline(always)]
    fn value<L: Lanes>(isa: L, shape: &CacheShape, part: &[Line], j: usize, c: usize) -> L::F {
        load_f32(isa, &part[j * shape.padded_dim() / LANES + c].0)
    }
}

/// Lines that a block's keys, or its values, take unpacked.
pub(super) fn unpacked_lines(shape: &CacheShape) -> usize {
    BLOCK / LANES * shape.padded_dim()
}

/// Unpacks the first `n` keys and values of a block.
#[inline(always)]
pub(super) fn unpack<L: Lanes, C: Cached>(
    isa: L,
    shape: &CacheShape,
    (keys, values): (&C::Part, &C::Part),
    n: usize,
    (key_lines, value_lines): (&mut [Line], &mut [Line]),
) {
    let dim = shape.padded_dim();
    for (i, lines) in key_lines.chunks_exact_mut(dim).take(n.div_ceil(LANES)).enumerate() {
        for (d, line) in lines.iter_mut().enumerate() {
            store_f32(isa, C::keys(isa, shape, keys, i, d), line);
        }
    }
    for (j, lines) in value_lines.chunks_exact_mut(dim / LANES).take(n).enumerate() {
        for (c, line) in lines.iter_mut().enumerate() {
            store_f32(isa, C::value(isa, shape, values, j, c), line);
        }
    }
}

#[inline(always)]
fn store_f32<L: Lanes>(isa: L, x: L::F, line: &mut Line) {
    isa.store_line(isa.i_as_line(isa.as_i(x)), &mut line.0);
}
