use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};

use halfbyte::ModelOptions;
use halfbyte::generate::GenerationConfig;

use super::super::masks::N_THREADS;
use super::super::{Job, Ticket};
use super::*;
use crate::grammar::{Compiled, Grammars, Rules, Source};

/// A scheduler whose turns are taken by the test.
struct Turns {
    worker: Worker,
    watch: Arc<PassWatch>,
    _commands: Sender<Command>,
}

fn model() -> Model {
    let options = ModelOptions::default();
    Model::from_static_bytes(halfbyte_model::NAME, halfbyte_model::BYTES, &options)
        .expect("it opens")
}

impl Turns {
    fn new(model: &Model) -> Self {
        let limits =
            Limits { parallel: 4, queue: 4, cache_bytes: 1 << 30, pass_tokens: 264, timeout: None };
        let (commands, receiver) = channel();
        let (watch, metrics) = (Arc::new(PassWatch::default()), Arc::new(Metrics::default()));
        let worker = Worker::new(model.clone(), limits, receiver, watch.clone(), metrics);
        Self { worker: worker.expect("threads"), watch, _commands: commands }
    }

    /// Hands a job in, which begins.
    fn begin(&mut self, task: Task) -> Ticket {
        assert!(self.worker.metrics.queue(1, 4));
        let job = Job { index: 0, tokens: vec![1, 2, 3], task };
        let (order, ticket) = Order::new(vec![job], None, &self.watch);
        self.worker.queue.push(order);
        self.worker.admit();
        ticket
    }

    /// Tokens of the member, the prompt included.
    fn n_tokens(&self, key: usize) -> usize {
        self.worker.pool.get(key).map_or(0, |work| work.session().tokens().len())
    }

    /// Takes turns until everybody is done.
    fn finish(&mut self) {
        while !self.worker.active.is_empty() {
            self.worker.compute();
        }
    }
}

/// Eight tokens by chance.
fn answer(grammar: Option<Arc<Compiled>>) -> Task {
    let config =
        GenerationConfig { max_new_tokens: 8, ignore_eos: true, ..GenerationConfig::default() };
    let choice = Choice { index: 0, config: Arc::new(config), seed: Some(3), grammar };
    Task::Write { choices: vec![choice], score: None }
}

/// The text of an answer that is done.
fn text(mut ticket: Ticket) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut text = String::new();
    loop {
        match runtime.block_on(ticket.next()) {
            Some(Event::Piece { piece, .. }) => text.push_str(&piece.text),
            Some(Event::Tail { text: tail, .. }) => text.push_str(&tail),
            Some(Event::Done { .. }) => return text,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn who_was_served_when_a_mistake_happened_hears_it_and_others_are_served() {
    let mut turns = Turns::new(&model());
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    for fails in [true, false] {
        let mut ticket = turns.begin(Task::Embed);
        assert_eq!((turns.worker.active.len(), turns.worker.pool.len()), (1, 1));
        if fails {
            turns.worker.recover();
        } else {
            turns.worker.compute();
        }
        let event = runtime.block_on(ticket.next());
        assert_eq!(matches!(event, Some(Event::Failed(_))), fails, "{event:?}");
        assert!(turns.worker.active.is_empty() && turns.worker.pool.is_empty());
    }
}

#[test]
fn a_grammar_that_takes_long_keeps_only_its_own_answer_waiting() {
    let model = model();
    let grammars = Grammars::new(model.clone());
    let rules = Rules { param: "grammar", source: Source::Lark("start: /[a-z ]+/".to_owned()) };
    let grammar = grammars.compile(rules, 1).expect("a good grammar");
    let mut alone = Turns::new(&model);
    let ticket = alone.begin(answer(Some(grammar.clone())));
    alone.finish();
    let alone = text(ticket);
    assert!(!alone.is_empty() && alone.chars().all(|c| c == ' ' || c.is_ascii_lowercase()));

    let mut turns = Turns::new(&model);
    let (go, wait) = channel::<()>();
    let wait = Arc::new(Mutex::new(wait));
    for _ in 0..N_THREADS {
        let wait = wait.clone();
        turns.worker.masks.begin(move || drop(wait.lock().map(|wait| wait.recv())));
    }
    let held = turns.begin(answer(Some(grammar)));
    let free = turns.begin(answer(None));
    // The first token needs no thread: what it may be was found out when the grammar was compiled.
    turns.worker.compute();
    assert_eq!([turns.n_tokens(0), turns.n_tokens(1)], [4, 4]);
    for n in 5..8 {
        turns.worker.compute();
        assert_eq!([turns.n_tokens(0), turns.n_tokens(1)], [4, n], "one token in each pass");
    }
    drop(go);
    turns.finish();
    assert_eq!(text(held), alone, "the same bits");
    assert!(!text(free).is_empty());
}
