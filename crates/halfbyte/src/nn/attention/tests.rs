//! Attention against f64, and against itself: one sequence of operations for every split.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::{AttentionShape, Bias, Scratch, Sight, attention};
use crate::kernels::{Brake, Isa, Threads};
use crate::nn::block_cache::{BlockCache, CacheShape, CacheType};

/// Heads, key/value heads, elements of a head.
const SHAPES: &[(usize, usize, usize)] =
    &[(3, 3, 64), (8, 1, 40), (12, 2, 128), (2, 1, 8), (3, 3, 80)];
/// Tokens of the sequence: more than two blocks of keys.
const TOKENS: usize = 150;

/// What a token sees.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Seen {
    Past,
    /// With something added by distance.
    BiasedPast,
    /// The same, and all keys.
    BiasedAll,
}

const SEEN: [Seen; 3] = [Seen::Past, Seen::BiasedPast, Seen::BiasedAll];

struct Case {
    seen: Seen,
    heads: usize,
    shape: CacheShape,
    /// (TOKENS, stride): queries, keys, values.
    qkv: Vec<f32>,
    /// (heads, 2·TOKENS − 1).
    bias: Vec<f32>,
}

impl Case {
    fn new(
        (heads, n_kv_heads, head_dim): (usize, usize, usize),
        cache_type: CacheType,
        seen: Seen,
    ) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let shape = CacheShape { n_layers: 1, n_kv_heads, head_dim, cache_type };
        let len = TOKENS * (heads + 2 * n_kv_heads) * head_dim;
        let mut draw = |n| (0..n).map(|_| rng.next_u32().cast_signed() as f32 / 1e9).collect();
        let (qkv, bias) = (draw(len), draw(heads * (2 * TOKENS - 1)));
        Self { seen, heads, shape, qkv, bias }
    }

    fn stride(&self) -> usize {
        (self.heads + 2 * self.shape.n_kv_heads) * self.shape.head_dim
    }

    fn scale(&self) -> f32 {
        1.0 / (self.shape.head_dim as f32).sqrt()
    }

    fn sight(&self, first: usize) -> Sight<'_> {
        let bias = Bias { table: &self.bias, stride: 2 * TOKENS - 1, zero: TOKENS - 1 };
        match self.seen {
            Seen::Past => Sight::Past { first, bias: None },
            Seen::BiasedPast => Sight::Past { first, bias: Some(bias) },
            Seen::BiasedAll => Sight::All { n_keys: TOKENS, bias: Some(bias) },
        }
    }

    /// The outputs of all tokens, `step` at a time.
    fn run(&self, isa: Isa, threads: usize, step: usize) -> Vec<f32> {
        let (width, stride) = (self.heads * self.shape.head_dim, self.stride());
        let mut cache = BlockCache::new(self.shape);
        let mut out = vec![f32::NAN; TOKENS * width];
        let mut scratch = Scratch::default();
        let shape = AttentionShape { n_heads: self.heads, scale: self.scale() };
        Threads::new(Some(threads), isa).unwrap().enter(|team| {
            scratch.reserve(team, &self.shape).unwrap();
            let rows = self.qkv.chunks(step * stride).zip(out.chunks_mut(step * width));
            for (qkv, out) in rows {
                let (first, n) = (cache.len(), qkv.len() / stride);
                cache.reserve(n).unwrap();
                cache.write(team, 0, (qkv, stride, width), n);
                let rows = (qkv, stride);
                let brake = Brake::none();
                let sight = self.sight(first);
                attention(team, &brake, shape, (&cache, 0), rows, sight, (out, &mut scratch));
                cache.advance(n);
            }
        });
        out
    }

    /// Element by element in f64, without rounding keys and values.
    fn expected(&self) -> Vec<f64> {
        let (dim, group) = (self.shape.head_dim, self.heads / self.shape.n_kv_heads);
        let head = |token: usize, i: usize| &self.qkv[token * self.stride() + i * dim..][..dim];
        let mut out = Vec::new();
        for token in 0..TOKENS {
            for h in 0..self.heads {
                let (k, v) =
                    (self.heads + h / group, self.heads + self.shape.n_kv_heads + h / group);
                let score = |j: usize| {
                    let products = head(token, h).iter().zip(head(j, k));
                    let sum: f64 = products.map(|(q, k)| f64::from(*q) * f64::from(*k)).sum();
                    let place = h * (2 * TOKENS - 1) + TOKENS - 1 + j - token;
                    let bias = if self.seen == Seen::Past { 0.0 } else { self.bias[place] };
                    (sum * f64::from(self.scale()) + f64::from(bias)).exp()
                };
                let n_keys = if self.seen == Seen::BiasedAll { TOKENS } else { token + 1 };
                let weights: Vec<f64> = (0..n_keys).map(score).collect();
                let total: f64 = weights.iter().sum();
                out.extend((0..dim).map(|d| {
                    let terms = weights.iter().enumerate();
                    terms.map(|(j, w)| w * f64::from(head(j, v)[d])).sum::<f64>() / total
                }));
            }
        }
        out
    }
}

#[test]
fn attention_is_what_the_formula_says() {
    let isa = *Isa::available().last().unwrap();
    for (&shape, seen) in SHAPES.iter().flat_map(|shape| SEEN.map(|seen| (shape, seen))) {
        for (cache_type, tolerance) in
            [(CacheType::F32, 1e-5), (CacheType::F16, 5e-3), (CacheType::Q8, 5e-2)]
        {
            let case = Case::new(shape, cache_type, seen);
            let found = case.run(isa, 2, TOKENS);
            for (i, (found, expected)) in found.iter().zip(case.expected()).enumerate() {
                let error = (f64::from(*found) - expected).abs();
                let row = format!("{shape:?} {cache_type:?} {seen:?} {i}");
                assert!(error < tolerance, "{row}: {found} for {expected}");
            }
        }
    }
}

#[test]
fn a_broken_key_shows_in_every_token_that_sees_it() {
    const BROKEN: usize = 70;
    let isa = *Isa::available().last().unwrap();
    for &shape in SHAPES {
        let mut case = Case::new(shape, CacheType::F16, Seen::Past);
        let (stride, key) = (case.stride(), case.heads * case.shape.head_dim);
        case.qkv[BROKEN * stride + key..][..case.shape.head_dim].fill(f32::NAN);
        for step in [TOKENS, 1] {
            let out = case.run(isa, 2, step);
            // The first key/value head serves the first query head.
            for (token, row) in out.chunks_exact(case.heads * case.shape.head_dim).enumerate() {
                let broken = row[..case.shape.head_dim].iter().all(|x| x.is_nan());
                assert_eq!(broken, token >= BROKEN, "{shape:?}, token {token} in steps of {step}");
                assert!(token >= BROKEN || row.iter().all(|x| x.is_finite()), "token {token}");
            }
        }
    }
}

#[test]
fn every_split_team_and_instruction_set_gives_the_same_bits() {
    for (&shape, seen) in SHAPES.iter().flat_map(|shape| SEEN.map(|seen| (shape, seen))) {
        for cache_type in [CacheType::F32, CacheType::F16, CacheType::Q8] {
            let case = Case::new(shape, cache_type, seen);
            let cuts: &[(usize, usize)] = match seen {
                Seen::Past => &[(1, TOKENS), (3, 64), (2, 7), (8, 2)],
                Seen::BiasedPast => &[(3, 64), (2, 7)],
                // Later queries would look for keys that are not there yet.
                Seen::BiasedAll => &[(3, TOKENS)],
            };
            let step = if seen == Seen::BiasedAll { TOKENS } else { 1 };
            let expected = case.run(Isa::available()[0], 1, step);
            for isa in Isa::available() {
                for &(threads, step) in cuts {
                    let found = case.run(isa, threads, step);
                    let row = format!("{} {threads} {step} {cache_type:?} {seen:?}", isa.name());
                    assert!(found == expected, "{row}");
                }
            }
        }
    }
}
