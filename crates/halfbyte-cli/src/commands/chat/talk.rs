//! The conversation: questions, answers, and taking them back.

use std::time::Duration;

use anyhow::{Context, anyhow};
use halfbyte::generate::{Timings, Usage};
use halfbyte::{Cancel, Chat, Error, FinishReason, Generation, GenerationConfig, Message, Role};
use indicatif::ProgressBar;

use super::commands::{self, Next};
use super::input::{Input, parse};
use super::screen::Screen;
use crate::output;

#[derive(Debug)]
pub(super) struct Talk {
    chat: Chat,
    screen: Screen,
    /// Shows how far the prompt is read.
    reading: ProgressBar,
    cancel: &'static Cancel,
    last: Option<Answer>,
    total: Total,
    /// What `/undo` brings back: the conversation before it was replaced, forgotten, or an answer
    /// lost to one that was stopped.
    before: Option<Before>,
}

#[derive(Debug)]
struct Before {
    messages: Vec<Message>,
    config: GenerationConfig,
}

/// How an answer came to be.
#[derive(Debug)]
struct Answer {
    usage: Usage,
    timings: Timings,
    seed: u64,
    /// `None` after an error.
    finish: Option<FinishReason>,
}

/// All answers together.
#[derive(Debug, Default)]
struct Total {
    answers: usize,
    tokens: usize,
    time: Duration,
}

impl Talk {
    pub(super) fn new(
        chat: Chat,
        screen: Screen,
        reading: ProgressBar,
        cancel: &'static Cancel,
    ) -> Self {
        Self { chat, screen, reading, cancel, last: None, total: Total::default(), before: None }
    }

    pub(super) fn screen(&self) -> Screen {
        self.screen
    }

    pub(super) fn cancel(&self) -> &'static Cancel {
        self.cancel
    }

    pub(super) fn chat(&self) -> &Chat {
        &self.chat
    }

    /// Does what `text` says, or says it to the model.
    pub(super) fn take(&mut self, text: &str) -> anyhow::Result<Next> {
        match parse(text) {
            Input::Nothing => Ok(Next::GoOn),
            Input::Command { name, rest } => commands::run(self, name, rest),
            Input::Message(text) => self.say(text),
        }
    }

    fn say(&mut self, text: &str) -> anyhow::Result<Next> {
        let n_before = self.chat.messages().len();
        let n_dropped = self.chat.n_dropped();
        self.cancel.reset();
        let generation = self.chat.say(text).map_err(advised)?;
        let outcome = show(generation, self.screen, &self.reading)?;
        self.before = None;
        self.finish(outcome, n_before, &[], n_dropped)
    }

    /// Answers the last question again.
    pub(super) fn regenerate(&mut self) -> anyhow::Result<Next> {
        let n_kept = 1 + self.last_question().context("there is no question to answer again")?;
        let n_dropped = self.chat.n_dropped();
        let before = self.now();
        let old = self.chat.messages_mut().split_off(n_kept);
        self.cancel.reset();
        let outcome = match self.chat.answer() {
            Ok(generation) => show(generation, self.screen, &self.reading)?,
            Err(error) => {
                self.chat.messages_mut().extend(old);
                return Err(advised(error));
            }
        };
        let (Answer { finish, .. }, failed) = &outcome;
        let is_part = failed.is_some() || *finish == Some(FinishReason::Cancelled);
        // A whole answer is not lost to a piece of another.
        self.before = (is_part && !old.is_empty()).then_some(before);
        self.finish(outcome, n_kept, &old, n_dropped)
    }

    /// Books an answer and tells how it ended. One that never began leaves `n_before` messages and
    /// `old` ones.
    fn finish(
        &mut self,
        (answer, failed): (Answer, Option<Error>),
        n_before: usize,
        old: &[Message],
        n_dropped: usize,
    ) -> anyhow::Result<Next> {
        let never_began = self.chat.messages().last().is_some_and(|last| last.content.is_empty())
            && (failed.is_some() || answer.finish == Some(FinishReason::Cancelled));
        if never_began {
            let messages = self.chat.messages_mut();
            messages.truncate(n_before);
            messages.extend_from_slice(old);
            self.before = None;
        }
        if self.chat.n_dropped() > n_dropped {
            let n = self.chat.n_dropped();
            self.screen.remark(format_args!(
                "({n} messages at the beginning have no room in the context any more)"
            ));
        }
        self.remark_ending(&answer, never_began);
        self.total.answers += 1;
        self.total.tokens += answer.usage.new_tokens;
        self.total.time += answer.timings.prompt + answer.timings.decode;
        self.last = Some(answer);
        match failed {
            None => Ok(Next::GoOn),
            Some(error) => Err(advised(error)),
        }
    }

    /// Tells why an answer ended, where that is worth a word.
    fn remark_ending(&self, answer: &Answer, never_began: bool) {
        match answer.finish {
            Some(FinishReason::Cancelled) if never_began => {
                self.screen.remark("(stopped; the conversation is as before)");
            }
            Some(FinishReason::Cancelled) if self.before.is_some() => {
                self.screen.remark("(stopped; /undo brings the answer before it back)");
            }
            None if self.before.is_some() => {
                self.screen.remark("(/undo brings the answer before it back)");
            }
            Some(FinishReason::Cancelled) => self.screen.remark("(stopped)"),
            Some(FinishReason::Length) => {
                let limit = self.chat.config().max_new_tokens;
                if answer.usage.new_tokens >= limit {
                    self.screen.remark(format_args!(
                        "(cut at {limit} tokens; /set max_new_tokens N allows more)"
                    ));
                } else {
                    self.screen.remark(format_args!(
                        "(cut: the context of {} tokens is full)",
                        self.chat.session().context_length()
                    ));
                }
            }
            _ => {}
        }
    }

    fn last_question(&self) -> Option<usize> {
        self.chat.messages().iter().rposition(|message| message.role == Role::User)
    }

    fn now(&self) -> Before {
        Before { messages: self.chat.messages().to_vec(), config: self.chat.config().clone() }
    }

    /// Takes back what was forgotten or replaced just now, else the last question and what came
    /// after it.
    pub(super) fn undo(&mut self) -> anyhow::Result<Next> {
        if let Some(Before { messages, config }) = self.before.take() {
            self.screen.remark(format_args!("({} messages are back)", messages.len()));
            self.replace(messages, config);
            self.before = None;
            return Ok(Next::GoOn);
        }
        let last = self.last_question().context("there is nothing to take back")?;
        let taken = self.chat.messages_mut().split_off(last);
        if let Some(question) = taken.first() {
            self.screen.remark(format_args!("(taken back: {})", excerpt(&question.content)));
        }
        Ok(Next::GoOn)
    }

    pub(super) fn reset(&mut self) -> anyhow::Result<Next> {
        self.keep_before();
        self.chat.clear();
        let back = if self.before.is_some() { "; /undo brings it back" } else { "" };
        self.screen.remark(format_args!("(forgotten{back})"));
        Ok(Next::GoOn)
    }

    pub(super) fn set_system(&mut self, text: &str) -> anyhow::Result<Next> {
        self.chat.set_system(text);
        self.screen.remark(if text.is_empty() { "(no system message)" } else { "(set)" });
        Ok(Next::GoOn)
    }

    pub(super) fn set_config(&mut self, config: GenerationConfig) {
        *self.chat.config_mut() = config;
    }

    /// Keeps the conversation for `/undo`, if there is one.
    fn keep_before(&mut self) {
        if self.last_question().is_some() {
            self.before = Some(self.now());
        }
    }

    /// Goes on with other messages.
    pub(super) fn replace(&mut self, messages: Vec<Message>, config: GenerationConfig) {
        self.keep_before();
        *self.chat.messages_mut() = messages;
        self.set_config(config);
    }

    pub(super) fn tell_stats(&self) -> anyhow::Result<Next> {
        let (chat, session) = (&self.chat, self.chat.session());
        let model = session.model().path().display();
        self.screen.tell(format_args!("model     {model}, {}", template(chat)));
        let (n_messages, n_dropped) = (chat.messages().len(), chat.n_dropped());
        self.screen.tell(format_args!(
            "context   {} of {} tokens; {n_messages} messages, {n_dropped} of them left out",
            session.tokens().len(),
            session.context_length(),
        ));
        if let Some(Answer { usage, timings, seed, finish }) = &self.last {
            let n_read = usage.prompt_tokens.saturating_sub(usage.reused_tokens);
            self.screen.tell(format_args!(
                "answer    prompt {} tokens ({} of them cached), {:.1} tok/s; {} new tokens, \
                 {:.1} tok/s; seed {seed}; ended by {}",
                usage.prompt_tokens,
                usage.reused_tokens,
                output::rate(n_read, timings.prompt),
                usage.new_tokens,
                output::rate(usage.new_tokens.saturating_sub(1), timings.decode),
                finish.as_ref().map_or("error", FinishReason::name),
            ));
        }
        let Total { answers, tokens, time } = &self.total;
        let time = time.as_secs_f64();
        self.screen.tell(format_args!(
            "in all    answers: {answers}, new tokens: {tokens}, seconds: {time:.1}"
        ));
        Ok(Next::GoOn)
    }
}

/// Shows an answer as it comes. Only a screen that takes no more text is an error here.
fn show(
    mut generation: Generation<'_>,
    screen: Screen,
    reading: &ProgressBar,
) -> anyhow::Result<(Answer, Option<Error>)> {
    let mut failed = None;
    let mut is_empty = true;
    for piece in &mut generation {
        match piece {
            Ok(piece) => {
                is_empty &= piece.text.is_empty();
                screen.answer(&piece.text)?;
            }
            Err(error) => failed = Some(error),
        }
    }
    // Whoever stopped it before its first token finds the bar there.
    reading.finish_and_clear();
    if failed.is_none() || !is_empty {
        output::print("\n")?;
    }
    let answer = Answer {
        usage: generation.usage(),
        timings: generation.timings(),
        seed: generation.seed(),
        finish: generation.finish_reason().cloned(),
    };
    Ok((answer, failed))
}

/// `error` with what helps in a conversation.
fn advised(error: Error) -> anyhow::Error {
    let advice = match &error {
        Error::ContextFull { needed, context_length } => {
            return anyhow!(
                "this needs {needed} tokens, and the context holds {context_length}: shorten it, \
                 take back earlier turns (/undo, /reset) or start with a larger --context-length"
            );
        }
        Error::Template(_) => {
            "--template chooses another one; /undo and /reset change what it gets"
        }
        Error::OutOfMemory { .. } => "--context-length and --cache-type q8 make do with less",
        Error::Config { .. } => "/set changes it",
        _ => return error.into(),
    };
    anyhow!("{error} ({advice})")
}

fn template(chat: &Chat) -> String {
    let (name, origin) = (chat.template().name().unwrap_or("Jinja"), chat.template().origin());
    format!("template {name} ({})", origin.name())
}

/// The beginning of a text, in one line.
fn excerpt(text: &str) -> String {
    const MAX_CHARS: usize = 60;
    let mut words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = words.char_indices().nth(MAX_CHARS) {
        words.truncate(end);
        words.push('…');
    }
    words
}
