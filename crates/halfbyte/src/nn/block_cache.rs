//! Keys and values of one sequence, in blocks of 64 positions.

use std::io::{self, Write};
use std::sync::Arc;

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::low_rank::LowRankSet;
use crate::error::{Error, Result};
use crate::kernels::{Brake, Buffer, LANES, Team};

/// How keys and values are kept in a cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheType {
    /// 16-bit floats.
    #[default]
    F16,
    /// 32-bit floats.
    F32,
    /// 8-bit integers, one f32 scale per 32 elements of a head.
    Q8,
}

/// Positions in a block. Blocks begin at multiples of it whoever fills them, so that attention
/// sums the same keys in the same order for every batch split.
pub(crate) const BLOCK: usize = 64;
/// Elements of a head that share a scale in a [`CacheType::Q8`] cache.
const SCALED: usize = 32;

/// What a model's cache looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CacheShape {
    pub(crate) n_layers: usize,
    /// K: key/value heads.
    pub(crate) n_kv_heads: usize,
    /// D: elements of a head.
    pub(crate) head_dim: usize,
    pub(crate) cache_type: CacheType,
}

impl CacheShape {
    /// D rounded up to whole lanes (and whole scales).
    pub(crate) fn padded_dim(&self) -> usize {
        match self.cache_type {
            CacheType::Q8 => self.head_dim.next_multiple_of(SCALED),
            CacheType::F16 | CacheType::F32 => self.head_dim.next_multiple_of(LANES),
        }
    }

    /// Bytes of one head's keys (or values) in a block.
    pub(crate) fn head_bytes(&self) -> usize {
        let elements = BLOCK * self.padded_dim();
        match self.cache_type {
            CacheType::F16 => 2 * elements,
            CacheType::F32 => 4 * elements,
            CacheType::Q8 => elements + elements / SCALED * 4,
        }
    }

    fn block_bytes(&self) -> usize {
        2 * self.n_kv_heads * self.head_bytes()
    }

    /// Bytes of a cache of `len` tokens as [`BlockCache::write_to`] writes it; too many for any file
    /// where the number does not fit.
    pub(crate) fn written_bytes(&self, len: usize) -> u64 {
        let blocks = (len.div_ceil(BLOCK) as u64).saturating_mul(self.n_layers as u64);
        blocks.saturating_mul(self.block_bytes() as u64).saturating_add(8)
    }

    /// Zeroes the positions from `len` on in a copy of a block: forgotten tokens stay forgotten.
    fn forget(&self, block: &mut [u8], len: usize) {
        let zeros = vec![0.0; self.head_dim];
        let (keys, values) = block.split_at_mut(self.n_kv_heads * self.head_bytes());
        for position in len.min(BLOCK)..BLOCK {
            for part in keys.chunks_exact_mut(self.head_bytes()) {
                store(self, part, &zeros, Place::Key(position));
            }
            for part in values.chunks_exact_mut(self.head_bytes()) {
                store(self, part, &zeros, Place::Value(position));
            }
        }
    }
}

/// Where one position's elements stand in its head's part of a block.
#[derive(Clone, Copy)]
enum Place {
    /// Sixteen keys are interleaved: [position / 16][d][position mod 16].
    Key(usize),
    /// [position][d].
    Value(usize),
}

impl Place {
    /// The index of element `d`, in a head of `dim` (padded) elements.
    fn element(self, dim: usize, d: usize) -> usize {
        match self {
            Self::Key(p) => (p / LANES * dim + d) * LANES + p % LANES,
            Self::Value(p) => p * dim + d,
        }
    }

    /// The index of the scale of elements 32g..32g + 32.
    fn scale(self, dim: usize, g: usize) -> usize {
        self.element(dim / SCALED, g)
    }
}

/// The keys and values of one sequence. A clone shares its blocks until either side writes.
///
/// A block holds 64 positions of one layer: for each head its keys, then for each head its values.
#[derive(Clone, Debug)]
pub(crate) struct BlockCache {
    shape: CacheShape,
    len: usize,
    /// For each layer its blocks in order.
    layers: Vec<Vec<Arc<Buffer>>>,
    /// The adapters that the tokens are read with: keys and values are true only under them.
    adapters: Option<Arc<LowRankSet>>,
}

impl BlockCache {
    pub(crate) fn new(shape: CacheShape) -> Self {
        Self { shape, len: 0, layers: vec![Vec::new(); shape.n_layers], adapters: None }
    }

    pub(crate) fn shape(&self) -> &CacheShape {
        &self.shape
    }
    pub(crate) fn adapters(&self) -> Option<&Arc<LowRankSet>> {
        self.adapters.as_ref()
    }
    /// Reads all further tokens with `adapters`; forgets those that were read with others.
    pub(crate) fn adapt(&mut self, adapters: Option<Arc<LowRankSet>>) {
        let same = match (&self.adapters, &adapters) {
            (Some(old), Some(new)) => old.is_same(new),
            (old, new) => old.is_none() && new.is_none(),
        };
        if !same {
            self.truncate(0);
        }
        self.adapters = adapters;
    }
    /// The cache, whose tokens were read with `adapters`.
    pub(crate) fn read_with(self, adapters: Option<Arc<LowRankSet>>) -> Self {
        Self { adapters, ..self }
    }
    /// How keys and values are kept.
    pub(crate) fn cache_type(&self) -> CacheType {
        self.shape.cache_type
    }
    /// Tokens in the cache.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
    /// Tokens that fit in the memory that it holds now.
    pub(crate) fn capacity(&self) -> usize {
        self.layers.first().map_or(0, Vec::len) * BLOCK
    }
    /// Whether the cache holds no token.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// Forgets all tokens from `len` on, and frees their blocks.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        for blocks in &mut self.layers {
            blocks.truncate(self.len.div_ceil(BLOCK));
        }
    }
    /// Bytes that the cache holds now, shared blocks included.
    pub(crate) fn n_bytes(&self) -> usize {
        self.layers.iter().map(Vec::len).sum::<usize>() * self.shape.block_bytes()
    }

    /// Makes room for `new` positions after the current ones, in memory that no clone shares.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`]; the cached tokens stay.
    pub(crate) fn reserve(&mut self, new: usize) -> Result<()> {
        let bytes = self.shape.block_bytes();
        let kept = self.len;
        // Blocks that a failed pass left behind may be shared with a clone by now.
        self.truncate(kept);
        for blocks in &mut self.layers {
            // The block of the next position may be shared with a clone.
            if let Some(last) = blocks.get_mut(self.len / BLOCK)
                && Arc::get_mut(last).is_none()
            {
                let mut copy = Buffer::zeroed(bytes)?;
                copy[..bytes].copy_from_slice(&last[..bytes]);
                *last = Arc::new(copy);
            }
            while blocks.len() < (self.len + new).div_ceil(BLOCK) {
                blocks.push(Arc::new(Buffer::zeroed(bytes)?));
            }
        }
        Ok(())
    }

    /// Counts `new` positions as cached.
    pub(crate) fn advance(&mut self, new: usize) {
        self.len += new;
    }

    /// Writes the keys and values of `n` tokens behind the current ones, rounded to the cache's type.
    ///
    /// `rows` (n, stride) hold from `column` on the K·D elements of a token's keys, then those of its
    /// values.
    ///
    /// # Panics
    ///
    /// If [`reserve`](Self::reserve) did not make room for them.
    pub(crate) fn write(
        &mut self,
        team: &Team<'_>,
        layer: usize,
        (rows, stride, column): (&[f32], usize, usize),
        n: usize,
    ) {
        let shape = self.shape;
        let (start, end) = (self.len, self.len + n);
        for block in start / BLOCK..end.div_ceil(BLOCK) {
            let positions = start.max(block * BLOCK)..end.min((block + 1) * BLOCK);
            let data = Arc::get_mut(&mut self.layers[layer][block])
                .expect("reserve made the block ours alone");
            let data = &mut data[..shape.block_bytes()];
            // Each head's keys, then each head's values: in the order in which a row has them.
            team.each_chunk(data, shape.head_bytes(), &Brake::none(), |i, part| {
                for position in positions.clone() {
                    let row = &rows[(position - start) * stride + column..];
                    let at = position % BLOCK;
                    let place =
                        if i < shape.n_kv_heads { Place::Key(at) } else { Place::Value(at) };
                    store(&shape, part, &row[i * shape.head_dim..][..shape.head_dim], place);
                }
            });
        }
    }

    /// One head's keys and values in block `block` of `layer`.
    pub(crate) fn head(&self, layer: usize, block: usize, head: usize) -> (&[u8], &[u8]) {
        let bytes = self.shape.head_bytes();
        let data = &self.layers[layer][block];
        let values = self.shape.n_kv_heads * bytes;
        (&data[head * bytes..][..bytes], &data[values + head * bytes..][..bytes])
    }

    /// Bytes that [`write_to`](Self::write_to) writes.
    pub(crate) fn written_bytes(&self) -> u64 {
        self.shape.written_bytes(self.len)
    }

    /// Writes the number of cached tokens (u64, little-endian), then their blocks, layer after layer,
    /// one by one: the whole may be larger than the memory that is left.
    ///
    /// # Errors
    ///
    /// Those of `out`, and that of memory for one block.
    pub(crate) fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        let bytes = self.shape.block_bytes();
        let (n_full, n_last) = (self.len / BLOCK, self.len % BLOCK);
        out.write_all(&(self.len as u64).to_le_bytes())?;
        let mut last = Vec::new();
        last.try_reserve_exact(bytes)?;
        for blocks in &self.layers {
            // A pass that failed may have left blocks behind the last token.
            let (full, rest) = blocks.split_at(n_full);
            full.iter().try_for_each(|block| out.write_all(&block[..bytes]))?;
            if let Some(block) = rest.first().filter(|_| n_last > 0) {
                last.clear();
                last.extend_from_slice(&block[..bytes]);
                self.shape.forget(&mut last, n_last);
                out.write_all(&last)?;
            }
        }
        Ok(())
    }

    /// Reads back what [`write_to`](Self::write_to) wrote for a cache of this shape.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the size differs, [`Error::OutOfMemory`].
    pub(crate) fn from_bytes(shape: CacheShape, bytes: &[u8]) -> Result<Self> {
        let wrong = || {
            let reason = format!("{} bytes are not what this model's cache has", bytes.len());
            Error::config("saved cache", reason)
        };
        let (len, bytes) = bytes.split_first_chunk().ok_or_else(wrong)?;
        let len = usize::try_from(u64::from_le_bytes(*len)).map_err(|_| wrong())?;
        if shape.written_bytes(len) != 8 + bytes.len() as u64 {
            return Err(wrong());
        }
        let mut cache = Self::new(shape);
        let block_bytes = shape.block_bytes();
        cache.reserve(len)?;
        let mut chunks = bytes.chunks_exact(block_bytes);
        for block in cache.layers.iter_mut().flatten() {
            let block = Arc::get_mut(block).expect("the cache is new and has no clone");
            block[..block_bytes].copy_from_slice(chunks.next().expect("the size was checked"));
        }
        cache.len = len;
        Ok(cache)
    }
}

/// Stores a head's elements at their place, rounded to the cache's type.
fn store(shape: &CacheShape, part: &mut [u8], x: &[f32], place: Place) {
    let dim = shape.padded_dim();
    let mut put = |at: usize, bytes: &[u8]| part[at..at + bytes.len()].copy_from_slice(bytes);
    match shape.cache_type {
        CacheType::F16 => {
            for (c, x) in x.chunks(LANES).enumerate() {
                let mut halves = [f16::ZERO; LANES];
                halves[..x.len()].convert_from_f32_slice(x);
                for (i, half) in halves[..x.len()].iter().enumerate() {
                    put(2 * place.element(dim, c * LANES + i), &half.to_le_bytes());
                }
            }
        }
        CacheType::F32 => {
            for (d, &x) in x.iter().enumerate() {
                put(4 * place.element(dim, d), &x.to_le_bytes());
            }
        }
        CacheType::Q8 => {
            for (g, x) in x.chunks(SCALED).enumerate() {
                // As integers the bits of absolute values order like them, NaN above all.
                let max = x.iter().map(|x| x.abs().to_bits()).fold(0, Ord::max);
                let scale = f32::from_bits(max) / 127.0;
                let inverse = if scale > 1e-30 && scale.is_finite() { 1.0 / scale } else { 0.0 };
                put(BLOCK * dim + 4 * place.scale(dim, g), &scale.to_le_bytes());
                for (i, &x) in x.iter().enumerate() {
                    let q = (x * inverse).round_ties_even().clamp(-127.0, 127.0) as i8;
                    put(place.element(dim, g * SCALED + i), &q.to_le_bytes());
                }
            }
        }
    }
}
