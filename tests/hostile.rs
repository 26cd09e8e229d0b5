//! Broken model files: each gives a typed error that says where, fast and without much memory.
//!
//! The files are valid ones (`fixtures`) with one thing wrong; every table row says what kind of
//! error it must be and which words its message must hold. Broken tokenizers and templates have a
//! file of their own.

use std::panic::catch_unwind;

use halfbyte::io::Checkpoint;
use halfbyte_tests::data;
use halfbyte_tests::fixtures::{Folder, Gguf};
use halfbyte_tests::legacy_files::{Ggml, LLAMA, Model};

#[path = "hostile/adapter.rs"]
mod adapter;
#[path = "hostile/adapter_files.rs"]
mod adapter_files;
#[path = "hostile/case.rs"]
mod case;
#[path = "hostile/config.rs"]
mod config;
#[path = "hostile/ggml.rs"]
mod ggml;
#[path = "hostile/gguf.rs"]
mod gguf;
#[path = "hostile/memory.rs"]
mod memory;
#[path = "hostile/packed.rs"]
mod packed;
#[path = "hostile/pickle.rs"]
mod pickle;
#[path = "hostile/safetensors.rs"]
mod safetensors;
#[path = "hostile/torch.rs"]
mod torch;

#[test]
fn broken_gguf_files_are_typed_errors() {
    case::check(40, gguf::cases);
}

#[test]
fn broken_safetensors_folders_are_typed_errors() {
    case::check(25, safetensors::cases);
}

#[test]
fn broken_pytorch_files_are_typed_errors() {
    case::check(120, || torch::cases().into_iter().chain(pickle::cases()).collect());
}

#[test]
fn broken_packed_matrices_are_typed_errors() {
    case::check(30, packed::cases);
}

#[test]
fn no_prefix_and_no_changed_byte_of_a_pytorch_file_panics() {
    let _alone = case::alone();
    for name in ["zip.bin", "legacy.bin"] {
        let bytes = std::fs::read(data().join("torch").join(name)).expect("read");
        let dir = tempfile::tempdir().expect("a temporary folder");
        Folder::llama().write_without_weights(dir.path());
        let path = dir.path().join("pytorch_model.bin");
        let open = |bytes: &[u8]| {
            std::fs::write(&path, bytes).expect("written");
            catch_unwind(|| {
                let checkpoint = Checkpoint::open(dir.path())?;
                // What does open must be readable to its last element.
                checkpoint.tensor_names().try_for_each(|name| {
                    checkpoint.require(name).and_then(|tensor| tensor.to_f32()).map(drop)
                })
            })
        };
        for len in (0..bytes.len()).step_by(7) {
            assert!(matches!(open(&bytes[..len]), Ok(Err(_))), "{name}: {len} of {}", bytes.len());
        }
        // The pickle and the directory are at the ends of a file; between them are weights.
        let ends = (0..1400).chain(bytes.len() - 1200..bytes.len());
        for (i, at) in ends.enumerate() {
            let value = [0, 1, 0x7f, 0x80, 0xff, bytes[at] ^ 1][i % 6];
            let mut changed = bytes.clone();
            changed[at] = value;
            assert!(open(&changed).is_ok(), "{name}: byte {at} = {value:#x}");
        }
    }
}

#[test]
fn broken_configurations_are_typed_errors() {
    case::check(15, config::cases);
}

#[test]
fn broken_adapters_are_typed_errors() {
    case::check_with(100, adapter::cases, adapter::open);
}

#[test]
fn every_prefix_and_changed_byte_of_an_adapter_is_an_error_or_an_adapter() {
    let _alone = case::alone();
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("adapter");
    let open = |bytes: &[u8]| {
        std::fs::write(&path, bytes).expect("written");
        catch_unwind(|| adapter::open(&path)).expect("no panic")
    };
    let (ggla, gguf) = (adapter::lora().ggla(), adapter::lora().gguf().bytes());
    assert!(open(&ggla).is_ok() && open(&gguf).is_ok());
    for len in (0..ggla.len()).filter(|len| len % 5 == 0 || len % 32 == 0) {
        // A file that ends between two pairs is a smaller adapter.
        let is_whole = open(&ggla[..len]).is_ok();
        assert!(!is_whole || len % 32 == 0, "{len} bytes of {}", ggla.len());
    }
    for len in (0..gguf.len()).step_by(9) {
        assert!(open(&gguf[..len]).is_err(), "{len} bytes of {}", gguf.len());
    }
    for (bytes, end) in [(&ggla, 320), (&gguf, 700)] {
        for at in 4..end {
            for value in [0, 0x7f, 0xff] {
                let mut changed = bytes.clone();
                changed[at] = value;
                drop(open(&changed));
            }
        }
    }
}

#[test]
fn broken_files_of_2023_are_typed_errors() {
    case::check(200, ggml::cases);
}

#[test]
fn no_prefix_and_no_changed_byte_of_a_file_of_2023_panics() {
    let _alone = case::alone();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("changed.bin");
    for model in [LLAMA[0], LLAMA[2], Model::GptJ] {
        let bytes = Ggml::tiny(model).bytes();
        let opened = |bytes: &[u8]| {
            std::fs::write(&path, bytes).expect("written");
            catch_unwind(|| Checkpoint::open(&path).is_ok())
        };
        // The header, the vocabulary, the first records; behind them every 13th.
        for len in (0..300).chain((300..bytes.len()).step_by(13)) {
            assert_eq!(opened(&bytes[..len]).ok(), Some(false), "{} of {len}", model.name());
        }
        for at in 0..240 {
            for value in [0, 0x7f, 0xff, bytes[at] ^ 1] {
                let mut changed = bytes.clone();
                changed[at] = value;
                assert!(opened(&changed).is_ok(), "{}: byte {at} = {value:#x}", model.name());
            }
        }
    }
}

#[test]
fn every_prefix_of_a_gguf_is_an_error() {
    let _alone = case::alone();
    let bytes: &'static [u8] = Gguf::llama().bytes().leak();
    for len in 0..bytes.len() {
        let opened = catch_unwind(|| Checkpoint::from_static_bytes("prefix", &bytes[..len]));
        assert!(matches!(opened, Ok(Err(_))), "{len} bytes of {}", bytes.len());
    }
}

#[test]
fn no_changed_byte_of_a_header_panics() {
    let _alone = case::alone();
    let bytes = Gguf::llama().bytes();
    let end = gguf::position(&bytes, "output.weight") + 64;
    for at in 0..end {
        for value in [0, 1, 2, 0x7f, 0x80, 0xff, bytes[at] ^ 1, bytes[at].wrapping_add(32)] {
            let mut changed = bytes.clone();
            changed[at] = value;
            let changed: &'static [u8] = changed.leak();
            let read = catch_unwind(|| {
                let Ok(checkpoint) = Checkpoint::from_static_bytes("changed", changed) else {
                    return;
                };
                // What does open must be readable to its last element.
                for name in checkpoint.tensor_names() {
                    let tensor = checkpoint.require(name).expect("listed");
                    let decoded = tensor.to_f32().expect("little memory");
                    assert_eq!(decoded.len(), tensor.n_rows() * tensor.row_len());
                }
            });
            assert!(read.is_ok(), "byte {at} = {value:#x}");
        }
    }
}
