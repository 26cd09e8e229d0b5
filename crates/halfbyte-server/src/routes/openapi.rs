//! The OpenAPI document, made from the table of endpoints and the wire types.

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::{Answer, ROUTES, Route};
use crate::wire::ErrorBody;

/// The OpenAPI 3.1 document of the server.
#[must_use]
pub fn openapi() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let mut paths = Map::new();
    for row in ROUTES {
        let method = if row.request.is_some() { "post" } else { "get" };
        let operation = operation(row, &mut generator);
        // A name may have slashes, which the document cannot say.
        paths.insert(row.path.replace("{*", "{"), json!({ method: operation }));
    }
    let schemas = generator.take_definitions(true);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "halfbyte",
            "description": "An OpenAI-compatible server over one model.",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": { "key": { "type": "http", "scheme": "bearer" } },
        },
    })
}

fn operation(row: &Route, generator: &mut SchemaGenerator) -> Value {
    let mut answers = Map::new();
    answers.insert("200".to_owned(), answer(&row.answer, generator));
    let error = json!({ "application/json": { "schema": generator.subschema_for::<ErrorBody>() } });
    answers.insert(
        "4XX".to_owned(),
        json!({ "description": "The request cannot be answered.", "content": error }),
    );
    answers.insert(
        "5XX".to_owned(),
        json!({ "description": "The server is about to end, or has no memory.", "content": error }),
    );
    let mut operation = json!({
        "summary": row.summary,
        "operationId": row.path.trim_matches('/').replace('*', "").replace(['/', '.', '{', '}', '-'], "_"),
        "responses": answers,
        // With --api-key; without, nobody asks.
        "security": if row.open { json!([]) } else { json!([{}, { "key": [] }]) },
    });
    if let Some(request) = row.request {
        let content = json!({ "application/json": { "schema": request(generator) } });
        operation["requestBody"] = json!({ "required": true, "content": content });
    }
    let parameters: Vec<Value> = row
        .path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| name.trim_start_matches('*'))
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
        .collect();
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    operation
}

fn answer(answer: &Answer, generator: &mut SchemaGenerator) -> Value {
    let content = match answer {
        Answer::Json(schema) => json!({ "application/json": { "schema": schema(generator) } }),
        Answer::Stream(schema, event) => json!({
            "application/json": { "schema": schema(generator) },
            "text/event-stream": {
                "schema": { "type": "string" },
                "x-event": event(generator),
            },
        }),
        Answer::Text(kind) => json!({ *kind: { "schema": { "type": "string" } } }),
    };
    json!({ "description": "The answer.", "content": content })
}
