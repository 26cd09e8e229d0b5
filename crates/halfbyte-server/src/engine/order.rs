//! What a request asks of the scheduler, what it hears, and how it leaves.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use halfbyte::generate::{ScoredToken, Usage};
use halfbyte::{Cancel, GenerationConfig, Hooks, Piece};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::error::ApiError;
use crate::grammar::{Compiled, Grammar};

/// A request: jobs that come and go together.
#[derive(Debug)]
pub(crate) struct Order {
    pub(super) client: Arc<Client>,
    /// Jobs that have not begun, the next one last.
    pub(super) jobs: Vec<Job>,
    /// Whether others of its jobs have begun.
    pub(super) has_begun: bool,
    /// How often another request went first while this one was the next.
    pub(super) n_passed: u32,
}

/// A prompt and what becomes of it.
#[derive(Debug)]
pub(crate) struct Job {
    /// Which of the request's prompts this is.
    pub(crate) index: usize,
    /// The prompt, at least one token.
    pub(crate) tokens: Vec<u32>,
    pub(crate) task: Task,
}

/// What becomes of a prompt.
#[derive(Debug)]
pub(crate) enum Task {
    /// One answer or several; with the prompt's own scores and this many alternatives, if wanted.
    Write { choices: Vec<Choice>, score: Option<usize> },
    /// A vector.
    Embed,
}

/// One answer.
#[derive(Debug)]
pub(crate) struct Choice {
    /// Which of the request's answers this is.
    pub(crate) index: usize,
    /// What all answers to the request have in common.
    pub(crate) config: Arc<GenerationConfig>,
    pub(crate) seed: Option<u64>,
    pub(crate) grammar: Option<Arc<Compiled>>,
}

/// What a request hears.
#[derive(Debug)]
pub(crate) enum Event {
    /// The scores of a prompt's tokens but the first.
    Scores { job: usize, scores: Vec<ScoredToken> },
    /// A new token of an answer.
    Piece { index: usize, piece: Piece },
    /// Text of an answer that was held back when it was ended.
    Tail { index: usize, text: String },
    /// An answer came to its end.
    Done { index: usize, finish: &'static str, usage: Usage },
    /// A prompt's vector.
    Embedding { job: usize, vector: Vec<f32> },
    /// The request cannot be answered any further.
    Failed(ApiError),
}

/// The scheduler's side of a request. Only the scheduler has it: when the last copy goes, the
/// request hears that nobody comes any more.
#[derive(Debug)]
pub(crate) struct Client {
    presence: Arc<Presence>,
    events: UnboundedSender<Event>,
    pub(super) received: Instant,
    pub(super) deadline: Option<Instant>,
    heard: AtomicBool,
}

/// Whether whoever asked is still there.
#[derive(Debug, Default)]
pub(super) struct Presence {
    gone: AtomicBool,
    /// The brakes of its jobs, which a pass looks at.
    brakes: Mutex<Vec<Cancel>>,
}

/// A request's own side: what it hears, until it is dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    presence: Arc<Presence>,
    watch: Arc<PassWatch>,
    events: UnboundedReceiver<Event>,
}

/// Stops the pass that is being computed when most of it is for clients who have gone.
#[derive(Debug, Default)]
pub(super) struct PassWatch(Mutex<Option<Watched>>);

#[derive(Debug)]
struct Watched {
    brake: Cancel,
    shares: Vec<(Arc<Presence>, usize)>,
}

impl Order {
    pub(super) fn new(
        mut jobs: Vec<Job>,
        deadline: Option<Instant>,
        watch: &Arc<PassWatch>,
    ) -> (Self, Ticket) {
        let (sender, events) = unbounded_channel();
        let presence = Arc::new(Presence::default());
        let client = Arc::new(Client {
            presence: presence.clone(),
            events: sender,
            received: Instant::now(),
            deadline,
            heard: AtomicBool::new(false),
        });
        jobs.reverse();
        let ticket = Ticket { presence, watch: watch.clone(), events };
        (Self { client, jobs, has_begun: false, n_passed: 0 }, ticket)
    }
}

impl Choice {
    /// Its options, with its own seed.
    pub(super) fn config(&self) -> GenerationConfig {
        GenerationConfig { seed: self.seed, ..(*self.config).clone() }
    }
}

impl Job {
    /// Sequences that it becomes.
    pub(super) fn n_sequences(&self) -> usize {
        match &self.task {
            Task::Write { choices, .. } => choices.len().max(1),
            Task::Embed => 1,
        }
    }

    /// Tokens that its sequences hold, where they share the prompt and each answer has come to
    /// `most` tokens.
    pub(super) fn n_tokens(&self, context_length: usize, most: usize) -> usize {
        let prompt = self.tokens.len();
        let most = most.min(context_length.saturating_sub(prompt));
        let answers: usize = match &self.task {
            Task::Write { choices, .. } => {
                choices.iter().map(|choice| choice.config.max_new_tokens.min(most)).sum()
            }
            Task::Embed => 0,
        };
        prompt + answers
    }
}

impl Presence {
    fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }
}

impl Client {
    pub(super) fn is_gone(&self) -> bool {
        self.presence.is_gone()
    }

    pub(super) fn presence(&self) -> Arc<Presence> {
        self.presence.clone()
    }

    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| now >= deadline)
    }

    pub(super) fn tell(&self, event: Event) {
        // Nobody listens any more if the client has gone; the next pass leaves it out.
        drop(self.events.send(event));
    }

    /// Whether it hears a new token for the first time.
    pub(super) fn hears_first(&self) -> bool {
        !self.heard.swap(true, Ordering::Relaxed)
    }

    /// Whether it has heard a new token.
    pub(super) fn has_heard(&self) -> bool {
        self.heard.load(Ordering::Relaxed)
    }

    /// Hooks for one of its sequences: a brake, which its leaving pulls, and a grammar's processor,
    /// which pulls it, too.
    pub(super) fn hooks(&self, grammar: Option<&Arc<Grammar>>) -> Hooks {
        let brake = grammar.map_or_else(Cancel::new, |grammar| grammar.brake().clone());
        let mut brakes = self.presence.brakes.lock().unwrap_or_else(PoisonError::into_inner);
        brakes.push(brake.clone());
        drop(brakes);
        if self.is_gone() {
            brake.cancel();
        }
        let processor = grammar.map(|grammar| grammar.clone() as _);
        Hooks { cancel: Some(brake), processor, progress: None }
    }
}

impl Ticket {
    /// The next event; `None` if the scheduler is no more.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.presence.gone.store(true, Ordering::Relaxed);
        for brake in &*self.presence.brakes.lock().unwrap_or_else(PoisonError::into_inner) {
            brake.cancel();
        }
        self.watch.look();
    }
}

impl PassWatch {
    /// A pass begins, for these clients.
    pub(super) fn begin(&self, brake: &Cancel, shares: Vec<(Arc<Presence>, usize)>) {
        brake.reset();
        *self.lock() = Some(Watched { brake: brake.clone(), shares });
        self.look();
    }

    pub(super) fn end(&self) {
        *self.lock() = None;
    }

    /// Stops the pass if at least half of its tokens are for nobody.
    fn look(&self) {
        if let Some(watched) = &*self.lock() {
            let sum = |gone: bool| -> usize {
                let counted = watched.shares.iter().filter(|(who, _)| !gone || who.is_gone());
                counted.map(|(_, n_tokens)| n_tokens).sum()
            };
            if 2 * sum(true) >= sum(false) {
                watched.brake.cancel();
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Watched>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request's own side of a request that hears these events, and no more.
#[cfg(test)]
pub(crate) fn ticket_of(events: Vec<Event>) -> Ticket {
    let (order, ticket) = Order::new(Vec::new(), None, &Arc::new(PassWatch::default()));
    events.into_iter().for_each(|event| order.client.tell(event));
    ticket
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_stops_when_half_of_it_is_for_nobody() {
        for (shares, leaving, stops) in [
            (&[1usize, 1][..], &[0usize][..], true),
            (&[1, 1, 1], &[0], false),
            (&[1, 1, 1], &[0, 2], true),
            (&[1, 264], &[0], false),
            (&[1, 264], &[1], true),
        ] {
            let (watch, brake) = (Arc::new(PassWatch::default()), Cancel::new());
            let mut tickets: Vec<_> =
                shares.iter().map(|_| Some(Order::new(Vec::new(), None, &watch).1)).collect();
            let clients = tickets.iter().flatten().map(|ticket| ticket.presence.clone());
            watch.begin(&brake, clients.zip(shares.iter().copied()).collect());
            assert!(!brake.is_cancelled(), "nobody has gone");
            for &i in leaving {
                tickets[i] = None;
            }
            assert_eq!(brake.is_cancelled(), stops, "{shares:?} without {leaving:?}");
        }
    }

    #[test]
    fn who_waits_for_an_order_that_is_lost_hears_it() {
        let watch = Arc::new(PassWatch::default());
        let (order, mut ticket) = Order::new(Vec::new(), None, &watch);
        watch.begin(&Cancel::new(), vec![(order.client.presence(), 1)]);
        drop(order);
        assert!(ticket.events.blocking_recv().is_none());
    }
}
