//! Encoder-decoder models: T5 against Hugging Face transformers, and what calls make of it.
//!
//! Chain of oracles as in `golden.rs`: transformers → `ReferenceT5` → `Decoder`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::t5;
use halfbyte::io::Checkpoint;
use halfbyte::model::{Batch, CacheType, Decoder, Overrides, Step, Want};
use halfbyte::quant::Encoding;
use halfbyte::reference::ReferenceT5;
use halfbyte::tokenizer::Specials;
use halfbyte::{
    Cancel, ContextPolicy, Error, GenerationConfig, Hooks, Isa, Model, ModelOptions, QuantizeType,
    quantize,
};
use halfbyte_tests::fixtures::Folder;
use halfbyte_tests::golden_file::{argmax, log_prob, max_abs_diff, relative_rms};
use halfbyte_tests::{Rows, data, shared, skip, torch_file};
use safetensors::SafeTensors;
use serde_json::Value;

#[path = "t5/sessions.rs"]
mod sessions;

/// What transformers computed for one prompt.
struct Golden {
    name: String,
    prompt: Vec<u32>,
    /// The answer that `logits` are over, with the start token.
    answer: Vec<u32>,
    /// log p of each of `answer[1..]`.
    logprobs: Vec<f64>,
    greedy: Vec<u32>,
    /// (T, V).
    logits: Vec<f32>,
    /// (S, E), where the file has it.
    encoded: Option<Vec<f32>>,
}

fn goldens(folder: &Path) -> Result<Vec<Golden>> {
    let json: Value = serde_json::from_slice(&std::fs::read(folder.join("golden.json"))?)?;
    let bytes = std::fs::read(folder.join("golden.safetensors"))?;
    let tensors = SafeTensors::deserialize(&bytes)?;
    let floats = |name: &str| {
        let view = tensors.tensor(name).ok()?;
        let bytes = view.data().as_chunks().0;
        Some(bytes.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect())
    };
    let prompts = json["prompts"].as_array().context("no prompts")?;
    let golden = |prompt: &Value| -> Result<Golden> {
        let name = prompt["name"].as_str().context("no name")?.to_owned();
        let list = |field: &str| -> Result<Vec<u32>> {
            Ok(serde_json::from_value(prompt[field].clone())?)
        };
        Ok(Golden {
            prompt: list("input_ids")?,
            answer: list("decoder_input_ids")?,
            logprobs: serde_json::from_value(prompt["decoder_token_logprobs"].clone())?,
            greedy: list("greedy")?,
            logits: floats(&format!("{name}.logits")).context("no logits")?,
            encoded: floats(&format!("{name}.encoder_last_hidden_state")),
            name,
        })
    };
    prompts.iter().map(golden).collect()
}

/// The models whose data is here.
fn folders() -> Vec<PathBuf> {
    let mut folders = vec![data().join("t5-micro")];
    match shared() {
        Some(root) => {
            folders
                .extend(["relu", "gated"].map(|n| root.join(format!("data/models/t5-tiny-{n}"))));
        }
        None => skip("the larger T5 models"),
    }
    folders
}

fn to_vec(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.flatten_all()?.to_vec1()?)
}

/// Logits of each position of `answer` after its start token's, and the encoder's states.
fn decode(
    decoder: &Decoder,
    cache_type: CacheType,
    prompt: &[u32],
    answer: &[u32],
) -> Result<(Vec<f32>, Vec<f32>)> {
    let mut cache = decoder.new_cache(cache_type);
    let mut forward = |tokens: &[u32], want| {
        let step = Step { cache: &mut cache, tokens, want };
        decoder.forward(&mut Batch { steps: vec![step], cancel: None })
    };
    let encoded = forward(prompt, Want::Hidden)?.hidden;
    let mut cache = decoder.new_cache(cache_type);
    cache.end_prompt_at(prompt.len());
    let mut logits = Vec::new();
    let (read, last) = prompt.split_at(prompt.len() - 1);
    let mut steps = vec![(read, Want::Nothing), (last, Want::LastLogits)];
    // One token alone, and the others together.
    let (first, others) = answer[1..].split_at(1);
    steps.extend([(first, Want::AllLogits), (others, Want::AllLogits)]);
    for (tokens, want) in steps.into_iter().filter(|(tokens, _)| !tokens.is_empty()) {
        let step = Step { cache: &mut cache, tokens, want };
        let outputs = decoder.forward(&mut Batch { steps: vec![step], cancel: None })?;
        logits.extend(outputs.logits);
    }
    ensure!(cache.len() == prompt.len() + answer.len() - 1, "the cache holds {}", cache.len());
    Ok((logits, encoded))
}

#[test]
fn reference_and_decoder_equal_transformers() -> Result<()> {
    let mut rows = Rows::default();
    for folder in folders() {
        let model = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let checkpoint = Checkpoint::open(&folder)?;
        let reference = ReferenceT5::load(&checkpoint)?;
        let decoder = Decoder::load(&checkpoint, None, &mut |_, _| {})?;
        for golden in goldens(&folder)? {
            let row = format!("{model} {}", golden.name);
            let encoded = reference.encode(&golden.prompt)?;
            let mut close = |what: &str, found: &[f32], expected: &[f32], limit| {
                let distance = max_abs_diff(found, expected);
                rows.check(&row, distance <= limit, format!("{what} is off by {distance:.1e}"));
            };
            let logits = to_vec(&reference.decode(&encoded, &golden.answer)?)?;
            close("reference", &logits, &golden.logits, 1e-4);
            let (found, states) = decode(&decoder, CacheType::F32, &golden.prompt, &golden.answer)?;
            close("decoder", &found, &golden.logits, 1e-4);
            if let Some(expected) = &golden.encoded {
                close("reference's encoder", &to_vec(&encoded)?, expected, 1e-4);
                close("encoder", &states, expected, 1e-4);
            }
            let (found, _) = decode(&decoder, CacheType::F16, &golden.prompt, &golden.answer)?;
            close("decoder with an f16 cache", &found, &golden.logits, 5e-3);
            let vocab = decoder.config().vocab_size;
            for (i, (&token, expected)) in
                golden.answer[1..].iter().zip(&golden.logprobs).enumerate()
            {
                let found = log_prob(&logits[i * vocab..][..vocab], token);
                let fact = format!("log p {found} of token {i}, not {expected}");
                rows.check(&row, (found - expected).abs() < 1e-4, fact);
            }
            let greedy = reference.generate_greedy(&golden.prompt, golden.greedy.len())?;
            rows.check(&row, greedy == golden.greedy, format!("reference's greedy {greedy:?}"));
            let fed = [&[0], &golden.greedy[..golden.greedy.len() - 1]].concat();
            let (logits, _) = decode(&decoder, CacheType::F32, &golden.prompt, &fed)?;
            let greedy: Vec<u32> = logits.chunks(vocab).map(argmax).collect();
            rows.check(&row, greedy == golden.greedy, format!("decoder's greedy {greedy:?}"));
        }
    }
    rows.finish()
}

fn micro() -> Model {
    Model::open(data().join("t5-micro")).expect("the committed model opens")
}

fn greedy(n: usize) -> GenerationConfig {
    GenerationConfig {
        max_new_tokens: n,
        temperature: 0.0,
        repetition_penalty: 1.0,
        ignore_eos: true,
        ..GenerationConfig::default()
    }
}

/// The golden prompt that has a text.
fn text_prompt() -> Result<(String, Golden)> {
    let folder = data().join("t5-micro");
    let json: Value = serde_json::from_slice(&std::fs::read(folder.join("golden.json"))?)?;
    let prompts = json["prompts"].as_array().context("no prompts")?;
    let text = prompts.iter().find_map(|prompt| prompt["text"].as_str()).context("no text")?;
    let golden = goldens(&folder)?.into_iter().find(|golden| golden.name == "text");
    Ok((text.to_owned(), golden.context("no golden for the text")?))
}

#[test]
fn batches_threads_and_instruction_sets_change_no_bit() -> Result<()> {
    let folder = data().join("t5-micro");
    let checkpoint = Checkpoint::open(&folder)?;
    let model = micro();
    let prompts: Vec<Vec<u32>> =
        goldens(&folder)?.into_iter().map(|golden| golden.prompt).collect();
    let config = GenerationConfig { logprobs: Some(0), ..greedy(8) };
    let batch = model.generate_batch_tokens(&prompts, &config, &Hooks::default())?;
    for (prompt, found) in prompts.iter().zip(&batch) {
        let alone = model.session().generate_tokens(prompt, &config)?.complete()?;
        assert_eq!(found.pieces, alone.pieces);
    }
    let prompt = &prompts[1];
    let answer: Vec<u32> = (0..20).collect();
    let expected = decode(model.decoder(), CacheType::F16, prompt, &answer)?;
    for isa in Isa::available() {
        for threads in [1, 3] {
            let decoder = Decoder::load_on(isa, &checkpoint, Some(threads), &mut |_, _| {})?;
            let found = decode(&decoder, CacheType::F16, prompt, &answer)?;
            assert!(found == expected, "{} with {threads} threads", isa.name());
        }
    }
    Ok(())
}

#[test]
fn answers_are_scored_and_prompts_embedded() -> Result<()> {
    let (text, golden) = text_prompt()?;
    let options = ModelOptions { cache_type: CacheType::F32, ..ModelOptions::default() };
    let model = Model::open_with(data().join("t5-micro"), &options)?;
    let answer = golden.answer[1..].to_vec();
    let pairs = [
        (golden.prompt.clone(), answer.clone()),
        (golden.prompt.clone(), golden.greedy[..4].to_vec()),
        (golden.prompt[..3].to_vec(), answer),
    ];
    let batch = model.score_pairs(&pairs, &Hooks::default())?;
    let n_answers: usize = pairs.iter().map(|(_, answer)| answer.len()).sum();
    assert_eq!(batch.tokens_read, golden.prompt.len() + 3 + n_answers, "each prompt once");
    let scores = batch.scores;
    let expected: f64 = golden.logprobs.iter().sum();
    assert!((scores[0].sum - expected).abs() < 1e-3, "{} for {expected}", scores[0].sum);
    assert!(!scores[0].is_greedy && scores[1].is_greedy);
    for (pair, score) in pairs.iter().zip(&scores) {
        assert_eq!(model.log_likelihood_tokens(&pair.0, &pair.1)?, *score, "as alone");
    }
    assert_eq!(
        model.log_likelihood(&text, "a dog")?.n_tokens,
        model.tokenizer()?.encode("a dog", Specials::AsText)?.len()
    );
    let states = golden.encoded.context("no encoder states")?;
    let (n, width) = (golden.prompt.len(), model.config().hidden_size);
    let embedding = model.embed(&text)?;
    for (i, found) in embedding.iter().enumerate() {
        let expected = (0..n).map(|t| states[t * width + i]).sum::<f32>() / n as f32;
        assert!((found - expected).abs() < 1e-4, "{found} for {expected}");
    }
    Ok(())
}

#[test]
fn what_makes_no_sense_is_refused() -> Result<()> {
    let model = micro();
    let refused = |result: halfbyte::Result<()>, word: &str| match result {
        Err(Error::Config { field, reason }) => {
            assert!(reason.contains(word), "{field}: {reason}");
        }
        other => panic!("{other:?} instead of an error about {word}"),
    };
    refused(model.logits(&[5, 6, 7]).map(drop), "log_likelihood");
    refused(model.perplexity(&[5, 6, 7, 8], 4, 4, &Hooks::default()).map(drop), "log_likelihood");
    let shift = GenerationConfig { context_policy: Some(ContextPolicy::Shift), ..greedy(1) };
    refused(model.generate("a dog", &shift).map(drop), "shift");
    let overrides = Overrides { rope_base: Some(1e6), ..Overrides::default() };
    let options = ModelOptions { overrides, ..ModelOptions::default() };
    refused(Model::open_with(data().join("t5-micro"), &options).map(drop), "rotate");
    let mut cache = model.decoder().new_cache(CacheType::F16);
    let mut forward = |tokens: &[u32], want| {
        let step = Step { cache: &mut cache, tokens, want };
        model.decoder().forward(&mut Batch { steps: vec![step], cancel: None }).map(drop)
    };
    refused(forward(&[5, 6], Want::AllLogits), "within its prompt");
    forward(&[5], Want::Nothing)?;
    refused(forward(&[6], Want::Hidden), "whole prompt");
    refused(forward(&[100_000], Want::LastLogits), "vocabulary");
    forward(&[6], Want::LastLogits)?;
    refused(forward(&[7], Want::Hidden), "whole prompt");
    Ok(())
}

/// Relative RMS error of the logits that a quantized file may have. Random weights are the worst
/// case: Q4_0 alone costs 8.5 % of each product.
const QUANTIZED: &[(&str, f64)] = &[("f32", 1e-5), ("f16", 2e-3), ("q8_0", 0.06), ("q4_0", 0.5)];

#[test]
fn quantized_gguf_files_say_nearly_the_same() -> Result<()> {
    let mut rows = Rows::default();
    let temporary = tempfile::tempdir()?;
    for folder in folders() {
        let checkpoint = Checkpoint::open(&folder)?;
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for &(kind, limit) in QUANTIZED {
            let row = format!("{name} {kind}");
            let path = temporary.path().join(format!("{name}.{kind}.gguf"));
            let kind = QuantizeType::from_name(kind).context("no such type")?;
            quantize(&checkpoint, &path, kind, &Cancel::new(), &mut |_, _| {})?;
            let file = Checkpoint::open(&path)?;
            let decoder = Decoder::load(&file, None, &mut |_, _| {})?;
            let reference = ReferenceT5::load(&file)?;
            for golden in goldens(&folder)? {
                let (found, _) = decode(&decoder, CacheType::F32, &golden.prompt, &golden.answer)?;
                let error = relative_rms(&found, &golden.logits);
                rows.check(&row, error <= limit, format!("{} is off by {error:.1e}", golden.name));
                // Against the file's own numbers only the activations' rounding is left.
                let encoded = reference.encode(&golden.prompt)?;
                let exact = to_vec(&reference.decode(&encoded, &golden.answer)?)?;
                let error = relative_rms(&found, &exact);
                rows.check(
                    &row,
                    error <= 0.05,
                    format!("{}: {error:.1e} of the reference", golden.name),
                );
            }
        }
    }
    // The tokenizer travels with it.
    let model = Model::open(temporary.path().join("t5-micro.f16.gguf"))?;
    let (text, golden) = text_prompt()?;
    assert_eq!(model.prompt_tokens(&text)?, golden.prompt);
    assert_eq!(model.generate(&text, &greedy(golden.greedy.len()))?.tokens(), golden.greedy);
    rows.finish()
}

/// As llama.cpp writes T5 models: its names for values and for what stays f32.
#[test]
fn encoders_and_decoders_are_quantized_as_other_blocks() -> Result<()> {
    let kind = |name| QuantizeType::from_name(name).context("no such type");
    let mixed = kind("q4_k_m")?;
    // Of eight blocks the first, the last, and every third between have more bits.
    for (name, encoding) in [
        ("enc.blk.0.attn_v.weight", Encoding::Q6_K),
        ("enc.blk.1.attn_v.weight", Encoding::Q4_K),
        ("enc.blk.7.ffn_down.weight", Encoding::Q6_K),
        ("enc.blk.7.ffn_up.weight", Encoding::Q4_K),
        ("dec.blk.3.attn_v.weight", Encoding::Q6_K),
        ("dec.blk.3.cross_attn_v.weight", Encoding::Q6_K),
        ("dec.blk.3.cross_attn_k.weight", Encoding::Q4_K),
        ("dec.blk.4.ffn_down.weight", Encoding::Q4_K),
        ("dec.blk.0.attn_rel_b.weight", Encoding::F32),
        ("output.weight", Encoding::Q6_K),
    ] {
        assert_eq!(mixed.encoding_of(name, 256, 8, false), encoding, "{name}");
    }
    let checkpoint = Checkpoint::open(data().join("t5-micro"))?;
    let temporary = tempfile::tempdir()?;
    for name in ["f16", "q8_0", "q4_0", "q4_k_m"] {
        let path = temporary.path().join(name);
        quantize(&checkpoint, &path, kind(name)?, &Cancel::new(), &mut |_, _| {})?;
        let file = Checkpoint::open(&path)?;
        for stack in ["enc", "dec"] {
            let bias = file.require(&format!("{stack}.blk.0.attn_rel_b.weight"))?;
            assert_eq!(bias.encoding(), Encoding::F32, "{stack} as {name}");
        }
    }
    Ok(())
}

/// Why the decoder is not candle-transformers': when this fails, look at it again.
#[test]
fn candles_decoder_differs_from_the_ninth_token_on() -> Result<()> {
    let Some(root) = shared() else {
        skip("candle's T5");
        return Ok(());
    };
    let folder = root.join("data/models/t5-tiny-gated");
    let config = serde_json::json!({
        "dropout_rate": 0.0, "initializer_factor": 1.0, "is_encoder_decoder": true, "pad_token_id": 0,
    });
    let mut json: Value = serde_json::from_slice(&std::fs::read(folder.join("config.json"))?)?;
    for (key, value) in config.as_object().context("no object")? {
        json[key] = value.clone();
    }
    let weights = std::fs::read(folder.join("model.safetensors"))?;
    let weights = VarBuilder::from_buffered_safetensors(weights, DType::F32, &Device::Cpu)?;
    let mut model = t5::T5ForConditionalGeneration::load(weights, &serde_json::from_value(json)?)?;
    let golden = goldens(&folder)?.into_iter().find(|golden| golden.name == "len7");
    let golden = golden.context("no len7")?;
    let ids =
        |tokens: &[u32]| -> Result<Tensor> { Ok(Tensor::new(tokens, &Device::Cpu)?.unsqueeze(0)?) };
    let encoded = model.encode(&ids(&golden.prompt)?)?;
    let vocab = golden.logits.len() / golden.answer.len();
    for (i, expected) in golden.logits.chunks(vocab).enumerate() {
        let logits = model.decode(&ids(&golden.answer[i..=i])?, &encoded)?;
        let error = max_abs_diff(&to_vec(&logits)?, expected);
        assert_eq!(error < 1e-4, i <= 8, "token {i} is off by {error:.1e}");
    }
    Ok(())
}

#[test]
fn pytorch_files_hold_the_same_model() -> Result<()> {
    let temporary = tempfile::tempdir()?;
    let sound = Folder::read(&data().join("t5-micro"), &["spiece.model", "tokenizer_config.json"]);
    sound.write_without_weights(temporary.path());
    let weights = torch_file::of_folder(&sound).bytes();
    std::fs::write(temporary.path().join("pytorch_model.bin"), weights)?;
    let config = GenerationConfig { seed: Some(1), ..GenerationConfig::default() };
    let answer = |model: &Model| Ok::<_, Error>(model.generate("a dog", &config)?.tokens());
    let wanted = answer(&micro())?;
    assert!(!wanted.is_empty());
    assert_eq!(answer(&Model::open(temporary.path())?)?, wanted);
    Ok(())
}

/// `q8_0.gguf` is by gguf-py, with the names, keys and types of llama.cpp's converter.
#[test]
fn another_writers_gguf_is_the_same_model() -> Result<()> {
    let folder = data().join("t5-micro");
    let model = Model::open(folder.join("q8_0.gguf"))?;
    let (ours, theirs) = (micro(), model.config());
    assert_eq!((&ours.config().encoder, ours.config().mlp), (&theirs.encoder, theirs.mlp));
    let (text, golden) = text_prompt()?;
    assert_eq!(model.prompt_tokens(&text)?, golden.prompt);
    for golden in goldens(&folder)? {
        let (found, _) = decode(model.decoder(), CacheType::F32, &golden.prompt, &golden.answer)?;
        let error = relative_rms(&found, &golden.logits);
        assert!(error <= 0.06, "{} is off by {error:.1e}", golden.name);
    }
    Ok(())
}
