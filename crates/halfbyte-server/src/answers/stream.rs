//! Server-sent events.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use serde::Serialize;

use crate::apart::{FEW, Load, Threads, Weight};
use crate::app::App;
use crate::engine::{Event, Ticket};
use crate::error::ApiError;

/// A comment is sent when nothing else is for so long, so that nobody between thinks us dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A message of a stream, ready to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Line(sse::Event);

impl Line {
    /// A message without a name.
    pub(crate) fn json(value: &impl Serialize) -> Self {
        Self(sse::Event::default().data(to_json(value)))
    }

    /// A message with a name.
    pub(crate) fn named(name: &'static str, value: &impl Serialize) -> Self {
        Self(sse::Event::default().data(to_json(value)).event(name))
    }

    /// The end of the streams of completions.
    pub(crate) fn done() -> Self {
        Self(sse::Event::default().data("[DONE]"))
    }
}

fn to_json(value: &impl Serialize) -> String {
    // The wire types have no keys but texts, so that they are always JSON.
    serde_json::to_string(value).unwrap_or_default()
}

/// When a stream has something to say.
#[derive(Debug)]
pub(crate) enum Moment {
    /// Before anything else.
    Begin,
    /// The scheduler told something.
    On(Event),
    /// All answers have come to their end.
    End,
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

    /// Numbers and short texts, about, in what it says at a moment. More than [`FEW`] are written
    /// apart.
    fn n_values(&self, moment: &Moment) -> usize;

    /// At a moment.
    fn say(&mut self, moment: Moment) -> Vec<Line> {
        match moment {
            Moment::Begin => self.begin(),
            Moment::On(event) => self.on(event),
            Moment::End => self.end(),
        }
    }
}

struct State<E> {
    /// `None` once the stream has ended.
    ticket: Option<Ticket>,
    has_begun: bool,
    lines: VecDeque<Line>,
    /// `None` while it says something apart, and after a mistake in that.
    events: Option<E>,
    threads: Threads,
}

impl<E: Events> State<E> {
    fn new(ticket: Ticket, events: E, threads: Threads) -> Self {
        let lines = VecDeque::new();
        Self { ticket: Some(ticket), has_begun: false, lines, events: Some(events), threads }
    }

    /// The next message; `None` at the end.
    async fn next(&mut self) -> Option<Line> {
        if !std::mem::replace(&mut self.has_begun, true) {
            self.say(Moment::Begin).await;
        }
        while self.lines.is_empty() {
            let event = self.ticket.as_mut()?.next().await;
            match event {
                Some(Event::Failed(error)) => self.fail(&error),
                None => self.fail(&ApiError::internal("the scheduler ended")),
                Some(event) => self.say(Moment::On(event)).await,
            }
            if self.ticket.is_some() && self.events.as_ref().is_some_and(Events::is_done) {
                self.say(Moment::End).await;
                self.ticket = None;
            }
        }
        self.lines.pop_front()
    }

    /// Adds what there is to say. The scores of a long prompt take seconds to write: that is done
    /// apart, so that no other client waits for it.
    async fn say(&mut self, moment: Moment) {
        let Some(mut events) = self.events.take() else { return };
        let n_values = events.n_values(&moment);
        if n_values <= FEW {
            self.lines.extend(events.say(moment));
            self.events = Some(events);
            return;
        }
        let work = move || {
            let lines = events.say(moment);
            Ok((events, lines))
        };
        match self.threads.run(Load::default(), Weight::of(n_values), work).await {
            Ok((events, lines)) => {
                self.lines.extend(lines);
                self.events = Some(events);
            }
            Err(error) => self.fail(&error),
        }
    }

    /// Ends the stream with an error.
    fn fail(&mut self, error: &ApiError) {
        self.ticket = None;
        match &mut self.events {
            Some(events) => self.lines.extend(events.fail(error)),
            None => self.lines.push_back(Line::json(&error.body())),
        }
    }
}

/// The answer to a request as a stream: as long as it is read, the request is worked on.
pub(crate) fn stream(app: &App, ticket: Ticket, events: impl Events) -> Response {
    let state = State::new(ticket, events, app.threads.clone());
    let lines = unfold(state, |mut state| async {
        let Line(event) = state.next().await?;
        Some((Ok::<_, Infallible>(event), state))
    });
    Sse::new(lines).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::*;
    use crate::engine::ticket_of;

    /// Says one large thing at the first event, once it is told that others were heard meanwhile.
    struct Large(Receiver<()>);

    impl Events for Large {
        fn begin(&mut self) -> Vec<Line> {
            Vec::new()
        }

        fn on(&mut self, _: Event) -> Vec<Line> {
            // Who listens cannot tell it as long as this is done by the same thread.
            let told = self.0.recv_timeout(Duration::from_secs(20)).is_ok();
            vec![Line::json(&told)]
        }

        fn is_done(&self) -> bool {
            false
        }

        fn end(&mut self) -> Vec<Line> {
            Vec::new()
        }

        fn n_values(&self, moment: &Moment) -> usize {
            if matches!(moment, Moment::On(_)) { FEW + 1 } else { 0 }
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn large_messages_are_written_while_others_are_heard() {
        let (tell, told) = channel();
        let ticket = ticket_of(vec![Event::Tail { index: 0, text: String::new() }]);
        let mut state = State::new(ticket, Large(told), Threads::default());
        let stream = tokio::spawn(async move { state.next().await });
        tokio::task::yield_now().await;
        tell.send(()).expect("it waits");
        let line = stream.await.expect("no panic").expect("a message");
        assert!(format!("{line:?}").contains("true"), "{line:?}");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_mistake_apart_ends_the_stream_with_an_error() {
        struct Wrong;

        impl Events for Wrong {
            fn begin(&mut self) -> Vec<Line> {
                panic!("a mistake");
            }

            fn on(&mut self, _: Event) -> Vec<Line> {
                Vec::new()
            }

            fn is_done(&self) -> bool {
                false
            }

            fn end(&mut self) -> Vec<Line> {
                Vec::new()
            }

            fn n_values(&self, _: &Moment) -> usize {
                FEW + 1
            }
        }

        let ticket = ticket_of(vec![Event::Tail { index: 0, text: String::new() }]);
        let mut state = State::new(ticket, Wrong, Threads::default());
        let line = state.next().await.expect("a message");
        assert!(format!("{line:?}").contains("a mistake in the server"), "{line:?}");
        assert!(state.next().await.is_none());
    }
}
