//! Relative positions: a learned bias for each head and class of distances.

use super::Bias;
use crate::error::Result;
use crate::kernels::resize;

/// The biases of an encoder's or a decoder's blocks.
///
/// Half of the classes are for single distances; the others widen by equal factors up to the
/// greatest distance. An encoder has each class twice, for keys before and after their query.
///
/// Source: C. Raffel et al., "Exploring the Limits of Transfer Learning with a Unified Text-to-Text
/// Transformer" (2019), arXiv:1910.10683, section 2.1.
#[derive(Debug)]
pub(crate) struct RelativeBias {
    /// (`n_buckets`, H).
    weight: Vec<f32>,
    n_heads: usize,
    n_buckets: usize,
    max_distance: usize,
    /// Whether keys may stand behind their query.
    both_ways: bool,
}

/// What a [`RelativeBias`] filled: whoever keeps it has it filled once.
#[derive(Debug, Default)]
pub(crate) struct BiasTable {
    /// (H, distances).
    values: Vec<f32>,
    /// The number of positions that it is for; 0 until it is whole.
    n: usize,
}

impl RelativeBias {
    /// # Panics
    ///
    /// If `weight` is not (`n_buckets`, `n_heads`).
    pub(crate) fn new(
        weight: Vec<f32>,
        n_heads: usize,
        (n_buckets, max_distance): (usize, usize),
        both_ways: bool,
    ) -> Self {
        assert_eq!(weight.len(), n_buckets * n_heads, "a bias for each bucket and head");
        Self { weight, n_heads, n_buckets, max_distance, both_ways }
    }

    /// Fills `table`, which no other bias has filled, for queries and keys at positions below `n`.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub(crate) fn fill<'t>(&self, n: usize, table: &'t mut BiasTable) -> Result<Bias<'t>> {
        let zero = n.saturating_sub(1);
        let stride = if self.both_ways { n + zero } else { n };
        let BiasTable { values, n: filled } = table;
        if *filled != n {
            *filled = 0;
            resize(values, self.n_heads * stride)?;
            for column in 0..stride {
                let bucket = self.bucket(column.abs_diff(zero), column > zero);
                for head in 0..self.n_heads {
                    values[head * stride + column] = self.weight[bucket * self.n_heads + head];
                }
            }
            *filled = n;
        }
        Ok(Bias { table: values, stride, zero })
    }

    /// The class of a key at that distance, before or behind its query.
    fn bucket(&self, distance: usize, is_behind: bool) -> usize {
        let n = if self.both_ways { self.n_buckets / 2 } else { self.n_buckets };
        let first = if is_behind { n } else { 0 };
        let single = n / 2;
        if distance < single {
            return first + distance;
        }
        // Rounded as transformers rounds: at whole powers the last bit decides.
        let log = |x: f64| libm::log(x) as f32;
        let part = log(f64::from(distance as f32 / single as f32))
            / log(self.max_distance as f64 / single as f64);
        first + (single + (part * (n - single) as f32) as usize).min(n - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Distances and classes by the formula of transformers, in numpy's f32: 32 buckets up to 128.
    #[test]
    fn buckets_are_those_of_transformers() {
        let bias = |both_ways| RelativeBias::new(vec![0.0; 32], 1, (32, 128), both_ways);
        let distances = [0, 1, 7, 8, 11, 12, 15, 16, 31, 32, 63, 64, 90, 91, 127, 128, 5000];
        let before = [0, 1, 7, 8, 8, 9, 9, 10, 11, 12, 13, 14, 14, 15, 15, 15, 15];
        let past = [0, 1, 7, 8, 11, 12, 15, 16, 21, 21, 26, 26, 29, 29, 31, 31, 31];
        for (i, &distance) in distances.iter().enumerate() {
            assert_eq!(bias(true).bucket(distance, false), before[i], "before {distance}");
            assert_eq!(bias(true).bucket(distance, true), before[i] + 16, "behind {distance}");
            assert_eq!(bias(false).bucket(distance, false), past[i], "past {distance}");
        }
    }

    #[test]
    fn a_table_has_each_heads_distances_in_order() {
        let weight: Vec<f32> = (0..16).map(|i| i as f32).collect();
        let mut table = BiasTable::default();
        let bias = RelativeBias::new(weight.clone(), 2, (8, 16), true);
        let Bias { table: found, stride, zero } = bias.fill(3, &mut table).unwrap();
        assert_eq!((stride, zero), (5, 2));
        // Distances −2 to 2 are buckets 2, 1, 0, 5, 6.
        assert_eq!(found, [4.0, 2.0, 0.0, 10.0, 12.0, 5.0, 3.0, 1.0, 11.0, 13.0]);
        let bias = RelativeBias::new(weight, 2, (8, 16), false);
        let mut table = BiasTable::default();
        for (n, expected) in [
            (2, &[2.0, 0.0, 3.0, 1.0][..]),
            (2, &[2.0, 0.0, 3.0, 1.0]),
            (3, &[4.0, 2.0, 0.0, 5.0, 3.0, 1.0]),
            (1, &[0.0, 1.0]),
        ] {
            assert_eq!(bias.fill(n, &mut table).unwrap().table, expected);
        }
    }
}
