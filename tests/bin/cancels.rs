//! Pulls the brake of a large model at random moments, and compares what comes next with a fresh
//! session: `cancels MODEL [TIMES]`, in a release build for figures that mean something.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use halfbyte::{Cancel, FinishReason, GenerationConfig, Hooks, Model, Piece, Session};
use halfbyte_tests::puller::{Puller, at};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

/// Moments lie within the first so many microseconds of a prompt of 200 tokens and what follows.
const MOMENTS: u64 = 1_200_000;

fn config(max_new_tokens: usize) -> GenerationConfig {
    GenerationConfig {
        max_new_tokens,
        seed: Some(7),
        ignore_eos: true,
        logprobs: Some(1),
        ..GenerationConfig::default()
    }
}

fn pieces(session: &mut Session, prompt: &[u32]) -> halfbyte::Result<Vec<Piece>> {
    Ok(session.generate_tokens(prompt, &config(2))?.complete()?.pieces)
}

#[expect(clippy::print_stdout, reason = "says what it found")]
fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let path = arguments.next().context("cancels MODEL [TIMES]")?;
    let times = arguments.next().map_or(Ok(1000), |n| n.to_string_lossy().parse::<usize>())?;
    let model = Model::open(path)?;
    let tokens: Vec<u32> = (0..200).map(|i| 3 + 31 * i % 900).collect();
    let expected = pieces(&mut model.session(), &tokens[100..104])?;
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let (puller, mut session) = (Puller::start(), model.session());
    let (mut late, mut in_prompt, start) = (Vec::new(), 0, Instant::now());
    for i in 0..times {
        let delay = Duration::from_micros(random.next_u64() % MOMENTS);
        let n = 1 + random.next_u64() as usize % tokens.len();
        let (done, stopped) = puller.during(delay, |cancel: &Cancel| {
            session.set_hooks(Hooks::cancelled_by(cancel));
            session.generate_tokens(&tokens[..n], &config(1000))?.complete()
        })?;
        let done = done?;
        ensure!(done.finish_reason == FinishReason::Cancelled, "{:?}", done.finish_reason);
        in_prompt += usize::from(done.pieces.is_empty());
        late.push(stopped);
        session.set_hooks(Hooks::default());
        let found = pieces(&mut session, &tokens[100..104])?;
        ensure!(found == expected, "after brake {i}: {found:?}, fresh: {expected:?}");
    }
    late.sort_unstable();
    println!(
        "{times} brakes in {:.0?}, {in_prompt} of them in prompts; ended later by {:.1?} (median), \
         {:.1?} (99 %), {:.1?} (most); every next text as in a fresh session",
        start.elapsed(),
        at(&late, 0.5),
        at(&late, 0.99),
        at(&late, 1.0)
    );
    Ok(())
}
