//! Rotary position embedding.

use crate::kernels::fma;

/// The rotation of one model: frequencies, and which elements of a head pair up.
///
/// Source: J. Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding" (2021),
/// arXiv:2104.09864.
#[derive(Debug)]
pub(crate) struct Rope {
    /// Radians per position, `n_rot / 2` of them.
    frequencies: Vec<f32>,
    /// Whether (2i, 2i + 1) turn together, or (i, i + `n_rot`/2).
    interleaved: bool,
}

impl Rope {
    /// Frequencies `base^(−2i/n_rot) / (factor[i] · linear_factor)` in f32, as transformers has them.
    pub(crate) fn new(
        n_rot: usize,
        base: f32,
        linear_factor: f32,
        factors: Option<&[f32]>,
        interleaved: bool,
    ) -> Self {
        let frequencies = (0..n_rot / 2)
            .map(|i| {
                let exponent = (2 * i) as f32 / n_rot as f32;
                let frequency = 1.0 / libm::pow(f64::from(base), f64::from(exponent)) as f32;
                frequency / factors.map_or(1.0, |f| f[i]) / linear_factor
            })
            .collect();
        Self { frequencies, interleaved }
    }

    /// Words of a position's table.
    pub(crate) fn table_len(&self) -> usize {
        2 * self.frequencies.len()
    }

    /// Writes cosines, then sines, of `position`'s angles.
    ///
    /// libm's f64 functions give the same bits on every platform.
    pub(crate) fn table(&self, position: usize, out: &mut [f32]) {
        let (cos, sin) = out.split_at_mut(self.frequencies.len());
        for (i, frequency) in self.frequencies.iter().enumerate() {
            let angle = f64::from(position as f32 * frequency);
            cos[i] = libm::cos(angle) as f32;
            sin[i] = libm::sin(angle) as f32;
        }
    }

    /// Turns the first `n_rot` elements of `head` by a position's `table`.
    pub(crate) fn rotate(&self, table: &[f32], head: &mut [f32]) {
        let half = self.frequencies.len();
        let (cos, sin) = table.split_at(half);
        for i in 0..half {
            let (a, b) = if self.interleaved { (2 * i, 2 * i + 1) } else { (i, i + half) };
            let (x, y) = (head[a], head[b]);
            head[a] = fma(x, cos[i], -(y * sin[i]));
            head[b] = fma(x, sin[i], y * cos[i]);
        }
    }
}
