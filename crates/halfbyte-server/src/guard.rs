//! Who may ask, and how often.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::app::App;
use crate::error::{ApiError, ApiResult};
use crate::names::{needs_no_lookup, without_port};
use crate::routes;

/// Requests that may come at once.
const BURST: u32 = 100;

/// The longest time that a request waits for its turn.
const LONGEST: Duration = Duration::from_secs(1);

/// Spreads requests over time: whoever asks as fast as he can would otherwise take a processor from
/// the model.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Between two requests in the long run.
    interval: Duration,
    next: Mutex<Option<Instant>>,
}

impl Pace {
    pub(crate) fn new(per_second: u32) -> Self {
        let interval = Duration::from_secs(1) / per_second.max(1);
        Self { interval, next: Mutex::new(None) }
    }

    /// How long the request that comes `now` has to wait; `None` if that is too long: then it has
    /// no turn, so that nobody can make the others wait for ever longer.
    fn wait(&self, now: Instant) -> Option<Duration> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let earliest = now.checked_sub(self.interval * BURST).unwrap_or(now);
        let turn = next.map_or(earliest, |next| next.max(earliest));
        let wait = turn.saturating_duration_since(now);
        if wait > LONGEST {
            return None;
        }
        *next = Some(turn + self.interval);
        Some(wait)
    }
}

/// Lets requests through that may be answered, one after the other, and counts the answers.
pub(crate) async fn guard(State(app): State<App>, request: Request, next: Next) -> Response {
    let matched = request.extensions().get::<MatchedPath>();
    let route = matched.map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let response = match check(&app, &request, &route) {
        // Who is refused anyway takes nobody's turn.
        Ok(()) => match app.pace.wait(Instant::now()) {
            Some(wait) => {
                if !wait.is_zero() {
                    tokio::time::sleep(wait).await;
                }
                next.run(request).await
            }
            None => ApiError::busy(LONGEST.as_secs()).into_response(),
        },
        Err(error) => error.into_response(),
    };
    app.metrics.request(&route, response.status().as_u16());
    response
}

fn check(app: &App, request: &Request, route: &str) -> ApiResult<()> {
    let headers = request.headers();
    let forbidden = |message: &str| Err(ApiError::new(StatusCode::FORBIDDEN, message));
    if !host_may(app, request) {
        return forbidden(
            "the server does not go by the name in the Host header: use its address, or start it \
             with --allowed-host NAME",
        );
    }
    if !origin_may(app, headers, host(request).unwrap_or_default()) {
        return forbidden("pages of this origin may not use the server; see --cors-origin");
    }
    // A preflight brings no key; what it asks for will.
    if request.method() == Method::OPTIONS || routes::is_open(route) {
        return Ok(());
    }
    match &app.options.api_key {
        Some(key) if !brings(headers, key) => {
            let message = "send the server's key: Authorization: Bearer KEY";
            Err(ApiError::new(StatusCode::UNAUTHORIZED, message).code("invalid_api_key"))
        }
        _ => Ok(()),
    }
}

/// The machine that the request names, with a port if it is not the usual one.
fn host(request: &Request) -> Option<&str> {
    match request.headers().get(header::HOST) {
        Some(host) => Some(host.to_str().unwrap_or_default()),
        None => request.uri().authority().map(|authority| authority.as_str()),
    }
}

/// Whether the request calls the server by a name that it goes by.
///
/// A page of another site whose name was made to point here (DNS rebinding) is of the same origin as
/// the server for the browser, but it says that name. It can neither say an address, which nobody
/// looks up, nor leave the header out, as old programs do.
fn host_may(app: &App, request: &Request) -> bool {
    let options = &app.options;
    // Such a page has no key, so that it gets nowhere; and who serves others with a key may be known
    // by more names than one can list. On this machine alone there is no such need.
    if options.api_key.is_some() && !options.address.ip().is_loopback() {
        return true;
    }
    let Some(name) = host(request).map(without_port) else { return true };
    needs_no_lookup(name) || options.allowed_hosts.iter().any(|allowed| allowed.is(name))
}

/// Whether a page from where the request comes may use the server; other programs name no origin.
fn origin_may(app: &App, headers: &HeaderMap, host: &str) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let origin = origin.to_str().unwrap_or_default();
    let own = origin.split_once("://").is_some_and(|(_, rest)| rest == host);
    let allowed = &app.options.cors_origins;
    own || allowed.iter().any(|allowed| allowed.is_any() || allowed.as_str() == origin)
}

/// Compares in a time that does not tell where the keys differ.
fn brings(headers: &HeaderMap, key: &str) -> bool {
    let brought = headers.get(header::AUTHORIZATION).map(|value| value.as_bytes());
    let Some((scheme, brought)) = brought.and_then(|value| value.split_at_checked(7)) else {
        return false;
    };
    let differ = brought.iter().zip(key.as_bytes()).fold(0, |differ, (a, b)| differ | (a ^ b));
    scheme.eq_ignore_ascii_case(b"bearer ") && brought.len() == key.len() && differ == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_at_once_and_then_one_at_a_time() {
        const INTERVAL: Duration = Duration::from_millis(2);
        let (pace, now) = (Pace::new(500), Instant::now());
        let waits: Vec<_> = (0..BURST + 3).map(|_| pace.wait(now)).collect();
        assert!(waits[..=BURST as usize].iter().all(|wait| *wait == Some(Duration::ZERO)));
        assert_eq!(waits[BURST as usize + 2], Some(INTERVAL * 2));
        assert_eq!(pace.wait(now + INTERVAL * 10), Some(Duration::ZERO));
        let n_more = (0..5000).filter(|_| pace.wait(now).is_some()).count();
        assert!(n_more < 600, "{n_more} wait, nobody for more than a second");
        assert!(pace.wait(now + LONGEST).is_some(), "and then others are heard");
    }
}
