//! What the server is: its model, its health, its numbers and its document.

use std::sync::OnceLock;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::openapi;
use crate::app::App;
use crate::error::ApiError;
use crate::wire::{Health, ModelCard, ModelList};

fn card(app: &App) -> ModelCard {
    let template = app.template().ok();
    let template = template.map(|template| match template.name() {
        Some(name) => format!("{name} ({})", template.origin().name()),
        None => template.origin().name().to_owned(),
    });
    ModelCard {
        id: app.id.clone(),
        object: "model",
        created: app.created,
        owned_by: "halfbyte",
        context_length: app.model.context_length(),
        architecture: app.model.config().architecture.name.to_owned(),
        chat_template: template,
    }
}

pub(super) async fn models(State(app): State<App>) -> Json<ModelList> {
    Json(ModelList { object: "list", data: vec![card(&app)] })
}

pub(super) async fn model(
    State(app): State<App>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<ModelCard>, ApiError> {
    let wrong = |error: PathRejection| ApiError::invalid("model", error.body_text());
    let Path(id) = id.map_err(wrong)?;
    if id == app.id {
        return Ok(Json(card(&app)));
    }
    let message = format!("no model is called {id:?}; the one that is served is {:?}", app.id);
    Err(ApiError::new(StatusCode::NOT_FOUND, message).code("model_not_found"))
}

pub(super) async fn health(State(app): State<App>) -> Response {
    if app.is_stopping() {
        return (StatusCode::SERVICE_UNAVAILABLE, Json(Health { status: "stopping" }))
            .into_response();
    }
    if !app.engine.is_alive() {
        return (StatusCode::SERVICE_UNAVAILABLE, Json(Health { status: "failed" }))
            .into_response();
    }
    Json(Health { status: "ok" }).into_response()
}

pub(super) async fn metrics(State(app): State<App>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], app.metrics.text()).into_response()
}

pub(super) async fn document() -> Response {
    // It takes milliseconds to write, and is always the same.
    static DOCUMENT: OnceLock<Bytes> = OnceLock::new();
    let document = DOCUMENT.get_or_init(|| openapi().to_string().into());
    ([(header::CONTENT_TYPE, "application/json")], document.clone()).into_response()
}
