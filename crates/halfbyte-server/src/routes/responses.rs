//! `/v1/responses`.

use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use crate::answers::{ResponseEvents, ResponseShape, collect, stream, whole_response};
use crate::apart::{Load, Weight};
use crate::app::{App, now};
use crate::engine::Job;
use crate::error::{ApiError, ApiResult};
use crate::json_body::JsonBody;
use crate::prompts;
use crate::wire::{
    ChatMessage, ContentPart, InputContent, InputItem, MessageContent, ResponseInput,
    ResponseRequest, Sampling, TextFormat,
};

pub(super) async fn responses(
    State(app): State<App>,
    JsonBody(request, load): JsonBody<ResponseRequest>,
) -> ApiResult<Response> {
    let stream_it = request.stream.unwrap_or(false);
    let own = app.clone();
    let weight = if request.text.is_some() { Weight::Heavy } else { Weight::Light };
    let (jobs, shape) = app.threads.run(load, weight, move || prepare(&own, request)).await?;
    let ticket = app.engine.submit(jobs)?;
    if stream_it {
        return Ok(stream(&app, ticket, ResponseEvents::new(shape)));
    }
    let answers = collect(ticket, 1, 1).await?;
    let weight = Weight::of(answers.n_values());
    let answer = answers.answers.into_iter().next().unwrap_or_default();
    app.threads.reply(Load::default(), weight, move || Ok(whole_response(&shape, &answer))).await
}

fn prepare(app: &App, request: ResponseRequest) -> ApiResult<(Vec<Job>, ResponseShape)> {
    let sampling = Sampling {
        temperature: request.temperature,
        top_p: request.top_p,
        seed: request.seed,
        ..Sampling::default()
    };
    let schema = schema(request.text.and_then(|text| text.format))?;
    let rules = prompts::rules(None, schema)?;
    let messages = messages(request.instructions.clone(), request.input)?;
    let prompt = prompts::conversation(app, messages, &[], true)?;
    let room = app.model.context_length().saturating_sub(prompt.tokens.len());
    let most = request.max_output_tokens.map_or(room, |n| n as usize);
    let mut config = prompts::config(&sampling, most, None)?;
    config.stop.extend(app.template()?.stop().iter().map(|&stop| stop.to_owned()));
    let jobs = prompts::jobs(app, (&[prompt], "input"), &config, &sampling, (rules, None))?;
    let shape = ResponseShape {
        id: app.answer_id("resp"),
        name: app.id.clone(),
        created: now(),
        instructions: request.instructions,
        temperature: config.temperature,
        top_p: config.top_p,
    };
    Ok((jobs, shape))
}

fn schema(format: Option<TextFormat>) -> ApiResult<Option<(&'static str, Value)>> {
    let Some(format) = format else { return Ok(None) };
    let any = || json!({ "type": "object" });
    match format.kind.as_str() {
        "text" => Ok(None),
        "json_object" => Ok(Some(("text.format", any()))),
        "json_schema" => Ok(Some(("text.format", format.schema.unwrap_or_else(any)))),
        other => {
            let reason = format!("{other:?} is none of text, json_object, json_schema");
            Err(ApiError::invalid("text.format.type", reason))
        }
    }
}

/// The conversation as `/v1/chat/completions` has it.
fn messages(instructions: Option<String>, input: ResponseInput) -> ApiResult<Vec<ChatMessage>> {
    let mut all: Vec<ChatMessage> = instructions
        .map(|text| message("system", MessageContent::Text(text)))
        .into_iter()
        .collect();
    match input {
        ResponseInput::Text(text) => all.push(message("user", MessageContent::Text(text))),
        ResponseInput::Items(items) => {
            for (i, item) in items.into_iter().enumerate() {
                all.push(of_item(i, item)?);
            }
        }
    }
    Ok(all)
}

fn message(role: &str, content: MessageContent) -> ChatMessage {
    ChatMessage { role: role.to_owned(), content: Some(content), ..ChatMessage::default() }
}

fn of_item(i: usize, item: InputItem) -> ApiResult<ChatMessage> {
    let wrong = |field: String, kind: &str| {
        Err(ApiError::invalid(format!("input[{i}].{field}"), format!("{kind:?} is not supported")))
    };
    if let Some(kind) = item.kind.filter(|kind| kind != "message") {
        return wrong("type".to_owned(), &kind);
    }
    if !["system", "developer", "user", "assistant"].contains(&item.role.as_str()) {
        return wrong("role".to_owned(), &item.role);
    }
    let parts = match item.content {
        InputContent::Text(text) => return Ok(message(&item.role, MessageContent::Text(text))),
        InputContent::Parts(parts) => parts,
    };
    let mut texts = Vec::with_capacity(parts.len());
    for (j, part) in parts.into_iter().enumerate() {
        let is_text = part.kind == "input_text" || part.kind == "output_text";
        let Some(text) = part.text.filter(|_| is_text) else {
            return wrong(format!("content[{j}].type"), &part.kind);
        };
        texts.push(ContentPart {
            kind: "text".to_owned(),
            text: Some(text),
            ..ContentPart::default()
        });
    }
    Ok(message(&item.role, MessageContent::Parts(texts)))
}
