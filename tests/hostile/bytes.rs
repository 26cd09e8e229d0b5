//! Every beginning of a small file of each kind, and every byte of its header with eight values.
//!
//! The file is written once, then shortened byte by byte, or changed in one byte and mended.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use halfbyte::io::Checkpoint;
use halfbyte::tokenizer::Tokenizer;
use halfbyte_tests::fixtures::{Folder, Gguf, safetensors_bytes, string_value};
use halfbyte_tests::legacy_files::{Ggml, LLAMA, Model};
use halfbyte_tests::{Stopwatch, data, hostile};

use crate::case;

/// A sound file.
struct Golden {
    name: String,
    bytes: Vec<u8>,
    /// Writes what stands beside the file into a folder; the file's name there.
    beside: fn(&Path) -> &'static str,
    /// Opens the file, and reads all that it holds.
    open: fn(&Path) -> halfbyte::Result<()>,
    /// Bytes of the header, at the start and at the end.
    header: (usize, usize),
    /// Whether its first so many bytes are a file of their own.
    may_end: fn(usize) -> bool,
}

/// What opens must be readable to its last element.
fn read_all(path: &Path) -> halfbyte::Result<()> {
    let checkpoint = Checkpoint::open(path)?;
    checkpoint.tensor_names().try_for_each(|name| {
        let tensor = checkpoint.require(name)?;
        let decoded = tensor.to_f32()?;
        assert_eq!(decoded.len(), tensor.n_rows() * tensor.row_len());
        Ok(())
    })
}

fn tokenize(path: &Path) -> halfbyte::Result<()> {
    Tokenizer::from_checkpoint(&Checkpoint::open(path)?).map(drop)
}

fn never(_: usize) -> bool {
    false
}

fn file(name: impl Into<String>, bytes: Vec<u8>, header: usize) -> Golden {
    let beside = |_: &Path| "file.bin";
    let header = (header, 0);
    Golden { name: name.into(), bytes, beside, open: read_all, header, may_end: never }
}

fn gguf(version: u32) -> Golden {
    let mut sound = Gguf::llama();
    sound.version = version;
    sound.entry("general.architecture", string_value(version, "llama"));
    let bytes = sound.bytes();
    let header = hostile::position(&bytes, "\0output.weight") + 64;
    file(format!("GGUF version {version}"), bytes, header)
}

/// A weights file beside the small LLaMA's configuration.
fn weights(name: &str, bytes: Vec<u8>, header: (usize, usize)) -> Golden {
    let beside = |folder: &Path| {
        Folder::llama().write_without_weights(folder);
        "pytorch_model.bin"
    };
    Golden { beside, header, ..file(name, bytes, 0) }
}

fn all() -> Vec<Golden> {
    let mut files: Vec<_> = [1, 2, 3].map(gguf).into();
    for model in LLAMA.into_iter().chain([Model::GptJ, Model::NeoX, Model::NeoXOld]) {
        files.push(file(model.name(), Ggml::tiny(model).bytes(), 400));
    }
    let safetensors = safetensors_bytes(&Folder::llama().tensors);
    let header = 8 + usize::from(safetensors[0]) + 256 * usize::from(safetensors[1]);
    files.push(Golden {
        beside: |folder| {
            Folder::llama().write_without_weights(folder);
            "model.safetensors"
        },
        header: (header, 0),
        ..file("safetensors", safetensors, 0)
    });
    let torch = |name: &str| std::fs::read(data().join("torch").join(name)).expect("test data");
    files.push(weights("PyTorch's zip", torch("zip.bin"), (1400, 1200)));
    files.push(weights("PyTorch's old form", torch("legacy.bin"), (1400, 300)));
    let lora = hostile::lora();
    files.push(Golden {
        open: |path| hostile::Opens::Adapter.open(path),
        // A file that ends between two pairs is a smaller adapter.
        may_end: |len| len % 32 == 0,
        ..file("an adapter of 2023", lora.ggla(), 320)
    });
    files.push(Golden {
        open: |path| hostile::Opens::Adapter.open(path),
        ..file("a GGUF adapter", lora.gguf().bytes(), 700)
    });
    let vocabulary = std::fs::read(data().join("unigram/bytes.model")).expect("test data");
    files.push(Golden {
        beside: |folder| {
            Folder::llama().write(folder);
            "tokenizer.model"
        },
        open: tokenize,
        // Between two of its fields it is a smaller vocabulary.
        may_end: |_| true,
        ..file("SentencePiece", vocabulary, 300)
    });
    files
}

/// A file that is opened again and again.
struct Trial<'a> {
    golden: &'a Golden,
    _folder: tempfile::TempDir,
    path: PathBuf,
    opened: PathBuf,
}

impl<'a> Trial<'a> {
    fn new(golden: &'a Golden) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let name = (golden.beside)(folder.path());
        let path = folder.path().join(name);
        std::fs::write(&path, &golden.bytes).expect("written");
        let is_alone = name == "file.bin";
        let opened = if is_alone { path.clone() } else { folder.path().to_owned() };
        Self { golden, _folder: folder, path, opened }
    }

    /// Whether the file as it is opens; it must not panic, take long or take much memory.
    fn opens(&self, what: &dyn std::fmt::Display) -> bool {
        let name = &self.golden.name;
        let before = case::start_counting();
        let start = Instant::now();
        let open = || catch_unwind(AssertUnwindSafe(|| (self.golden.open)(&self.opened).is_ok()));
        let opened = open();
        let used = case::peak_since(before);
        let limit = Duration::from_millis(100);
        if start.elapsed() > limit {
            // Other work on the machine can slow one run down.
            let alone = Stopwatch::start();
            drop(open());
            assert!(alone.elapsed() < limit, "{name}, {what}: took {:?}", start.elapsed());
        }
        let allowed = 2 * self.golden.bytes.len() + (16 << 20);
        assert!(used <= allowed, "{name}, {what}: took {used} bytes");
        assert!(opened.is_ok(), "{name}, {what}: panicked");
        opened.unwrap_or(false)
    }

    /// Every beginning, from the longest on.
    fn shorten(&self) -> usize {
        let file = File::options().write(true).open(&self.path).expect("opened");
        for len in (0..self.golden.bytes.len()).rev() {
            file.set_len(len as u64).expect("shortened");
            let opens = self.opens(&format_args!("the first {len} bytes"));
            assert!(!opens || (self.golden.may_end)(len), "{}: {len} bytes open", self.golden.name);
        }
        self.golden.bytes.len()
    }

    /// Every byte of the header with eight other values.
    fn change(&self) -> usize {
        let bytes = &self.golden.bytes;
        std::fs::write(&self.path, bytes).expect("written");
        assert!(self.opens(&"unchanged"), "{} is not sound", self.golden.name);
        let mut file = File::options().write(true).open(&self.path).expect("opened");
        let mut put = |at: usize, byte: u8| {
            file.seek(SeekFrom::Start(at as u64)).expect("in the file");
            file.write_all(&[byte]).expect("written");
        };
        let (start, end) = self.golden.header;
        let places = (0..start.min(bytes.len())).chain(bytes.len() - end..bytes.len());
        let mut n = 0;
        for at in places {
            let old = bytes[at];
            for byte in [0, 1, 2, 0x7f, 0x80, 0xff, old ^ 1, old.wrapping_add(32)] {
                put(at, byte);
                self.opens(&format_args!("byte {at} = {byte:#x}"));
                n += 1;
            }
            put(at, old);
        }
        n
    }
}

#[test]
fn every_beginning_and_every_changed_byte_of_a_header_is_an_error_or_a_model() {
    let _alone = case::alone();
    let (files, next, n_opened) = (all(), AtomicUsize::new(0), AtomicUsize::new(0));
    assert!(files.len() >= 12, "{} files", files.len());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(golden) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let trial = Trial::new(golden);
                    n_opened.fetch_add(trial.shorten() + trial.change(), Ordering::Relaxed);
                }
            });
        }
    });
    let n_opened = n_opened.into_inner();
    println!("{n_opened} broken files of {} sound ones", files.len());
    assert!(n_opened > 80_000, "{n_opened} files");
}
