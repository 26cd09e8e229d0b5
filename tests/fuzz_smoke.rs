//! Every fuzz target over its seeds and some hundred changes of each, the same ones every time.
//!
//! `fuzz/` looks for new inputs; what it finds becomes a row of the hostile tests.

use halfbyte_tests::fuzzing::TARGETS;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// Changed inputs of each target.
const CHANGES: usize = 400;

/// One to eight changes: a byte, a cut, a doubled part, a number that is often wrong.
fn changed(seed: &[u8], rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=rng.next_u32() % 8 {
        if bytes.is_empty() {
            return bytes;
        }
        // Headers are at the front: half of the changes go there.
        let reach =
            if rng.next_u32().is_multiple_of(2) { bytes.len().min(300) } else { bytes.len() };
        let at = rng.next_u32() as usize % reach;
        match rng.next_u32() % 8 {
            0 => bytes.truncate(at),
            1 => {
                let part = bytes[at..bytes.len().min(at + 16)].to_vec();
                bytes.splice(at..at, part);
            }
            2 | 3 => {
                let word = [0, 1, u32::MAX, 1 << 31, 0x7fff_ffff][rng.next_u32() as usize % 5];
                for (byte, value) in bytes[at..].iter_mut().zip(word.to_le_bytes()) {
                    *byte = value;
                }
            }
            _ => bytes[at] = rng.next_u32().to_le_bytes()[0],
        }
    }
    bytes
}

#[test]
fn targets_survive_changed_seeds() {
    for target in TARGETS {
        let mut rng = ChaCha8Rng::seed_from_u64(9);
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty(), "{}: no seeds", target.name);
        (target.run)(&[]);
        seeds.iter().for_each(|seed| (target.run)(seed));
        for i in 0..CHANGES {
            let bytes = changed(&seeds[i % seeds.len()], &mut rng);
            let ran = std::panic::catch_unwind(|| (target.run)(&bytes));
            assert!(ran.is_ok(), "{}, change {i}", target.name);
        }
    }
}
