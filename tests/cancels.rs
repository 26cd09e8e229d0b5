//! Brakes pulled at random moments: the work stops soon, and what comes next is as if nothing had
//! happened. `HALFBYTE_FULL=1` pulls ten thousand of them.

use std::time::{Duration, Instant};

use anyhow::Result;
use halfbyte::{
    Cancel, Error, FinishReason, GenerationConfig, Hooks, Model, ModelOptions, Piece, Session,
};
use halfbyte_tests::data;
use halfbyte_tests::puller::{Puller, at};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

/// Brakes that are pulled unless all are wanted, and all.
const SOME: usize = 200;
const ALL: usize = 10_000;

const FILES: [&str; 2] = ["llama-1k.q4_0.gguf", "gptj-1k.q4_0.gguf"];

fn open(file: &str, cancel: Option<Cancel>) -> halfbyte::Result<Model> {
    let options = ModelOptions { threads: Some(2), cancel, ..ModelOptions::default() };
    Model::open_with(data().join(file), &options)
}

fn config(max_new_tokens: usize) -> GenerationConfig {
    GenerationConfig {
        max_new_tokens,
        seed: Some(7),
        ignore_eos: true,
        logprobs: Some(1),
        ..GenerationConfig::default()
    }
}

/// Log-probabilities are in the pieces, so that comparing them compares logits.
fn pieces(session: &mut Session, prompt: &[u32]) -> Result<Vec<Piece>> {
    Ok(session.generate_tokens(prompt, &config(3))?.complete()?.pieces)
}

#[test]
fn after_a_brake_at_any_moment_the_next_text_is_that_of_a_fresh_session() -> Result<()> {
    let full = std::env::var_os("HALFBYTE_FULL").is_some();
    let n_brakes = if full { ALL } else { SOME };
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let puller = Puller::start();
    let mut late = Vec::new();
    let [mut n_loads, mut n_prompts, mut n_tokens] = [0; 3];
    for file in FILES {
        let mut model = open(file, None)?;
        let long: Vec<u32> = (0..500).map(|i| 3 + 31 * i % 900).collect();
        let prompts: Vec<&[u32]> = [5, 40, 70, 130].map(|n| &long[..n]).into();
        let expected: Vec<Vec<Piece>> = prompts
            .iter()
            .map(|prompt| pieces(&mut model.session(), prompt))
            .collect::<Result<_>>()?;
        let start = Instant::now();
        model.session().generate_tokens(&long[..300], &config(24))?.complete()?;
        // On a busy machine it takes long by chance.
        let longest = start.elapsed().as_micros().min(40_000) as u64;
        let mut session = model.session();
        for i in 0..n_brakes / FILES.len() {
            let delay = Duration::from_micros(random.next_u64() % longest);
            if i % 10 == 0 {
                let work = |cancel: &Cancel| open(file, Some(cancel.clone()));
                let (opened, stopped) = puller.during(delay / 4, work)?;
                match opened {
                    // What opened in time serves on.
                    Ok(opened) => {
                        model = opened;
                        session = model.session();
                    }
                    Err(Error::Cancelled) => {
                        n_loads += 1;
                        late.push(stopped);
                    }
                    Err(other) => return Err(other.into()),
                }
            }
            let prompt = &long[..random.next_u64() as usize % 300 + 1];
            let (done, stopped) = puller.during(delay, |cancel| {
                session.set_hooks(Hooks::cancelled_by(cancel));
                session.generate_tokens(prompt, &config(200))?.complete()
            })?;
            let done = done?;
            // Some texts end before their brake is pulled.
            if done.finish_reason == FinishReason::Cancelled {
                late.push(stopped);
                *if done.pieces.is_empty() { &mut n_prompts } else { &mut n_tokens } += 1;
            }
            session.set_hooks(Hooks::default());
            let which = random.next_u64() as usize % prompts.len();
            let found = pieces(&mut session, prompts[which])?;
            assert_eq!(found, expected[which], "{file}, after brake {i} ({delay:?})");
        }
    }
    late.sort_unstable();
    println!(
        "{} brakes: {n_loads} while loading, {n_prompts} in prompts, {n_tokens} behind tokens; ended \
         {:?} later (median), {:?} (99 %), {:?} (most)",
        late.len(),
        at(&late, 0.5),
        at(&late, 0.99),
        at(&late, 1.0)
    );
    assert!(n_prompts > n_brakes / 20 && n_tokens > n_brakes / 20);
    // Other work on the machine makes some late; without it 99 % end within 50 ms, too.
    assert!(at(&late, 0.5) < Duration::from_millis(50), "{:?}", at(&late, 0.5));
    Ok(())
}
