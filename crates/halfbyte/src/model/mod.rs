//! The model: architectures as data, weights, and the one forward pass.

mod adapted;
mod adapter;
mod architecture;
mod batch;
mod config;
mod decoder;
mod merge;
#[expect(clippy::module_inception, reason = "files are named after what they define")]
mod model;
mod overrides;
mod quantize;
mod weights;
mod workspace;

pub use crate::nn::{CacheType, KvCache};
pub use adapter::Adapter;
pub use architecture::{ARCHITECTURES, Architecture, Mlp, Norm, Residual, Rotary};
pub use batch::{Batch, Outputs, Step, Want};
pub use config::ModelConfig;
pub use decoder::Decoder;
pub use model::{Model, ModelOptions};
pub use overrides::Overrides;
pub use quantize::{QuantizeReport, QuantizeType, quantize, quantize_merged};
pub use weights::packed_size;
