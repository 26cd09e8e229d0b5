//! Answers of `/v1/chat/completions`.

use halfbyte::{Model, Piece};

use super::completions::finite;
use super::stream::{Events, Line, Moment};
use super::token_text::Pending;
use super::{Answer, Answers, n_values_of_text, token_text, usage};
use crate::engine::Event;
use crate::tools;
use crate::wire::{
    ChatChoice, ChatChunk, ChatChunkChoice, ChatCompletion, ChatLogprobs, Delta, ReplyMessage,
    TokenScore, Tool, ToolCall, TopScore, Usage,
};

/// What a request wants to see of its answers.
#[derive(Clone, Debug)]
pub(crate) struct ChatShape {
    pub(crate) model: Model,
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) fingerprint: String,
    pub(crate) created: u64,
    pub(crate) n: usize,
    pub(crate) logprobs: bool,
    pub(crate) include_usage: bool,
    /// Functions that the model may call.
    pub(crate) tools: Vec<Tool>,
}

impl ChatShape {
    fn score(&self, piece: &Piece) -> TokenScore {
        let tokenizer = self.model.tokenizer().ok();
        let bytes = |token| Some(token_text::bytes(tokenizer, token)).filter(|b| !b.is_empty());
        let top = piece.top_logprobs.iter().map(|top| TopScore {
            token: token_text::label(tokenizer, top.token),
            logprob: finite(f64::from(top.logprob)),
            bytes: bytes(top.token),
        });
        TokenScore {
            token: token_text::label(tokenizer, piece.token),
            logprob: finite(piece.logprob.map_or(f64::NEG_INFINITY, f64::from)),
            bytes: bytes(piece.token),
            top_logprobs: top.collect(),
        }
    }

    fn scores(&self, pieces: &[Piece]) -> Option<ChatLogprobs> {
        let content = || pieces.iter().map(|piece| self.score(piece)).collect();
        self.logprobs.then(|| ChatLogprobs { content: content() })
    }

    /// The scores of an answer's text.
    fn all_scores(&self, answer: &Answer) -> Option<ChatLogprobs> {
        let (mut pending, tokenizer) = (Pending::default(), self.model.tokenizer().ok());
        for piece in answer.pieces.iter().filter(|_| self.logprobs) {
            pending.push(tokenizer, piece.clone());
        }
        self.scores(&pending.grow(answer.text.chars().count()))
    }

    /// The words of answer `index`, or of the rest of it, and its calls.
    fn read<'a>(&self, index: usize, text: &'a str) -> (&'a str, Vec<ToolCall>) {
        let (words, calls) = tools::read(text, &self.tools);
        let calls = calls.into_iter().enumerate().map(|(i, function)| ToolCall {
            id: format!("call_{}_{index}_{i}", self.id),
            kind: "function".to_owned(),
            function,
            index: None,
        });
        (words, calls.collect())
    }

    fn choice(&self, index: usize, answer: &Answer) -> ChatChoice {
        let (words, tool_calls) = self.read(index, &answer.text);
        let (content, finish_reason) = if tool_calls.is_empty() {
            (Some(words.to_owned()), answer.finish)
        } else {
            (Some(words.to_owned()).filter(|words| !words.is_empty()), "tool_calls")
        };
        let message = ReplyMessage { role: "assistant", content, refusal: None, tool_calls };
        ChatChoice { index, message, logprobs: self.all_scores(answer), finish_reason }
    }

    fn chunk(&self, choices: Vec<ChatChunkChoice>, usage: Option<Usage>) -> Line {
        Line::json(&ChatChunk {
            id: self.id.clone(),
            object: "chat.completion.chunk",
            created: self.created,
            model: self.name.clone(),
            system_fingerprint: self.fingerprint.clone(),
            choices,
            usage,
        })
    }
}

/// All answers in one.
pub(crate) fn whole_chat(shape: &ChatShape, all: &Answers) -> ChatCompletion {
    let choices = all.answers.iter().enumerate();
    ChatCompletion {
        id: shape.id.clone(),
        object: "chat.completion",
        created: shape.created,
        model: shape.name.clone(),
        system_fingerprint: shape.fingerprint.clone(),
        choices: choices.map(|(index, answer)| shape.choice(index, answer)).collect(),
        usage: usage(&all.answers, shape.n),
    }
}

/// Answers in a stream.
#[derive(Debug)]
pub(crate) struct ChatEvents {
    shape: ChatShape,
    /// Without their texts and pieces.
    answers: Vec<Answer>,
    held: Vec<Held>,
    n_done: usize,
}

/// What is not out yet of an answer.
#[derive(Clone, Debug, Default)]
struct Held {
    /// Text that may turn out to be calls.
    text: String,
    /// Whether some of the answer is out.
    has_begun: bool,
    /// The pieces whose scores are not out.
    pending: Pending,
}

impl ChatEvents {
    pub(crate) fn new(shape: ChatShape) -> Self {
        let (answers, held) = (vec![Answer::default(); shape.n], vec![Held::default(); shape.n]);
        Self { shape, answers, held, n_done: 0 }
    }

    fn line(&self, index: usize, delta: Delta, finish: Option<&'static str>) -> Line {
        let choice = ChatChunkChoice { index, delta, logprobs: None, finish_reason: finish };
        self.shape.chunk(vec![choice], None)
    }

    /// Takes more of an answer, and tells what of it is words.
    fn text(&mut self, index: usize, text: &str) -> Option<Line> {
        let held = &mut self.held[index];
        held.text.push_str(text);
        let n_words = if self.shape.tools.is_empty() {
            held.text.len()
        } else {
            tools::n_words(&held.text, held.has_begun)
        };
        self.words(index, n_words)
    }

    /// Tells the first bytes of what is held back, with the scores of the tokens that begin in them.
    fn words(&mut self, index: usize, n_bytes: usize) -> Option<Line> {
        let held = &mut self.held[index];
        let text: String = held.text.drain(..n_bytes).collect();
        held.has_begun |= !text.is_empty();
        let pieces = held.pending.grow(text.chars().count());
        if text.is_empty() && pieces.is_empty() {
            return None;
        }
        let logprobs = self.shape.scores(&pieces);
        let delta = Delta { content: Some(text), ..Delta::default() };
        let choice = ChatChunkChoice { index, delta, logprobs, finish_reason: None };
        Some(self.shape.chunk(vec![choice], None))
    }

    /// What was held back of an answer, as what it turned out to be, and its end.
    fn rest(&mut self, index: usize, finish: &'static str) -> Vec<Line> {
        let (words, calls) = self.shape.read(index, &self.held[index].text);
        let n_words = words.len();
        let mut lines: Vec<Line> = self.words(index, n_words).into_iter().collect();
        if calls.is_empty() {
            lines.push(self.line(index, Delta::default(), Some(finish)));
            return lines;
        }
        let Held { text, pending, .. } = &mut self.held[index];
        let logprobs = self.shape.scores(&pending.grow(text.chars().count()));
        let calls = calls.into_iter().enumerate();
        let tool_calls = calls.map(|(i, call)| ToolCall { index: Some(i), ..call }).collect();
        let delta = Delta { tool_calls, ..Delta::default() };
        let choice = ChatChunkChoice { index, delta, logprobs, finish_reason: None };
        lines.push(self.shape.chunk(vec![choice], None));
        lines.push(self.line(index, Delta::default(), Some("tool_calls")));
        lines
    }
}

impl Events for ChatEvents {
    fn begin(&mut self) -> Vec<Line> {
        let first = |index| {
            let content = Some(String::new()).filter(|_| self.shape.tools.is_empty());
            let delta = Delta { role: Some("assistant"), content, ..Delta::default() };
            self.line(index, delta, None)
        };
        (0..self.shape.n).map(first).collect()
    }

    fn on(&mut self, event: Event) -> Vec<Line> {
        match event {
            Event::Piece { index, mut piece } => {
                let text = std::mem::take(&mut piece.text);
                if self.shape.logprobs {
                    self.held[index].pending.push(self.shape.model.tokenizer().ok(), piece);
                }
                self.text(index, &text).into_iter().collect()
            }
            Event::Tail { index, text } => self.text(index, &text).into_iter().collect(),
            Event::Done { index, finish, usage } => {
                self.answers[index].usage = usage;
                self.n_done += 1;
                self.rest(index, finish)
            }
            Event::Scores { .. } | Event::Embedding { .. } | Event::Failed(_) => Vec::new(),
        }
    }

    fn is_done(&self) -> bool {
        self.n_done == self.answers.len()
    }

    fn n_values(&self, moment: &Moment) -> usize {
        match moment {
            // What was held back comes at once.
            Moment::On(Event::Done { index, .. }) => {
                let Held { text, pending, .. } = &self.held[*index];
                pending.n_values() + n_values_of_text(text.len())
            }
            _ => 0,
        }
    }

    fn end(&mut self) -> Vec<Line> {
        let usage = usage(&self.answers, self.shape.n);
        let numbers = self.shape.include_usage.then(|| self.shape.chunk(Vec::new(), Some(usage)));
        numbers.into_iter().chain([Line::done()]).collect()
    }
}
