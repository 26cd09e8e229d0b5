//! A counter-based random source: any position can be asked for, so threads need no order.

/// One stream of random numbers, a pure function of its key and a position.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stream(u64);

impl Stream {
    /// The stream of that seed.
    pub(super) fn new(seed: u64) -> Self {
        Self(mix(seed))
    }

    /// An independent stream below this one.
    pub(super) fn child(self, index: u64) -> Self {
        Self(mix(self.0 ^ mix(index)))
    }

    /// The number at `position`, uniform over all 64 bits.
    pub(super) fn at(self, position: u64) -> u64 {
        mix(self.0.wrapping_add(position.wrapping_mul(GOLDEN)))
    }

    /// A draw from N(0, 1), cut off at 6.
    ///
    /// The sum of twelve uniform 16-bit numbers (Irwin–Hall): integers only, so that every system
    /// draws the same, which `ln` and `cos` would not promise.
    pub(super) fn normal(self, position: u64) -> f32 {
        let words = (0..3).map(|i| self.at(3 * position + i));
        let sum: u64 = words.flat_map(|w| [0, 16, 32, 48].map(|shift| (w >> shift) & 0xFFFF)).sum();
        (sum as f32 - 6.0 * 65535.0) / 65536.0
    }
}

/// 2^64 divided by the golden ratio: the step of `SplitMix64`.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// The output function of `SplitMix64`.
///
/// Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(GOLDEN);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mix_is_splitmix64() {
        // The first outputs for seed 0, as published with the reference implementation.
        assert_eq!(mix(0), 0xE220_A839_7B1D_CDAF);
        assert_eq!(mix(GOLDEN), 0x6E78_9E6A_A1B9_65F4);
    }

    #[test]
    fn normal_has_mean_zero_and_variance_one() {
        let stream = Stream::new(1);
        let draws: Vec<f64> = (0..100_000).map(|i| f64::from(stream.normal(i))).collect();
        let n = draws.len() as f64;
        let mean = draws.iter().sum::<f64>() / n;
        let variance = draws.iter().map(|x| x * x).sum::<f64>() / n - mean * mean;
        assert!(mean.abs() < 0.02, "mean {mean}");
        assert!((variance - 1.0).abs() < 0.02, "variance {variance}");
    }
}
