//! What a model's passes cost, and what this machine could do at best.

use std::time::{Duration, Instant};

use super::decoder::Decoder;
use crate::kernels::{Packed, limits};

impl Decoder {
    /// Bytes of the packed weights in memory.
    pub fn packed_bytes(&self) -> usize {
        self.weights.n_bytes()
    }
    /// Bytes of packed weights that a pass over one token reads: all but the embedding.
    pub fn bytes_per_token(&self) -> usize {
        self.weights.bytes_per_token()
    }
    /// Multiplications and additions that a pass does in its matrices: for each new token, and for
    /// each row of logits.
    pub fn ops_per_token(&self) -> (u64, u64) {
        let head: u64 =
            self.weights.output.parts.iter().map(|(linear, _)| ops(linear.weight())).sum();
        (self.weights.matrices().map(ops).sum::<u64>() - head, head)
    }

    /// Reads the packed matrices once, as a pass over one token does, and computes nothing; returns
    /// how long that took. The limit of decoding.
    pub fn time_reading(&self) -> Duration {
        let parts: Vec<&[u8]> = self.weights.matrices().map(Packed::bytes).collect();
        self.threads.enter(|team| {
            let start = Instant::now();
            limits::read(team, &parts);
            start.elapsed()
        })
    }

    /// Multiplies int8 in registers for some milliseconds; returns operations per second. The limit
    /// of prompts.
    pub fn int8_ops_per_second(&self) -> f64 {
        self.threads.enter(|team| {
            let start = Instant::now();
            limits::multiply(team) as f64 / start.elapsed().as_secs_f64()
        })
    }
}

/// Operations of one token's product with `w`.
fn ops(w: &Packed) -> u64 {
    2 * w.n() as u64 * w.k() as u64
}
