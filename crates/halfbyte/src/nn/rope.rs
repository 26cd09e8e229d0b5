//! Rotary position embedding.

use crate::kernels::{Brake, LANES, Lanes, Op, Team, load_padded, store_prefix};

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

    /// Turns the heads in the first `width` columns of each row of `rows`, (T, stride), by the
    /// positions' `tables`, (T, [`table_len`](Self::table_len)).
    pub(crate) fn rotate(
        &self,
        team: &Team<'_>,
        tables: &[f32],
        (rows, stride): (&mut [f32], usize),
        (width, head_dim): (usize, usize),
    ) {
        if self.frequencies.is_empty() {
            return;
        }
        team.each_chunk(rows, stride, &Brake::none(), |t, row| {
            let table = &tables[t * self.table_len()..][..self.table_len()];
            team.isa().run(Rotate { rope: self, table, heads: &mut row[..width], head_dim });
        });
    }
}

/// Turns the first `n_rot` elements of each head of one token.
struct Rotate<'a> {
    rope: &'a Rope,
    table: &'a [f32],
    heads: &'a mut [f32],
    head_dim: usize,
}

impl Op for Rotate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, isa: L) {
        let half = self.rope.frequencies.len();
        let (cos, sin) = self.table.split_at(half);
        for head in self.heads.chunks_exact_mut(self.head_dim) {
            for i in (0..half).step_by(LANES) {
                let n = LANES.min(half - i);
                let angle = (load_padded(isa, &cos[i..], 0.0), load_padded(isa, &sin[i..], 0.0));
                if self.rope.interleaved {
                    let (pairs, _) = head[2 * i..2 * (i + n)].as_chunks_mut::<2>();
                    let (mut x, mut y) = ([0.0; LANES], [0.0; LANES]);
                    for (j, pair) in pairs.iter().enumerate() {
                        [x[j], y[j]] = *pair;
                    }
                    let turned = turn(isa, isa.load(&x), isa.load(&y), angle);
                    isa.store(turned[0], &mut x);
                    isa.store(turned[1], &mut y);
                    for (j, pair) in pairs.iter_mut().enumerate() {
                        *pair = [x[j], y[j]];
                    }
                } else {
                    let (low, high) = head.split_at_mut(half);
                    let (low, high) = (&mut low[i..i + n], &mut high[i..i + n]);
                    let (x, y) = (load_padded(isa, low, 0.0), load_padded(isa, high, 0.0));
                    let turned = turn(isa, x, y, angle);
                    store_prefix(isa, turned[0], low);
                    store_prefix(isa, turned[1], high);
                }
            }
        }
    }
}

/// `[x·cos − y·sin, x·sin + y·cos]`, the first product fused.
#[inline(always)]
fn turn<L: Lanes>(isa: L, x: L::F, y: L::F, (cos, sin): (L::F, L::F)) -> [L::F; 2] {
    let minus_sin = isa.mul(sin, isa.splat(-1.0));
    [isa.fma(x, cos, isa.mul(y, minus_sin)), isa.fma(x, sin, isa.mul(y, cos))]
}
