//! Answers of `/v1/chat/completions`.

use halfbyte::{Model, Piece};

use super::completions::finite;
use super::stream::{Events, Line};
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
        ChatChoice { index, message, logprobs: self.scores(&answer.pieces), finish_reason }
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
    n_done: usize,
}

impl ChatEvents {
    pub(crate) fn new(shape: ChatShape) -> Self {
        let answers = vec![Answer::default(); shape.n];
        Self { shape, answers, n_done: 0 }
    }

    fn line(&self, index: usize, delta: Delta, finish: Option<&'static str>) -> Line {
        let choice = ChatChunkChoice { index, delta, logprobs: None, finish_reason: finish };
        self.shape.chunk(vec![choice], None)
    }

    fn text(&self, index: usize, text: &str, pieces: &[Piece]) -> Line {
        let delta = Delta { content: Some(text.to_owned()), ..Delta::default() };
        let logprobs = self.shape.scores(pieces);
        let choice = ChatChunkChoice { index, delta, logprobs, finish_reason: None };
        self.shape.chunk(vec![choice], None)
    }

    /// An answer that was held back, as what it turned out to be, and its end.
    fn held(&self, index: usize, finish: &'static str) -> Vec<Line> {
        let Answer { text, pieces, .. } = &self.answers[index];
        let calls = self.shape.calls(index, text);
        if calls.is_empty() {
            let text = self.text(index, text, pieces);
            return vec![text, self.line(index, Delta::default(), Some(finish))];
        }
        let calls = calls.into_iter().enumerate();
        let tool_calls = calls.map(|(i, call)| ToolCall { index: Some(i), ..call }).collect();
        let calls = self.line(index, Delta { tool_calls, ..Delta::default() }, None);
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
                if piece.text.is_empty() && !self.shape.logprobs {
                    return Vec::new();
                }
                vec![self.text(index, &piece.text, std::slice::from_ref(&piece))]
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

    fn end(&mut self) -> Vec<Line> {
        let usage = usage(&self.answers, self.shape.n);
        let numbers = self.shape.include_usage.then(|| self.shape.chunk(Vec::new(), Some(usage)));
        numbers.into_iter().chain([Line::done()]).collect()
    }
}
