//! Work of many sessions, computed together: one forward pass at a time.

use std::time::Instant;

use super::{FinishReason, Generation, PROMPT_CHUNK, Piece, Reading, Session};
use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::model::{Batch, Model, Step, Want};

/// Members that are computed together; the others wait. Past this many rows a pass gains nothing
/// more, and each sequence holds a cache.
const MAX_ACTIVE: usize = 64;

/// Generations and readings that are computed together, and that join and leave between passes.
///
/// A pass computes the next token of every running text, and with the tokens that are left in its
/// budget the next parts of prompts: half of them for the one that has waited longest, the rest for
/// the shortest first. So no text waits longer than one pass for its next token, a short prompt does
/// not wait for a long one, and a long one is never left behind. Nothing depends on the company: each
/// gives the same bits as alone.
///
/// ```no_run
/// use halfbyte::generate::{Pool, Work};
/// use halfbyte::{GenerationConfig, Model};
///
/// # fn main() -> halfbyte::Result<()> {
/// let model = Model::open("groovy.gguf")?;
/// let mut pool = Pool::new(&model);
/// for prompt in ["Once upon a time", "The sun"] {
///     let generation = model.session().into_generation(prompt, &GenerationConfig::default())?;
///     pool.add(Work::Generation(generation))?;
/// }
/// while pool.n_running() > 0 {
///     for advance in pool.pass(None)? {
///         println!("{}: {:?}", advance.key, advance.piece);
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Pool<'a> {
    model: Model,
    /// In the order in which they came, and so by key.
    members: Vec<Member<'a>>,
    next_key: usize,
    pass_tokens: usize,
    /// Whether the last pass was cancelled.
    interrupted: bool,
}

#[derive(Debug)]
struct Member<'a> {
    key: usize,
    /// Whether it is left out of passes.
    is_held: bool,
    work: Box<Work<'a>>,
}

/// What a [`Pool`] computes.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "the pool keeps it in a box")]
pub enum Work<'a> {
    /// New text.
    Generation(Generation<'a>),
    /// Tokens that are only read.
    Reading(Reading),
}

/// A member's part of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// The member, as [`Pool::add`] named it.
    pub key: usize,
    /// Tokens of it in the pass, at most.
    pub n_tokens: usize,
}

/// What a pass brought a member.
#[derive(Debug)]
pub struct Advance {
    /// The member, as [`Pool::add`] named it.
    pub key: usize,
    /// The token that was drawn, once the prompt is read.
    pub piece: Option<Piece>,
    /// Whether it came to its end; [`Pool::remove`] gives it back.
    pub is_done: bool,
    /// What ended it before its time: [`Error::OutOfMemory`], where a token was drawn.
    pub error: Option<Error>,
}

impl Work<'_> {
    /// Whether there is more to compute.
    pub fn is_running(&self) -> bool {
        match self {
            Self::Generation(generation) => generation.is_running(),
            Self::Reading(reading) => reading.is_running(),
        }
    }

    /// Ends it as cancelled.
    fn stop(&mut self) {
        match self {
            Self::Generation(generation) => generation.stop(FinishReason::Cancelled),
            Self::Reading(reading) => reading.stop(),
        }
    }

    /// The session below, with the tokens so far.
    pub fn session(&self) -> &Session {
        match self {
            Self::Generation(generation) => generation.session(),
            Self::Reading(reading) => reading.session(),
        }
    }

    /// Tokens that a pass of its own would have.
    fn wanted(&self) -> usize {
        match self {
            Self::Generation(generation) => generation.left().min(PROMPT_CHUNK),
            Self::Reading(reading) => reading.left().min(reading.chunk()),
        }
    }

    fn step(&mut self, budget: usize) -> Step<'_> {
        match self {
            Self::Generation(generation) => generation.step(budget),
            Self::Reading(reading) => reading.step(budget),
        }
    }
}

impl<'a> Pool<'a> {
    /// An empty pool.
    pub fn new(model: &Model) -> Self {
        Self {
            model: model.clone(),
            members: Vec::new(),
            next_key: 0,
            pass_tokens: PROMPT_CHUNK,
            interrupted: false,
        }
    }

    /// Sets how many tokens one pass may have, at least 64: more use the weights better, fewer make
    /// the passes shorter. The default is [`PROMPT_CHUNK`].
    #[must_use]
    pub fn with_pass_tokens(self, n_tokens: usize) -> Self {
        Self { pass_tokens: n_tokens.max(MAX_ACTIVE), ..self }
    }

    /// Takes part from the next pass on; the key names it from now on, and is never used again.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a session of another model, unless it differs in its adapters only.
    pub fn add(&mut self, work: Work<'a>) -> Result<usize> {
        if !work.session().model().has_weights_of(&self.model) {
            return Err(Error::config("session", "belongs to another model than the pool"));
        }
        let key = self.next_key;
        self.next_key += 1;
        self.members.push(Member { key, is_held: false, work: Box::new(work) });
        Ok(key)
    }

    /// Members, whether they are done or not.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Members that have more to compute.
    pub fn n_running(&self) -> usize {
        self.members.iter().filter(|member| member.work.is_running()).count()
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The member with that key.
    pub fn get(&self, key: usize) -> Option<&Work<'a>> {
        self.position(key).map(|i| &*self.members[i].work)
    }

    /// Takes the member with that key out, done or not: it leaves the pool with what it has so far.
    pub fn remove(&mut self, key: usize) -> Option<Work<'a>> {
        self.position(key).map(|i| *self.members.remove(i).work)
    }

    /// Leaves the member with that key out of passes as long as it `is_held`: it waits for something,
    /// such as what its logits processor needs, and the others do not.
    pub fn hold(&mut self, key: usize, is_held: bool) {
        if let Some(i) = self.position(key) {
            self.members[i].is_held = is_held;
        }
    }

    fn position(&self, key: usize) -> Option<usize> {
        self.members.binary_search_by_key(&key, |member| member.key).ok()
    }

    /// Who takes part in the next pass; nobody, if there is nothing to do.
    ///
    /// After a pass that was cancelled, if texts run, only they do: whoever comes and goes with
    /// long prompts cannot keep the others from going on.
    pub fn plan(&self) -> Vec<Share> {
        let running = self.members.iter().filter(|member| member.work.is_running());
        let running = running.filter(|member| !member.is_held);
        let active: Vec<Share> = running
            .take(MAX_ACTIVE)
            .map(|member| Share { key: member.key, n_tokens: member.work.wanted() })
            .collect();
        let (mut shares, prompts): (Vec<_>, Vec<_>) =
            active.into_iter().partition(|share| share.n_tokens == 1);
        if !self.interrupted || shares.is_empty() {
            shares.extend(divide(prompts, self.pass_tokens - shares.len()));
        }
        shares.sort_unstable_by_key(|share| share.key);
        shares
    }

    /// Computes the [`plan`](Self::plan), and tells what became of those that took part.
    ///
    /// Members whose own brake is pulled end as cancelled before.
    ///
    /// # Errors
    ///
    /// [`Error::Cancelled`] if `cancel` was pulled, [`Error::OutOfMemory`]; then every member is as
    /// before, apart from those whose brake is pulled: they have ended, and no [`Advance`] says so.
    pub fn pass(&mut self, cancel: Option<&Cancel>) -> Result<Vec<Advance>> {
        let start = Instant::now();
        let mut advances = self.stop_cancelled();
        let plan = self.plan();
        if plan.is_empty() {
            return Ok(advances);
        }
        let members = self.members.iter_mut().filter_map(|member| {
            let i = plan.binary_search_by_key(&member.key, |share| share.key).ok()?;
            Some((member, plan[i].n_tokens))
        });
        let mut members: Vec<_> = members.collect();
        let steps = members.iter_mut().map(|(member, n)| member.work.step(*n)).collect();
        let mut batch = Batch { steps, cancel };
        let wants: Vec<_> = batch.steps.iter().map(|step| (step.want, step.tokens.len())).collect();
        self.interrupted = false;
        let outputs = self.model.decoder().forward(&mut batch).inspect_err(|error| {
            self.interrupted = matches!(error, Error::Cancelled);
        })?;
        let config = self.model.config();
        let (mut logits, mut hidden) = (&outputs.logits[..], &outputs.hidden[..]);
        for ((member, _), (want, n)) in members.iter_mut().zip(wants) {
            let (n_logits, n_hidden) = match want {
                Want::Nothing => (0, 0),
                Want::LastLogits => (1, 0),
                Want::AllLogits => (n, 0),
                Want::Hidden => (0, n),
            };
            let (own_logits, own_hidden);
            (own_logits, logits) = logits.split_at(n_logits * config.vocab_size);
            (own_hidden, hidden) = hidden.split_at(n_hidden * config.hidden_size);
            let (piece, error) = match member.take(own_logits, own_hidden, start) {
                Ok(piece) => (piece, None),
                Err(error) => {
                    member.work.stop();
                    (None, (!matches!(error, Error::Cancelled)).then_some(error))
                }
            };
            let is_done = !member.work.is_running();
            advances.push(Advance { key: member.key, piece, is_done, error });
        }
        Ok(advances)
    }

    /// Ends the members whose own brake is pulled.
    fn stop_cancelled(&mut self) -> Vec<Advance> {
        let mut stopped = Vec::new();
        for Member { key, work, .. } in self.members.iter_mut().filter(|m| m.work.is_running()) {
            if work.session().hooks.check().is_err() {
                work.stop();
                stopped.push(Advance { key: *key, piece: None, is_done: true, error: None });
            }
        }
        stopped
    }
}

impl Member<'_> {
    /// Takes what a pass that began at `start` gave for the member's step.
    ///
    /// # Errors
    ///
    /// [`Error::Cancelled`] if a processor pulled the brake, [`Error::OutOfMemory`]; no token is
    /// drawn then.
    fn take(&mut self, logits: &[f32], hidden: &[f32], start: Instant) -> Result<Option<Piece>> {
        match &mut *self.work {
            Work::Reading(reading) => reading.take(logits, hidden).map(|()| None),
            Work::Generation(generation) => {
                let piece = (!logits.is_empty()).then(|| generation.advance(logits));
                generation.book(start.elapsed());
                piece.transpose()
            }
        }
    }
}

/// Divides `budget` tokens among prompts, which come oldest first: half to the oldest, the rest to
/// the shortest first. Those that get none are left out.
fn divide(mut prompts: Vec<Share>, budget: usize) -> Vec<Share> {
    let Some(&oldest) = prompts.first() else { return prompts };
    let reserved = oldest.n_tokens.min(budget / 2);
    let mut left = budget - reserved;
    prompts.sort_by_key(|share| share.n_tokens);
    for share in &mut prompts {
        let own = if share.key == oldest.key { reserved } else { 0 };
        let more = (share.n_tokens - own).min(left);
        left -= more;
        share.n_tokens = own + more;
    }
    prompts.retain(|share| share.n_tokens > 0);
    prompts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_share_a_pass_so_that_none_waits_for_the_others() {
        // (what each prompt needs, oldest first; the budget; what each gets)
        let cases: [(&[usize], usize, &[usize]); 8] = [
            (&[], 100, &[]),
            (&[40], 100, &[40]),
            (&[264], 100, &[100]),
            (&[264, 10], 100, &[90, 10]),
            (&[264, 10, 264], 100, &[90, 10, 0]),
            (&[264, 200, 20], 100, &[50, 30, 20]),
            (&[30, 264, 264], 100, &[30, 70, 0]),
            (&[264, 2, 2, 2], 1, &[0, 1, 0, 0]),
        ];
        for (needs, budget, expected) in cases {
            let prompts = needs.iter().enumerate().map(|(key, &n_tokens)| Share { key, n_tokens });
            let mut found = vec![0; needs.len()];
            for share in divide(prompts.collect(), budget) {
                found[share.key] = share.n_tokens;
            }
            assert_eq!(found, expected, "{needs:?} of {budget}");
        }
    }
}
