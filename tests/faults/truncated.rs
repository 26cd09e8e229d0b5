//! Files that are shortened or replaced while a model is open.
//!
//! A map shows the file as it is. A model needs it only while it loads; a checkpoint, as long as its
//! tensors are read. Then a file that somebody shortens in place stops the process (SIGBUS), which
//! no check can prevent; one that is renamed over does nothing (`io/mmap.rs`).

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Result;
use halfbyte::io::Checkpoint;
use halfbyte::{GenerationConfig, Model};
use halfbyte_tests::data;

use crate::system;

/// Names the file to the process that reads it when it is short.
const VARIABLE: &str = "HALFBYTE_SHORTENED";

fn copy(folder: &Path) -> Result<std::path::PathBuf> {
    let path = folder.join("model.gguf");
    fs::copy(data().join("llama-1k.q4_0.gguf"), &path)?;
    Ok(path)
}

fn shorten(path: &Path) -> Result<()> {
    Ok(File::options().write(true).open(path)?.set_len(100)?)
}

#[test]
fn a_loaded_model_does_not_need_its_file() -> Result<()> {
    let _alone = system::alone();
    let folder = tempfile::tempdir()?;
    let path = copy(folder.path())?;
    let model = Model::open(&path)?;
    let config = GenerationConfig {
        max_new_tokens: 8,
        temperature: 0.0,
        ignore_eos: true,
        ..GenerationConfig::default()
    };
    let text = |model: &Model| model.generate("Once upon a time", &config).map(|done| done.text);
    let before = text(&model)?;
    shorten(&path)?;
    assert_eq!(text(&model)?, before);
    fs::remove_file(&path)?;
    assert_eq!(text(&model)?, before);
    Ok(())
}

#[test]
fn an_open_file_may_be_renamed_over() -> Result<()> {
    let _alone = system::alone();
    let folder = tempfile::tempdir()?;
    let path = copy(folder.path())?;
    let checkpoint = Checkpoint::open(&path)?;
    let tensor = || checkpoint.require("output_norm.weight").and_then(|tensor| tensor.to_f32());
    let before = tensor()?;
    let other = folder.path().join("other");
    fs::write(&other, "short")?;
    fs::rename(&other, &path)?;
    checkpoint.release("output_norm.weight");
    assert_eq!(tensor()?, before);
    Ok(())
}

/// The other process: reads a tensor of a file that was shortened meanwhile.
#[test]
fn reads_what_is_gone() -> Result<()> {
    let Some(path) = std::env::var_os(VARIABLE) else { return Ok(()) };
    let checkpoint = Checkpoint::open(&path)?;
    let last = checkpoint.tensor_names().last().map(str::to_owned).unwrap_or_default();
    shorten(Path::new(&path))?;
    drop(checkpoint.require(&last)?.to_f32());
    Ok(())
}

#[test]
fn reading_a_file_that_was_shortened_in_place_stops_the_process() -> Result<()> {
    let _alone = system::alone();
    let folder = tempfile::tempdir()?;
    let path = copy(folder.path())?;
    let status = Command::new(std::env::current_exe()?)
        .args(["--exact", "truncated::reads_what_is_gone"])
        .env(VARIABLE, &path)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    // What the documentation says; nothing else, such as weights that are zeros, may come of it.
    assert_eq!(status.signal(), Some(libc::SIGBUS), "{status}");
    Ok(())
}
