//! `/v1/chat/completions`.

use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use crate::answers::{ChatEvents, ChatShape, collect, stream, whole_chat};
use crate::apart::{Load, Weight};
use crate::app::{App, now};
use crate::engine::Job;
use crate::error::{ApiError, ApiResult};
use crate::json_body::JsonBody;
use crate::prompts;
use crate::tools::{self, Calling};
use crate::wire::{ChatRequest, ResponseFormat};

pub(super) async fn chat(
    State(app): State<App>,
    JsonBody(request, load): JsonBody<ChatRequest>,
) -> ApiResult<Response> {
    let stream_it = request.stream.unwrap_or(false);
    let own = app.clone();
    let weight = weight(&request);
    let (jobs, shape) = app.threads.run(load, weight, move || prepare(&own, request)).await?;
    let n = shape.n;
    let ticket = app.engine.submit(jobs)?;
    if stream_it {
        return Ok(stream(&app, ticket, ChatEvents::new(shape)));
    }
    let answers = collect(ticket, 1, n).await?;
    let weight = Weight::of(answers.n_values());
    let whole = move || Ok(whole_chat(&shape, &answers));
    app.threads.reply(Load::default(), weight, whole).await
}

/// Grammars and schemas take long to compile.
fn weight(request: &ChatRequest) -> Weight {
    let plain = matches!(request.response_format, None | Some(ResponseFormat::Text {}));
    match request.tool_choice {
        None if plain && request.grammar.is_none() => Weight::Light,
        _ => Weight::Heavy,
    }
}

fn prepare(app: &App, request: ChatRequest) -> ApiResult<(Vec<Job>, ChatShape)> {
    let sampling = request.sampling();
    let logprobs = logprobs(&request)?;
    let tools = request.tools.unwrap_or_default();
    let calling = tools::calling(&tools, request.tool_choice.as_ref())?;
    let tools = if calling == Calling::Never { Vec::new() } else { tools };
    let schema = match (calling, request.response_format) {
        (
            Calling::Required(_),
            Some(ResponseFormat::JsonObject {} | ResponseFormat::JsonSchema { .. }),
        ) => {
            let reason = "an answer that must be a call has no other form";
            return Err(ApiError::invalid("response_format", reason));
        }
        (Calling::Required(schema), _) => Some(("tool_choice", schema)),
        (_, Some(ResponseFormat::JsonObject {})) => Some(("response_format", any_object())),
        (_, Some(ResponseFormat::JsonSchema { json_schema })) => {
            Some(("response_format", json_schema.schema.unwrap_or_else(any_object)))
        }
        (_, Some(ResponseFormat::Text {}) | None) => None,
    };
    let rules = prompts::rules(sampling.grammar.clone(), schema)?;
    let prompt = prompts::conversation(app, request.messages, &tools, true)?;
    let room = app.model.context_length().saturating_sub(prompt.tokens.len());
    let most = request.max_completion_tokens.or(request.max_tokens);
    let mut config = prompts::config(&sampling, most.map_or(room, |n| n as usize), logprobs)?;
    config.stop.extend(app.template()?.stop().iter().map(|&stop| stop.to_owned()));
    let jobs = prompts::jobs(app, (&[prompt], "messages"), &config, &sampling, (rules, None))?;
    let shape = ChatShape {
        model: app.model.clone(),
        id: app.answer_id("chatcmpl"),
        name: app.id.clone(),
        fingerprint: app.fingerprint.clone(),
        created: now(),
        n: sampling.n.unwrap_or(1) as usize,
        logprobs: logprobs.is_some(),
        include_usage: request.stream_options.and_then(|o| o.include_usage).unwrap_or(false),
        tools,
    };
    Ok((jobs, shape))
}

fn any_object() -> Value {
    json!({ "type": "object" })
}

/// How many most probable tokens are reported in each place; `None` for no scores at all.
fn logprobs(request: &ChatRequest) -> ApiResult<Option<u32>> {
    match (request.logprobs.unwrap_or(false), request.top_logprobs) {
        (_, Some(n)) if n > 20 => Err(ApiError::invalid("top_logprobs", "is above 20")),
        (true, n) => Ok(Some(n.unwrap_or(0))),
        (false, None | Some(0)) => Ok(None),
        (false, Some(_)) => Err(ApiError::invalid("top_logprobs", "wants logprobs to be true")),
    }
}
