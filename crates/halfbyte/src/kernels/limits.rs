//! What this machine can do at most: reading memory, and multiplying int8.

use std::hint::black_box;

use super::lanes::Lanes;
use super::{Brake, Op, Team};

/// Bytes that a thread reads at a time.
const READ_BYTES: usize = 1 << 20;

/// Reads all of `parts` once, each as one stream, with all threads.
pub(crate) fn read(team: &Team<'_>, parts: &[&[u8]]) {
    for part in parts {
        team.each(part.len().div_ceil(READ_BYTES), &Brake::none(), |i| {
            let end = part.len().min((i + 1) * READ_BYTES);
            black_box(team.isa().run(Read(&part[i * READ_BYTES..end])));
        });
    }
}

struct Read<'a>(&'a [u8]);

impl Op for Read<'_> {
    type Output = i32;

    #[inline(always)]
    fn run<L: Lanes>(self, isa: L) -> i32 {
        let mut acc = [isa.splat_i(0); 8];
        for lines in self.0.as_chunks::<64>().0.as_chunks::<8>().0 {
            for (acc, line) in acc.iter_mut().zip(lines) {
                *acc = isa.or_i(*acc, isa.line_as_i(isa.load_line(line)));
            }
        }
        acc.into_iter().fold(0, |sum, lanes| sum ^ isa.max_lanes(lanes))
    }
}

/// Multiplies and adds int8 in registers with all threads; returns the number of operations, two
/// for each multiplication with its addition.
pub(crate) fn multiply(team: &Team<'_>) -> u64 {
    let pieces = 64 * team.threads();
    team.each(pieces, &Brake::none(), |_| {
        black_box(team.isa().run(Multiply));
    });
    pieces as u64 * ROUNDS as u64 * CHAINS as u64 * 2 * 64
}

/// Independent sums: enough to hide the latency of a dot product.
const CHAINS: usize = 12;
/// Dot products of each sum in one piece: about 30 microseconds with VNNI.
const ROUNDS: usize = 8192;

struct Multiply;

impl Op for Multiply {
    type Output = i32;

    #[inline(always)]
    fn run<L: Lanes>(self, isa: L) -> i32 {
        let line = isa.load_line(black_box(&[3; 64]));
        let x = black_box(0x0102_0304);
        let mut acc = [isa.splat_i(0); CHAINS];
        for _ in 0..ROUNDS {
            for acc in &mut acc {
                *acc = isa.dot_u7(*acc, line, x);
            }
        }
        acc.into_iter().fold(0, |sum, lanes| sum ^ isa.max_lanes(lanes))
    }
}
