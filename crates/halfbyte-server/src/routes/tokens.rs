//! `/tokenize`, `/detokenize`, `/tokenizer_info`, `/apply-template`.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use halfbyte::tokenizer::{Specials, Tokenizer};

use crate::apart::Weight;
use crate::app::{App, Shared};
use crate::error::{ApiError, ApiResult};
use crate::json_body::JsonBody;
use crate::prompts;
use crate::wire::{
    AppliedTemplate, ApplyTemplateRequest, DetokenizeRequest, Detokenized, TokenizeRequest,
    Tokenized, TokenizerInfo,
};

fn tokenizer(app: &Shared) -> ApiResult<&Tokenizer> {
    app.model.tokenizer().map_err(|error| ApiError::of("model", &error))
}

pub(super) async fn tokenize(
    State(app): State<App>,
    JsonBody(request, load): JsonBody<TokenizeRequest>,
) -> ApiResult<Response> {
    let own = app.clone();
    let work = move || {
        let app = own;
        let tokenizer = tokenizer(&app)?;
        let parse = request.parse_special.unwrap_or(true);
        let specials = if parse { Specials::Parse } else { Specials::AsText };
        let tokens = if request.add_special_tokens.unwrap_or(true) {
            tokenizer.encode_prompt(&request.prompt, specials)
        } else {
            tokenizer.encode(&request.prompt, specials)
        };
        let tokens = tokens.map_err(|error| ApiError::of("prompt", &error))?;
        let text = |&id| tokenizer.token_text(id).unwrap_or_default();
        let wanted = request.return_token_strs.unwrap_or(false);
        let token_strs = wanted.then(|| tokens.iter().map(text).collect());
        let (count, max_model_len) = (tokens.len(), app.model.context_length());
        Ok(Tokenized { tokens, count, max_model_len, token_strs })
    };
    app.threads.reply(load, Weight::Light, work).await
}

pub(super) async fn detokenize(
    State(app): State<App>,
    JsonBody(request, load): JsonBody<DetokenizeRequest>,
) -> ApiResult<Response> {
    let own = app.clone();
    let work = move || {
        let app = own;
        let vocab_size = app.model.config().vocab_size;
        if let Some(i) = request.tokens.iter().position(|&id| id as usize >= vocab_size) {
            let reason = format!("{} is outside the vocabulary of {vocab_size}", request.tokens[i]);
            return Err(ApiError::invalid(format!("tokens[{i}]"), reason));
        }
        let prompt = tokenizer(&app)?.decode(&request.tokens);
        Ok(Detokenized { content: prompt.clone(), prompt })
    };
    app.threads.reply(load, Weight::Light, work).await
}

pub(super) async fn info(State(app): State<App>) -> ApiResult<Json<TokenizerInfo>> {
    let tokenizer = tokenizer(&app)?;
    let text = |id: Option<u32>| id.and_then(|id| tokenizer.token_text(id));
    let template = app.model.metadata().str("tokenizer.chat_template").ok().flatten();
    Ok(Json(TokenizerInfo {
        tokenizer_class: tokenizer.kind().to_owned(),
        vocab_size: tokenizer.vocab_size(),
        model_max_length: app.model.context_length(),
        bos_token: text(tokenizer.bos()),
        bos_token_id: tokenizer.bos(),
        add_bos_token: tokenizer.adds_bos(),
        eos_token: text(tokenizer.eos()),
        eos_token_id: tokenizer.eos(),
        pad_token: text(tokenizer.eos()),
        chat_template: template.map(str::to_owned),
    }))
}

pub(super) async fn apply_template(
    State(app): State<App>,
    JsonBody(request, load): JsonBody<ApplyTemplateRequest>,
) -> ApiResult<Response> {
    let own = app.clone();
    let work = move || {
        let app = own;
        let tools = request.tools.unwrap_or_default();
        let add = request.add_generation_prompt.unwrap_or(true);
        let prompt = prompts::conversation(&app, request.messages, &tools, add)?;
        let text = prompt.text.unwrap_or_default();
        Ok(AppliedTemplate { prompt: text, tokens: prompt.tokens })
    };
    app.threads.reply(load, Weight::Light, work).await
}
