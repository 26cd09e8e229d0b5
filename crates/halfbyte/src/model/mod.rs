//! The model: architectures as data, weights, and the one forward pass.

mod adapted;
mod adapter;
mod architecture;
mod batch;
mod cache;
mod config;
mod decoder;
mod encoder;
mod loader;
mod measure;
mod merge;
#[expect(clippy::module_inception, reason = "files are named after what they define")]
mod model;
mod overrides;
mod quantize;
mod weights;
mod workspace;

pub use crate::nn::CacheType;
pub use adapter::Adapter;
pub use architecture::{ARCHITECTURES, Architecture, Mlp, Norm, Residual, Rotary};
pub use batch::{Batch, Outputs, Step, Want};
pub use cache::KvCache;
pub use config::{EncoderConfig, ModelConfig};
pub use decoder::Decoder;
pub use model::{Model, ModelOptions};
pub use overrides::Overrides;
pub use quantize::{QuantizeReport, QuantizeType, quantize, quantize_merged};
pub use weights::packed_size;
