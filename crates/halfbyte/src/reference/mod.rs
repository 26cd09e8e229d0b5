//! The forward pass in plain candle f32 tensors: the specification that [`Decoder`] is tested by.
//!
//! Slow on purpose: no cache, no packing, no fused kernels; every step is one tensor operation in
//! the order of the paper. T5's encoder is candle-transformers' own. A quantized file is seen as its
//! dequantized weights. Only tests and the command line's `--reference` use it. Start reading in
//! `model.rs`, then `block.rs`.
//!
//! [`Decoder`]: crate::model::Decoder

mod block;
mod model;
mod rope;
mod t5;
mod weights;

pub use model::Reference;
pub use t5::ReferenceT5;
