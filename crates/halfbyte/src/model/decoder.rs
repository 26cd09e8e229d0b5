//! The forward pass, once for all decoder-only architectures.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::adapted;
use super::adapter::{self, Adapter, Site};
use super::architecture::{Mlp, Residual, Rotary};
use super::batch::{self, Batch, Outputs, Step};
use super::config::ModelConfig;
use super::weights::{Layer, Weights};
use super::workspace::Workspace;
use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::io::Checkpoint;
use crate::kernels::{Brake, Isa, Needs, Packed, Picked, Plain, Team, Threads, limits, zeroed};
use crate::nn::{
    Activated, Activation, AttentionShape, CacheShape, CacheType, KvCache, LowRankSet, NormWeights,
    Rope, attention,
};

/// A model's weights, ready to compute.
#[derive(Debug)]
pub struct Decoder {
    config: ModelConfig,
    weights: Weights,
    rope: Rope,
    threads: Threads,
    /// Workspaces of earlier passes, to be used again.
    spare: Mutex<Vec<Workspace>>,
}

impl Decoder {
    /// Packs the weights of `checkpoint`, calling `progress(done, total)` in bytes.
    ///
    /// `threads` defaults to the physical cores that this process may use.
    ///
    /// # Errors
    ///
    /// [`Error::MissingTensor`], [`Error::Shape`], [`Error::Config`], [`Error::OutOfMemory`].
    pub fn load(
        checkpoint: &Checkpoint,
        threads: Option<usize>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Self> {
        Self::load_on(Isa::choose()?, checkpoint, threads, progress)
    }

    /// As [`load`](Self::load), computing with the instruction set `isa`.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub fn load_on(
        isa: Isa,
        checkpoint: &Checkpoint,
        threads: Option<usize>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Self> {
        Self::load_until((isa, threads), checkpoint, None, progress)
    }

    /// As [`load_on`](Self::load_on), stopping between two layers once `cancel` is pulled.
    pub(super) fn load_until(
        (isa, threads): (Isa, Option<usize>),
        checkpoint: &Checkpoint,
        cancel: Option<&Cancel>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Self> {
        let config = ModelConfig::from_checkpoint(checkpoint)?;
        let threads = Threads::new(threads, isa)?;
        let weights = Weights::load(checkpoint, &config, &threads, cancel, progress)?;
        let rope = Rope::new(
            config.n_rot,
            config.rope_base,
            config.rope_linear_factor,
            config.rope_freq_factors.as_deref(),
            config.architecture.rotary == Rotary::Interleaved,
        );
        Ok(Self { config, weights, rope, threads, spare: Mutex::default() })
    }

    /// The model's numbers.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }
    /// Bytes of the packed weights in memory.
    pub fn packed_bytes(&self) -> usize {
        self.weights.n_bytes()
    }
    /// Bytes of packed weights that a pass over one token reads: all but the embedding.
    pub fn bytes_per_token(&self) -> usize {
        self.weights.bytes_per_token()
    }
    /// Multiplications and additions that a pass does in its matrices: for each new token, and for
    /// each row of logits.
    pub fn ops_per_token(&self) -> (u64, u64) {
        let head: u64 =
            self.weights.output.parts.iter().map(|(linear, _)| ops(linear.weight())).sum();
        (self.weights.matrices().map(ops).sum::<u64>() - head, head)
    }

    /// Reads the packed matrices once, as a pass over one token does, and computes nothing; returns
    /// how long that took. The limit of decoding.
    pub fn time_reading(&self) -> Duration {
        let parts: Vec<&[u8]> = self.weights.matrices().map(Packed::bytes).collect();
        self.threads.enter(|team| {
            let start = Instant::now();
            limits::read(team, &parts);
            start.elapsed()
        })
    }

    /// Multiplies int8 in registers for some milliseconds; returns operations per second. The limit
    /// of prompts.
    pub fn int8_ops_per_second(&self) -> f64 {
        self.threads.enter(|team| {
            let start = Instant::now();
            limits::multiply(team) as f64 / start.elapsed().as_secs_f64()
        })
    }

    /// The instruction set that computes.
    pub fn isa(&self) -> Isa {
        self.threads.isa()
    }
    /// Threads that compute.
    pub fn threads(&self) -> usize {
        self.threads.count()
    }

    /// An empty cache for this model. Memory is taken as tokens come.
    pub fn new_cache(&self, cache_type: CacheType) -> KvCache {
        KvCache::new(self.cache_shape(cache_type))
    }

    /// An empty cache whose tokens are read with `adapters`, each multiplied by its number.
    ///
    /// The adapters are packed when they are first used.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for an adapter of a model of another shape or a number that is not finite,
    /// [`Error::OutOfMemory`].
    pub fn new_cache_with(
        &self,
        cache_type: CacheType,
        adapters: &[(Adapter, f32)],
    ) -> Result<KvCache> {
        Ok(self.new_cache(cache_type).read_with(self.attach(adapters)?))
    }

    /// Makes `adapters` ready to be read with; `None` where there are none.
    pub(super) fn attach(&self, adapters: &[(Adapter, f32)]) -> Result<Option<Arc<LowRankSet>>> {
        let mut members = Vec::with_capacity(adapters.len());
        for (adapter, scale) in adapters {
            adapter.check_fits(&self.config)?;
            if !scale.is_finite() {
                return Err(Error::config("adapter scale", format!("{scale} is not finite")));
            }
            let packed = self.threads.install(|| adapter.packed(&self.config))?;
            members.push((packed, *scale));
        }
        Ok((!members.is_empty()).then(|| Arc::new(LowRankSet::new(members))))
    }

    /// Reads back what [`KvCache::to_bytes`] wrote for this model.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the bytes do not fit, [`Error::OutOfMemory`].
    pub fn cache_from_bytes(&self, cache_type: CacheType, bytes: &[u8]) -> Result<KvCache> {
        KvCache::from_bytes(self.cache_shape(cache_type), bytes)
    }

    fn cache_shape(&self, cache_type: CacheType) -> CacheShape {
        let ModelConfig { n_layers, n_kv_heads, head_dim, .. } = self.config;
        CacheShape { n_layers, n_kv_heads, head_dim, cache_type }
    }

    /// Computes one pass over all steps' new tokens.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a token outside the vocabulary, an empty step or another model's
    /// cache, [`Error::Cancelled`], [`Error::OutOfMemory`]; then every cache is as before.
    pub fn forward(&self, batch: &mut Batch<'_>) -> Result<Outputs> {
        for step in &mut batch.steps {
            if step.tokens.is_empty() {
                return Err(Error::config("tokens", "a step needs at least one"));
            }
            if *step.cache.shape() != self.cache_shape(step.cache.cache_type()) {
                return Err(Error::config("cache", "belongs to a model of another shape"));
            }
            if step.cache.adapters().is_some_and(|a| !a.fits(&adapter::shape(&self.config))) {
                return Err(Error::config("cache", "has adapters of a model of another shape"));
            }
            step.cache.reserve(step.tokens.len())?;
        }
        let mut space = self.lock_spare().pop().unwrap_or_default();
        let result = self.threads.enter(|team| self.pass(team, batch, &mut space));
        space.adapted.release();
        self.lock_spare().push(space);
        let outputs = result?;
        for step in &mut batch.steps {
            step.cache.advance(step.tokens.len());
        }
        Ok(outputs)
    }

    fn lock_spare(&self) -> std::sync::MutexGuard<'_, Vec<Workspace>> {
        // A panic elsewhere leaves the list whole: workspaces hold no state between passes.
        self.spare.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn pass(
        &self,
        team: &Team<'_>,
        batch: &mut Batch<'_>,
        space: &mut Workspace,
    ) -> Result<Outputs> {
        let brake = &Brake::new(batch.cancel);
        space.prepare(&self.config, &self.rope, &batch.steps)?;
        for step in &batch.steps {
            space.attention.reserve(team, step.cache.shape())?;
        }
        let rows = batch.steps.iter().flat_map(|step| step.tokens).copied().collect::<Vec<_>>();
        self.weights.embedding.rows(&rows, &mut space.hidden)?;
        for (i, layer) in self.weights.layers.iter().enumerate() {
            self.block((team, brake), (layer, i), batch, space)?;
            brake.check()?;
        }
        let outputs = self.outputs((team, brake), &batch.steps, space)?;
        brake.check()?;
        Ok(outputs)
    }

    /// One transformer block on all rows.
    fn block(
        &self,
        (team, brake): (&Team<'_>, &Brake<'_>),
        (layer, i): (&Layer, usize),
        batch: &mut Batch<'_>,
        space: &mut Workspace,
    ) -> Result<()> {
        let sequential = self.config.residual == Residual::Sequential;
        let mut needs = layer.qkv.needs();
        if layer.ffn_norm.is_none() {
            // One norm serves both branches.
            needs = needs | layer.up.needs();
        }
        self.norm(team, &layer.attn_norm, space, needs)?;
        let (qkv, _) = Workspace::attention(&mut space.inner, &space.places);
        layer.qkv.forward(team, brake, &mut space.x, qkv, false);
        let normed = layer.attn_norm.rows(&space.hidden, &space.stats);
        space.adapted.add((team, brake), Site::Qkv(i), &normed, (qkv, layer.qkv.n))?;
        if !sequential {
            // The feed-forward's input is the residual before attention adds to it.
            self.up((team, brake), (layer, i), space)?;
        }
        self.attend((team, brake), i, batch, space);
        let k = self.config.n_heads * self.config.head_dim;
        let (_, attended) = Workspace::attention(&mut space.inner, &space.places);
        let (rows, attended) = (attended.len() / k, Plain { x: attended, k });
        space.x.fill(team, &attended, (rows, k), layer.attn_output.needs())?;
        layer.attn_output.forward(team, brake, &mut space.x, &mut space.hidden, true);
        let out = (&mut space.hidden[..], self.config.hidden_size);
        space.adapted.add((team, brake), Site::AttnOutput(i), &attended, out)?;
        if sequential {
            self.up((team, brake), (layer, i), space)?;
        }
        self.down((team, brake), (layer, i), space)
    }

    /// Normalizes the residual stream into activations.
    fn norm(
        &self,
        team: &Team<'_>,
        weights: &NormWeights,
        space: &mut Workspace,
        needs: Needs,
    ) -> Result<()> {
        let k = self.config.hidden_size;
        weights.measure(team, &space.hidden, &mut space.stats)?;
        let rows = weights.rows(&space.hidden, &space.stats);
        space.x.fill(team, &rows, (space.hidden.len() / k, k), needs)
    }

    /// The feed-forward's first layers, after their own norm if they have one.
    fn up(
        &self,
        (team, brake): (&Team<'_>, &Brake<'_>),
        (layer, i): (&Layer, usize),
        space: &mut Workspace,
    ) -> Result<()> {
        if let Some(norm) = &layer.ffn_norm {
            self.norm(team, norm, space, layer.up.needs())?;
        }
        let up = &mut space.inner[space.places.up.clone()];
        layer.up.forward(team, brake, &mut space.x, up, false);
        let norm = layer.ffn_norm.as_ref().unwrap_or(&layer.attn_norm);
        let normed = norm.rows(&space.hidden, &space.stats);
        space.adapted.add((team, brake), Site::Up(i), &normed, (up, layer.up.n))
    }

    /// Rotates queries and keys, caches keys and values, attends; leaves the heads in `attended`.
    fn attend(
        &self,
        (team, brake): (&Team<'_>, &Brake<'_>),
        i: usize,
        batch: &mut Batch<'_>,
        space: &mut Workspace,
    ) {
        let ModelConfig { n_heads, n_kv_heads, head_dim: dim, .. } = self.config;
        let stride = (n_heads + 2 * n_kv_heads) * dim;
        let shape = AttentionShape { n_heads, scale: 1.0 / (dim as f32).sqrt() };
        let rotated = ((n_heads + n_kv_heads) * dim, dim);
        let (qkv, attended) = Workspace::attention(&mut space.inner, &space.places);
        self.rope.rotate(team, &space.rope, (qkv, stride), rotated);
        let mut row = 0;
        for step in &mut batch.steps {
            let (first, n) = (step.cache.len(), step.tokens.len());
            let qkv = &qkv[row * stride..][..n * stride];
            step.cache.write(team, i, (qkv, stride, n_heads * dim), n);
            let out = &mut attended[row * n_heads * dim..][..n * n_heads * dim];
            let out = (out, &mut space.attention);
            attention(team, brake, shape, (step.cache, i), (qkv, stride), first, out);
            row += n;
        }
    }

    /// Applies the nonlinearity to `up` and adds the down projection to the residual stream.
    fn down(
        &self,
        (team, brake): (&Team<'_>, &Brake<'_>),
        (layer, i): (&Layer, usize),
        space: &mut Workspace,
    ) -> Result<()> {
        let (width, stride) = (self.config.feed_forward, layer.up.n);
        let kind = match self.config.architecture.mlp {
            Mlp::GatedSilu => Activation::GatedSilu,
            Mlp::GeluTanh => Activation::GeluTanh,
            Mlp::GeluErf => Activation::GeluErf,
        };
        let up = &space.inner[space.places.up.clone()];
        let inner = Activated { kind, x: up, stride, width };
        space.x.fill(team, &inner, (up.len() / stride, width), layer.down.needs())?;
        layer.down.forward(team, brake, &mut space.x, &mut space.hidden, true);
        let out = (&mut space.hidden[..], self.config.hidden_size);
        space.adapted.add((team, brake), Site::Down(i), &inner, out)
    }

    /// The final norm, and the head for the rows that want logits.
    fn outputs(
        &self,
        (team, brake): (&Team<'_>, &Brake<'_>),
        steps: &[Step<'_>],
        space: &mut Workspace,
    ) -> Result<Outputs> {
        let width = self.config.hidden_size;
        let weights = &self.weights;
        let (for_hidden, for_logits) = batch::wanted_rows(steps);
        let mut hidden = zeroed(for_hidden.len() * width)?;
        weights.output_norm.measure(team, &space.hidden, &mut space.stats)?;
        let normed = weights.output_norm.rows(&space.hidden, &space.stats);
        normed.write(team, &for_hidden, &mut hidden);
        let mut logits = zeroed(for_logits.len() * weights.output.n)?;
        if !for_logits.is_empty() {
            let picked = Picked { source: &normed, rows: &for_logits };
            space.x.fill(team, &picked, (for_logits.len(), width), weights.output.needs())?;
            weights.output.forward(team, brake, &mut space.x, &mut logits, false);
            let runs = adapted::runs(steps, |step| step.n_logits());
            let out = (&mut logits[..], weights.output.n);
            space.adapted.add_to(&runs, (team, brake), Site::Head, &picked, out)?;
        }
        Ok(Outputs { logits, hidden })
    }
}

/// Operations of one token's product with `w`.
fn ops(w: &Packed) -> u64 {
    2 * w.n() as u64 * w.k() as u64
}
