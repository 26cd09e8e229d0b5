//! What adapters lie in: PEFT folders, GGUF and ggla files, PyTorch's; encodings and scales.

use anyhow::{Context, Result};
use halfbyte::Adapter;
use halfbyte::quant::Encoding;
use halfbyte_tests::adapters::{self, Lora};
use halfbyte_tests::fixtures::Folder;
use halfbyte_tests::{Rows, golden_file, torch_file};
use serde_json::json;

use crate::{ALL, MODELS, adapted, bits, decoder, for_each_model, in_f32, open, peft, tokens};

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

#[test]
fn every_container_gives_the_same_bits() -> Result<()> {
    for_each_model(|rows, base| {
        let decoder = decoder(&base.checkpoint)?;
        // The writer of ggla files had no name for LLaMA's head.
        let ends: Vec<_> = ALL.iter().copied().filter(|end| *end != "output").collect();
        let lora = Lora::random(&base.config, 11, 6, &ends);
        let tokens = tokens(40, base.i);
        let expected = base.peft("peft", &lora)?;
        let want = bits(&adapted(&decoder, &[(expected.clone(), 1.0)], &tokens)?);
        let gguf = base.folder.join("lora.gguf");
        lora.gguf().write(&gguf);
        let ggla = base.folder.join("lora.bin");
        std::fs::write(&ggla, lora.ggla())?;
        let file = base.folder.join("peft/adapter_model.safetensors");
        let pickled = base.folder.join("torch");
        lora.write_peft(&pickled);
        std::fs::remove_file(pickled.join("adapter_model.safetensors"))?;
        let weights = Folder { tensors: lora.tensors(), ..Folder::llama() };
        let bytes = torch_file::of_folder(&weights).bytes();
        std::fs::write(pickled.join("adapter_model.bin"), bytes)?;
        let others = [("GGUF", gguf), ("ggla", ggla), ("file of PEFT", file), ("PyTorch", pickled)];
        for (what, path) in others {
            let adapter = Adapter::open(path, &base.config)?;
            let same = adapter.fingerprint() == expected.fingerprint();
            rows.check(base.name, same, format!("{what}: another fingerprint"));
            let found = bits(&adapted(&decoder, &[(adapter, 1.0)], &tokens)?);
            rows.check(base.name, found == want, format!("{what}: other logits"));
        }
        Ok(())
    })
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
            let values = floats(&tensor.data);
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
        let values = floats(&tensor.data).into_iter();
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
