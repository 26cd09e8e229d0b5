//! Requests' bodies: JSON of bounded size and depth, in bounded time.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;

use crate::apart::{Load, Threads, Weight};
use crate::app::App;
use crate::error::{ApiError, ApiResult};

/// A client that sends too much is heard for so long before it is told: one that only listens when
/// it has said everything would never know why the connection ended.
const LINGER: Duration = Duration::from_secs(5);

/// Bytes that every client may send at once, and that are read on the spot. Larger bodies are
/// counted, as far as they have come, and are read apart, a few at a time.
const SMALL: usize = 16 << 10;

/// Bytes that are read in milliseconds. Of larger bodies few are in memory as values at a time.
const MEDIUM: usize = 256 << 10;

/// The longest time between two parts of a large body.
const PAUSE: Duration = Duration::from_secs(5);

/// A body read as JSON, and what it holds until it is understood.
pub(crate) struct JsonBody<T>(pub(crate) T, pub(crate) Load);

impl<T: DeserializeOwned + Send + 'static> FromRequest<App> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> ApiResult<Self> {
        let (parts, body) = request.into_parts();
        if !is_json(&parts.headers) {
            let message = "the body must be JSON: send Content-Type: application/json";
            return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
        }
        let limit = app.options.body_bytes;
        let claimed = parts.headers.get(header::CONTENT_LENGTH);
        let claimed = claimed.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        // Who asks first has sent nothing yet.
        if claimed.is_some_and(|n| n > limit) && parts.headers.contains_key(header::EXPECT) {
            return Err(too_large(limit));
        }
        let read = read(body, limit, &app.threads);
        let late = || ApiError::timeout("the body took too long to arrive");
        let read = tokio::time::timeout(app.options.patience, read).await;
        let (bytes, load) =
            read.map_err(|_| late())?.map_err(|error| error.unwrap_or_else(late))?;
        if bytes.len() <= SMALL {
            return Ok(Self(parse(&bytes)?, load));
        }
        if bytes.len() <= MEDIUM {
            let parse = move |load: Load| Ok(Self(parse(&bytes)?, load.without_thread()));
            return app.threads.run_with(load, Weight::Light, parse).await;
        }
        let parse = move |load| Ok(Self(parse(&bytes)?, load));
        app.threads.run_with(load, Weight::Heavy, parse).await
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default();
    kind.trim().eq_ignore_ascii_case("application/json")
}

fn too_large(limit: usize) -> ApiError {
    let message = format!("the body is larger than {limit} bytes");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message)
}

/// Reads a body; the error is `None` if its parts come too slowly.
async fn read(
    mut body: Body,
    limit: usize,
    threads: &Threads,
) -> Result<(Vec<u8>, Load), Option<ApiError>> {
    let (mut bytes, mut load) = (Vec::new(), Load::default());
    loop {
        let frame = if bytes.len() > SMALL {
            tokio::time::timeout(PAUSE, body.frame()).await.map_err(|_| None)?
        } else {
            body.frame().await
        };
        let Some(frame) = frame else { return Ok((bytes, load)) };
        let broken = |error: axum::Error| {
            ApiError::new(StatusCode::BAD_REQUEST, format!("the body is broken: {error}"))
        };
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        if bytes.len() + data.len() > limit {
            drop((bytes, load));
            let rest = async { while body.frame().await.is_some_and(|frame| frame.is_ok()) {} };
            drop(tokio::time::timeout(LINGER, rest).await);
            return Err(Some(too_large(limit)));
        }
        if bytes.len() + data.len() > SMALL {
            threads.hold(&mut load, data.len()).await;
        }
        bytes.extend_from_slice(&data);
    }
}

/// Reads JSON; an error names the field. Nesting is bounded by `serde_json`, to 128.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> ApiResult<T> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        describe(&path, &error.into_inner())
    })?;
    json.end().map_err(|error| describe(".", &error))?;
    Ok(value)
}

fn describe(path: &str, error: &serde_json::Error) -> ApiError {
    let message = error.to_string();
    let path = if path == "." { "" } else { path };
    // What serde says of fields that are not there, or not known, is about the object around them.
    for kind in ["unknown", "missing", "duplicate"] {
        let named = message.strip_prefix(&format!("{kind} field `"));
        if let Some((field, _)) = named.and_then(|rest| rest.split_once('`')) {
            let parent = path.strip_suffix(field).unwrap_or(path).trim_end_matches('.');
            let field = if parent.is_empty() { field.into() } else { format!("{parent}.{field}") };
            let reason = match kind {
                "unknown" => "this field is not known here; leave it out",
                "missing" => "this field is missing",
                _ => "this field is there twice",
            };
            let error = ApiError::invalid(field, reason);
            return if kind == "unknown" { error.code("unknown_parameter") } else { error };
        }
    }
    if error.is_data() && !path.is_empty() {
        return ApiError::invalid(path, message);
    }
    ApiError::new(StatusCode::BAD_REQUEST, format!("the body is not what it should be: {message}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{ChatRequest, CompletionRequest};

    fn param<T: DeserializeOwned>(json: &str) -> Option<String> {
        parse::<T>(json.as_bytes()).err().expect(json).body().error.param
    }

    #[test]
    fn errors_name_the_field() {
        for (json, field) in [
            (r#"{"prompt":"a","best":1}"#, Some("best")),
            (r#"{"max_tokens":1}"#, Some("prompt")),
            (r#"{"prompt":"a","max_tokens":-1}"#, Some("max_tokens")),
            (r#"{"prompt":"a","max_tokens":1.5}"#, Some("max_tokens")),
            (r#"{"prompt":"a","suffix":"b"}"#, Some("suffix")),
            (r#"{"prompt":["a",1]}"#, Some("prompt[1]")),
            (r#"{"prompt":"a","prompt":"b"}"#, Some("prompt")),
            (r#"{"prompt":"a","stream_options":{"x":1}}"#, Some("stream_options.x")),
            (r#"{"prompt":"a"} x"#, None),
            (r#"{"prompt":"a""#, None),
            ("[]", None),
            ("", None),
        ] {
            assert_eq!(param::<CompletionRequest>(json).as_deref(), field, "{json}");
        }
        for (json, field) in [
            (
                r#"{"messages":[{"role":"user","content":[{"type":"text","x":1}]}]}"#,
                "messages[0].content[0].x",
            ),
            (r#"{"messages":[{"role":"user","content":3}]}"#, "messages[0].content"),
            (r#"{"messages":[{"content":"a"}]}"#, "messages[0].role"),
            (r#"{"messages":[],"audio":{}}"#, "audio"),
        ] {
            assert_eq!(param::<ChatRequest>(json).as_deref(), Some(field), "{json}");
        }
        let deep = format!("{{\"prompt\":{}", "[".repeat(100_000));
        assert!(parse::<CompletionRequest>(deep.as_bytes()).is_err());
    }

    #[test]
    fn what_other_clients_send_is_taken() {
        let json = r#"{"prompt":"a","user":"u","suffix":null,"metadata":{"a":"b"},"store":false}"#;
        parse::<CompletionRequest>(json.as_bytes()).expect("a good request");
        let json =
            r#"{"messages":[{"role":"user","content":"a","name":"n"}],"service_tier":"auto"}"#;
        parse::<ChatRequest>(json.as_bytes()).expect("a good request");
    }
}
