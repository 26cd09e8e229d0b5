//! What a request is told when it cannot be answered, in OpenAI's shape.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::wire::{ErrorBody, ErrorDetail};

/// An answer that is an error.
#[derive(Clone, Debug)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    message: String,
    param: Option<String>,
    code: Option<&'static str>,
    retry_after: Option<u64>,
}

pub(crate) type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), param: None, code: None, retry_after: None }
    }

    /// The field `param` is wrong.
    pub(crate) fn invalid(param: impl Into<String>, reason: impl Into<String>) -> Self {
        let (param, reason) = (param.into(), reason.into());
        let message = format!("{param}: {reason}");
        Self { param: Some(param), ..Self::new(StatusCode::BAD_REQUEST, message) }
    }

    /// The queue is full; it may have room in `seconds`.
    pub(crate) fn busy(seconds: u64) -> Self {
        let message = format!("the queue is full; try again in {seconds} s");
        Self {
            retry_after: Some(seconds),
            code: Some("rate_limit_exceeded"),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, message)
        }
    }

    /// The server is about to end.
    pub(crate) fn stopping() -> Self {
        Self {
            retry_after: Some(5),
            code: Some("shutting_down"),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "the server is shutting down")
        }
    }

    /// The request took longer than it may.
    pub(crate) fn timeout(message: &str) -> Self {
        Self { code: Some("timeout"), ..Self::new(StatusCode::REQUEST_TIMEOUT, message) }
    }

    /// Nobody answers any more: a mistake of ours.
    pub(crate) fn internal(message: &str) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    pub(crate) fn code(self, code: &'static str) -> Self {
        Self { code: Some(code), ..self }
    }

    /// As `error`, of the field `param` if it is the request's at all.
    pub(crate) fn of(param: &str, error: &halfbyte::Error) -> Self {
        use halfbyte::Error;
        match error {
            Error::Config { field, reason } => {
                Self::invalid(api_name(field, param), reason.clone())
            }
            Error::ContextFull { needed, context_length } => {
                let reason = format!(
                    "{needed} tokens do not fit in the context of {context_length}; shorten it"
                );
                Self::invalid(param, reason).code("context_length_exceeded")
            }
            Error::Tokenizer(_) | Error::Template(_) => Self::invalid(param, error.to_string()),
            Error::OutOfMemory { .. } | Error::Threads { .. } => Self {
                retry_after: Some(5),
                ..Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
            },
            other => Self::internal(&other.to_string()),
        }
    }

    pub(crate) fn body(&self) -> ErrorBody {
        let kind = match self.status {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::FORBIDDEN => "permission_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        ErrorBody {
            error: ErrorDetail {
                message: self.message.clone(),
                kind: kind.to_owned(),
                param: self.param.clone(),
                code: self.code.map(str::to_owned),
            },
        }
    }
}

/// The request's name for a field of the library, whose prompt or text is the field `param`.
fn api_name<'a>(field: &'a str, param: &'a str) -> &'a str {
    match field {
        "max_new_tokens" => "max_tokens",
        "tokens" | "prompt" | "text" | "context" | "session" => param,
        other => other,
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body())).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::REQUEST_TIMEOUT {
            // What took too long once does so again; OpenAI's clients would try it twice more.
            headers.insert("x-should-retry", HeaderValue::from_static("false"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
