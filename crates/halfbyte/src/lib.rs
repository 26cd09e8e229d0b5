//! halfbyte runs 4-bit GPT-J, LLaMA, GPT-NeoX and T5 models on ordinary CPUs.
//!
//! ```no_run
//! use halfbyte::{GenerationConfig, Model};
//!
//! let model = Model::open("gpt-j-6b-q4_0.gguf")?;
//! let mut session = model.session();
//! for piece in session.generate("Once upon a time", &GenerationConfig::default())? {
//!     print!("{}", piece?.text);
//! }
//! # Ok::<(), halfbyte::Error>(())
//! ```
//!
//! The same input gives the same bits, for any number of threads, batch and instruction set. No
//! input panics: errors say which file, field or option is wrong, and what would be right.
//!
//! Letters in the documentation of shapes: `B` batch, `T` new tokens, `S` cached tokens, `H` heads,
//! `K` key/value heads, `D` elements of a head, `E` width of the residual stream, `F` feed-forward
//! width, `V` vocabulary. Matrices are (out, in), written (n, k); activations (m, k).

mod cancel;
mod error;
pub mod generate;
pub mod io;
#[expect(unsafe_code, reason = "SIMD intrinsics, and slices shared by threads")]
mod kernels;
pub mod model;
mod nn;
mod progress;
pub mod quant;
pub mod reference;
pub mod tokenizer;

pub use cancel::Cancel;
pub use error::{Error, Result};
pub use generate::{
    Chat, ChatTemplate, Completion, ContextPolicy, FinishReason, Generation, GenerationConfig,
    Hooks, Message, PROMPT_CHUNK, Piece, Role, Session,
};
pub use kernels::{Isa, IsaSupport, default_threads};
pub use model::{
    Adapter, Model, ModelOptions, Overrides, QuantizeReport, QuantizeType, quantize,
    quantize_merged,
};
pub use nn::QLinear;
pub use progress::Progress;
