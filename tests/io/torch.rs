//! PyTorch files: every form of `torch.save` gives the tensors of the safetensors file.

use std::path::{Path, PathBuf};

use candle_core::DType;
use halfbyte::Error;
use halfbyte::io::Checkpoint;
use halfbyte::model::{Batch, CacheType, Decoder, Step, Want};
use halfbyte_tests::fixtures::{Folder, llama_shapes};
use halfbyte_tests::{data, shared, torch_file};

use crate::{assert_same_tensors, floats, names, open, open_folder, values};

/// The files that `data/torch/make.py` wrote with PyTorch, all with the numbers of the fixture.
const FILES: &[&str] = &[
    "zip.bin",
    "legacy.bin",
    "nested.pth",
    "shared.bin",
    "shared-legacy.bin",
    "transposed.bin",
    "protocol4.bin",
];

fn file(name: &str) -> PathBuf {
    data().join("torch").join(name)
}

/// A folder with the fixture's configuration and copies of those files.
fn folder_with(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = crate::folder();
    Folder::llama().write_without_weights(dir.path());
    for (from, to) in files {
        std::fs::copy(file(from), dir.path().join(to)).expect("copied");
    }
    dir
}

#[test]
fn every_form_of_pytorch_file_holds_the_tensors_of_safetensors() {
    let (_dir, wanted) = open_folder(&Folder::llama());
    for name in FILES {
        let dir = folder_with(&[(name, "pytorch_model.bin")]);
        for path in ["", "config.json", "pytorch_model.bin"] {
            assert_same_tensors(&open(&dir.path().join(path)), &wanted);
        }
        // A lone file under any name, beside its config.json.
        let dir = folder_with(&[(name, "weights-of-mine.pth")]);
        assert_same_tensors(&open(&dir.path().join("weights-of-mine.pth")), &wanted);
        assert_same_tensors(&open(dir.path()), &wanted);
    }
}

#[test]
fn sharded_pytorch_files_equal_the_single_file() {
    let shards = [1, 2, 3].map(|i| format!("pytorch_model-{i:05}-of-00003.bin"));
    let mut files: Vec<(&str, &str)> = shards.iter().map(|s| (s.as_str(), s.as_str())).collect();
    files.push(("pytorch_model.bin.index.json", "pytorch_model.bin.index.json"));
    let dir = folder_with(&files);
    let (_single, wanted) = open_folder(&Folder::llama());
    for path in ["", "pytorch_model.bin.index.json", &shards[1]] {
        assert_same_tensors(&open(&dir.path().join(path)), &wanted);
    }
    // Safetensors, where there are both, come first.
    Folder::llama().write(dir.path());
    std::fs::write(dir.path().join(&shards[0]), b"broken").expect("written");
    assert_same_tensors(&open(dir.path()), &wanted);
}

#[test]
fn pytorch_files_hold_what_candle_reads_in_them() {
    for name in ["zip.bin", "half.bin", "bfloat16.bin", "shared.bin", "transposed.bin"] {
        let dir = folder_with(&[(name, "pytorch_model.bin")]);
        let ours = open(dir.path());
        let theirs = candle_core::pickle::read_all(file(name)).expect("a file of PyTorch");
        assert_eq!(theirs.len(), llama_shapes().len(), "{name}");
        for (hf, tensor) in theirs {
            // Those whose rows GGUF has in another order are compared in other tests.
            if hf.contains("q_proj") || hf.contains("k_proj") {
                continue;
            }
            let tensor = tensor.to_dtype(DType::F32).and_then(|t| t.flatten_all());
            let wanted: Vec<f32> = tensor.and_then(|t| t.to_vec1()).expect("floats");
            assert_eq!(
                values(&ours, &halfbyte_tests::fixtures::gguf_name(&hf)),
                wanted,
                "{name} {hf}"
            );
        }
    }
}

#[test]
fn a_pickle_that_calls_something_else_is_an_error_that_names_it() {
    for (name, wanted) in [
        ("evil.bin", "a pickle that calls __builtin__.print"),
        ("evil-legacy.bin", "a pickle that calls __builtin__.print"),
        ("script.pt", "a TorchScript program"),
    ] {
        let dir = folder_with(&[(name, "pytorch_model.bin")]);
        let error = Checkpoint::open(dir.path()).expect_err(name);
        assert!(matches!(error, Error::UnsupportedFormat { .. }), "{name}: {error:?}");
        assert!(error.to_string().contains(wanted), "{name}: {error}");
    }
    // Strides that are neither rows nor columns.
    let dir = folder_with(&[("sliced.bin", "pytorch_model.bin")]);
    let error = Checkpoint::open(dir.path()).expect_err("sliced.bin").to_string();
    assert!(error.contains("lm_head.weight") && error.contains(".contiguous()"), "{error}");
}

#[test]
fn an_archive_of_two_models_opens_as_the_same_one_every_time() {
    let mut zip = torch_file::of_folder(&Folder::llama());
    let mut other = Folder::llama();
    other.tensors.iter_mut().for_each(|(.., bytes)| bytes.fill(0));
    for mut record in torch_file::of_folder(&other).records {
        record.name = record.name.replace("archive", "other");
        zip.records.push(record);
    }
    let dir = crate::folder();
    Folder::llama().write_without_weights(dir.path());
    std::fs::write(dir.path().join("pytorch_model.bin"), zip.bytes()).expect("written");
    let (_dir, wanted) = open_folder(&Folder::llama());
    for _ in 0..20 {
        assert_same_tensors(&open(dir.path()), &wanted);
    }
}

/// Logits of every token.
fn logits(path: &Path, tokens: &[u32]) -> Vec<f32> {
    let decoder = Decoder::load(&open(path), Some(1), &mut |_, _| {}).expect("a model");
    let mut cache = decoder.new_cache(CacheType::F32);
    let step = Step { cache: &mut cache, tokens, want: Want::AllLogits };
    let mut batch = Batch { steps: vec![step], ..Batch::default() };
    decoder.forward(&mut batch).expect("computed").logits
}

#[test]
fn golden_models_saved_by_pytorch_give_the_same_logits() {
    let Some(shared) = shared() else {
        println!("skipped: golden models as PyTorch files (no ../shared)");
        return;
    };
    for model in ["models/gptj-tiny", "models/gptneox-tiny-parallel", "ggml/llama-1k-hf"] {
        let source = shared.join("data").join(model);
        let folder = Folder::read(&source, &[]);
        let dir = crate::folder();
        folder.write_without_weights(dir.path());
        let mut zip = torch_file::of_folder(&folder);
        zip.end_64 = Some(None);
        std::fs::write(dir.path().join("pytorch_model.bin"), zip.bytes()).expect("written");
        let tokens = [3, 1, 4, 1, 5, 9, 2, 6];
        let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert_eq!(bits(logits(dir.path(), &tokens)), bits(logits(&source, &tokens)), "{model}");
    }
}

#[test]
fn half_precision_pytorch_files_decode_to_their_floats() {
    for (name, round) in [
        ("half.bin", (|v| half::f16::from_f32(v).to_f32()) as fn(f32) -> f32),
        ("bfloat16.bin", |v| half::bf16::from_f32(v).to_f32()),
    ] {
        let dir = folder_with(&[(name, "pytorch_model.bin")]);
        let checkpoint = open(dir.path());
        assert_eq!(names(&checkpoint).len(), llama_shapes().len());
        let wanted = halfbyte_tests::fixtures::f32_data("lm_head.weight", &[4, 8]);
        let wanted: Vec<f32> = floats(&wanted).into_iter().map(round).collect();
        assert_eq!(values(&checkpoint, "output.weight"), wanted, "{name}");
    }
}
