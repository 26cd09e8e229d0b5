//! Server-sent events.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use serde::Serialize;

use crate::engine::{Event, Ticket};
use crate::error::ApiError;

/// A comment is sent when nothing else is for so long, so that nobody between thinks us dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A message of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    name: Option<&'static str>,
    data: String,
}

impl Line {
    /// A message without a name.
    pub(crate) fn json(value: &impl Serialize) -> Self {
        Self { name: None, data: to_json(value) }
    }

    /// A message with a name.
    pub(crate) fn named(name: &'static str, value: &impl Serialize) -> Self {
        Self { name: Some(name), data: to_json(value) }
    }

    /// The end of the streams of completions.
    pub(crate) fn done() -> Self {
        Self { name: None, data: "[DONE]".to_owned() }
    }
}

fn to_json(value: &impl Serialize) -> String {
    // The wire types have no keys but texts, so that they are always JSON.
    serde_json::to_string(value).unwrap_or_default()
}

/// What a stream says at the scheduler's events.
pub(crate) trait Events: Send + 'static {
    /// At the beginning.
    fn begin(&mut self) -> Vec<Line>;

    /// At an event.
    fn on(&mut self, event: Event) -> Vec<Line>;

    /// At an error, which ends the stream.
    fn fail(&mut self, error: &ApiError) -> Vec<Line> {
        vec![Line::json(&error.body())]
    }

    /// Whether all answers have come to their end.
    fn is_done(&self) -> bool;

    /// At the end.
    fn end(&mut self) -> Vec<Line>;
}

struct State<E> {
    /// `None` once the stream has ended.
    ticket: Option<Ticket>,
    lines: VecDeque<Line>,
    events: E,
}

impl<E: Events> State<E> {
    /// The next message; `None` at the end.
    async fn next(&mut self) -> Option<Line> {
        while self.lines.is_empty() {
            let event = self.ticket.as_mut()?.next().await;
            let lines = match event {
                Some(Event::Failed(error)) => {
                    self.ticket = None;
                    self.events.fail(&error)
                }
                None => {
                    self.ticket = None;
                    self.events.fail(&ApiError::internal("the scheduler ended"))
                }
                Some(event) => self.events.on(event),
            };
            self.lines.extend(lines);
            if self.ticket.is_some() && self.events.is_done() {
                self.ticket = None;
                self.lines.extend(self.events.end());
            }
        }
        self.lines.pop_front()
    }
}

/// The answer to a request as a stream: as long as it is read, the request is worked on.
pub(crate) fn stream(ticket: Ticket, mut events: impl Events) -> Response {
    let lines = events.begin().into();
    let state = State { ticket: Some(ticket), lines, events };
    let lines = unfold(state, |mut state| async {
        let line = state.next().await?;
        let mut event = sse::Event::default().data(line.data);
        if let Some(name) = line.name {
            event = event.event(name);
        }
        Some((Ok::<_, Infallible>(event), state))
    });
    Sse::new(lines).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}
