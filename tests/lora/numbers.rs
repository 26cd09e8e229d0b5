//! The numbers: those of transformers with PEFT, of dense weights, of merged files.

use std::path::Path;

use anyhow::{Context, Result};
use halfbyte::io::{Checkpoint, GgufWriter, TensorInfo};
use halfbyte::model::CacheType;
use halfbyte::quant::Encoding;
use halfbyte::reference::Reference;
use halfbyte::{Adapter, Cancel, QuantizeType, quantize_merged};
use halfbyte_tests::adapters::{self, Lora};
use halfbyte_tests::golden_file::{self, argmax, max_abs_diff};
use halfbyte_tests::{Rows, shared, skip};

use crate::{ALL, adapted, decoder, for_each_model, logits, tokens};

/// Logits of every position.
fn of_reference(reference: &Reference, tokens: &[u32]) -> Result<Vec<f32>> {
    Ok(reference.forward(tokens)?.flatten_all()?.to_vec1()?)
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
                let of_reference = of_reference(&reference, &forced)?;
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
    for_each_model(|rows, base| {
        let plain_weights = base.in_f32()?;
        let tokens = tokens(70, base.i);
        let decoder = decoder(&plain_weights)?;
        let plain = logits(&decoder, &mut decoder.new_cache(CacheType::F32), &tokens)?;
        for (j, end) in ALL.iter().enumerate() {
            let lora = Lora::random(&base.config, 7 + j as u32, 5, &[end]);
            if lora.modules.is_empty() {
                continue;
            }
            let row = format!("{} {end}", base.name);
            let adapter = base.peft(end, &lora)?;
            let adapters = [(adapter, 0.75)];
            let path = base.folder.join("dense.gguf");
            let dense = write_dense(&plain_weights, &lora, 0.75, &path)?;
            let expected = of_reference(&Reference::load(&dense)?, &tokens)?;
            let moved = max_abs_diff(&plain, &expected);
            rows.check(&row, moved > 0.02, format!("the adapter changes {moved} only"));
            let found = adapted(&decoder, &adapters, &tokens)?;
            let distance = max_abs_diff(&found, &expected);
            rows.check(&row, distance <= 1e-4, format!("run-time is off by {distance:.1e}"));
            let reference = Reference::load_with(&plain_weights, &adapters)?;
            let found = of_reference(&reference, &tokens)?;
            let distance = max_abs_diff(&found, &expected);
            rows.check(&row, distance <= 1e-4, format!("reference is off by {distance:.1e}"));
        }
        Ok(())
    })
}

#[test]
fn merged_and_run_time_agree_and_4_bit_files_can_be_merged() -> Result<()> {
    for_each_model(|rows, base| {
        let loras = [3, 4].map(|seed| Lora::random(&base.config, seed, 4, ALL));
        let adapters = [(base.peft("a", &loras[0])?, 0.5), (base.peft("b", &loras[1])?, -0.25)];
        let tokens = tokens(70, base.i);
        let expected = adapted(&decoder(&base.in_f32()?)?, &adapters, &tokens)?;
        let merge = |kind: &str| {
            let path = base.folder.join(format!("merged.{kind}.gguf"));
            let kind = QuantizeType::from_name(kind).context("a type")?;
            let cancel = Cancel::new();
            quantize_merged((&base.checkpoint, &adapters), &path, kind, &cancel, &mut |_, _| {})?;
            decoder(&Checkpoint::open(path)?)
        };
        let merged = merge("f32")?;
        let found = logits(&merged, &mut merged.new_cache(CacheType::F32), &tokens)?;
        let distance = max_abs_diff(&found, &expected);
        rows.check(base.name, distance <= 1e-4, format!("merged is off by {distance:.1e}"));
        // Re-quantized, it is as near as its encoding is fine.
        let merged = merge("q8_0")?;
        let found = logits(&merged, &mut merged.new_cache(CacheType::F32), &tokens)?;
        let distance = golden_file::relative_rms(&found, &expected);
        rows.check(base.name, distance <= 0.05, format!("Q8_0 is off by {distance:.1e}"));
        Ok(())
    })
}

#[test]
fn two_adapters_are_one_of_both_ranks() -> Result<()> {
    for_each_model(|rows, base| {
        let decoder = decoder(&base.in_f32()?)?;
        let config = &base.config;
        let (first, second) = (Lora::random(config, 5, 3, ALL), Lora::random(config, 6, 17, ALL));
        let joined = first.joined(0.5, &second, -0.125);
        let tokens = tokens(40, base.i);
        let both = [(base.peft("a", &first)?, 0.5), (base.peft("b", &second)?, -0.125)];
        let found = adapted(&decoder, &both, &tokens)?;
        let expected = adapted(&decoder, &[(base.peft("c", &joined)?, 1.0)], &tokens)?;
        let distance = max_abs_diff(&found, &expected);
        rows.check(base.name, distance <= 5e-5, format!("off by {distance:.1e}"));
        Ok(())
    })
}
