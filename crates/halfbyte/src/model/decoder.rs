//! The forward pass, once for all architectures.

use std::sync::Mutex;

use super::adapter::{self, Site};
use super::architecture::{Mlp, Residual, Rotary};
use super::batch::{self, Batch, Outputs, Rows, Seq};
use super::cache::KvCache;
use super::config::ModelConfig;
use super::weights::{Layer, Stack, Weights};
use super::workspace::Workspace;
use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::io::Checkpoint;
use crate::kernels::{Brake, Isa, Needs, Picked, Plain, Team, Threads, zeroed};
use crate::nn::{
    Activated, Activation, AttentionShape, CacheShape, CacheType, NormWeights, Rope, Sight,
    attention,
};

/// Positions that a table of distances grows by.
const POSITIONS_AT_ONCE: usize = 128;

/// A model's weights, ready to compute.
#[derive(Debug)]
pub struct Decoder {
    pub(super) config: ModelConfig,
    pub(super) weights: Weights,
    pub(super) rope: Rope,
    pub(super) threads: Threads,
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
        let config = ModelConfig::from_checkpoint(checkpoint)?;
        Self::load_until((isa, threads), (checkpoint, config), None, progress)
    }

    /// As [`load_on`](Self::load_on) for a checkpoint's own `config`, stopping between two layers
    /// once `cancel` is pulled.
    pub(super) fn load_until(
        (isa, threads): (Isa, Option<usize>),
        (checkpoint, config): (&Checkpoint, ModelConfig),
        cancel: Option<&Cancel>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Self> {
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
        KvCache::new(self.cache_shape(cache_type), self.config.encoder.is_some())
    }

    /// Reads back what [`KvCache::to_bytes`] wrote for this model.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the bytes do not fit, [`Error::OutOfMemory`].
    pub fn cache_from_bytes(&self, cache_type: CacheType, bytes: &[u8]) -> Result<KvCache> {
        let has_prompt = self.config.encoder.is_some();
        KvCache::from_bytes(self.cache_shape(cache_type), has_prompt, bytes)
    }

    pub(super) fn cache_shape(&self, cache_type: CacheType) -> CacheShape {
        let ModelConfig { n_layers, n_kv_heads, head_dim, .. } = self.config;
        CacheShape { n_layers, n_kv_heads, head_dim, cache_type }
    }

    /// Computes one pass over all steps' new tokens.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a token outside the vocabulary, an empty step, another model's cache, or
    /// (see [`Step`](super::Step)) what an encoder-decoder model cannot give; [`Error::Cancelled`],
    /// [`Error::OutOfMemory`]; then every cache is as before.
    pub fn forward(&self, batch: &mut Batch<'_>) -> Result<Outputs> {
        for step in &batch.steps {
            if step.tokens.is_empty() {
                return Err(Error::config("tokens", "a step needs at least one"));
            }
            if *step.cache.shape() != self.cache_shape(step.cache.cache_type()) {
                return Err(Error::config("cache", "belongs to a model of another shape"));
            }
            if step.cache.adapters().is_some_and(|a| !a.fits(&adapter::shape(&self.config))) {
                return Err(Error::config("cache", "has adapters of a model of another shape"));
            }
        }
        if self.config.encoder.is_some() {
            return self.forward_encoded(batch);
        }
        let tokens: Vec<u32> = batch.steps.iter().flat_map(|step| step.tokens).copied().collect();
        let seqs = batch.steps.iter_mut().map(|step| Seq {
            cache: &mut step.cache.own,
            n: step.tokens.len(),
            want: step.want,
            prompt: None,
        });
        self.decode(&tokens, &mut seqs.collect::<Vec<_>>(), batch.cancel)
    }

    /// Computes one pass over the `tokens` of `seqs`.
    pub(super) fn decode(
        &self,
        tokens: &[u32],
        seqs: &mut [Seq<'_>],
        cancel: Option<&Cancel>,
    ) -> Result<Outputs> {
        for seq in seqs.iter_mut() {
            seq.cache.reserve(seq.n)?;
        }
        let work = |team: &Team<'_>, space: &mut Workspace| {
            self.pass((team, &Brake::new(cancel)), tokens, seqs, space)
        };
        let outputs = self.with_space(work)?;
        for seq in seqs {
            seq.cache.advance(seq.n);
        }
        Ok(outputs)
    }

    /// Runs `work` on all threads, with a workspace.
    pub(super) fn with_space<R: Send>(
        &self,
        work: impl FnOnce(&Team<'_>, &mut Workspace) -> R + Send,
    ) -> R {
        let mut space = self.lock_spare().pop().unwrap_or_default();
        let result = self.threads.enter(|team| work(team, &mut space));
        space.adapted.release();
        self.lock_spare().push(space);
        result
    }

    fn lock_spare(&self) -> std::sync::MutexGuard<'_, Vec<Workspace>> {
        // A panic elsewhere leaves the list whole: workspaces hold no state between passes.
        self.spare.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn pass(
        &self,
        (team, brake): (&Team<'_>, &Brake<'_>),
        tokens: &[u32],
        seqs: &mut [Seq<'_>],
        space: &mut Workspace,
    ) -> Result<Outputs> {
        space.prepare(&self.config, &self.rope, seqs)?;
        for seq in &*seqs {
            space.attention.reserve(team, seq.cache.shape())?;
        }
        let n_positions = seqs.iter().map(|seq| seq.cache.len() + seq.n).max().unwrap_or(0);
        // Room for more, so that the next passes find it filled.
        let n_positions = n_positions.next_multiple_of(POSITIONS_AT_ONCE);
        let mut table = std::mem::take(&mut space.bias);
        let bias = self.weights.bias.as_ref().map(|bias| bias.fill(n_positions, &mut table));
        let rows = &mut Rows { seqs, both_ways: false, bias: bias.transpose()? };
        self.weights.embedding.rows(tokens, &mut space.hidden)?;
        for (i, layer) in self.weights.layers.iter().enumerate() {
            self.block((team, brake), (layer, i), rows, space)?;
            brake.check()?;
        }
        let outputs = self.outputs((team, brake), rows.seqs, space)?;
        brake.check()?;
        space.bias = table;
        Ok(outputs)
    }

    /// One transformer block on all rows; its keys and values are layer `i` of the caches.
    pub(super) fn block(
        &self,
        (team, brake): (&Team<'_>, &Brake<'_>),
        (layer, i): (&Layer, usize),
        rows: &mut Rows<'_, '_>,
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
        self.attend((team, brake), i, rows, space);
        let site = Some(Site::AttnOutput(i));
        self.add_attended((team, brake), (&layer.attn_output, site), space)?;
        if let Some(cross) = &layer.cross {
            self.look((team, brake), (cross, i), rows.seqs, space)?;
        }
        if sequential {
            self.up((team, brake), (layer, i), space)?;
        }
        self.down((team, brake), (layer, i), space)
    }

    /// Adds what attention found, seen through `output` and adapters at `site`, to the residual
    /// stream.
    pub(super) fn add_attended(
        &self,
        (team, brake): (&Team<'_>, &Brake<'_>),
        (output, site): (&Stack, Option<Site>),
        space: &mut Workspace,
    ) -> Result<()> {
        let k = self.config.n_heads * self.config.head_dim;
        let (_, attended) = Workspace::attention(&mut space.inner, &space.places);
        let (rows, attended) = (attended.len() / k, Plain { x: attended, k });
        space.x.fill(team, &attended, (rows, k), output.needs())?;
        output.forward(team, brake, &mut space.x, &mut space.hidden, true);
        let out = (&mut space.hidden[..], self.config.hidden_size);
        site.map_or(Ok(()), |site| space.adapted.add((team, brake), site, &attended, out))
    }

    pub(super) fn attention_shape(&self) -> AttentionShape {
        let ModelConfig { n_heads, head_dim, architecture, .. } = self.config;
        let scale = if architecture.scales_scores { 1.0 / (head_dim as f32).sqrt() } else { 1.0 };
        AttentionShape { n_heads, scale }
    }

    /// Normalizes the residual stream into activations.
    pub(super) fn norm(
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
        rows: &mut Rows<'_, '_>,
        space: &mut Workspace,
    ) {
        let ModelConfig { n_heads, n_kv_heads, head_dim: dim, .. } = self.config;
        let stride = (n_heads + 2 * n_kv_heads) * dim;
        let rotated = ((n_heads + n_kv_heads) * dim, dim);
        let (qkv, attended) = Workspace::attention(&mut space.inner, &space.places);
        self.rope.rotate(team, &space.rope, (qkv, stride), rotated);
        let mut row = 0;
        let bias = rows.bias;
        for seq in rows.seqs.iter_mut() {
            let (first, n) = (seq.cache.len(), seq.n);
            let qkv = &qkv[row * stride..][..n * stride];
            seq.cache.write(team, i, (qkv, stride, n_heads * dim), n);
            let sight = if rows.both_ways {
                Sight::All { n_keys: n, bias }
            } else {
                Sight::Past { first, bias }
            };
            let out = &mut attended[row * n_heads * dim..][..n * n_heads * dim];
            let out = (out, &mut space.attention);
            let qkv = (qkv, stride);
            attention(team, brake, self.attention_shape(), (seq.cache, i), qkv, sight, out);
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
        let kind = match self.config.mlp {
            Mlp::GatedSilu => Activation::GatedSilu,
            Mlp::GatedGeluTanh => Activation::GatedGeluTanh,
            Mlp::Relu => Activation::Relu,
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
        seqs: &[Seq<'_>],
        space: &mut Workspace,
    ) -> Result<Outputs> {
        let width = self.config.hidden_size;
        let weights = &self.weights;
        let (for_hidden, for_logits) = batch::wanted_rows(seqs);
        let mut hidden = zeroed(for_hidden.len() * width)?;
        weights.output_norm.measure(team, &space.hidden, &mut space.stats)?;
        let normed = weights.output_norm.rows(&space.hidden, &space.stats);
        normed.write(team, &for_hidden, &mut hidden);
        let mut logits = zeroed(for_logits.len() * weights.output.n)?;
        if !for_logits.is_empty() {
            let picked = Picked { source: &normed, rows: &for_logits };
            space.x.fill(team, &picked, (for_logits.len(), width), weights.output.needs())?;
            weights.output.forward(team, brake, &mut space.x, &mut logits, false);
            space.adapted.prepare(seqs, |seq| seq.want.n_logits(seq.n));
            let out = (&mut logits[..], weights.output.n);
            space.adapted.add((team, brake), Site::Head, &picked, out)?;
        }
        Ok(Outputs { logits, hidden })
    }
}
