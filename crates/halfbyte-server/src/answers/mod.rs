//! From the scheduler's events to answers, whole or in a stream.

mod chat;
mod completions;
mod responses;
mod stream;
mod token_text;

use halfbyte::Piece;
use halfbyte::generate::{ScoredToken, Usage};

use crate::engine::{Event, Ticket};
use crate::error::{ApiError, ApiResult};
use crate::wire;

pub(crate) use chat::{ChatEvents, ChatShape, whole_chat};
pub(crate) use completions::{CompletionEvents, CompletionShape, whole_completion};
pub(crate) use responses::{ResponseEvents, ResponseShape, whole_response};
pub(crate) use stream::stream;

/// An answer that came to its end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) pieces: Vec<Piece>,
    pub(crate) finish: &'static str,
    pub(crate) usage: Usage,
}

/// All answers to a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answers {
    pub(crate) answers: Vec<Answer>,
    /// For each prompt the scores of its tokens but the first, if they were wanted.
    pub(crate) scores: Vec<Vec<ScoredToken>>,
}

impl Answer {
    /// Numbers and short texts in it.
    fn n_values(&self) -> usize {
        let pieces = self.pieces.iter().map(|piece| 1 + piece.top_logprobs.len());
        pieces.sum::<usize>() + n_values_of_text(self.text.len())
    }
}

impl Answers {
    /// Numbers and short texts in them.
    pub(crate) fn n_values(&self) -> usize {
        let answers = self.answers.iter().map(Answer::n_values).sum::<usize>();
        let scores = self.scores.iter().map(|scores| n_values_of_scores(scores)).sum::<usize>();
        answers + scores * (self.answers.len() / self.scores.len().max(1)).max(1)
    }
}

/// As many numbers and short texts as the scores of a prompt are.
fn n_values_of_scores(scores: &[ScoredToken]) -> usize {
    scores.iter().map(|score| 1 + score.top_logprobs.len()).sum()
}

/// As many short texts as a text of so many bytes is.
fn n_values_of_text(n_bytes: usize) -> usize {
    n_bytes / 16
}

/// Waits for `n_answers` answers to `n_prompts` prompts.
pub(crate) async fn collect(
    mut ticket: Ticket,
    n_prompts: usize,
    n_answers: usize,
) -> ApiResult<Answers> {
    let mut all = Answers::default();
    all.answers.resize_with(n_answers, Answer::default);
    all.scores.resize_with(n_prompts, Vec::new);
    let mut n_done = 0;
    while n_done < n_answers {
        match ticket.next().await {
            Some(Event::Scores { job, scores }) => all.scores[job] = scores,
            Some(Event::Piece { index, piece }) => {
                let answer = &mut all.answers[index];
                answer.text.push_str(&piece.text);
                answer.pieces.push(piece);
            }
            Some(Event::Tail { index, text }) => all.answers[index].text.push_str(&text),
            Some(Event::Done { index, finish, usage }) => {
                let answer = &mut all.answers[index];
                (answer.finish, answer.usage) = (finish, usage);
                n_done += 1;
            }
            Some(Event::Failed(error)) => return Err(error),
            Some(Event::Embedding { .. }) => {}
            None => return Err(ApiError::internal("the scheduler ended")),
        }
    }
    Ok(all)
}

/// The tokens of all answers; each prompt counts once.
pub(crate) fn usage(answers: &[Answer], per_prompt: usize) -> wire::Usage {
    let prompts = answers.iter().step_by(per_prompt.max(1)).map(|answer| answer.usage);
    let (read, cached) = prompts.fold((0, 0), |(read, cached), usage| {
        (read + usage.prompt_tokens, cached + usage.reused_tokens)
    });
    wire::Usage::new(read, answers.iter().map(|answer| answer.usage.new_tokens).sum(), cached)
}
