//! Broken model files: each gives a typed error that says where, fast and without much memory.
//!
//! The files are valid ones (`fixtures`) with one thing wrong; every table row says what kind of
//! error it must be and which words its message must hold. Broken tokenizers and templates have a
//! file of their own.

use std::panic::catch_unwind;

use halfbyte::io::Checkpoint;
use halfbyte_tests::fixtures::Gguf;

#[path = "hostile/adapter.rs"]
mod adapter;
#[path = "hostile/case.rs"]
mod case;
#[path = "hostile/config.rs"]
mod config;
#[path = "hostile/gguf.rs"]
mod gguf;
#[path = "hostile/safetensors.rs"]
mod safetensors;

#[test]
fn broken_gguf_files_are_typed_errors() {
    let cases = gguf::cases();
    assert!(cases.len() >= 40, "{} cases", cases.len());
    case::check(&cases);
}

#[test]
fn broken_safetensors_folders_are_typed_errors() {
    let cases = safetensors::cases();
    assert!(cases.len() >= 25, "{} cases", cases.len());
    case::check(&cases);
}

#[test]
fn broken_configurations_are_typed_errors() {
    let cases = config::cases();
    assert!(cases.len() >= 15, "{} cases", cases.len());
    case::check(&cases);
}

#[test]
fn broken_adapters_are_typed_errors() {
    let cases = adapter::cases();
    assert!(cases.len() >= 100, "{} cases", cases.len());
    case::check_with(&cases, adapter::open);
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
