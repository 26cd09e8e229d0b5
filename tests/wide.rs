//! The numerics contract on layers of real widths: models whose rows leave a tail in every tile, in
//! every encoding, and texts of thousands of tokens.
//!
//! By default each encoding meets the best instruction set here, one thread count and one batch,
//! in turn. With `HALFBYTE_FULL=1` (hours; best in a release build, and a test at a time) each
//! meets all of them, and there are long texts. `HALFBYTE_SHARD=2/8` goes an eighth of the ways, beside
//! seven others or on machines with the same instruction sets; the reference is computed in each.

use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result};
use halfbyte::Isa;
use halfbyte::io::Checkpoint;
use halfbyte::model::{Batch, CacheType, Decoder, KvCache, Step, Want};
use halfbyte::quant::Encoding;
use halfbyte_benches::synth::{self, Shape};
use halfbyte_tests::{Rows, data};
use safetensors::SafeTensors;

const THREADS: [usize; 4] = [1, 2, 3, 8];
const BATCHES: [usize; 4] = [512, 1, 7, 64];

const FAMILIES: [&str; 2] = ["llama", "gptj"];

const SHORT: usize = 21;
/// Beyond the first block of 64 keys.
const BLOCKS: usize = 70;
const LONG: usize = 2100;

fn full() -> bool {
    std::env::var_os("HALFBYTE_FULL").is_some_and(|full| full == "1")
}

/// Which part of the ways to go, and of how many parts: by default all of them.
fn shard(n_pairs: usize) -> Result<(usize, usize)> {
    let Some(shard) = std::env::var_os("HALFBYTE_SHARD") else { return Ok((1, 1)) };
    let shard = shard.to_string_lossy();
    let parts = shard.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
    parts.filter(|(i, n)| full() && (1..=*n).contains(i) && *n <= n_pairs).with_context(|| {
        format!("HALFBYTE_SHARD={shard}, expected HALFBYTE_FULL=1 and I/N with N <= {n_pairs}")
    })
}

/// How to compute a case: with each pair of an instruction set and a number of threads, in each batch.
struct Ways {
    pairs: Vec<(Isa, usize)>,
    batches: Vec<usize>,
}

impl Ways {
    /// Those of case `i`.
    fn of(i: usize) -> Result<Self> {
        let isas = Isa::available();
        let (part, n_parts) = shard(isas.len() * THREADS.len())?;
        if !full() {
            let best = *isas.last().context("scalar is always there")?;
            return Ok(Self {
                pairs: vec![(best, THREADS[i % 4])],
                batches: vec![BATCHES[i / 4 % 4]],
            });
        }
        let pairs = isas.iter().flat_map(|&isa| THREADS.map(|threads| (isa, threads)));
        let pairs = pairs.skip(part - 1).step_by(n_parts).collect();
        Ok(Self { pairs, batches: BATCHES.to_vec() })
    }
}

/// Blocks of GPTQ's: a scale and what a zero point adds, each f16, then codes.
fn blocks_with_zero_points() -> Vec<u8> {
    let block = |i: u16| {
        let scale = half::f16::from_f32(0.004 + 0.0001 * f32::from(i % 16));
        let zero = half::f16::from_f32(-f32::from(i % 16 + 1));
        let codes = (0..16).map(|j| (i * 97 + j * 41 + 7).to_le_bytes()[0]);
        [scale.to_le_bytes(), zero.to_le_bytes()]
            .concat()
            .into_iter()
            .chain(codes)
            .collect::<Vec<_>>()
    };
    (0..64).flat_map(block).collect()
}

/// Blocks of an encoding that this crate reads and cannot write.
fn blocks(encoding: Encoding) -> Result<Option<Vec<u8>>> {
    if encoding.can_encode() {
        return Ok(None);
    }
    if encoding.is_of_2023() {
        return Ok(Some(blocks_of_2023(encoding)));
    }
    if encoding == Encoding::Q4_Z {
        return Ok(Some(blocks_with_zero_points()));
    }
    let file = std::fs::read(data().join("golden_quant.safetensors"))?;
    let tensors = SafeTensors::deserialize(&file)?;
    Ok(Some(tensors.tensor(&format!("{}.raw", encoding.name()))?.data().to_vec()))
}

/// Blocks of scales of 1/64 and codes of any bits.
fn blocks_of_2023(encoding: Encoding) -> Vec<u8> {
    let (half, wide) = (0x2400u16.to_le_bytes(), 0.015_625_f32.to_le_bytes());
    let factors: Vec<u8> = match encoding {
        Encoding::Q4_2 | Encoding::Q5_0_V1 => half.to_vec(),
        Encoding::Q4_3 | Encoding::Q5_1_V1 => [half, half].concat(),
        Encoding::Q4_1_V1 | Encoding::Q4_1_V2 => [wide, wide].concat(),
        _ => wide.to_vec(),
    };
    // Q4_2 and Q4_3 have factors before each half.
    let unit = match encoding {
        Encoding::Q4_2 | Encoding::Q4_3 => encoding.block_bytes() / 2,
        _ => encoding.block_bytes(),
    };
    let mut bytes: Vec<u8> =
        (0..64 * encoding.block_bytes()).map(|i| (i * i * 31 / 7 % 251) as u8).collect();
    for unit in bytes.chunks_exact_mut(unit) {
        unit[..factors.len()].copy_from_slice(&factors);
    }
    bytes
}

/// A model of that family with every matrix in `encoding`, in `folder`.
fn model(folder: &Path, family: &str, encoding: Encoding) -> Result<Checkpoint> {
    let name = if encoding.block_len() == 256 { "odd-k" } else { "odd" };
    let shape = Shape::find(&format!("{name}-{family}")).context("a row of SHAPES")?;
    let path = folder.join("model.gguf");
    synth::write_encoding(&path, shape, encoding, blocks(encoding)?.as_deref(), 1)?;
    Ok(Checkpoint::open(path)?)
}

fn load(checkpoint: &Checkpoint, isa: Isa, threads: usize) -> Result<Decoder> {
    Ok(Decoder::load_on(isa, checkpoint, Some(threads), &mut |_, _| {})?)
}

fn prompt(n: usize) -> Vec<u32> {
    (0..n).map(|i| (i * 7919 % 1000) as u32).collect()
}

/// Logit bits of those tokens, fed in passes of `batch`.
fn logits(
    decoder: &Decoder,
    cache: &mut KvCache,
    tokens: &[u32],
    batch: usize,
) -> Result<Vec<u32>> {
    let mut bits = Vec::new();
    for tokens in tokens.chunks(batch) {
        let step = Step { cache, tokens, want: Want::AllLogits };
        let outputs = decoder.forward(&mut Batch { steps: vec![step], cancel: None })?;
        bits.extend(outputs.logits.iter().map(|x| x.to_bits()));
    }
    Ok(bits)
}

/// The tokens from `range` on again, over a cache that has seen all of them.
fn again(
    decoder: &Decoder,
    cache: &mut KvCache,
    (tokens, range): (&[u32], Range<usize>),
    batch: usize,
) -> Result<Vec<u32>> {
    cache.truncate(range.start);
    logits(decoder, cache, &tokens[range], batch)
}

/// Compares those ways with one thread of scalar code.
#[expect(clippy::print_stdout, reason = "a test of hours tells how far it is")]
fn check(
    rows: &mut Rows,
    row: &str,
    (checkpoint, n_tokens): (&Checkpoint, usize),
    ways: &Ways,
) -> Result<()> {
    let tokens = prompt(n_tokens);
    let scalar = load(checkpoint, Isa::available()[0], 1)?;
    let want = logits(&scalar, &mut scalar.new_cache(CacheType::F16), &tokens, 512)?;
    anyhow::ensure!(want.iter().all(|&x| f32::from_bits(x).is_finite()), "{row}: not finite");
    for &(isa, threads) in &ways.pairs {
        let decoder = load(checkpoint, isa, threads)?;
        for &batch in &ways.batches {
            let what = format!("{}, {threads} threads, batch {batch}", isa.name());
            let mut cache = decoder.new_cache(CacheType::F16);
            let cold = logits(&decoder, &mut cache, &tokens, batch)?;
            rows.check(row, cold == want, format!("{what}, cold"));
            let range = n_tokens - 9..n_tokens;
            let reused = again(&decoder, &mut cache, (&tokens, range), batch)?;
            rows.check(row, want.ends_with(&reused), format!("{what}, reused cache"));
        }
        println!("{row}: {}, {threads} threads", isa.name());
    }
    Ok(())
}

/// Models of that family in each encoding, or by default in half of them: of `FAMILIES`, the first takes
/// the even ones.
fn every_encoding(family: &str) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut rows = Rows::default();
    let n_tokens = if full() { BLOCKS } else { SHORT };
    let parity = FAMILIES.iter().position(|&name| name == family).context("a row of FAMILIES")?;
    for (i, encoding) in Encoding::all().enumerate() {
        if !full() && i % 2 != parity {
            continue;
        }
        let row = format!("{family} {}", encoding.name());
        rows.run(&row, |rows| {
            let model = model(folder.path(), family, encoding)?;
            check(rows, &row, (&model, n_tokens), &Ways::of(i)?)
        });
    }
    rows.finish()
}

#[expect(clippy::print_stdout, reason = "says that it was skipped")]
fn long_text(family: &str) -> Result<()> {
    if !full() {
        println!("skipped: an hour with HALFBYTE_FULL=1");
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let mut rows = Rows::default();
    let row = format!("{family}, {LONG} tokens");
    rows.run(&row, |rows| {
        let model = model(folder.path(), family, Encoding::Q4_0)?;
        check(rows, &row, (&model, LONG), &Ways::of(0)?)
    });
    rows.finish()
}

#[test]
fn a_llama_in_any_encoding_gives_the_same_logits_however_it_is_computed() -> Result<()> {
    every_encoding("llama")
}

#[test]
fn a_gptj_in_any_encoding_gives_the_same_logits_however_it_is_computed() -> Result<()> {
    every_encoding("gptj")
}

#[test]
fn a_long_text_gives_a_llama_the_same_logits_however_it_is_computed() -> Result<()> {
    long_text("llama")
}

#[test]
fn a_long_text_gives_a_gptj_the_same_logits_however_it_is_computed() -> Result<()> {
    long_text("gptj")
}
