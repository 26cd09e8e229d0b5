//! Random weights at the speed of the disk: real blocks, encoded once, shuffled for ever.
//!
//! Encoding 7 billion draws takes many minutes, and the result is only noise. So each pair of
//! encoding and spread gets a pool of 4096 blocks of N(0, σ²), encoded properly; a tensor's rows
//! are random sequences of those blocks. Every row is a valid, different row of normal weights.

use std::collections::HashMap;

use halfbyte::Result;
use halfbyte::quant::Encoding;
use rayon::prelude::*;

use super::plan::{Fill, Tensor};
use super::random::Stream;

/// Blocks in a pool: 2^12, so that one 64-bit draw picks five.
const POOL_BITS: u32 = 12;

/// Elements of a pool's block in an encoding that stores single numbers.
const FLAT_BLOCK: usize = 32;

/// Bytes that are made at once; large enough to share out among threads.
const CHUNK_BYTES: usize = 4 << 20;

/// Makes tensors of one model.
#[derive(Debug)]
pub(super) struct Generator {
    stream: Stream,
    pools: HashMap<(Encoding, usize), Pool>,
    /// What matrices of an encoding are made of, if not of normal weights.
    given: Option<(Encoding, Vec<u8>)>,
}

/// Encoded blocks of one encoding and spread.
#[derive(Debug)]
struct Pool {
    bytes: Vec<u8>,
    block_bytes: usize,
}

impl Generator {
    /// A generator whose output depends on `seed` only.
    pub(super) fn new(seed: u64) -> Self {
        Self { stream: Stream::new(seed), pools: HashMap::new(), given: None }
    }

    /// Makes matrices of `encoding` from these blocks.
    pub(super) fn draw_from(&mut self, encoding: Encoding, blocks: &[u8]) {
        self.given = Some((encoding, blocks.to_vec()));
    }

    /// Makes tensor number `index` and hands its bytes to `sink`, chunk after chunk.
    pub(super) fn write(
        &mut self,
        index: u64,
        tensor: &Tensor,
        sink: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let stream = self.stream.child(index);
        let (mean, deviation) = match tensor.fill {
            Fill::Matrix => return self.write_matrix(stream, tensor, sink),
            Fill::NormWeight => (1.0, 0.1),
            Fill::Bias => (0.0, 0.05),
        };
        let draws = (0..tensor.row_len() as u64).map(|i| mean + deviation * stream.normal(i));
        let bytes: Vec<u8> = draws.flat_map(f32::to_le_bytes).collect();
        sink(&bytes)
    }

    fn write_matrix(
        &mut self,
        stream: Stream,
        tensor: &Tensor,
        sink: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let pool = self.pool(tensor.encoding, tensor.row_len())?;
        let row_bytes = tensor.row_bytes();
        let chunk_rows = (CHUNK_BYTES / row_bytes).clamp(1, tensor.n_rows());
        let mut chunk = vec![0; chunk_rows * row_bytes];
        for first in (0..tensor.n_rows()).step_by(chunk_rows) {
            let n_rows = chunk_rows.min(tensor.n_rows() - first);
            let chunk = &mut chunk[..n_rows * row_bytes];
            chunk.par_chunks_mut(row_bytes).enumerate().for_each(|(i, row)| {
                pool.fill(stream.child((first + i) as u64), row);
            });
            sink(chunk)?;
        }
        Ok(())
    }

    /// The pool of N(0, 1/k) in `encoding`; made when first asked for.
    fn pool(&mut self, encoding: Encoding, k: usize) -> Result<&Pool> {
        let stream = self.stream.child(u64::MAX - k as u64);
        let given = self.given.as_ref().filter(|(given, _)| *given == encoding);
        match self.pools.entry((encoding, k)) {
            std::collections::hash_map::Entry::Occupied(entry) => Ok(entry.into_mut()),
            std::collections::hash_map::Entry::Vacant(entry) => {
                let pool = match given {
                    Some((_, blocks)) => Pool::of(encoding, blocks),
                    None => Pool::new(encoding, 1.0 / (k as f32).sqrt(), stream)?,
                };
                Ok(entry.insert(pool))
            }
        }
    }
}

impl Pool {
    fn new(encoding: Encoding, deviation: f32, stream: Stream) -> Result<Self> {
        let block_len = encoding.block_len().max(FLAT_BLOCK);
        let block_bytes = block_len / encoding.block_len() * encoding.block_bytes();
        let mut bytes = vec![0; block_bytes << POOL_BITS];
        bytes.par_chunks_mut(block_bytes).enumerate().try_for_each(|(block, out)| {
            let first = (block * block_len) as u64;
            let row: Vec<f32> =
                (0..block_len as u64).map(|i| deviation * stream.normal(first + i)).collect();
            encoding.encode(&row, out)
        })?;
        Ok(Self { bytes, block_bytes })
    }

    /// `blocks` over and over.
    fn of(encoding: Encoding, blocks: &[u8]) -> Self {
        let block_bytes = encoding.block_bytes();
        let bytes = blocks.iter().copied().cycle().take(block_bytes << POOL_BITS).collect();
        Self { bytes, block_bytes }
    }

    /// Fills `row` with blocks that `stream` picks.
    fn fill(&self, stream: Stream, row: &mut [u8]) {
        const PICKS: usize = (u64::BITS / POOL_BITS) as usize;
        for (i, blocks) in row.chunks_mut(PICKS * self.block_bytes).enumerate() {
            let mut draw = stream.at(i as u64);
            for block in blocks.chunks_mut(self.block_bytes) {
                let at = (draw % (1 << POOL_BITS)) as usize * self.block_bytes;
                block.copy_from_slice(&self.bytes[at..at + self.block_bytes]);
                draw >>= POOL_BITS;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::encodings;
    use super::super::plan::tensors;
    use super::super::shapes::Shape;
    use super::*;
    use halfbyte::QuantizeType;

    fn bytes_of(seed: u64, index: usize, kind: &str) -> (Encoding, Vec<u8>) {
        let shape = Shape::find("tiny-llama").unwrap();
        let kind = QuantizeType::from_name(kind).unwrap();
        let tensors = tensors(shape, &encodings(shape, kind));
        let mut bytes = Vec::new();
        let mut sink = |chunk: &[u8]| {
            bytes.extend_from_slice(chunk);
            Ok(())
        };
        Generator::new(seed).write(index as u64, &tensors[index], &mut sink).unwrap();
        assert_eq!(bytes.len(), tensors[index].n_bytes());
        (tensors[index].encoding, bytes)
    }

    #[test]
    fn a_seed_decides_every_byte() {
        assert_eq!(bytes_of(7, 0, "q4_0"), bytes_of(7, 0, "q4_0"));
        assert_ne!(bytes_of(7, 0, "q4_0").1, bytes_of(8, 0, "q4_0").1);
        assert_ne!(bytes_of(7, 2, "q4_0").1, bytes_of(7, 5, "q4_0").1);
    }

    #[test]
    fn weights_have_the_spread_of_a_trained_model() {
        // Tensor 0 is the embedding: rows of 256, so a deviation of 1/16.
        for name in ["f32", "f16", "q4_0", "q8_0", "q4_k_m"] {
            let (encoding, bytes) = bytes_of(1, 0, name);
            let mut decoded =
                vec![0.0; bytes.len() / encoding.block_bytes() * encoding.block_len()];
            encoding.decode(&bytes, &mut decoded);
            let squares: f64 = decoded.iter().map(|w| f64::from(*w).powi(2)).sum();
            let deviation = (squares / decoded.len() as f64).sqrt();
            assert!((deviation * 16.0 - 1.0).abs() < 0.02, "{name}: {deviation}");
        }
    }
}
