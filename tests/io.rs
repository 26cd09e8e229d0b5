//! Reading and writing model files: every container gives the same checkpoint.

use std::path::{Path, PathBuf};

use halfbyte::Error;
use halfbyte::io::{Checkpoint, Metadata, TokenizerSource, Value};
use halfbyte_tests::fixtures::{Folder, Gguf, f32_data, safetensors_raw, u32_value};
use halfbyte_tests::shared;

#[path = "io/gguf.rs"]
mod gguf;
#[path = "io/gpt4all.rs"]
mod gpt4all;
#[path = "io/hf.rs"]
mod hf;
#[path = "io/packed.rs"]
mod packed;
#[path = "io/torch.rs"]
mod torch;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn open(path: &Path) -> Checkpoint {
    Checkpoint::open(path).expect("a valid model")
}

fn open_folder(folder: &Folder) -> (tempfile::TempDir, Checkpoint) {
    let dir = self::folder();
    folder.write(dir.path());
    let checkpoint = open(dir.path());
    (dir, checkpoint)
}

fn names(checkpoint: &Checkpoint) -> Vec<&str> {
    let mut names: Vec<_> = checkpoint.tensor_names().collect();
    names.sort_unstable();
    names
}

fn values(checkpoint: &Checkpoint, name: &str) -> Vec<f32> {
    checkpoint.require(name).and_then(|t| t.to_f32()).expect("a tensor of the model")
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// Fails unless both hold the same tensors with the same bits.
fn assert_same_tensors(a: &Checkpoint, b: &Checkpoint) {
    assert_eq!(names(a), names(b), "{} and {}", a.path().display(), b.path().display());
    for name in names(a) {
        let (left, right) = (a.require(name).expect("listed"), b.require(name).expect("listed"));
        assert_eq!(left.dims(), right.dims(), "{name}");
        let bits = |t| values(t, name).into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert_eq!(bits(a), bits(b), "{name}");
    }
}

fn without(metadata: &Metadata, prefixes: &[&str]) -> Vec<(String, Value)> {
    let kept = metadata.iter().filter(|(k, _)| !prefixes.iter().any(|p| k.starts_with(p)));
    let mut entries: Vec<_> = kept.map(|(k, v)| (k.to_owned(), v.clone())).collect();
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    entries
}

#[test]
fn gguf_files_hold_the_numbers_of_their_hugging_face_folders() {
    let Some(shared) = shared() else {
        println!("skipped: GGUF against Hugging Face (no ../shared)");
        return;
    };
    for model in ["llama-1k", "gptj-1k"] {
        let hf = open(&shared.join(format!("data/ggml/{model}-hf")));
        // Relative RMS distances that the encodings' own errors stay below.
        for (kind, tolerance) in [("f16", 0.0), ("q8_0", 0.01), ("q4_0", 0.12)] {
            let gguf = open(&shared.join(format!("data/ggml/{model}.{kind}.gguf")));
            assert_eq!(names(&gguf), names(&hf), "{model} {kind}");
            for name in names(&gguf) {
                let (found, wanted) = (values(&gguf, name), values(&hf, name));
                let shapes = (gguf.require(name), hf.require(name));
                assert_eq!(shapes.0.expect("listed").dims(), shapes.1.expect("listed").dims());
                let norm: f64 = wanted.iter().map(|v| f64::from(*v).powi(2)).sum();
                let distance: f64 =
                    found.iter().zip(&wanted).map(|(a, b)| f64::from(a - b).powi(2)).sum();
                let relative = (distance / norm).sqrt();
                assert!(relative <= tolerance, "{model}.{kind} {name}: {relative}");
            }
        }
    }
}

#[test]
fn configurations_of_folders_give_the_metadata_of_gguf_files() {
    let Some(shared) = shared() else {
        println!("skipped: metadata of GGUF against Hugging Face (no ../shared)");
        return;
    };
    for (model, arch) in [("llama-1k", "llama"), ("gptj-1k", "gptj")] {
        let hf = open(&shared.join(format!("data/ggml/{model}-hf")));
        let gguf = open(&shared.join(format!("data/ggml/{model}.f16.gguf")));
        let prefix = format!("{arch}.");
        // Numbers; the truth values of these files only say what the architecture does anyway.
        let is_number =
            |(k, v): &(&str, &Value)| k.starts_with(&prefix) && !matches!(v, Value::Bool(_));
        for (key, value) in gguf.metadata().iter().filter(is_number) {
            let number = |m: &Metadata| match value {
                Value::F32(_) => m.f32(key).map(|v| v.map(f64::from)),
                _ => m.u64(key).map(|v| v.map(|v| v as f64)),
            };
            let found = number(hf.metadata()).expect("a number");
            let wanted = number(gguf.metadata()).expect("a number");
            assert_eq!(found, wanted, "{model} {key}");
        }
        for key in ["bos_token_id", "eos_token_id"] {
            let key = format!("tokenizer.ggml.{key}");
            let id = |c: &Checkpoint| c.metadata().u64(&key).expect("an id");
            assert_eq!(id(&hf), id(&gguf), "{model} {key}");
        }
        assert!(matches!(gguf.tokenizer(), TokenizerSource::Metadata));
    }
}

#[test]
fn gguf_and_folder_hold_the_same_model() {
    let dir = folder();
    let path = dir.path().join("tiny.gguf");
    let mut file = Gguf::llama();
    // In GGUF's row order: rotary halves interleaved within heads of 4.
    for name in ["blk.0.attn_q.weight", "blk.0.attn_k.weight"] {
        let tensor = file.tensor_mut(name);
        let row = |r: usize| tensor.data[r * 32..][..32].to_vec();
        tensor.data = [0, 2, 1, 3, 4, 6, 5, 7].into_iter().flat_map(row).collect();
    }
    file.write(&path);
    let (_dir, hf) = open_folder(&Folder::llama());
    assert_same_tensors(&open(&path), &hf);
}

#[test]
fn released_tensors_read_the_same_again() {
    let dir = folder();
    let path = dir.path().join("large.gguf");
    let mut file = Gguf::llama();
    file.tensor("large", &[1000, 100], f32_data("large", &[1000, 100]));
    file.write(&path);
    let checkpoint = open(&path);
    let before = values(&checkpoint, "large");
    let fingerprint = checkpoint.fingerprint();
    for name in names(&checkpoint) {
        checkpoint.release(name);
    }
    checkpoint.release("no such tensor");
    assert_eq!(values(&checkpoint, "large"), before);
    assert_eq!(checkpoint.fingerprint(), fingerprint);
}

#[test]
fn fingerprints_differ_when_models_do() {
    let dir = folder();
    let path = dir.path().join("a.gguf");
    let fingerprint = |file: &Gguf| {
        file.write(&path);
        open(&path).fingerprint()
    };
    let mut seen = vec![fingerprint(&Gguf::llama())];
    let mut changed = Gguf::llama();
    changed.entry("llama.context_length", u32_value(17));
    seen.push(fingerprint(&changed));
    let mut changed = Gguf::llama();
    changed.tensor_mut("output.weight").data[5] ^= 1;
    seen.push(fingerprint(&changed));
    let mut changed = Gguf::llama();
    changed.tensor_mut("output.weight").dims = vec![4, 8];
    seen.push(fingerprint(&changed));
    let unique: std::collections::HashSet<_> = seen.iter().collect();
    assert_eq!(unique.len(), seen.len());
}

#[test]
fn an_embedded_file_equals_the_file() {
    let dir = folder();
    let path = dir.path().join("a.gguf");
    Gguf::llama().write(&path);
    let bytes: &'static [u8] = Gguf::llama().bytes().leak();
    let embedded = Checkpoint::from_static_bytes("inside", bytes).expect("opened");
    assert_same_tensors(&embedded, &open(&path));
    assert_eq!(embedded.fingerprint(), open(&path).fingerprint());
    assert_eq!(embedded.path(), Path::new("inside"));
    let error = Checkpoint::from_static_bytes("inside", b"GGUF").expect_err("truncated");
    assert!(error.to_string().starts_with("inside is malformed at byte 4"), "{error}");
}

#[test]
fn metadata_getters_convert_between_number_types() {
    let mut metadata = Metadata::default();
    metadata.set("a", Value::U8(3));
    metadata.set("b", Value::I64(-1));
    metadata.set("c", Value::I32s(vec![4, 4]));
    metadata.set("d", Value::F64(0.5));
    metadata.set("e", Value::String(vec![0xff]));
    metadata.set("f", Value::U64s(vec![u64::MAX]));
    assert_eq!(metadata.u64("a").expect("a number"), Some(3));
    assert_eq!(metadata.f32("a").expect("a number"), Some(3.0));
    assert_eq!(metadata.u64("c").expect("uniform"), Some(4));
    assert_eq!(metadata.integers("c").expect("integers"), Some(vec![4, 4]));
    assert_eq!(metadata.f32("d").expect("a number"), Some(0.5));
    assert_eq!(metadata.u64("none").expect("absent"), None);
    let errors = [
        metadata.u64("b").map(drop),
        metadata.u64("d").map(drop),
        metadata.str("a").map(drop),
        metadata.str("e").map(drop),
        metadata.bool("a").map(drop),
        metadata.strings("c").map(drop),
        metadata.f32s("c").map(drop),
        metadata.integers("f").map(drop),
    ];
    for (i, error) in errors.into_iter().enumerate() {
        assert!(matches!(error, Err(Error::Config { .. })), "case {i}");
    }
}

#[test]
fn paths_that_hold_no_model_say_what_they_hold() {
    let dir = folder();
    let path = |name: &str| -> PathBuf { dir.path().join(name) };
    for (name, bytes) in [
        ("a.bin", &b"nsgg"[..]),
        ("d.pt", b"PK\x03\x04"),
        ("e.safetensors", &safetensors_raw(b"{}", b"")),
        ("f.gguf", b""),
        ("g.txt", b"hello"),
    ] {
        std::fs::write(path(name), bytes).expect("written");
    }
    std::fs::create_dir(path("empty")).expect("created");
    std::fs::create_dir(path("adapter")).expect("created");
    std::fs::write(path("adapter/adapter_config.json"), "{}").expect("written");
    for (name, wanted) in [
        ("a.bin", "session file"),
        ("d.pt", "PyTorch"),
        ("e.safetensors", "without a config.json"),
        ("f.gguf", "empty file"),
        ("g.txt", "starts with \"hell\""),
        ("empty", "a folder without config.json"),
        ("adapter", "LoRA adapter"),
    ] {
        let error = Checkpoint::open(path(name)).expect_err(name);
        assert!(matches!(error, Error::UnsupportedFormat { .. }), "{name}: {error:?}");
        let text = error.to_string();
        assert!(text.contains(wanted) && text.contains("GGUF file"), "{name}: {text}");
    }
    // A device or a pipe might never end, or block.
    for name in ["missing.gguf", "/dev/null"] {
        let error = Checkpoint::open(path(name)).expect_err(name);
        assert!(matches!(error, Error::Io { .. }), "{error:?}");
    }
}
