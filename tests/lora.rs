//! LoRA adapters: transformers' and PEFT's numbers, dense weights, every container, the same bits.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use halfbyte::io::{Checkpoint, GgufWriter, TensorInfo};
use halfbyte::model::{Batch, CacheType, Decoder, KvCache, ModelConfig, Step, Want};
use halfbyte::quant::Encoding;
use halfbyte::reference::Reference;
use halfbyte::{
    Adapter, Cancel, Error, GenerationConfig, Isa, Model, ModelOptions, QuantizeType, Session,
    quantize, quantize_merged,
};
use halfbyte_tests::adapters::{self, Lora};
use halfbyte_tests::fixtures::Folder;
use halfbyte_tests::golden_file::{self, argmax, max_abs_diff};
use halfbyte_tests::{Rows, data, shared, skip, torch_file};
use serde_json::json;

const ALL: &[&str] = &[
    "attn_q",
    "attn_k",
    "attn_v",
    "attn_qkv",
    "attn_output",
    "ffn_gate",
    "ffn_up",
    "ffn_down",
    "output",
];

/// A model of each architecture, in few bits.
const MODELS: &[&str] = &["llama-1k.q4_0.gguf", "gptj-1k.q4_0.gguf", "gptneox-tiny.q8_0.gguf"];

fn open(name: &str) -> Result<(Checkpoint, ModelConfig)> {
    let checkpoint = Checkpoint::open(data().join(name))?;
    let config = ModelConfig::from_checkpoint(&checkpoint)?;
    Ok((checkpoint, config))
}

fn decoder(checkpoint: &Checkpoint) -> Result<Decoder> {
    Ok(Decoder::load(checkpoint, None, &mut |_, _| {})?)
}

/// Logits of every position.
fn logits(decoder: &Decoder, cache: &mut KvCache, tokens: &[u32]) -> Result<Vec<f32>> {
    let step = Step { cache, tokens, want: Want::AllLogits };
    Ok(decoder.forward(&mut Batch { steps: vec![step], cancel: None })?.logits)
}

fn adapted(decoder: &Decoder, adapters: &[(Adapter, f32)], tokens: &[u32]) -> Result<Vec<f32>> {
    logits(decoder, &mut decoder.new_cache_with(CacheType::F32, adapters)?, tokens)
}

fn tokens(n: usize, seed: usize) -> Vec<u32> {
    (0..n).map(|i| ((i * 7919 + seed * 104_729 + 17) % 512) as u32).collect()
}

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|x| x.to_bits()).collect()
}

/// Writes `lora` as a PEFT folder and opens it.
fn peft(folder: &Path, name: &str, lora: &Lora, config: &ModelConfig) -> Result<Adapter> {
    let path = folder.join(name);
    lora.write_peft(&path);
    Ok(Adapter::open(path, config)?)
}

#[test]
fn logits_are_those_of_transformers_with_peft() -> Result<()> {
    let Some(root) = shared() else {
        skip("adapters against transformers");
        return Ok(());
    };
    let mut rows = Rows::default();
    for name in ["gptj-tiny", "llama-tiny-mha"] {
        rows.run(name, |rows| {
            let folder = root.join("data/models");
            let checkpoint = Checkpoint::open(folder.join(name))?;
            let folder = folder.join(format!("{name}-lora"));
            let decoder = decoder(&checkpoint)?;
            let adapters = [(Adapter::open(&folder, decoder.config())?, 1.0)];
            let reference = Reference::load_with(&checkpoint, &adapters)?;
            for prompt in golden_file::read(&folder.join("golden"))? {
                let row = format!("{name} {}", prompt.name);
                let kept = prompt.greedy.len() - 1;
                let forced = [prompt.ids.as_slice(), &prompt.greedy[..kept]].concat();
                let of_reference: Vec<f32> =
                    reference.forward(&forced)?.flatten_all()?.to_vec1()?;
                let of_decoder = adapted(&decoder, &adapters, &forced)?;
                for (who, found) in [("reference", of_reference), ("decoder", of_decoder)] {
                    let vocab = decoder.config().vocab_size;
                    let (fed, decoded) = found.split_at(prompt.ids.len() * vocab);
                    let last = &fed[fed.len() - vocab..];
                    let mut distance = max_abs_diff(last, &prompt.logits_last);
                    if let Some(expected) = &prompt.logits {
                        distance = distance.max(max_abs_diff(fed, expected));
                    }
                    rows.check(&row, distance <= 1e-4, format!("{who} is off by {distance:.1e}"));
                    let greedy: Vec<u32> =
                        [last, decoded].concat().chunks(vocab).map(argmax).collect();
                    rows.check(&row, greedy == prompt.greedy, format!("{who}: {greedy:?}"));
                }
            }
            // An adapter that changed nothing would be as near to the base model's numbers.
            let base = golden_file::read(&root.join("data/models").join(name).join("golden"))?;
            let with = golden_file::read(&folder.join("golden"))?;
            let moved = max_abs_diff(&base[1].logits_last, &with[1].logits_last);
            rows.check(name, moved > 0.01, format!("the goldens differ by {moved} only"));
            Ok(())
        });
    }
    rows.finish()
}

/// The model in f32, in a file.
fn in_f32(checkpoint: &Checkpoint, path: &Path) -> Result<Checkpoint> {
    let kind = QuantizeType::from_name("f32").context("a type")?;
    quantize(checkpoint, path, kind, &Cancel::new(), &mut |_, _| {})?;
    Ok(Checkpoint::open(path)?)
}

/// Writes the f32 model `base` with W + scale · B·A, computed here in f64.
fn write_dense(base: &Checkpoint, lora: &Lora, scale: f64, path: &Path) -> Result<Checkpoint> {
    let infos = base.tensor_names().map(|name| {
        let dims = base.require(name)?.dims().to_vec();
        Ok(TensorInfo { name: name.to_owned(), dims, encoding: Encoding::F32 })
    });
    let infos = infos.collect::<Result<Vec<_>>>()?;
    let mut writer = GgufWriter::create(path, base.metadata(), infos.clone())?;
    for info in &infos {
        let mut values = base.require(&info.name)?.to_f32()?;
        if let Some(module) = lora.modules.iter().find(|m| m.gguf == info.name) {
            module.add_to(&mut values, scale * lora.scale());
        }
        writer.write(&adapters::bytes(&values))?;
    }
    writer.finish()?;
    Ok(Checkpoint::open(path)?)
}

#[test]
fn every_matrix_of_every_architecture_is_that_of_dense_weights() -> Result<()> {
    let mut rows = Rows::default();
    let dir = tempfile::tempdir()?;
    for (i, name) in MODELS.iter().enumerate() {
        rows.run(name, |rows| {
            let (checkpoint, config) = open(name)?;
            let base = in_f32(&checkpoint, &dir.path().join(format!("{i}.f32.gguf")))?;
            let tokens = tokens(70, i);
            let decoder = decoder(&base)?;
            let plain = logits(&decoder, &mut decoder.new_cache(CacheType::F32), &tokens)?;
            for (j, end) in ALL.iter().enumerate() {
                let lora = Lora::random(&config, 7 + j as u32, 5, &[end]);
                if lora.modules.is_empty() {
                    continue;
                }
                let row = format!("{name} {end}");
                let adapter = peft(dir.path(), &format!("{i}.{j}"), &lora, &config)?;
                let adapters = [(adapter, 0.75)];
                let path = dir.path().join("dense.gguf");
                let dense = write_dense(&base, &lora, 0.75, &path)?;
                let expected: Vec<f32> =
                    Reference::load(&dense)?.forward(&tokens)?.flatten_all()?.to_vec1()?;
                let moved = max_abs_diff(&plain, &expected);
                rows.check(&row, moved > 0.02, format!("the adapter changes {moved} only"));
                let found = adapted(&decoder, &adapters, &tokens)?;
                let distance = max_abs_diff(&found, &expected);
                rows.check(&row, distance <= 1e-4, format!("run-time is off by {distance:.1e}"));
                let reference = Reference::load_with(&base, &adapters)?;
                let found: Vec<f32> = reference.forward(&tokens)?.flatten_all()?.to_vec1()?;
                let distance = max_abs_diff(&found, &expected);
                rows.check(&row, distance <= 1e-4, format!("reference is off by {distance:.1e}"));
            }
            Ok(())
        });
    }
    rows.finish()
}

#[test]
fn merged_and_run_time_agree_and_4_bit_files_can_be_merged() -> Result<()> {
    let mut rows = Rows::default();
    let dir = tempfile::tempdir()?;
    for (i, name) in MODELS.iter().enumerate() {
        rows.run(name, |rows| {
            let (checkpoint, config) = open(name)?;
            let at = |what: &str| dir.path().join(format!("{i}.{what}"));
            let base = in_f32(&checkpoint, &at("f32.gguf"))?;
            let loras = [3, 4].map(|seed| Lora::random(&config, seed, 4, ALL));
            let adapters = [
                (peft(dir.path(), &format!("{i}.a"), &loras[0], &config)?, 0.5),
                (peft(dir.path(), &format!("{i}.b"), &loras[1], &config)?, -0.25),
            ];
            let tokens = tokens(70, i);
            let expected = adapted(&decoder(&base)?, &adapters, &tokens)?;
            let merge = |kind: &str, path: PathBuf| {
                let kind = QuantizeType::from_name(kind).context("a type")?;
                let cancel = Cancel::new();
                quantize_merged((&checkpoint, &adapters), &path, kind, &cancel, &mut |_, _| {})?;
                decoder(&Checkpoint::open(path)?)
            };
            let merged = merge("f32", at("merged.gguf"))?;
            let found = logits(&merged, &mut merged.new_cache(CacheType::F32), &tokens)?;
            let distance = max_abs_diff(&found, &expected);
            rows.check(name, distance <= 1e-4, format!("merged is off by {distance:.1e}"));
            // Re-quantized, it is as near as its encoding is fine.
            let merged = merge("q8_0", at("merged8.gguf"))?;
            let found = logits(&merged, &mut merged.new_cache(CacheType::F32), &tokens)?;
            let distance = golden_file::relative_rms(&found, &expected);
            rows.check(name, distance <= 0.05, format!("Q8_0 is off by {distance:.1e}"));
            Ok(())
        });
    }
    rows.finish()
}

#[test]
fn every_container_gives_the_same_bits() -> Result<()> {
    let mut rows = Rows::default();
    let dir = tempfile::tempdir()?;
    for (i, name) in MODELS.iter().enumerate() {
        rows.run(name, |rows| {
            let (checkpoint, config) = open(name)?;
            let decoder = decoder(&checkpoint)?;
            // The writer of ggla files had no name for LLaMA's head.
            let ends: Vec<_> = ALL.iter().copied().filter(|end| *end != "output").collect();
            let lora = Lora::random(&config, 11, 6, &ends);
            let tokens = tokens(40, i);
            let expected = peft(dir.path(), &format!("{i}"), &lora, &config)?;
            let want = bits(&adapted(&decoder, &[(expected.clone(), 1.0)], &tokens)?);
            let gguf = dir.path().join(format!("{i}.gguf"));
            lora.gguf().write(&gguf);
            let ggla = dir.path().join(format!("{i}.bin"));
            std::fs::write(&ggla, lora.ggla())?;
            let file = dir.path().join(format!("{i}/adapter_model.safetensors"));
            let pickled = dir.path().join(format!("{i}.torch"));
            lora.write_peft(&pickled);
            std::fs::remove_file(pickled.join("adapter_model.safetensors"))?;
            let weights = Folder { tensors: lora.tensors(), ..Folder::llama() };
            let bytes = torch_file::of_folder(&weights).bytes();
            std::fs::write(pickled.join("adapter_model.bin"), bytes)?;
            let others =
                [("GGUF", gguf), ("ggla", ggla), ("file of PEFT", file), ("PyTorch", pickled)];
            for (what, path) in others {
                let adapter = Adapter::open(path, &config)?;
                let same = adapter.fingerprint() == expected.fingerprint();
                rows.check(name, same, format!("{what}: another fingerprint"));
                let found = bits(&adapted(&decoder, &[(adapter, 1.0)], &tokens)?);
                rows.check(name, found == want, format!("{what}: other logits"));
            }
            Ok(())
        });
    }
    rows.finish()
}

#[test]
fn factors_of_every_encoding_are_read() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (checkpoint, config) = open(MODELS[0])?;
    let decoder = decoder(&in_f32(&checkpoint, &dir.path().join("f32.gguf"))?)?;
    let lora = Lora::random(&config, 2, 32, &["attn_q", "attn_k", "ffn_down"]);
    let expected =
        adapted(&decoder, &[(peft(dir.path(), "f32", &lora, &config)?, 1.0)], &tokens(20, 0))?;
    let mut rows = Rows::default();
    // Also a file whose factors of one input are of different encodings.
    for (name, limit, kinds) in [
        ("F16", 1e-3, [Encoding::F16; 3]),
        ("BF16", 1e-2, [Encoding::BF16; 3]),
        ("Q8_0", 1e-2, [Encoding::Q8_0; 3]),
        ("mixed", 1e-2, [Encoding::F16, Encoding::F32, Encoding::Q8_0]),
    ] {
        let mut file = lora.gguf();
        for (i, tensor) in file.tensors.iter_mut().enumerate() {
            let values: Vec<f32> = tensor
                .data
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect();
            let kind = kinds[i % 3];
            let row = tensor.dims[0] as usize;
            tensor.data = vec![0; kind.row_bytes(row).context("rows")? * (values.len() / row)];
            let out = tensor.data.chunks_exact_mut(kind.row_bytes(row).context("rows")?);
            for (values, out) in values.chunks(row).zip(out) {
                kind.encode(values, out)?;
            }
            tensor.kind = kind.ggml_type();
        }
        let path = dir.path().join(name);
        file.write(&path);
        let found = adapted(&decoder, &[(Adapter::open(path, &config)?, 1.0)], &tokens(20, 0))?;
        let distance = golden_file::relative_rms(&found, &expected);
        rows.check(name, distance < limit, format!("off by {distance:.1e}"));
    }
    // Halves come in pairs of columns, also where the rank is odd.
    let odd = Lora::random(&config, 3, 5, &["attn_v", "ffn_up"]);
    let mut file = odd.gguf();
    for tensor in &mut file.tensors {
        let values =
            tensor.data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        tensor.data = values.flat_map(|x| half::f16::from_f32(x).to_le_bytes()).collect();
        tensor.kind = Encoding::F16.ggml_type();
    }
    file.write(&dir.path().join("odd"));
    let of = |adapter| adapted(&decoder, &[(adapter, 1.0)], &tokens(20, 0));
    let expected = of(peft(dir.path(), "odd.f32", &odd, &config)?)?;
    let found = of(Adapter::open(dir.path().join("odd"), &config)?)?;
    let distance = golden_file::relative_rms(&found, &expected);
    rows.check("odd", distance < 1e-3, format!("off by {distance:.1e}"));
    rows.finish()
}

#[test]
fn two_adapters_are_one_of_both_ranks() -> Result<()> {
    let mut rows = Rows::default();
    let dir = tempfile::tempdir()?;
    for (i, name) in MODELS.iter().enumerate() {
        rows.run(name, |rows| {
            let (checkpoint, config) = open(name)?;
            let base = in_f32(&checkpoint, &dir.path().join(format!("{i}.f32.gguf")))?;
            let decoder = decoder(&base)?;
            let (first, second) =
                (Lora::random(&config, 5, 3, ALL), Lora::random(&config, 6, 17, ALL));
            let joined = first.joined(0.5, &second, -0.125);
            let open = |what: &str, lora| peft(dir.path(), &format!("{i}.{what}"), lora, &config);
            let tokens = tokens(40, i);
            let both = [(open("a", &first)?, 0.5), (open("b", &second)?, -0.125)];
            let found = adapted(&decoder, &both, &tokens)?;
            let expected = adapted(&decoder, &[(open("c", &joined)?, 1.0)], &tokens)?;
            let distance = max_abs_diff(&found, &expected);
            rows.check(name, distance <= 5e-5, format!("off by {distance:.1e}"));
            Ok(())
        });
    }
    rows.finish()
}

#[test]
fn logits_with_adapters_do_not_depend_on_isa_threads_cuts_or_the_batch() -> Result<()> {
    let mut rows = Rows::default();
    let dir = tempfile::tempdir()?;
    for (m, name) in MODELS.iter().enumerate() {
        let (checkpoint, config) = open(name)?;
        let open = |seed, rank| {
            let lora = Lora::random(&config, seed, rank, ALL);
            peft(dir.path(), &format!("{m}.{seed}"), &lora, &config)
        };
        let (one, two) = ((open(1, 8)?, 1.0), (open(2, 20)?, 0.5));
        // Sessions without adapters, with one, with two; neighbours that share them and others.
        let sets =
            [vec![], vec![one.clone()], vec![one.clone()], vec![two.clone(), one], vec![two]];
        let load = |isa, threads| Decoder::load_on(isa, &checkpoint, Some(threads), &mut |_, _| {});
        let scalar = load(Isa::available()[0], 1)?;
        let mut want = Vec::new();
        for (i, set) in sets.iter().enumerate() {
            let mut cache = scalar.new_cache_with(CacheType::F16, set)?;
            want.push(bits(&logits(&scalar, &mut cache, &tokens(length(i), i))?));
        }
        rows.check(name, want[0] != want[1], "the adapter changes nothing");
        for isa in Isa::available() {
            for (threads, cut) in [(1, 1000), (2, 1), (3, 7)] {
                let row = format!("{name} {} {threads} threads, cut {cut}", isa.name());
                let decoder = load(isa, threads)?;
                let found = together(&decoder, &sets, cut)?;
                rows.check(&row, found == want, "other bits");
            }
        }
    }
    rows.finish()
}

/// Tokens of the i-th sequence.
fn length(i: usize) -> usize {
    3 + 8 * i
}

/// Bits of the logits of one sequence for each set, all in the same passes of `cut` tokens each.
fn together(decoder: &Decoder, sets: &[Vec<(Adapter, f32)>], cut: usize) -> Result<Vec<Vec<u32>>> {
    let texts: Vec<_> = (0..sets.len()).map(|i| tokens(length(i), i)).collect();
    let caches = sets.iter().map(|set| decoder.new_cache_with(CacheType::F16, set));
    let mut caches = caches.collect::<halfbyte::Result<Vec<_>>>()?;
    let mut found = vec![Vec::new(); sets.len()];
    for start in (0..texts[texts.len() - 1].len()).step_by(cut) {
        let mut steps = Vec::new();
        let mut owners = Vec::new();
        for (i, (cache, text)) in caches.iter_mut().zip(&texts).enumerate() {
            let tokens = &text[start.min(text.len())..(start + cut).min(text.len())];
            if !tokens.is_empty() {
                owners.extend(tokens.iter().map(|_| i));
                steps.push(Step { cache, tokens, want: Want::AllLogits });
            }
        }
        let outputs = decoder.forward(&mut Batch { steps, cancel: None })?;
        let rows = outputs.logits.chunks(decoder.config().vocab_size);
        for (owner, row) in owners.into_iter().zip(rows) {
            found[owner].extend(bits(row));
        }
    }
    Ok(found)
}

fn model(name: &str) -> Result<Model> {
    Ok(Model::open_with(
        data().join(name),
        &ModelOptions { threads: Some(2), ..Default::default() },
    )?)
}

fn greedy(session: &mut Session, prompt: &[u32], n: usize) -> Result<(Vec<u32>, usize)> {
    let config = GenerationConfig {
        max_new_tokens: n,
        temperature: 0.0,
        ignore_eos: true,
        ..Default::default()
    };
    let done = session.generate_tokens(prompt, &config)?.complete()?;
    Ok((done.pieces.iter().map(|piece| piece.token).collect(), done.usage.reused_tokens))
}

#[test]
fn a_session_switches_adapters_without_a_trace_of_the_old_ones() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let model = model(MODELS[0])?;
    let open = |seed| -> Result<Adapter> {
        let lora = Lora::random(model.config(), seed, 8, ALL);
        lora.write_peft(&dir.path().join(seed.to_string()));
        Ok(model.open_adapter(dir.path().join(seed.to_string()))?)
    };
    let (one, two) = (open(1)?, open(2)?);
    let prompt = tokens(50, 3);
    let mut fresh = Vec::new();
    for set in [vec![], vec![(one.clone(), 1.0)], vec![(one.clone(), 0.5)], vec![(two, 1.0)]] {
        let mut session = model.with_adapters(&set)?.session();
        fresh.push((set, greedy(&mut session, &prompt, 12)?.0));
    }
    let texts: std::collections::HashSet<_> = fresh.iter().map(|(_, text)| text).collect();
    assert_eq!(texts.len(), fresh.len(), "adapters and scales give texts of their own");
    let mut session = model.session();
    for round in 0..2 {
        for (set, text) in &fresh {
            session.set_adapters(set)?;
            assert_eq!(session.cache_bytes(), 0, "keys of the adapters before");
            let (found, reused) = greedy(&mut session, &prompt, 12)?;
            assert_eq!((&found, reused), (text, 0), "round {round}");
            // The same ones again change nothing.
            session.set_adapters(set)?;
            let (found, reused) = greedy(&mut session.fork(), &prompt, 12)?;
            assert_eq!((&found, reused), (text, prompt.len() - 1), "round {round}");
        }
    }
    // Going on after a switch reads the whole text anew.
    session.set_adapters(&fresh[1].0)?;
    let text = session.tokens().to_vec();
    let config = GenerationConfig { max_new_tokens: 5, temperature: 0.0, ..Default::default() };
    let resumed = session.resume(&config)?.complete()?;
    let expected =
        model.with_adapters(&fresh[1].0)?.session().generate_tokens(&text, &config)?.complete()?;
    assert_eq!((resumed.text, resumed.usage.reused_tokens), (expected.text, 0));
    assert_eq!(session.adapters().len(), 1);
    assert_eq!(one.matrices().count(), 2 * 7 + 1);
    Ok(())
}

#[test]
fn a_saved_session_knows_its_adapters() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let model = model(MODELS[0])?;
    let lora = Lora::random(model.config(), 9, 4, &["attn_q", "attn_v"]);
    let adapter = peft(dir.path(), "lora", &lora, model.config())?;
    let with = model.with_adapters(&[(adapter.clone(), 1.0)])?;
    let path = dir.path().join("session");
    let mut session = with.session();
    session.append_tokens(&tokens(30, 1))?;
    session.save(&path)?;
    let expected = greedy(&mut session, &tokens(30, 1), 8)?;
    let mut loaded = Session::load(&with, &path)?;
    assert_eq!(greedy(&mut loaded, &tokens(30, 1), 8)?, expected);
    assert_eq!(expected.1, 29, "the cache was saved");
    for other in [model.clone(), with.with_adapters(&[(adapter, 0.5)])?] {
        let refused = Session::load(&other, &path);
        let says = |e: &Error| matches!(e, Error::Config { reason, .. } if reason.contains("other adapters"));
        assert!(refused.as_ref().is_err_and(says), "{refused:?}");
        assert_ne!(other.fingerprint(), with.fingerprint());
    }
    // Without adapters the fingerprint is what it was: files of earlier versions stay valid.
    assert_eq!(with.with_adapters(&[])?.fingerprint(), model.fingerprint());
    Ok(())
}

#[test]
fn scores_and_chats_of_a_model_with_adapters_use_them() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let model = Model::from_static_bytes(
        halfbyte_model::NAME,
        halfbyte_model::BYTES,
        &ModelOptions { threads: Some(2), ..Default::default() },
    )?;
    let lora = Lora::random(model.config(), 4, 8, &["attn_q", "ffn_up", "ffn_down"]);
    let adapter = peft(dir.path(), "lora", &lora, model.config())?;
    let with = model.with_adapters(&[(adapter.clone(), 1.0)])?;
    let ids = model.prompt_tokens("Once upon a time there was a little dog")?;
    let want = bits(&logits(model.decoder(), &mut with.new_cache(), &ids)?);
    assert_eq!(bits(&with.logits(&ids)?), want);
    assert_ne!(bits(&model.logits(&ids)?), want);
    let (a, b) = ids.split_at(4);
    let differs = |a: f64, b: f64| assert!((a - b).abs() > 1e-3, "{a} {b}");
    let score = |model: &Model| -> Result<f64> { Ok(model.log_likelihood_tokens(a, b)?.sum) };
    differs(score(&model)?, score(&with)?);
    let perplexity = |model: &Model| -> Result<f64> {
        Ok(model.perplexity(&ids, 64, 32, &halfbyte::Hooks::default())?.mean_nll)
    };
    differs(perplexity(&model)?, perplexity(&with)?);
    assert_ne!(model.embed_tokens(&ids)?, with.embed_tokens(&ids)?);
    let config = GenerationConfig { max_new_tokens: 8, temperature: 0.0, ..Default::default() };
    let alone = with.generate("The cat", &config)?.text;
    let batch = with.generate_batch(&["The cat", "A dog"], &config)?;
    assert_eq!(batch[0].text, alone);
    let mut chat = model.chat()?;
    chat.set_adapters(&[(adapter, 1.0)])?;
    chat.config_mut().temperature = 0.0;
    chat.config_mut().max_new_tokens = 8;
    let said = chat.say("Hi")?.complete()?.text;
    let mut other = with.chat()?;
    other.config_mut().temperature = 0.0;
    other.config_mut().max_new_tokens = 8;
    assert_eq!(other.say("Hi")?.complete()?.text, said);
    Ok(())
}

#[test]
fn scales_are_those_of_peft() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (_, config) = open(MODELS[0])?;
    let lora = Lora::random(&config, 1, 4, &["attn_q", "attn_v"]);
    let mut rows = Rows::default();
    let q = "base_model.model.model.layers.0.self_attn.q_proj";
    for (name, change, of_q0, of_others) in [
        ("plain", json!({}), 2.0, 2.0),
        ("fractional", json!({"lora_alpha": 1.5}), 0.375, 0.375),
        ("stabilized", json!({"use_rslora": true}), 4.0, 4.0),
        ("of a module", json!({"alpha_pattern": {"layers.0.self_attn.q_proj": 16}}), 4.0, 2.0),
        ("of no module", json!({"alpha_pattern": {"0.self_attn.o_proj": 16}}), 2.0, 2.0),
        ("not at a dot", json!({"alpha_pattern": {"_proj": 16}}), 2.0, 2.0),
        (
            "the longer one",
            json!({"alpha_pattern": {"q_proj": 1, "layers.0.self_attn.q_proj": 16}}),
            4.0,
            2.0,
        ),
        ("fan in, fan out", json!({"fan_in_fan_out": true}), 2.0, 2.0),
        ("of zero", json!({"lora_alpha": 0}), 0.0, 0.0),
    ] {
        rows.run(name, |rows| {
            let mut json = lora.config();
            for (key, value) in change.as_object().context("an object")? {
                json[key] = value.clone();
            }
            let folder = dir.path().join(name);
            adapters::write_peft(&folder, &json, &lora.tensors());
            let adapter = Adapter::open(&folder, &config)?;
            for (matrix, rank, scale) in adapter.matrices() {
                let is_q0 = matrix == "blk.0.attn_q.weight";
                // Of two patterns, the shorter one holds for the other blocks.
                let shorter = name == "the longer one" && matrix.contains("attn_q");
                let expected = if is_q0 {
                    of_q0
                } else if shorter {
                    0.25
                } else {
                    of_others
                };
                rows.check(name, rank == 4 && scale == expected, format!("{matrix}: {scale}"));
            }
            Ok(())
        });
    }
    // A module with a rank of its own.
    let mut tensors = lora.tensors();
    let of = |side: &str| format!("{q}.lora_{side}.weight");
    for tensor in tensors.iter_mut() {
        let (_, k) = lora.modules[0].shape;
        if tensor.0 == of("A") {
            (tensor.2, tensor.3) = (vec![2, k], adapters::bytes(&vec![0.5; 2 * k]));
        } else if tensor.0 == of("B") {
            let n = tensor.2[0];
            (tensor.2, tensor.3) = (vec![n, 2], adapters::bytes(&vec![0.5; 2 * n]));
        }
    }
    let mut json = lora.config();
    json["rank_pattern"] = json!({"^model.layers.0.self_attn.q_proj": 2});
    adapters::write_peft(&dir.path().join("ranks"), &json, &tensors);
    let adapter = Adapter::open(dir.path().join("ranks"), &config)?;
    let found: Vec<_> =
        adapter.matrices().filter(|(_, rank, scale)| (*rank, *scale) == (2, 4.0)).collect();
    rows.check("ranks", found.len() == 1, format!("{found:?}"));
    // Names as PEFT wrote them before May 2023, and without its prefix.
    for (what, from, to) in
        [("old", ".weight", ".default.weight"), ("bare", "base_model.model.", "")]
    {
        let mut tensors = lora.tensors();
        tensors.iter_mut().for_each(|tensor| tensor.0 = tensor.0.replace(from, to));
        adapters::write_peft(&dir.path().join(what), &lora.config(), &tensors);
        let adapter = Adapter::open(dir.path().join(what), &config)?;
        rows.check(what, adapter.matrices().count() == 4, "names are not understood");
    }
    rows.finish()
}

#[test]
fn adapters_and_scales_of_another_model_are_refused() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let llama = model(MODELS[0])?;
    let lora = Lora::random(llama.config(), 1, 4, &["attn_q"]);
    let adapter = peft(dir.path(), "lora", &lora, llama.config())?;
    let other = model(MODELS[1])?;
    let config = |e: Result<Model, Error>| matches!(e, Err(Error::Config { .. }));
    assert!(config(other.with_adapters(&[(adapter.clone(), 1.0)])));
    for scale in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert!(config(llama.with_adapters(&[(adapter.clone(), scale)])));
    }
    let mut session = llama.session();
    session.append_tokens(&[1, 2, 3])?;
    assert!(session.set_adapters(&[(adapter.clone(), f32::NAN)]).is_err());
    assert!(session.cache_bytes() > 0 && session.adapters().is_empty(), "the session changed");
    // An adapter that is there twice counts twice.
    let twice = llama.with_adapters(&[(adapter.clone(), 0.5), (adapter, 0.5)])?;
    assert_eq!(twice.adapters().len(), 2);
    Ok(())
}
