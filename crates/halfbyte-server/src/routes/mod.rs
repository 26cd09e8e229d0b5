//! The endpoints, one row each: a new one is a new row and its handler.

mod chat;
mod completions;
mod embeddings;
mod info;
mod openapi;
mod page;
mod responses;
mod tokens;

use axum::Router;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use schemars::{Schema, SchemaGenerator};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowHeaders, AllowOrigin, Any, CorsLayer};

use crate::app::App;
use crate::error::ApiError;
use crate::guard::guard;
use crate::names::Origin;
use crate::wire;

pub use openapi::openapi;

/// An endpoint.
struct Route {
    path: &'static str,
    /// What it does, for the document.
    summary: &'static str,
    /// Whether it is answered without the server's key.
    open: bool,
    handler: fn() -> MethodRouter<App>,
    /// What its body must be; none for GET.
    request: Option<fn(&mut SchemaGenerator) -> Schema>,
    answer: Answer,
}

/// What an endpoint answers.
enum Answer {
    /// JSON.
    Json(fn(&mut SchemaGenerator) -> Schema),
    /// JSON, or server-sent events of JSON if the request asks for a stream.
    Stream(fn(&mut SchemaGenerator) -> Schema, fn(&mut SchemaGenerator) -> Schema),
    /// A text of this type.
    Text(&'static str),
}

fn schema<T: schemars::JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

static ROUTES: &[Route] = &[
    Route {
        path: "/v1/chat/completions",
        summary: "The next message of a conversation.",
        open: false,
        handler: || post(chat::chat),
        request: Some(schema::<wire::ChatRequest>),
        answer: Answer::Stream(schema::<wire::ChatCompletion>, schema::<wire::ChatChunk>),
    },
    Route {
        path: "/v1/completions",
        summary: "Text that goes on from a prompt.",
        open: false,
        handler: || post(completions::completions),
        request: Some(schema::<wire::CompletionRequest>),
        answer: Answer::Stream(schema::<wire::Completion>, schema::<wire::Completion>),
    },
    Route {
        path: "/v1/responses",
        summary: "An answer, in OpenAI's newer form.",
        open: false,
        handler: || post(responses::responses),
        request: Some(schema::<wire::ResponseRequest>),
        answer: Answer::Stream(schema::<wire::ResponseObject>, schema::<wire::ResponseEvent>),
    },
    Route {
        path: "/v1/embeddings",
        summary: "Vectors for texts.",
        open: false,
        handler: || post(embeddings::embeddings),
        request: Some(schema::<wire::EmbeddingRequest>),
        answer: Answer::Json(schema::<wire::EmbeddingList>),
    },
    Route {
        path: "/v1/models",
        summary: "The models that are served.",
        open: false,
        handler: || get(info::models),
        request: None,
        answer: Answer::Json(schema::<wire::ModelList>),
    },
    Route {
        path: "/v1/models/{*model}",
        summary: "A model that is served.",
        open: false,
        handler: || get(info::model),
        request: None,
        answer: Answer::Json(schema::<wire::ModelCard>),
    },
    Route {
        path: "/tokenize",
        summary: "The tokens of a text.",
        open: false,
        handler: || post(tokens::tokenize),
        request: Some(schema::<wire::TokenizeRequest>),
        answer: Answer::Json(schema::<wire::Tokenized>),
    },
    Route {
        path: "/detokenize",
        summary: "The text of tokens.",
        open: false,
        handler: || post(tokens::detokenize),
        request: Some(schema::<wire::DetokenizeRequest>),
        answer: Answer::Json(schema::<wire::Detokenized>),
    },
    Route {
        path: "/tokenizer_info",
        summary: "What the tokenizer is.",
        open: false,
        handler: || get(tokens::info),
        request: None,
        answer: Answer::Json(schema::<wire::TokenizerInfo>),
    },
    Route {
        path: "/apply-template",
        summary: "The prompt that a conversation becomes.",
        open: false,
        handler: || post(tokens::apply_template),
        request: Some(schema::<wire::ApplyTemplateRequest>),
        answer: Answer::Json(schema::<wire::AppliedTemplate>),
    },
    Route {
        path: "/metrics",
        summary: "Counters and times in Prometheus' format.",
        open: false,
        handler: || get(info::metrics),
        request: None,
        answer: Answer::Text("text/plain; version=0.0.4"),
    },
    Route {
        path: "/health",
        summary: "Whether the server takes requests.",
        open: true,
        handler: || get(info::health),
        request: None,
        answer: Answer::Json(schema::<wire::Health>),
    },
    Route {
        path: "/openapi.json",
        summary: "This document.",
        open: true,
        handler: || get(info::document),
        request: None,
        answer: Answer::Json(schema::<serde_json::Value>),
    },
];

/// Whether `route` is answered without the server's key.
pub(crate) fn is_open(route: &str) -> bool {
    let row = ROUTES.iter().find(|row| row.path == route);
    row.map_or_else(|| page::is_page(route), |row| row.open)
}

/// All endpoints and the page, behind the guard.
pub(crate) fn router(app: &App) -> Router {
    let mut router = Router::new();
    for row in ROUTES {
        router = router.route(row.path, (row.handler)());
    }
    let router = page::routes(router).fallback(nowhere).method_not_allowed_fallback(wrong_method);
    let router = router.layer(CatchPanicLayer::custom(panicked));
    let router = router.layer(from_fn_with_state(app.clone(), guard));
    // Around the guard, so that pages can read why they are refused.
    let router = match &app.options.cors_origins[..] {
        [] => router,
        origins => router.layer(cors(origins)),
    };
    router.with_state(app.clone())
}

fn cors(origins: &[Origin]) -> CorsLayer {
    let allowed = if origins.iter().any(Origin::is_any) {
        AllowOrigin::from(Any)
    } else {
        AllowOrigin::list(origins.iter().filter_map(|origin| origin.as_str().parse().ok()))
    };
    CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::POST])
        // OpenAI's clients send a dozen of their own.
        .allow_headers(AllowHeaders::mirror_request())
}

async fn nowhere(uri: Uri) -> ApiError {
    let message = format!("there is nothing at {}", uri.path());
    ApiError::new(StatusCode::NOT_FOUND, message).code("not_found")
}

async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    let message = format!("{} does not take {method}", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, message)
}

fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    ApiError::internal("a mistake in the server; please report it").into_response()
}
