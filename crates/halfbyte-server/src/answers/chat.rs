//! Answers of `/v1/chat/completions`.

use halfbyte::{Model, Piece};

use super::completions::finite;
use super::stream::{Events, Line, Moment};
use super::token_text::Pending;
use super::{Answer, Answers, token_text, usage};
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
        let mut pieces = Vec::new();
        for piece in answer.pieces.iter().filter(|_| self.logprobs) {
            pieces.extend(pending.push(tokenizer, piece.clone()));
        }
        let n_left = answer.text.chars().count().saturating_sub(pending.n_out());
        pieces.extend(pending.grow(n_left));
        self.scores(&pieces)
    }

    /// The calls that the text of answer `index` is, if it is any.
    fn calls(&self, index: usize, text: &str) -> Vec<ToolCall> {
        let calls = tools::calls(text, &self.tools).into_iter().enumerate();
        let calls = calls.map(|(i, function)| ToolCall {
            id: format!("call_{}_{index}_{i}", self.id),
            kind: "function".to_owned(),
            function,
            index: None,
        });
        calls.collect()
    }

    fn choice(&self, index: usize, answer: &Answer) -> ChatChoice {
        let tool_calls = self.calls(index, &answer.text);
        let (content, finish_reason) = if tool_calls.is_empty() {
            (Some(answer.text.clone()), answer.finish)
        } else {
            (None, "tool_calls")
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
    /// With the texts and pieces only where they may turn out to be calls.
    answers: Vec<Answer>,
    /// Of each answer the pieces whose scores are not out.
    pending: Vec<Pending>,
    n_done: usize,
}

impl ChatEvents {
    pub(crate) fn new(shape: ChatShape) -> Self {
        let answers = vec![Answer::default(); shape.n];
        let pending = vec![Pending::default(); shape.n];
        Self { shape, answers, pending, n_done: 0 }
    }

    fn line(&self, index: usize, delta: Delta, finish: Option<&'static str>) -> Line {
        let choice = ChatChunkChoice { index, delta, logprobs: None, finish_reason: finish };
        self.shape.chunk(vec![choice], None)
    }

    /// A part of an answer; none if there is nothing in it.
    fn text(&self, index: usize, text: &str, pieces: &[Piece]) -> Option<Line> {
        if text.is_empty() && pieces.is_empty() {
            return None;
        }
        Some(self.part(index, text, self.shape.scores(pieces)))
    }

    fn part(&self, index: usize, text: &str, logprobs: Option<ChatLogprobs>) -> Line {
        let delta = Delta { content: Some(text.to_owned()), ..Delta::default() };
        let choice = ChatChunkChoice { index, delta, logprobs, finish_reason: None };
        self.shape.chunk(vec![choice], None)
    }

    /// An answer that was held back, as what it turned out to be, and its end.
    fn held(&self, index: usize, finish: &'static str) -> Vec<Line> {
        let answer = &self.answers[index];
        let calls = self.shape.calls(index, &answer.text);
        let logprobs = self.shape.all_scores(answer);
        if calls.is_empty() {
            let text = self.part(index, &answer.text, logprobs);
            return vec![text, self.line(index, Delta::default(), Some(finish))];
        }
        let calls = calls.into_iter().enumerate();
        let tool_calls = calls.map(|(i, call)| ToolCall { index: Some(i), ..call }).collect();
        let delta = Delta { tool_calls, ..Delta::default() };
        let choice = ChatChunkChoice { index, delta, logprobs, finish_reason: None };
        let calls = self.shape.chunk(vec![choice], None);
        vec![calls, self.line(index, Delta::default(), Some("tool_calls"))]
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
            Event::Piece { index, piece } if self.shape.tools.is_empty() => {
                let text = piece.text.clone();
                let pieces = if self.shape.logprobs {
                    let tokenizer = self.shape.model.tokenizer().ok();
                    self.pending[index].push(tokenizer, piece)
                } else {
                    Vec::new()
                };
                self.text(index, &text, &pieces).into_iter().collect()
            }
            Event::Tail { index, text } if self.shape.tools.is_empty() => {
                let pieces = self.pending[index].grow(text.chars().count());
                self.text(index, &text, &pieces).into_iter().collect()
            }
            Event::Tail { index, text } => {
                self.answers[index].text.push_str(&text);
                Vec::new()
            }
            Event::Piece { index, piece } => {
                let answer = &mut self.answers[index];
                answer.text.push_str(&piece.text);
                answer.pieces.push(piece);
                Vec::new()
            }
            Event::Done { index, finish, usage } => {
                self.answers[index].usage = usage;
                self.n_done += 1;
                if self.shape.tools.is_empty() {
                    vec![self.line(index, Delta::default(), Some(finish))]
                } else {
                    self.held(index, finish)
                }
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
            Moment::On(Event::Done { index, .. }) => self.answers[*index].n_values(),
            _ => 0,
        }
    }

    fn end(&mut self) -> Vec<Line> {
        let usage = usage(&self.answers, self.shape.n);
        let numbers = self.shape.include_usage.then(|| self.shape.chunk(Vec::new(), Some(usage)));
        numbers.into_iter().chain([Line::done()]).collect()
    }
}
