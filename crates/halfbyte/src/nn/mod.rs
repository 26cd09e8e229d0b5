//! The pieces of a transformer block on plain f32 rows, written in the kernels' lanes.

mod activation;
mod attention;
mod kv_cache;
mod linear;
mod low_rank;
mod norm;
mod qlinear;
mod rope;

pub(crate) use activation::{Activated, Activation};
pub(crate) use attention::{AttentionShape, Scratch, attention};
pub(crate) use kv_cache::CacheShape;
pub use kv_cache::{CacheType, KvCache};
pub(crate) use linear::Linear;
pub(crate) use low_rank::{
    LowRank, LowRankPart, LowRankSet, LowRankShape, LowRankSpace, LowRanks, RowsFrom,
};
pub(crate) use norm::{NormWeights, Stats};
pub use qlinear::QLinear;
pub(crate) use rope::Rope;
