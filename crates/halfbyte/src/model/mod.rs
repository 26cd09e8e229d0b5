//! The model: architectures as data, weights, and the one forward pass.

mod architecture;
mod config;
mod decoder;
#[expect(clippy::module_inception, reason = "files are named after what they define")]
mod model;
mod overrides;
mod quantize;
mod weights;
mod workspace;

pub use crate::nn::{CacheType, KvCache};
pub use architecture::{ARCHITECTURES, Architecture, Mlp, Norm, Residual, Rotary};
pub use config::ModelConfig;
pub use decoder::{Batch, Decoder, Outputs, Step, Want};
pub use model::{Model, ModelOptions};
pub use overrides::Overrides;
pub use quantize::{QuantizeReport, QuantizeType, quantize};
pub use weights::packed_size;
