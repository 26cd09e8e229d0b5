//! `/v1/embeddings`.

use std::time::{Duration, Instant};

use axum::extract::State;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::apart::{Load, Weight};
use crate::app::App;
use crate::engine::{Event, Job, Task, Ticket};
use crate::error::{ApiError, ApiResult};
use crate::json_body::JsonBody;
use crate::prompts;
use crate::wire::{
    Embedding, EmbeddingList, EmbeddingRequest, EmbeddingUsage, EmbeddingVector, EncodingFormat,
};

/// Most texts of one request, as in OpenAI's API.
const MAX_TEXTS: usize = 2048;

pub(super) async fn embeddings(
    State(app): State<App>,
    JsonBody(request, load): JsonBody<EmbeddingRequest>,
) -> ApiResult<Response> {
    let format = request.encoding_format.unwrap_or_default();
    let own = app.clone();
    let jobs = app.threads.run(load, Weight::Light, move || prepare(&own, request)).await?;
    let (n_texts, n_tokens) = (jobs.len(), jobs.iter().map(|job| job.tokens.len()).sum());
    let mut data: Vec<Embedding> = Vec::with_capacity(n_texts);
    let mut jobs = jobs.into_iter();
    // A request with many texts leaves places in the queue for others.
    let n_at_a_time = (app.options.queue / 4).clamp(1, 64);
    loop {
        let some: Vec<Job> = jobs.by_ref().take(n_at_a_time).collect();
        if some.is_empty() {
            break;
        }
        let n_wanted = data.len() + some.len();
        let mut ticket = submit(&app, some, !data.is_empty()).await?;
        while data.len() < n_wanted {
            match ticket.next().await {
                Some(Event::Embedding { job: index, vector }) => {
                    let embedding = write(&unit(vector), format);
                    data.push(Embedding { object: "embedding", index, embedding });
                }
                Some(Event::Failed(error)) => return Err(error),
                Some(_) => {}
                None => return Err(ApiError::internal("the scheduler ended")),
            }
        }
    }
    data.sort_unstable_by_key(|embedding| embedding.index);
    let usage = EmbeddingUsage { prompt_tokens: n_tokens, total_tokens: n_tokens };
    let weight = Weight::of(n_texts * app.model.config().hidden_size);
    let list = EmbeddingList { object: "list", data, model: app.id.clone(), usage };
    app.threads.reply(Load::default(), weight, move || Ok(list)).await
}

/// Hands jobs in; if the request `has_begun`, it waits for room in the queue.
async fn submit(app: &App, jobs: Vec<Job>, has_begun: bool) -> ApiResult<Ticket> {
    let deadline = app.options.timeout.map(|timeout| Instant::now() + timeout);
    let late = || deadline.is_some_and(|deadline| Instant::now() > deadline);
    while has_begun && !app.engine.has_room(jobs.len()) && !late() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    app.engine.submit(jobs)
}

fn prepare(app: &App, request: EmbeddingRequest) -> ApiResult<Vec<Job>> {
    let width = app.model.config().hidden_size;
    if request.dimensions.is_some_and(|n| n as usize != width) {
        let reason = format!("the model's vectors have {width} numbers, and no others");
        return Err(ApiError::invalid("dimensions", reason));
    }
    let texts = prompts::read(&app.model, request.input, ("input", MAX_TEXTS))?;
    let jobs = texts.into_iter().enumerate().map(|(index, text)| {
        // It is dropped before it computes anything; what is wrong with the text is found here.
        let purpose = halfbyte::generate::Purpose::Embedding;
        let reading = app.model.session().into_reading(&text.tokens, purpose);
        reading.map_err(|error| ApiError::of("input", &error))?;
        Ok(Job { index, tokens: text.tokens, task: Task::Embed })
    });
    jobs.collect()
}

/// The vector of length 1, as OpenAI's are: programs compare them by their products.
fn unit(mut vector: Vec<f32>) -> Vec<f32> {
    let length = vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
    if length > 0.0 {
        for x in &mut vector {
            *x = (f64::from(*x) / length) as f32;
        }
    }
    vector
}

fn write(vector: &[f32], format: EncodingFormat) -> EmbeddingVector {
    match format {
        EncodingFormat::Float => EmbeddingVector::Float(vector.to_vec()),
        EncodingFormat::Base64 => {
            let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
            EmbeddingVector::Base64(STANDARD.encode(bytes))
        }
    }
}
