//! `/v1/embeddings`.

use axum::Json;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::app::{App, apart};
use crate::engine::{Event, Job, Task};
use crate::error::{ApiError, ApiResult};
use crate::json_body::JsonBody;
use crate::prompts;
use crate::wire::{
    Embedding, EmbeddingList, EmbeddingRequest, EmbeddingUsage, EmbeddingVector, EncodingFormat,
};

pub(super) async fn embeddings(
    State(app): State<App>,
    JsonBody(request): JsonBody<EmbeddingRequest>,
) -> ApiResult<Json<EmbeddingList>> {
    let format = request.encoding_format.unwrap_or_default();
    let own = app.clone();
    let jobs = apart(move || prepare(&own, request)).await?;
    let (n_texts, n_tokens) = (jobs.len(), jobs.iter().map(|job| job.tokens.len()).sum());
    let mut ticket = app.engine.submit(jobs)?;
    let mut data: Vec<Option<Embedding>> = vec![None; n_texts];
    while data.iter().any(Option::is_none) {
        match ticket.next().await {
            Some(Event::Embedding { job: index, vector }) => {
                let embedding = write(&unit(vector), format);
                data[index] = Some(Embedding { object: "embedding", index, embedding });
            }
            Some(Event::Failed(error)) => return Err(error),
            Some(_) => {}
            None => return Err(ApiError::internal("the scheduler ended")),
        }
    }
    let usage = EmbeddingUsage { prompt_tokens: n_tokens, total_tokens: n_tokens };
    let data = data.into_iter().flatten().collect();
    Ok(Json(EmbeddingList { object: "list", data, model: app.id.clone(), usage }))
}

fn prepare(app: &App, request: EmbeddingRequest) -> ApiResult<Vec<Job>> {
    let width = app.model.config().hidden_size;
    if request.dimensions.is_some_and(|n| n as usize != width) {
        let reason = format!("the model's vectors have {width} numbers, and no others");
        return Err(ApiError::invalid("dimensions", reason));
    }
    let texts = prompts::read(&app.model, request.input, "input")?;
    if texts.len() > app.options.queue {
        let reason =
            format!("{} texts do not fit in the queue of {}", texts.len(), app.options.queue);
        return Err(ApiError::invalid("input", reason));
    }
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
