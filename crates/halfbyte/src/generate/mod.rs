//! From a prompt to text: sessions, sampling, stop strings, chat, scoring and embeddings.
//!
//! Start with [`Session::generate`]. This module knows tokens, logits and text; it knows nothing
//! of weights, and of a model's file it reads no more than metadata.

mod batch;
mod chat;
mod config;
mod divergence;
mod embed;
mod generation;
mod hooks;
mod jinja;
mod jinja_source;
mod likelihood;
mod log_prob_file;
mod outcome;
mod pool;
mod protocol;
mod python_json;
mod reading;
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
pub use divergence::{Comparison, Divergence, KL_QUANTILES};
pub use generation::{Generation, PROMPT_CHUNK};
pub use hooks::{Hooks, LogitsProcessor};
pub use likelihood::{LikelihoodBatch, LogLikelihood};
pub use log_prob_file::LogProbFile;
pub use outcome::{Completion, FinishReason, Piece, ScoredToken, Timings, TokenLogprob, Usage};
pub use pool::{Advance, Pool, Share, Work};
pub use protocol::Protocol;
pub use reading::{Purpose, Reading};
pub use score::Perplexity;
pub use session::Session;
pub use template::{ChatTemplate, TemplateOrigin};
pub use templates_builtin::{BUILTIN_TEMPLATES, BuiltinTemplate};
