//! The part of a forward pass that only encoder-decoder models have: reading prompts.

use std::sync::Arc;

use super::batch::{Batch, Outputs, Rows, Seq, Step, Want};
use super::cache::Encoded;
use super::decoder::Decoder;
use super::weights::{Cross, Encoder};
use super::workspace::Workspace;
use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::kernels::{Brake, Needs, Team, zeroed};
use crate::nn::{BiasTable, BlockCache, CacheShape, CacheType, Sight, attention};

/// What one step of an encoder-decoder model comes to.
struct Plan {
    /// New tokens that belong to the prompt.
    n_prompt: usize,
    /// Where the prompt ends, if that is known by now.
    end: Option<usize>,
    /// What the decoder reads.
    tokens: Vec<u32>,
}

impl Plan {
    fn new(step: &Step<'_>, start_token: u32) -> Result<Self> {
        let refuse =
            |what: &str| Err(Error::config("tokens", format!("an encoder-decoder model {what}")));
        let (first, n) = (step.cache.len(), step.tokens.len());
        let n_wanted = step.want.n_logits(n);
        let known = step.cache.prompt_len();
        let end = known.or_else(|| (n_wanted > 0).then_some(first + n));
        let n_prompt = end.map_or(n, |end| end.saturating_sub(first).min(n));
        let mut tokens = step.tokens[n_prompt..].to_vec();
        if n_prompt > 0 && end == Some(first + n_prompt) {
            tokens.insert(0, start_token);
        }
        if step.want == Want::Hidden && (first > 0 || known.is_some()) {
            return refuse(
                "gives hidden states of a whole prompt, in one step, and of nothing else",
            );
        }
        if n_wanted > tokens.len() {
            return refuse("gives no logits within its prompt: score answers to a prompt");
        }
        Ok(Self { n_prompt, end, tokens })
    }
}

impl Decoder {
    /// [`forward`](Self::forward) of an encoder-decoder model.
    pub(super) fn forward_encoded(&self, batch: &mut Batch<'_>) -> Result<Outputs> {
        let start = self.config.encoder.as_ref().map_or(0, |encoder| encoder.start_token);
        let plans = batch.steps.iter().map(|step| Plan::new(step, start));
        let plans = plans.collect::<Result<Vec<_>>>()?;
        let mut hidden = Vec::new();
        for (step, plan) in batch.steps.iter_mut().zip(&plans) {
            self.read_prompt(step, plan, batch.cancel, &mut hidden)?;
        }
        let mut tokens = Vec::new();
        let mut seqs = Vec::new();
        for (step, plan) in batch.steps.iter_mut().zip(&plans) {
            if plan.tokens.is_empty() {
                continue;
            }
            tokens.extend_from_slice(&plan.tokens);
            let read = step.cache.prompt.as_ref().and_then(|prompt| prompt.read.as_deref());
            seqs.push(Seq {
                cache: &mut step.cache.own,
                n: plan.tokens.len(),
                want: step.want,
                prompt: read.map(|encoded| &encoded.keys),
            });
        }
        let mut outputs = if seqs.is_empty() {
            Outputs::default()
        } else {
            self.decode(&tokens, &mut seqs, batch.cancel)?
        };
        for (step, plan) in batch.steps.iter_mut().zip(&plans) {
            if let Some(prompt) = &mut step.cache.prompt {
                prompt.tokens.extend_from_slice(&step.tokens[..plan.n_prompt]);
                prompt.end = plan.end;
            }
        }
        outputs.hidden = hidden;
        Ok(outputs)
    }

    /// Makes sure that the cache has what the encoder makes of its prompt, if the step needs it.
    fn read_prompt(
        &self,
        step: &mut Step<'_>,
        plan: &Plan,
        cancel: Option<&Cancel>,
        hidden: &mut Vec<f32>,
    ) -> Result<()> {
        let (Some(encoder), Some(prompt)) = (&self.weights.encoder, &mut step.cache.prompt) else {
            return Ok(());
        };
        let wants_hidden = step.want == Want::Hidden;
        if plan.tokens.is_empty() && !wants_hidden {
            return Ok(());
        }
        let tokens = [&prompt.tokens, &step.tokens[..plan.n_prompt]].concat();
        let is_read = prompt.read.as_ref().is_some_and(|encoded| encoded.tokens == tokens);
        if is_read && !wants_hidden {
            return Ok(());
        }
        let shape = *step.cache.own.shape();
        let hidden = wants_hidden.then_some(hidden);
        let keys = self.with_space(|team, space| {
            let brake = &Brake::new(cancel);
            self.encode((team, brake), encoder, (&tokens, shape), hidden, space)
        })?;
        prompt.read = Some(Arc::new(Encoded { tokens, keys }));
        Ok(())
    }

    /// Reads a whole prompt: its keys and values for the decoder's blocks, in a cache of `shape`;
    /// its last hidden states are appended to `hidden`, (S, E).
    fn encode(
        &self,
        (team, brake): (&Team<'_>, &Brake<'_>),
        encoder: &Encoder,
        (tokens, shape): (&[u32], CacheShape),
        hidden: Option<&mut Vec<f32>>,
        space: &mut Workspace,
    ) -> Result<BlockCache> {
        let (n, width) = (tokens.len(), self.config.hidden_size);
        // The blocks take turns with one layer's keys and values: nobody looks at them later.
        let mut own =
            BlockCache::new(CacheShape { n_layers: 1, cache_type: CacheType::F32, ..shape });
        own.reserve(n)?;
        let mut seqs = [Seq { cache: &mut own, n, want: Want::Nothing, prompt: None }];
        space.prepare(&self.config, &self.rope, &seqs)?;
        space.attention.reserve(team, seqs[0].cache.shape())?;
        space.attention.reserve(team, &shape)?;
        let mut table = BiasTable::default();
        let bias = Some(encoder.bias.fill(n, &mut table)?);
        let rows = &mut Rows { seqs: &mut seqs, both_ways: true, bias };
        self.weights.embedding.rows(tokens, &mut space.hidden)?;
        for layer in &encoder.layers {
            self.block((team, brake), (layer, 0), rows, space)?;
            brake.check()?;
        }
        encoder.norm.measure(team, &space.hidden, &mut space.stats)?;
        let normed = encoder.norm.rows(&space.hidden, &space.stats);
        if let Some(hidden) = hidden {
            let mut states = zeroed(n * width)?;
            normed.write(team, &(0..n).collect::<Vec<_>>(), &mut states);
            hidden.append(&mut states);
        }
        let crosses = || self.weights.layers.iter().filter_map(|layer| layer.cross.as_ref());
        let needs = crosses().fold(Needs::default(), |needs, cross| needs | cross.kv.needs());
        space.x.fill(team, &normed, (n, width), needs)?;
        let mut keys = BlockCache::new(shape);
        keys.reserve(n)?;
        for (i, cross) in crosses().enumerate() {
            let kv = &mut space.inner[..n * cross.kv.n];
            cross.kv.forward(team, brake, &mut space.x, kv, false);
            keys.write(team, i, (kv, cross.kv.n, 0), n);
            brake.check()?;
        }
        keys.advance(n);
        Ok(keys)
    }

    /// Attends to the prompts that an encoder read.
    pub(super) fn look(
        &self,
        (team, brake): (&Team<'_>, &Brake<'_>),
        (cross, i): (&Cross, usize),
        seqs: &[Seq<'_>],
        space: &mut Workspace,
    ) -> Result<()> {
        self.norm(team, &cross.norm, space, cross.q.needs())?;
        let stride = cross.q.n;
        let (q, attended) = Workspace::attention(&mut space.inner, &space.places);
        let q = &mut q[..attended.len()];
        cross.q.forward(team, brake, &mut space.x, q, false);
        let mut row = 0;
        for seq in seqs {
            let out = &mut attended[row * stride..][..seq.n * stride];
            if let Some(prompt) = seq.prompt {
                let sight = Sight::All { n_keys: prompt.len(), bias: None };
                let (q, out) = ((&q[row * stride..], stride), (out, &mut space.attention));
                attention(team, brake, self.attention_shape(), (prompt, i), q, sight, out);
            }
            row += seq.n;
        }
        self.add_attended((team, brake), (&cross.output, None), space)
    }
}
