//! What requests ask for, as tokens and options of the library.

use std::sync::Arc;

use halfbyte::generate::{Message, Role};
use halfbyte::tokenizer::Specials;
use halfbyte::{GenerationConfig, Model};
use serde_json::{Value, json};

use crate::app::Shared;
use crate::engine::{Choice, Job, Task};
use crate::error::{ApiError, ApiResult};
use crate::grammar::{Rules, Source};
use crate::wire::{ChatMessage, MessageContent, Prompt, Sampling, Tool};

/// Most answers to one prompt.
const MAX_CHOICES: u32 = 8;

/// Most texts that end an answer.
const MAX_STOPS: usize = 16;

/// Bytes of one of them: every new token is compared with it.
const MAX_STOP_BYTES: usize = 1024;

/// Most tokens whose logits one request changes.
const MAX_BIASES: usize = 4096;

/// Most prompts of one request for new text.
pub(crate) const MAX_PROMPTS: usize = 256;

/// Log-probabilities that one request may be told, of about 30 bytes each.
const MAX_LOGPROBS: usize = 2_000_000;

/// Bytes of a token, at most, in a text that fits: few vocabularies have longer ones, and no text is
/// made of them. What is longer is not even cut into tokens.
const MAX_TOKEN_BYTES: usize = 128;

/// A prompt as it came and as tokens.
#[derive(Clone, Debug)]
pub(crate) struct Tokens {
    /// The text, if it came as one.
    pub(crate) text: Option<String>,
    pub(crate) tokens: Vec<u32>,
}

/// Refuses a text that is far too long for the context.
fn check_length(model: &Model, text: &str, param: &str) -> ApiResult<()> {
    let most = model.context_length().saturating_mul(MAX_TOKEN_BYTES);
    if text.len() <= most {
        return Ok(());
    }
    let context_length = model.context_length();
    let reason = format!(
        "{} bytes do not fit in the context of {context_length} tokens; shorten it",
        text.len()
    );
    Err(ApiError::invalid(param, reason).code("context_length_exceeded"))
}

/// The tokens of each text of the field `param`, which may have so many.
pub(crate) fn read(
    model: &Model,
    prompt: Prompt,
    (param, most): (&str, usize),
) -> ApiResult<Vec<Tokens>> {
    let of_text = |text: String| -> ApiResult<Tokens> {
        check_length(model, &text, param)?;
        let tokens = model.prompt_tokens(&text).map_err(|error| ApiError::of(param, &error))?;
        Ok(Tokens { text: Some(text), tokens })
    };
    let of_tokens = |tokens: Vec<u32>| Tokens { text: None, tokens };
    let many = |n: usize| match n {
        0 => Err(ApiError::invalid(param, "there is nothing in it")),
        n if n > most => {
            let reason = format!("{n} of them are above the limit of {most}");
            Err(ApiError::invalid(param, reason))
        }
        _ => Ok(()),
    };
    match prompt {
        Prompt::Text(text) => Ok(vec![of_text(text)?]),
        Prompt::Texts(texts) => {
            many(texts.len())?;
            texts.into_iter().map(of_text).collect()
        }
        Prompt::Tokens(tokens) => Ok(vec![of_tokens(tokens)]),
        Prompt::TokenLists(lists) => {
            many(lists.len())?;
            Ok(lists.into_iter().map(of_tokens).collect())
        }
    }
}

/// What an answer must follow: the request's grammar, or its schema.
///
/// A schema comes with the field that says it.
pub(crate) fn rules(
    grammar: Option<String>,
    schema: Option<(&'static str, Value)>,
) -> ApiResult<Option<Rules>> {
    match (grammar, schema) {
        (Some(_), Some((param, _))) => {
            let reason = format!("an answer cannot follow a grammar and a {param}");
            Err(ApiError::invalid("grammar", reason))
        }
        (Some(text), None) => Ok(Some(Rules { param: "grammar", source: Source::Lark(text) })),
        (None, Some((param, schema))) => Ok(Some(Rules { param, source: Source::Schema(schema) })),
        (None, None) => Ok(None),
    }
}

/// The library's options for a request, in OpenAI's defaults.
pub(crate) fn config(
    sampling: &Sampling,
    max_new_tokens: usize,
    logprobs: Option<u32>,
) -> ApiResult<GenerationConfig> {
    if sampling.stop.len() > MAX_STOPS {
        let reason = format!("{} texts are above the limit of {MAX_STOPS}", sampling.stop.len());
        return Err(ApiError::invalid("stop", reason));
    }
    if let Some(stop) = sampling.stop.iter().find(|stop| stop.len() > MAX_STOP_BYTES) {
        let reason = format!("{} bytes are above the limit of {MAX_STOP_BYTES}", stop.len());
        return Err(ApiError::invalid("stop", reason));
    }
    if sampling.logit_bias.len() > MAX_BIASES {
        let n = sampling.logit_bias.len();
        let reason = format!("{n} tokens are above the limit of {MAX_BIASES}");
        return Err(ApiError::invalid("logit_bias", reason));
    }
    if logprobs.is_some_and(|n| n > 20) {
        return Err(ApiError::invalid("logprobs", "is above 20"));
    }
    let logit_bias = sampling.logit_bias.iter().map(|(token, bias)| {
        let reason = || ApiError::invalid("logit_bias", format!("{token:?} is no token id"));
        Ok((token.parse().map_err(|_| reason())?, *bias))
    });
    let config = GenerationConfig {
        max_new_tokens,
        temperature: sampling.temperature.unwrap_or(1.0),
        top_k: sampling.top_k.unwrap_or(0) as usize,
        top_p: sampling.top_p.unwrap_or(1.0),
        min_p: sampling.min_p.unwrap_or(0.0),
        typical_p: sampling.typical_p.unwrap_or(1.0),
        repetition_penalty: sampling.repetition_penalty.unwrap_or(1.0),
        repeat_last_n: sampling.repeat_last_n.map_or(usize::MAX, |n| n as usize),
        presence_penalty: sampling.presence_penalty.unwrap_or(0.0),
        frequency_penalty: sampling.frequency_penalty.unwrap_or(0.0),
        logit_bias: logit_bias.collect::<ApiResult<_>>()?,
        seed: None,
        stop: sampling.stop.clone(),
        context_policy: None,
        ignore_eos: sampling.ignore_eos,
        logprobs: logprobs.map(|n| n as usize),
    };
    config.validate().map_err(|error| ApiError::of("prompt", &error))?;
    Ok(config)
}

/// The jobs of a request for new text: `n` answers to each prompt. Everything that could be wrong
/// with them is found here, before anything is computed.
pub(crate) fn jobs(
    app: &Shared,
    (prompts, param): (&[Tokens], &str),
    config: &GenerationConfig,
    sampling: &Sampling,
    (rules, score): (Option<Rules>, Option<usize>),
) -> ApiResult<Vec<Job>> {
    let n = sampling.n.unwrap_or(1);
    if !(1..=MAX_CHOICES).contains(&n) {
        return Err(ApiError::invalid("n", format!("{n} is not between 1 and {MAX_CHOICES}")));
    }
    let n_queued = prompts.len();
    if n_queued > app.options.queue {
        let reason = format!("{n_queued} prompts do not fit in the queue of {}", app.options.queue);
        return Err(ApiError::invalid(param, reason));
    }
    check_logprobs(app, prompts, config, (n, score))?;
    for prompt in prompts {
        // It is dropped before it computes anything.
        let generation = app.model.session().into_generation_tokens(&prompt.tokens, config);
        generation.map_err(|error| ApiError::of(param, &error))?;
    }
    if score.is_some() && app.model.config().encoder.is_some() {
        let reason = "an encoder-decoder model does not predict its prompt: without echo";
        return Err(ApiError::invalid("logprobs", reason));
    }
    let n_answers = prompts.len() * n as usize;
    let compile = |rules| app.grammars.compile(rules, n_answers);
    let grammar = rules.map(compile).transpose()?;
    let config = Arc::new(config.clone());
    let jobs = prompts.iter().enumerate().map(|(i, prompt)| {
        let choices = (0..n).map(|choice| {
            // A seed is any number; a negative one is as good as its bits.
            let seed = sampling.seed.map(|seed| (seed as u64).wrapping_add(u64::from(choice)));
            let index = i * n as usize + choice as usize;
            Choice { index, config: config.clone(), seed, grammar: grammar.clone() }
        });
        let task = Task::Write { choices: choices.collect(), score };
        Job { index: i, tokens: prompt.tokens.clone(), task }
    });
    Ok(jobs.collect())
}

/// Refuses a request that would be told more log-probabilities than one answer may hold.
fn check_logprobs(
    app: &Shared,
    prompts: &[Tokens],
    config: &GenerationConfig,
    (n, score): (u32, Option<usize>),
) -> ApiResult<()> {
    let Some(n_top) = config.logprobs else { return Ok(()) };
    let context_length = app.model.context_length();
    let places = prompts.iter().map(|prompt| {
        let read = prompt.tokens.len();
        let new = config.max_new_tokens.min(context_length.saturating_sub(read));
        new + score.map_or(0, |_| read)
    });
    let n_scores = places.sum::<usize>().saturating_mul(n as usize).saturating_mul(n_top + 1);
    if n_scores > MAX_LOGPROBS {
        let reason = format!(
            "up to {n_scores} of them are above the limit of {MAX_LOGPROBS}: ask for fewer, for \
             fewer tokens, or in several requests"
        );
        return Err(ApiError::invalid("logprobs", reason));
    }
    Ok(())
}

/// The prompt of a conversation; with `tools` that the model may call.
pub(crate) fn conversation(
    app: &Shared,
    messages: Vec<ChatMessage>,
    tools: &[Tool],
    add_generation_prompt: bool,
) -> ApiResult<Tokens> {
    if messages.is_empty() {
        return Err(ApiError::invalid("messages", "there is no message"));
    }
    let template = app.template()?;
    if !tools.is_empty() && !template.knows_tools() {
        return Err(ApiError::invalid("tools", "the model's chat template knows no tools"));
    }
    let calls = messages.iter().any(|message| {
        let has_calls = message.tool_calls.as_ref().is_some_and(|calls| !calls.is_empty());
        message.role == "tool" || has_calls
    });
    let failed = |error: halfbyte::Error| ApiError::of("messages", &error);
    let text = if tools.is_empty() && !calls {
        let plain = messages.into_iter().enumerate().map(|(i, message)| plain(i, message));
        template.apply(&plain.collect::<ApiResult<Vec<_>>>()?, add_generation_prompt)
    } else {
        let messages = messages.into_iter().enumerate().map(|(i, message)| full(i, message));
        let messages = messages.collect::<ApiResult<Vec<_>>>()?;
        let tools: Vec<Value> = tools.iter().map(|tool| json!(tool)).collect();
        template.apply_json(&messages, &tools, add_generation_prompt)
    };
    let text = text.map_err(failed)?;
    check_length(&app.model, &text, "messages")?;
    let tokenizer = app.model.tokenizer().map_err(failed)?;
    let tokens = tokenizer.encode_prompt(&text, Specials::Parse).map_err(failed)?;
    Ok(Tokens { text: Some(text), tokens })
}

fn role(i: usize, name: &str) -> ApiResult<&str> {
    match name {
        "developer" => Ok("system"),
        "system" | "user" | "assistant" | "tool" => Ok(name),
        other => {
            let reason = format!("{other:?} is none of system, developer, user, assistant, tool");
            Err(ApiError::invalid(format!("messages[{i}].role"), reason))
        }
    }
}

fn content(i: usize, content: Option<MessageContent>) -> ApiResult<Option<String>> {
    let parts = match content {
        None => return Ok(None),
        Some(MessageContent::Text(text)) => return Ok(Some(text)),
        Some(MessageContent::Parts(parts)) => parts,
    };
    let texts = parts.into_iter().enumerate().map(|(j, part)| match part.text {
        Some(text) if part.kind == "text" => Ok(text),
        _ => {
            let field = format!("messages[{i}].content[{j}].type");
            Err(ApiError::invalid(field, format!("{:?} is not text", part.kind)))
        }
    });
    texts.collect::<ApiResult<String>>().map(Some)
}

fn missing(i: usize) -> ApiError {
    ApiError::invalid(format!("messages[{i}].content"), "this field is missing")
}

/// A message that is a role and a text.
fn plain(i: usize, message: ChatMessage) -> ApiResult<Message> {
    let role = Role::from_name(role(i, &message.role)?).unwrap_or(Role::User);
    Ok(Message::new(role, content(i, message.content)?.ok_or_else(|| missing(i))?))
}

/// A message as a template with tools sees it.
fn full(i: usize, message: ChatMessage) -> ApiResult<Value> {
    let mut value = json!({ "role": role(i, &message.role)? });
    let calls = message.tool_calls.unwrap_or_default();
    let text = match content(i, message.content)? {
        None if calls.is_empty() => return Err(missing(i)),
        text => text.unwrap_or_default(),
    };
    value["content"] = text.into();
    if let Some(id) = message.tool_call_id {
        value["tool_call_id"] = id.into();
    }
    let calls = calls.into_iter().enumerate().map(|(j, call)| {
        let field = || format!("messages[{i}].tool_calls[{j}].function.arguments");
        // Templates write arguments as JSON, so they want them as what they are.
        let arguments: Value = serde_json::from_str(&call.function.arguments)
            .map_err(|error| ApiError::invalid(field(), error.to_string()))?;
        let function = json!({ "name": call.function.name, "arguments": arguments });
        Ok(json!({ "id": call.id, "type": call.kind, "function": function }))
    });
    let calls = calls.collect::<ApiResult<Vec<_>>>()?;
    if !calls.is_empty() {
        value["tool_calls"] = calls.into();
    }
    Ok(value)
}
