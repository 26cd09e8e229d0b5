//! `/v1/completions`.

use axum::extract::State;
use axum::response::Response;

use crate::answers::{CompletionEvents, CompletionShape, collect, stream, whole_completion};
use crate::apart::{Load, Weight};
use crate::app::{App, now};
use crate::engine::Job;
use crate::error::{ApiError, ApiResult};
use crate::json_body::JsonBody;
use crate::prompts;
use crate::wire::CompletionRequest;

/// New tokens, if the request does not say how many: OpenAI's number.
const MAX_TOKENS: u32 = 16;

pub(super) async fn completions(
    State(app): State<App>,
    JsonBody(request, load): JsonBody<CompletionRequest>,
) -> ApiResult<Response> {
    let stream_it = request.stream.unwrap_or(false);
    let own = app.clone();
    let weight = if request.grammar.is_some() { Weight::Heavy } else { Weight::Light };
    let (jobs, shape) = app.threads.run(load, weight, move || prepare(&own, request)).await?;
    let (n_prompts, n_answers) = (shape.prompts.len(), shape.prompts.len() * shape.per_prompt);
    let ticket = app.engine.submit(jobs)?;
    if stream_it {
        return Ok(stream(&app, ticket, CompletionEvents::new(shape)));
    }
    let answers = collect(ticket, n_prompts, n_answers).await?;
    let weight = Weight::of(answers.n_values());
    let whole = move || Ok(whole_completion(&shape, &answers));
    app.threads.reply(Load::default(), weight, whole).await
}

fn prepare(app: &App, request: CompletionRequest) -> ApiResult<(Vec<Job>, CompletionShape)> {
    let sampling = request.sampling();
    let n = sampling.n.unwrap_or(1);
    if request.best_of.is_some_and(|best| best != n) {
        let reason = format!("only the number of answers, n = {n}, is supported");
        return Err(ApiError::invalid("best_of", reason));
    }
    let most = request.max_tokens.unwrap_or(MAX_TOKENS) as usize;
    let config = prompts::config(&sampling, most, request.logprobs)?;
    let rules = prompts::rules(sampling.grammar.clone(), None)?;
    let prompts = prompts::read(&app.model, request.prompt, ("prompt", prompts::MAX_PROMPTS))?;
    let echo = request.echo.unwrap_or(false);
    let score = request.logprobs.filter(|_| echo).map(|n| n as usize);
    let jobs = prompts::jobs(app, (&prompts, "prompt"), &config, &sampling, (rules, score))?;
    let shape = CompletionShape {
        model: app.model.clone(),
        id: app.answer_id("cmpl"),
        name: app.id.clone(),
        fingerprint: app.fingerprint.clone(),
        created: now(),
        prompts,
        per_prompt: n as usize,
        echo,
        logprobs: request.logprobs.is_some(),
        include_usage: request.stream_options.and_then(|o| o.include_usage).unwrap_or(false),
    };
    Ok((jobs, shape))
}
