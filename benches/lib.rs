//! What the benchmarks share: models of real shapes with random weights.
//!
//! No weights can be downloaded where benchmarks run, and speed does not depend on what the
//! weights say. Start reading at [`synth`].

pub mod synth;
