//! The pieces of a transformer block on plain f32 rows, written in the kernels' lanes.

mod activation;
mod attention;
mod block_cache;
mod linear;
mod low_rank;
mod norm;
mod qlinear;
mod relative;
mod rope;

pub(crate) use activation::{Activated, Activation};
pub(crate) use attention::{AttentionShape, Bias, Scratch, Sight, attention};
pub use block_cache::CacheType;
pub(crate) use block_cache::{BlockCache, CacheShape};
pub(crate) use linear::Linear;
pub(crate) use low_rank::{
    LowRank, LowRankPart, LowRankSet, LowRankShape, LowRankSpace, LowRanks, RowsFrom,
};
pub(crate) use norm::{NormWeights, Stats};
pub use qlinear::QLinear;
pub(crate) use relative::{BiasTable, RelativeBias};
pub(crate) use rope::Rope;
