//! The numerics contract on whole models: the same logits bit for bit, however they are computed.

use anyhow::Result;
use halfbyte::io::Checkpoint;
use halfbyte::model::{Batch, CacheType, Decoder, Step, Want};
use halfbyte::{Cancel, Error, Isa};
use halfbyte_tests::{Rows, data};

/// A prompt that ends in its third block of keys.
const N_TOKENS: usize = 140;

fn checkpoints() -> Result<Vec<(&'static str, Checkpoint)>> {
    Ok(vec![
        ("embedded", Checkpoint::from_static_bytes(halfbyte_model::NAME, halfbyte_model::BYTES)?),
        ("llama", Checkpoint::open(data().join("llama-1k.q4_0.gguf"))?),
        ("gptneox", Checkpoint::open(data().join("gptneox-tiny.q8_0.gguf"))?),
    ])
}

fn load(checkpoint: &Checkpoint, isa: Isa, threads: usize) -> Result<Decoder> {
    Ok(Decoder::load_on(isa, checkpoint, Some(threads), &mut |_, _| {})?)
}

fn prompt(decoder: &Decoder, seed: usize) -> Vec<u32> {
    let vocab = decoder.config().vocab_size;
    (0..N_TOKENS).map(|i| ((i * 7919 + seed * 104_729 + 17) % vocab) as u32).collect()
}

/// Logit bits of every position, the prompt fed in passes of `cut` tokens.
fn logits(
    decoder: &Decoder,
    cache_type: CacheType,
    tokens: &[u32],
    cut: usize,
) -> Result<Vec<u32>> {
    let mut cache = decoder.new_cache(cache_type);
    let mut bits = Vec::new();
    for tokens in tokens.chunks(cut) {
        let step = Step { cache: &mut cache, tokens, want: Want::AllLogits };
        let outputs = decoder.forward(&mut Batch { steps: vec![step], cancel: None })?;
        bits.extend(outputs.logits.iter().map(|x| x.to_bits()));
    }
    Ok(bits)
}

#[test]
fn logits_do_not_depend_on_isa_threads_or_cuts() -> Result<()> {
    let mut rows = Rows::default();
    for (name, checkpoint) in &checkpoints()? {
        for cache_type in [CacheType::F16, CacheType::F32, CacheType::Q8] {
            let scalar = load(checkpoint, Isa::available()[0], 1)?;
            let tokens = prompt(&scalar, 1);
            let want = logits(&scalar, cache_type, &tokens, N_TOKENS)?;
            for isa in Isa::available() {
                for (threads, cut) in [(1, 140), (2, 1), (3, 7), (4, 64), (8, 65)] {
                    let decoder = load(checkpoint, isa, threads)?;
                    let found = logits(&decoder, cache_type, &tokens, cut)?;
                    let row = format!("{name} {cache_type:?} {}", isa.name());
                    rows.check(&row, found == want, format!("{threads} threads, cut {cut}"));
                }
            }
        }
    }
    rows.finish()
}

#[test]
fn logits_do_not_depend_on_who_else_is_in_the_batch() -> Result<()> {
    let mut rows = Rows::default();
    for (name, checkpoint) in &checkpoints()? {
        let decoder = load(checkpoint, Isa::choose()?, 2)?;
        let texts: Vec<_> = (0..5).map(|seed| prompt(&decoder, seed)).collect();
        let mut caches: Vec<_> = texts.iter().map(|_| decoder.new_cache(CacheType::F16)).collect();
        // Sequences of different lengths, in one pass.
        let steps = caches.iter_mut().zip(&texts).enumerate().map(|(i, (cache, text))| Step {
            cache,
            tokens: &text[..20 + 30 * i],
            want: Want::AllLogits,
        });
        let together = decoder.forward(&mut Batch { steps: steps.collect(), cancel: None })?;
        let mut alone = Vec::new();
        for (i, text) in texts.iter().enumerate() {
            alone.extend(logits(&decoder, CacheType::F16, &text[..20 + 30 * i], 1000)?);
        }
        let together: Vec<u32> = together.logits.iter().map(|x| x.to_bits()).collect();
        rows.check(name, together == alone, "batched and alone differ");
    }
    rows.finish()
}

#[test]
fn a_cancelled_pass_leaves_the_cache_as_it_was_and_clones_apart() -> Result<()> {
    let checkpoint = Checkpoint::from_static_bytes(halfbyte_model::NAME, halfbyte_model::BYTES)?;
    let decoder = load(&checkpoint, Isa::choose()?, 2)?;
    let tokens = prompt(&decoder, 3);
    let want = logits(&decoder, CacheType::F16, &tokens, N_TOKENS)?;
    let mut cache = decoder.new_cache(CacheType::F16);
    let feed = |cache: &mut _, tokens: &[u32], cancel: Option<&Cancel>| {
        let step = Step { cache, tokens, want: Want::AllLogits };
        decoder.forward(&mut Batch { steps: vec![step], cancel })
    };
    let mut bits: Vec<u32> = Vec::new();
    bits.extend(feed(&mut cache, &tokens[..10], None)?.logits.iter().map(|x| x.to_bits()));
    let cancel = Cancel::new();
    cancel.cancel();
    let failed = feed(&mut cache, &tokens, Some(&cancel));
    assert!(matches!(failed, Err(Error::Cancelled)), "{failed:?}");
    assert_eq!(cache.len(), 10);
    // Both copies go on over the block that they share, and over blocks that the pass left behind.
    let mut copy = cache.clone();
    let other = prompt(&decoder, 4);
    feed(&mut copy, &other, None)?;
    bits.extend(feed(&mut cache, &tokens[10..], None)?.logits.iter().map(|x| x.to_bits()));
    assert!(bits == want, "the original changed");
    let saved = decoder.cache_from_bytes(CacheType::F16, &cache.to_bytes())?;
    assert_eq!(saved.to_bytes(), cache.to_bytes());
    Ok(())
}
