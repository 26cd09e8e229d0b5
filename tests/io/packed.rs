//! Matrices that GPTQ and AWQ packed in four bits: their weights, bit for bit.
//!
//! `data/packed/make.py` made them; what transformers computes with them is compared in `golden.rs`.

use halfbyte::io::Checkpoint;
use halfbyte::model::{QuantizeType, quantize};
use halfbyte::quant::Encoding;
use halfbyte::{Cancel, Error};
use halfbyte_tests::{Rows, data};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{open, values};

/// Name, the encoding that the matrices get, whether their columns are out of order.
const MODELS: &[(&str, Encoding, bool)] = &[
    ("llama-gptq-sym-g32", Encoding::Q4_0, false),
    ("llama-gptq-act-g32", Encoding::Q4_Z, true),
    ("llama-gptq-v2-g128", Encoding::Q4_Z, false),
    ("llama-gptq-one-group", Encoding::Q4_Z, false),
    ("llama-gptq-act-g16", Encoding::F32, false),
    ("llama-gptq-2023", Encoding::Q4_1_V2, false),
    ("llama-awq-g32", Encoding::Q4_Z, false),
    ("llama-awq-g64", Encoding::Q4_Z, false),
    ("gptj-gptq-act-g32", Encoding::Q4_Z, true),
    ("gptneox-gptq-act-g32", Encoding::Q4_Z, true),
];

fn golden(name: &str) -> Value {
    let path = data().join("packed").join(format!("{name}.golden.json"));
    serde_json::from_slice(&std::fs::read(path).expect("read")).expect("JSON")
}

#[test]
fn packed_matrices_decode_to_their_weights_bit_for_bit() {
    let mut rows = Rows::default();
    for &(name, encoding, out_of_order) in MODELS {
        let checkpoint = open(&data().join("packed").join(name));
        let golden = golden(name);
        let weights = golden["weights"].as_object().expect("weights");
        assert!(weights.len() >= 4, "{name}");
        for (tensor, wanted) in weights {
            let row = format!("{name} {tensor}");
            let view = checkpoint.require(tensor).expect("a matrix");
            rows.check(&row, view.encoding() == encoding, view.encoding().name());
            rows.check(&row, view.columns().is_some() == out_of_order, "its columns' order");
            let found = values(&checkpoint, tensor);
            for (found, wanted) in found.iter().zip(wanted["first"].as_array().expect("floats")) {
                let wanted = wanted.as_f64().expect("a float");
                // Scales of f32 times zero points are rounded to f32; all others are exact.
                let allowed = if name == "llama-gptq-2023" { 1e-7 } else { 0.0 };
                let distance = (f64::from(*found) - wanted).abs();
                rows.check(&row, distance <= allowed, format!("{found} is not {wanted}"));
            }
            if name != "llama-gptq-2023" {
                let bytes: Vec<u8> = found.iter().flat_map(|v| v.to_le_bytes()).collect();
                let digest = Sha256::digest(bytes);
                let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
                rows.check(&row, wanted["sha256"] == hex.as_str(), "another hash");
            }
        }
    }
    rows.finish().unwrap();
}

#[test]
fn packed_models_quantize_to_gguf() {
    for name in ["llama-gptq-act-g32", "llama-awq-g32"] {
        let source = open(&data().join("packed").join(name));
        let dir = crate::folder();
        let path = dir.path().join("model.gguf");
        let kind = QuantizeType::from_name("f32").expect("a type");
        quantize(&source, &path, kind, &Cancel::default(), &mut |_, _| {}).expect("written");
        let written = open(&path);
        for tensor in source.tensor_names() {
            assert_eq!(values(&written, tensor), values(&source, tensor), "{name} {tensor}");
        }
    }
}

#[test]
fn files_beside_the_weights_say_how_they_are_packed() {
    let source = data().join("packed/llama-gptq-act-g32");
    let copy = |change: &dyn Fn(&std::path::Path)| {
        let dir = crate::folder();
        for file in ["config.json", "quantize_config.json"] {
            std::fs::copy(source.join(file), dir.path().join(file)).expect("copied");
        }
        // Published files have names that say how they were made.
        let to = dir.path().join("gptq_model-4bit-32g.safetensors");
        std::fs::copy(source.join("model.safetensors"), to).expect("copied");
        change(dir.path());
        let opened = Checkpoint::open(dir.path());
        opened.map(|checkpoint| values(&checkpoint, "blk.0.ffn_up.weight"))
    };
    let wanted = copy(&|_| {}).expect("opened");
    // The files of early 2023 have no description: four bits, and g_idx says the rest.
    let undescribed = copy(&|dir| {
        std::fs::remove_file(dir.join("quantize_config.json")).expect("removed");
    });
    assert_eq!(undescribed.expect("opened"), wanted);
    let ambiguous = copy(&|dir| {
        std::fs::copy(dir.join("gptq_model-4bit-32g.safetensors"), dir.join("b.safetensors"))
            .expect("copied");
    });
    let error = ambiguous.expect_err("two files");
    assert!(matches!(error, Error::UnsupportedFormat { .. }), "{error:?}");
    assert!(error.to_string().contains("2 weights files: name one of them"), "{error}");
}
