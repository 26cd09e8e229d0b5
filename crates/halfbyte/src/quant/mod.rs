//! Weight encodings: how numbers are stored in a file, and how they become f32 and back.
//!
//! Start at [`Encoding`] and its table in `encoding.rs`: one row per encoding, with its sizes and
//! functions. The families' files hold those functions, one block at a time; `blocks.rs` runs them
//! over rows; `fit.rs` is the least-squares search of the encoders that choose their scales.
//! `pack.rs` turns a file's rows into the kernels' packed forms, by the transposition in
//! `interleave.rs`.

mod blocks;
mod codebook;
mod encoding;
mod fit;
mod float;
mod interleave;
mod k_encode;
mod k_quants;
mod legacy;
mod pack;
mod simple;
mod widen;

pub use encoding::Encoding;
pub(crate) use legacy::{modern, modernize};
pub(crate) use pack::{pack, pack_and, packed_bytes};
