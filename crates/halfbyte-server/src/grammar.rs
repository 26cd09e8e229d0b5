//! Answers that follow a grammar or a JSON schema, by llguidance.
//!
//! Grammars come from strangers: their size, the steps and the memory of their parser and the time
//! to compile them are bounded.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use halfbyte::generate::LogitsProcessor;
use halfbyte::{Cancel, Model};
use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{ApproximateTokEnv, SimpleVob, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};
use serde_json::{Value, json};

use crate::error::{ApiError, ApiResult};

/// Bytes of a grammar or a schema; large published schemas have about 100 kB.
const MAX_SOURCE: usize = 256 << 10;

/// Bytes of it times the answers that follow it: each takes memory in proportion while it is written.
const MAX_SOURCES: usize = 8 << 20;

/// Time for compiling one. One that takes longer comes to its end unheard.
const TIME_LIMIT: Duration = Duration::from_secs(2);

/// Grammars that are compiled at a time, unheard ones included.
const MAX_COMPILING: usize = 4;

/// The compiler goes down by recursion, 128 levels of a schema at most. Only address space is taken.
const STACK_BYTES: usize = 256 << 20;

/// States of the lexer, of 1–2 kB each.
const MAX_LEXER_STATES: usize = 20_000;

/// What an answer must follow.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rules {
    /// The field of the request that says it.
    pub(crate) param: &'static str,
    pub(crate) source: Source,
}

/// How it is written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Source {
    /// A grammar in llguidance's variant of Lark.
    Lark(String),
    /// A JSON schema.
    Schema(Value),
}

/// Compiles grammars for one model's vocabulary.
pub(crate) struct Grammars {
    model: Model,
    /// Made when it is first needed: it takes a second and some MB for 100,000 tokens.
    factory: OnceLock<Result<Arc<ParserFactory>, String>>,
    /// One for each that is being compiled.
    compiling: Mutex<Vec<Weak<()>>>,
}

/// A grammar that all answers to a request share.
pub(crate) struct Compiled {
    param: &'static str,
    matcher: Mutex<Matcher>,
}

/// A grammar with its place in one answer.
///
/// What may follow depends on the tokens alone, so it can be found out beside a pass, by
/// [`prepare`](Self::prepare), before there are logits: in less than 0.2 ms for ordinary schemas and
/// any vocabulary, and in 50 ms for one of 500 alternatives. The parser's limits let no more than
/// 50,000 items and 14 ms of the lexer into one mask, but an ambiguous grammar (`s: s s | /[a-z ]/`)
/// takes 1.2 s for as many, and 0.9 s for going past a token (with GPT-J's 50,257, on two busy
/// processors).
pub(crate) struct Grammar {
    param: &'static str,
    state: Mutex<State>,
    /// Whether what may follow is known.
    is_ready: AtomicBool,
    brake: Cancel,
}

struct State {
    matcher: Matcher,
    /// Tokens, the prompt included, that the matcher has gone past.
    n_seen: Option<usize>,
    /// What may follow them, if that is known.
    next: Option<Result<SimpleVob, Outcome>>,
    outcome: Outcome,
}

/// How a grammar ended an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Not at all.
    Open,
    /// Nothing can follow.
    Complete,
    /// It could not be followed, for this reason.
    Failed(String),
}

impl Source {
    /// Its bytes, as text.
    fn size(&self) -> usize {
        match self {
            Self::Lark(text) => text.len(),
            Self::Schema(schema) => schema.to_string().len(),
        }
    }

    fn grammar(self) -> TopLevelGrammar {
        match self {
            Self::Lark(text) => TopLevelGrammar::from_lark(text),
            Self::Schema(mut schema) => {
                // Without this a model may write white space for ever.
                let style = json!({
                    "whitespace_flexible": false, "item_separator": ", ", "key_separator": ": ",
                });
                if let Some(object) = schema.as_object_mut() {
                    object.entry("x-guidance").or_insert(style);
                }
                TopLevelGrammar::from_json_schema(schema)
            }
        }
    }
}

impl Grammars {
    pub(crate) fn new(model: Model) -> Self {
        Self { model, factory: OnceLock::new(), compiling: Mutex::default() }
    }

    /// What says, as long as it lives, that a grammar is being compiled.
    fn begin(&self) -> ApiResult<Arc<()>> {
        let mut compiling = self.compiling.lock().unwrap_or_else(PoisonError::into_inner);
        compiling.retain(|one| one.strong_count() > 0);
        if compiling.len() >= MAX_COMPILING {
            return Err(ApiError::busy(TIME_LIMIT.as_secs()));
        }
        let one = Arc::new(());
        compiling.push(Arc::downgrade(&one));
        Ok(one)
    }

    /// Compiles `rules` for `n` answers; takes its time, up to [`TIME_LIMIT`].
    pub(crate) fn compile(&self, rules: Rules, n: usize) -> ApiResult<Arc<Compiled>> {
        let Rules { param, source } = rules;
        let size = source.size();
        if size > MAX_SOURCE {
            let reason = format!("{size} bytes are above the limit of {MAX_SOURCE}");
            return Err(ApiError::invalid(param, reason));
        }
        if size.saturating_mul(n) > MAX_SOURCES {
            let reason = format!(
                "{size} bytes for {n} answers are above the limit of {MAX_SOURCES} in all: ask for \
                 fewer answers in one request"
            );
            return Err(ApiError::invalid(param, reason));
        }
        let factory = self.factory.get_or_init(|| factory(&self.model));
        let factory = factory.clone().map_err(|reason| ApiError::invalid(param, reason))?;
        let (sender, receiver) = sync_channel(1);
        let one = self.begin()?;
        let work = move || {
            let _one = one;
            let mut matcher = Matcher::new(factory.create_parser(source.grammar()));
            // The first mask shows what a grammar costs, and whether anything can follow it.
            let mask = matcher.compute_mask().map_err(|error| first_line(&error.to_string()));
            let empty = mask.as_ref().is_ok_and(|mask| mask.is_zero());
            let matcher = match mask {
                Ok(_) if empty => Err("no answer can follow it".to_owned()),
                mask => mask.map(|_| matcher),
            };
            // Nobody listens any more if it took too long.
            drop(sender.send(matcher));
        };
        std::thread::Builder::new()
            .name("grammar".into())
            .stack_size(STACK_BYTES)
            .spawn(work)
            .map_err(|error| ApiError::internal(&error.to_string()))?;
        let matcher = match receiver.recv_timeout(TIME_LIMIT) {
            Ok(matcher) => matcher,
            Err(RecvTimeoutError::Timeout) => Err(format!("it takes more than {TIME_LIMIT:?}")),
            Err(RecvTimeoutError::Disconnected) => Err("it cannot be compiled".to_owned()),
        };
        let matcher = matcher.map_err(|reason| ApiError::invalid(param, reason))?;
        Ok(Arc::new(Compiled { param, matcher: Mutex::new(matcher) }))
    }
}

impl Compiled {
    /// The grammar at the beginning of an answer.
    pub(crate) fn start(&self) -> Arc<Grammar> {
        let matcher = self.matcher.lock().unwrap_or_else(PoisonError::into_inner).deep_clone();
        let state = State { matcher, n_seen: None, next: None, outcome: Outcome::Open };
        Arc::new(Grammar {
            param: self.param,
            state: Mutex::new(state),
            // Compiling has found out what may come first.
            is_ready: AtomicBool::new(true),
            brake: Cancel::new(),
        })
    }
}

/// Errors of llguidance go on with the parser's state.
fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().chars().take(500).collect()
}

fn factory(model: &Model) -> Result<Arc<ParserFactory>, String> {
    let tokenizer = model.tokenizer().map_err(|error| error.to_string())?;
    let vocab_size = model.config().vocab_size as u32;
    let ends: Vec<u32> = (0..vocab_size).filter(|&id| tokenizer.is_end(id)).collect();
    let end = *ends.first().ok_or("the model has no end token, which a grammar needs")?;
    let words: Vec<Vec<u8>> = (0..vocab_size)
        .map(|id| match tokenizer.token_bytes(id) {
            _ if tokenizer.is_special(id) || tokenizer.is_end(id) => {
                let text = tokenizer.token_text(id).unwrap_or_default();
                [&[TokTrie::SPECIAL_TOKEN_MARKER], text.as_bytes()].concat()
            }
            bytes => bytes.unwrap_or_default().to_vec(),
        })
        .collect();
    let trie = TokTrie::from(&TokRxInfo::new(vocab_size, end), &words).with_eos_tokens(&ends);
    let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
    let mut factory = ParserFactory::new_simple(&env).map_err(|error| error.to_string())?;
    factory.quiet();
    let limits = factory.limits_mut();
    limits.max_lexer_states = MAX_LEXER_STATES;
    limits.verbose_errors = false;
    Ok(Arc::new(factory))
}

impl Grammar {
    /// The field of the request that names it.
    pub(crate) fn param(&self) -> &'static str {
        self.param
    }

    /// The brake of the answer, which it pulls when nothing can follow.
    pub(crate) fn brake(&self) -> &Cancel {
        &self.brake
    }

    /// How it ended the answer.
    pub(crate) fn outcome(&self) -> Outcome {
        self.lock().outcome.clone()
    }

    /// Whether what may follow is known.
    pub(crate) fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::Acquire)
    }

    /// What returns the work of finding out what may follow `token`, which was drawn; until that is
    /// done, the grammar is not ready.
    pub(crate) fn prepare(self: &Arc<Self>, token: u32) -> impl FnOnce() + Send + use<> {
        self.is_ready.store(false, Ordering::Release);
        let grammar = Ready(self.clone());
        move || {
            let mut state = grammar.0.lock();
            state.next = Some(state.follow(&[token]));
            state.n_seen = state.n_seen.map(|n| n + 1);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes a grammar ready when it goes, whatever happened.
struct Ready(Arc<Grammar>);

impl Drop for Ready {
    fn drop(&mut self) {
        self.0.is_ready.store(true, Ordering::Release);
    }
}

impl LogitsProcessor for Grammar {
    fn process(&self, tokens: &[u32], logits: &mut [f32]) {
        let mut state = self.lock();
        state.outcome = state.restrict(tokens, logits);
        if state.outcome != Outcome::Open {
            self.brake.cancel();
        }
    }
}

impl State {
    /// Forbids what the grammar does not allow after `tokens`.
    fn restrict(&mut self, tokens: &[u32], logits: &mut [f32]) -> Outcome {
        let n_seen = self.n_seen.replace(tokens.len()).unwrap_or(tokens.len());
        let new = tokens.get(n_seen..).unwrap_or_default();
        let mask = match self.next.take().filter(|_| new.is_empty()) {
            Some(mask) => mask,
            None => self.follow(new),
        };
        let mask = match mask {
            Ok(mask) => mask,
            Err(outcome) => return outcome,
        };
        let mut possible = false;
        for (token, logit) in (0..).zip(logits) {
            if mask.is_allowed(token) {
                possible |= *logit > f32::NEG_INFINITY;
            } else {
                *logit = f32::NEG_INFINITY;
            }
        }
        if possible {
            Outcome::Open
        } else {
            let reason = "every token that it allows is forbidden by other options";
            Outcome::Failed(reason.to_owned())
        }
    }

    /// Goes past `new` tokens, and finds out what may follow; the error is how the answer ends.
    fn follow(&mut self, new: &[u32]) -> Result<SimpleVob, Outcome> {
        let went = self.matcher.consume_tokens(new);
        went.map_err(|error| Outcome::Failed(first_line(&error.to_string())))?;
        if self.matcher.is_stopped() {
            return Err(Outcome::Complete);
        }
        let mask = self.matcher.compute_mask();
        mask.map_err(|error| Outcome::Failed(first_line(&error.to_string())))
    }
}

impl std::fmt::Debug for Grammar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grammar").field("outcome", &self.outcome()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Compiled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compiled").field("param", &self.param).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Grammars {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grammars").finish_non_exhaustive()
    }
}
