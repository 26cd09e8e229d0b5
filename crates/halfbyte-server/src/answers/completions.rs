//! Answers of `/v1/completions`.

use std::collections::BTreeMap;

use halfbyte::generate::ScoredToken;
use halfbyte::{Model, Piece};

use super::stream::{Events, Line, Moment};
use super::{Answer, Answers, n_values_of_scores, n_values_of_text, token_text, usage};
use crate::engine::Event;
use crate::prompts::Tokens;
use crate::wire::{Completion, CompletionChoice, CompletionLogprobs, Usage};

/// What a request wants to see of its answers.
#[derive(Clone, Debug)]
pub(crate) struct CompletionShape {
    pub(crate) model: Model,
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) fingerprint: String,
    pub(crate) created: u64,
    pub(crate) prompts: Vec<Tokens>,
    /// Answers to each prompt.
    pub(crate) per_prompt: usize,
    pub(crate) echo: bool,
    pub(crate) logprobs: bool,
    pub(crate) include_usage: bool,
}

impl CompletionShape {
    fn completion(&self, choices: Vec<CompletionChoice>, usage: Option<Usage>) -> Completion {
        Completion {
            id: self.id.clone(),
            object: "text_completion",
            created: self.created,
            model: self.name.clone(),
            system_fingerprint: self.fingerprint.clone(),
            choices,
            usage,
        }
    }

    fn n_answers(&self) -> usize {
        self.prompts.len() * self.per_prompt
    }

    fn prompt_text(&self, job: usize) -> String {
        let Tokens { text, tokens } = &self.prompts[job];
        let decode = || self.model.tokenizer().map_or_else(|_| String::new(), |t| t.decode(tokens));
        text.clone().unwrap_or_else(decode)
    }

    /// As many short texts as the texts of the prompts are.
    fn n_echoed(&self) -> usize {
        let prompts = self.prompts.iter();
        let n_values = prompts.map(|Tokens { text, tokens }| {
            text.as_ref().map_or(tokens.len(), |text| n_values_of_text(text.len()))
        });
        n_values.sum()
    }

    /// The scores of a prompt, whose first token has none.
    fn prompt_scores(&self, job: usize, scores: &[ScoredToken]) -> CompletionLogprobs {
        let tokenizer = self.model.tokenizer().ok();
        let mut decoder = tokenizer.map(|tokenizer| tokenizer.decoder());
        let (mut all, mut offset) = (CompletionLogprobs::default(), 0);
        for (i, &token) in self.prompts[job].tokens.iter().enumerate() {
            let score = i.checked_sub(1).and_then(|i| scores.get(i));
            let top = score.map(|score| self.top(score.top_logprobs.iter().copied()));
            self.push(&mut all, offset, (token, score.map(|score| score.logprob)), top);
            let text = decoder.as_mut().map(|decoder| decoder.push(token));
            offset += text.map_or(0, |text| text.chars().count());
        }
        all
    }

    /// The score of a new token, behind `offset` characters.
    fn piece_scores(&self, all: &mut CompletionLogprobs, offset: usize, piece: &Piece) {
        let own = piece.logprob.map(f64::from);
        let top = piece.top_logprobs.iter().map(|top| (top.token, f64::from(top.logprob)));
        self.push(all, offset, (piece.token, own), Some(self.top(top)));
    }

    fn top(&self, top: impl Iterator<Item = (u32, f64)>) -> BTreeMap<String, f64> {
        let tokenizer = self.model.tokenizer().ok();
        // The best comes first, and keeps its place if another is spelled alike.
        let mut all = BTreeMap::new();
        for (token, logprob) in top {
            all.entry(token_text::label(tokenizer, token)).or_insert_with(|| finite(logprob));
        }
        all
    }

    fn push(
        &self,
        all: &mut CompletionLogprobs,
        offset: usize,
        (token, logprob): (u32, Option<f64>),
        top: Option<BTreeMap<String, f64>>,
    ) {
        let label = token_text::label(self.model.tokenizer().ok(), token);
        let logprob = logprob.map(finite);
        let top = top.map(|mut top| {
            if let Some(logprob) = logprob {
                top.entry(label.clone()).or_insert(logprob);
            }
            top
        });
        all.text_offset.push(offset);
        all.token_logprobs.push(logprob);
        all.tokens.push(label);
        all.top_logprobs.push(top);
    }

    /// An answer, behind what is told of its prompt.
    fn choice(
        &self,
        index: usize,
        answer: &Answer,
        scores: Option<&CompletionLogprobs>,
    ) -> CompletionChoice {
        let job = index / self.per_prompt;
        let echo = if self.echo { self.prompt_text(job) } else { String::new() };
        let logprobs = self.logprobs.then(|| {
            let mut all = scores.cloned().unwrap_or_default();
            let (mut offset, tokenizer) = (echo.chars().count(), self.model.tokenizer().ok());
            for piece in &answer.pieces {
                self.piece_scores(&mut all, offset, piece);
                offset += token_text::n_chars(tokenizer, piece.token);
            }
            all
        });
        let text = format!("{echo}{}", answer.text);
        CompletionChoice { index, text, logprobs, finish_reason: Some(answer.finish) }
    }
}

/// JSON has no infinity; OpenAI's API writes this for what is impossible.
pub(super) fn finite(logprob: f64) -> f64 {
    logprob.max(-9999.0)
}

/// All answers in one.
pub(crate) fn whole_completion(shape: &CompletionShape, all: &Answers) -> Completion {
    let mut choices = Vec::with_capacity(all.answers.len());
    for (job, answers) in all.answers.chunks(shape.per_prompt).enumerate() {
        let told = shape.logprobs && shape.echo;
        let scores = told.then(|| shape.prompt_scores(job, &all.scores[job]));
        for answer in answers {
            choices.push(shape.choice(choices.len(), answer, scores.as_ref()));
        }
    }
    shape.completion(choices, Some(usage(&all.answers, shape.per_prompt)))
}

/// Answers in a stream.
#[derive(Debug)]
pub(crate) struct CompletionEvents {
    shape: CompletionShape,
    /// Characters of each answer so far.
    offsets: Vec<usize>,
    /// Answers without their texts.
    answers: Vec<Answer>,
    n_done: usize,
}

impl CompletionEvents {
    pub(crate) fn new(shape: CompletionShape) -> Self {
        let n = shape.n_answers();
        Self { shape, offsets: vec![0; n], answers: vec![Answer::default(); n], n_done: 0 }
    }

    fn line(&self, choice: CompletionChoice) -> Line {
        Line::json(&self.shape.completion(vec![choice], None))
    }

    /// The prompt of `job`, once for each of its answers.
    fn echo(&mut self, job: usize, logprobs: Option<&CompletionLogprobs>) -> Vec<Line> {
        let text = self.shape.prompt_text(job);
        let answers = job * self.shape.per_prompt..(job + 1) * self.shape.per_prompt;
        let lines = answers.map(|index| {
            self.offsets[index] = text.chars().count();
            let logprobs = logprobs.cloned();
            self.line(CompletionChoice { index, text: text.clone(), logprobs, finish_reason: None })
        });
        lines.collect()
    }
}

impl Events for CompletionEvents {
    fn begin(&mut self) -> Vec<Line> {
        if !self.shape.echo || self.shape.logprobs {
            return Vec::new();
        }
        (0..self.shape.prompts.len()).flat_map(|job| self.echo(job, None)).collect()
    }

    fn on(&mut self, event: Event) -> Vec<Line> {
        match event {
            Event::Scores { job, scores } => {
                let scores = self.shape.prompt_scores(job, &scores);
                self.echo(job, Some(&scores))
            }
            Event::Piece { index, piece } => {
                if piece.text.is_empty() && !self.shape.logprobs {
                    return Vec::new();
                }
                let logprobs = self.shape.logprobs.then(|| {
                    let mut all = CompletionLogprobs::default();
                    self.shape.piece_scores(&mut all, self.offsets[index], &piece);
                    all
                });
                let tokenizer = self.shape.model.tokenizer().ok();
                self.offsets[index] += token_text::n_chars(tokenizer, piece.token);
                let choice =
                    CompletionChoice { index, text: piece.text, logprobs, finish_reason: None };
                vec![self.line(choice)]
            }
            Event::Done { index, finish, usage } => {
                self.answers[index].usage = usage;
                self.n_done += 1;
                let choice = CompletionChoice {
                    index,
                    text: String::new(),
                    logprobs: None,
                    finish_reason: Some(finish),
                };
                vec![self.line(choice)]
            }
            Event::Tail { index, text } => {
                let choice = CompletionChoice { index, text, logprobs: None, finish_reason: None };
                vec![self.line(choice)]
            }
            Event::Embedding { .. } | Event::Failed(_) => Vec::new(),
        }
    }

    fn is_done(&self) -> bool {
        self.n_done == self.answers.len()
    }

    fn n_values(&self, moment: &Moment) -> usize {
        let n_each = match moment {
            Moment::Begin if self.shape.echo && !self.shape.logprobs => self.shape.n_echoed(),
            Moment::On(Event::Scores { scores, .. }) => n_values_of_scores(scores),
            _ => return 0,
        };
        n_each * self.shape.per_prompt
    }

    fn end(&mut self) -> Vec<Line> {
        let usage = usage(&self.answers, self.shape.per_prompt);
        let numbers = self
            .shape
            .include_usage
            .then(|| Line::json(&self.shape.completion(Vec::new(), Some(usage))));
        numbers.into_iter().chain([Line::done()]).collect()
    }
}
