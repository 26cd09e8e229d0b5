//! From a prompt to text: sessions, sampling, stop strings, chat, scoring and embeddings.
//!
//! Start with [`Session::generate`]. This module knows tokens, logits and text; it knows nothing
//! of weights, and it never looks into a file.

mod batch;
mod chat;
mod config;
mod embed;
mod generation;
mod hooks;
mod jinja;
mod jinja_source;
mod likelihood;
mod outcome;
mod python_json;
mod sampler;
mod score;
mod session;
mod session_file;
mod stop;
mod strftime;
mod template;
mod templates_builtin;

pub use chat::{Chat, Message, Role};
pub use config::{ContextPolicy, GenerationConfig};
pub use generation::{Generation, PROMPT_CHUNK};
pub use hooks::{Hooks, LogitsProcessor};
pub use likelihood::LogLikelihood;
pub use outcome::{Completion, FinishReason, Piece, Timings, TokenLogprob, Usage};
pub use score::Perplexity;
pub use session::Session;
pub use template::{ChatTemplate, TemplateOrigin};
pub use templates_builtin::{BUILTIN_TEMPLATES, BuiltinTemplate};
