//! GGUF: versions, parts, and what the writer writes.

use halfbyte::Error;
use halfbyte::io::{GgufWriter, Metadata, TensorInfo, TokenizerSource, Value};
use halfbyte::quant::Encoding;
use halfbyte_tests::fixtures::{Folder, Gguf, array_value, string_value, u32_value};
use halfbyte_tests::shared;

use crate::{assert_same_tensors, folder, open, open_folder, without};

#[test]
fn vocabulary_files_open_without_tensors() {
    let Some(shared) = shared() else {
        println!("skipped: vocabularies in GGUF (no ../shared)");
        return;
    };
    for name in ["llama-spm", "gpt-2", "gpt-neox"] {
        let file = open(&shared.join(format!("data/vocab/ggml-vocab-{name}.gguf")));
        assert!(matches!(file.tokenizer(), TokenizerSource::Metadata), "{name}");
        let tokens = file.metadata().strings("tokenizer.ggml.tokens").expect("strings");
        assert!(tokens.is_some_and(|t| t.len() >= 32_000), "{name}");
    }
}

#[test]
fn all_gguf_versions_read_alike() {
    let dir = folder();
    let mut first = None;
    for (version, nul_strings) in [(3, false), (2, false), (1, false), (1, true)] {
        let mut file = Gguf::llama();
        file.version = version;
        file.nul_strings = nul_strings;
        let text = if nul_strings { "llama\0" } else { "llama" };
        file.entry("general.architecture", string_value(version, text));
        let path = dir.path().join(format!("v{version}-{nul_strings}.gguf"));
        file.write(&path);
        let checkpoint = open(&path);
        assert_eq!(checkpoint.metadata().str("general.architecture").expect("text"), Some("llama"));
        let first = first.get_or_insert_with(|| checkpoint.fingerprint());
        assert_eq!(*first, checkpoint.fingerprint(), "version {version}");
    }
}

#[test]
fn a_written_file_reads_back_equal() {
    let dir = folder();
    let (_source, original) = open_folder(&Folder::llama());
    let mut metadata = original.metadata().clone();
    for (key, value) in [
        ("t.u8", Value::U8(250)),
        ("t.i8", Value::I8(-3)),
        ("t.u16", Value::U16(65_535)),
        ("t.i16", Value::I16(-300)),
        ("t.i32", Value::I32(i32::MIN)),
        ("t.u64", Value::U64(u64::MAX)),
        ("t.i64", Value::I64(i64::MIN)),
        ("t.f64", Value::F64(0.1)),
        ("t.bytes", Value::String(vec![0xff, 0, 0xc3])),
        ("t.u8s", Value::U8s(vec![1, 2])),
        ("t.i8s", Value::I8s(vec![-1])),
        ("t.u16s", Value::U16s(vec![])),
        ("t.i16s", Value::I16s(vec![-1, 2])),
        ("t.u32s", Value::U32s(vec![7; 3])),
        ("t.i32s", Value::I32s(vec![-7; 3])),
        ("t.f32s", Value::F32s(vec![0.5, -0.0])),
        ("t.bools", Value::Bools(vec![true, false])),
        ("t.strings", Value::Strings(vec![vec![], b"b".to_vec()])),
        ("t.u64s", Value::U64s(vec![1 << 40])),
        ("t.i64s", Value::I64s(vec![-1 << 40])),
        ("t.f64s", Value::F64s(vec![1e300])),
    ] {
        metadata.set(key, value);
    }
    for alignment in [None, Some(8), Some(4096)] {
        if let Some(alignment) = alignment {
            metadata.set("general.alignment", Value::U32(alignment));
        }
        let infos = original.tensor_names().map(|name| {
            let tensor = original.require(name).expect("listed");
            let (dims, encoding) = (tensor.dims().to_vec(), tensor.encoding());
            TensorInfo { name: name.into(), dims, encoding }
        });
        let path = dir.path().join("written.gguf");
        let mut writer = GgufWriter::create(&path, &metadata, infos.collect()).expect("created");
        for name in original.tensor_names() {
            let tensor = original.require(name).expect("listed");
            for row in 0..tensor.n_rows() {
                assert_eq!(writer.current().map(|t| t.name.as_str()), Some(name));
                writer.write(tensor.row(row)).expect("written");
            }
        }
        assert!(!path.exists() || alignment.is_some(), "only finish names the file");
        writer.finish().expect("finished");
        let read = open(&path);
        assert_eq!(without(read.metadata(), &[]), without(&metadata, &[]));
        assert_same_tensors(&read, &original);
        assert_eq!(std::fs::read_dir(dir.path()).expect("a folder").count(), 1);
    }
}

#[test]
fn a_writer_refuses_what_the_format_cannot_hold() {
    let dir = folder();
    let path = dir.path().join("refused.gguf");
    let info = |name: &str, dims: &[usize], encoding| TensorInfo {
        name: name.into(),
        dims: dims.to_vec(),
        encoding,
    };
    let long = "n".repeat(64);
    for (infos, wanted) in [
        (vec![info(&long, &[1], Encoding::F32)], "needs a name"),
        (vec![info("", &[1], Encoding::F32)], "needs a name"),
        (vec![info("a", &[1], Encoding::F32), info("a", &[1], Encoding::F32)], "twice"),
        (vec![info("a", &[1; 5], Encoding::F32)], "dimensions"),
        (vec![info("a", &[], Encoding::F32)], "no dimensions"),
        (vec![info("a", &[0], Encoding::F32)], "zero"),
        (vec![info("a", &[33], Encoding::Q4_0)], "multiple"),
        (vec![info("a", &[usize::MAX, 32], Encoding::Q4_0)], "too large"),
    ] {
        let error = GgufWriter::create(&path, &Metadata::default(), infos).expect_err(wanted);
        assert!(error.to_string().contains(wanted), "{error}");
    }
    let infos = vec![info("a", &[2], Encoding::F32), info("b", &[1], Encoding::F32)];
    let mut writer = GgufWriter::create(&path, &Metadata::default(), infos).expect("created");
    assert!(writer.write(&[0; 9]).is_err(), "more bytes than the tensor has");
    writer.write(&[0; 8]).expect("written");
    assert!(writer.finish().is_err(), "b is missing");
    let infos = vec![info("a", &[1], Encoding::F32)];
    drop(GgufWriter::create(&path, &Metadata::default(), infos).expect("created"));
    assert_eq!(std::fs::read_dir(dir.path()).expect("a folder").count(), 0, "nothing is left");
}

#[test]
fn a_folder_that_is_not_there_cannot_be_written() {
    let path = folder().path().join("gone/here.gguf");
    let error = GgufWriter::create(path, &Metadata::default(), Vec::new());
    assert!(matches!(error, Err(Error::Io { path, .. }) if path.ends_with("here.gguf")));
}

#[test]
fn a_split_model_opens_by_any_part() {
    let dir = folder();
    let whole = Gguf::llama();
    whole.write(&dir.path().join("whole.gguf"));
    let whole_checkpoint = open(&dir.path().join("whole.gguf"));
    let u16_value = |n: u16| [&2u32.to_le_bytes()[..], &n.to_le_bytes()].concat();
    for part in 0..3u16 {
        let mut file = whole.clone();
        if part > 0 {
            file.entries.clear();
        }
        file.tensors = whole.tensors.chunks(5).nth(part.into()).expect("three parts").to_vec();
        file.entry("split.no", u16_value(part));
        file.entry("split.count", u16_value(3));
        file.entry("split.tensors.count", u32_value(whole.tensors.len() as u32));
        file.write(&dir.path().join(format!("m-{:05}-of-00003.gguf", part + 1)));
    }
    for part in 1..=3 {
        let split = open(&dir.path().join(format!("m-{part:05}-of-00003.gguf")));
        assert_same_tensors(&split, &whole_checkpoint);
        assert_eq!(split.fingerprint(), whole_checkpoint.fingerprint());
    }
}

#[test]
fn a_gguf_can_carry_a_tokenizer_json() {
    let dir = folder();
    let path = dir.path().join("tiny.gguf");
    let mut file = Gguf::llama();
    file.entry("tokenizer.ggml.tokens", array_value(8, 0, b""));
    file.write(&path);
    assert!(matches!(open(&path).tokenizer(), TokenizerSource::Metadata));
    file.entry("tokenizer.huggingface.json", string_value(3, "{}"));
    file.write(&path);
    assert!(matches!(open(&path).tokenizer(), TokenizerSource::Json(json) if json == b"{}"));
}
