//! Calls on files that fail, are interrupted or do a part: what is read or written is right, or there
//! is an error and the old file is as it was.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use halfbyte::generate::Protocol;
use halfbyte::io::Checkpoint;
use halfbyte::{
    Cancel, Error, GenerationConfig, Hooks, Model, ModelOptions, QuantizeType, Session, quantize,
};
use halfbyte_tests::fixtures::Folder;
use halfbyte_tests::torch_file::of_folder;
use halfbyte_tests::{Rows, data};

use crate::system::{self, Call, Fault};

/// Something that writes a file.
type Writer<'a> = (&'static str, Box<dyn Fn(&Path) -> halfbyte::Result<()> + 'a>);

fn llama() -> Result<Model> {
    let options = ModelOptions { threads: Some(1), ..ModelOptions::default() };
    Ok(Model::open_with(data().join("llama-1k.q4_0.gguf"), &options)?)
}

fn config() -> GenerationConfig {
    GenerationConfig { max_new_tokens: 8, temperature: 0.0, ..GenerationConfig::default() }
}

/// A session of some tokens.
fn session(model: &Model) -> Result<Session> {
    let mut session = model.session();
    session.generate_tokens(&[1, 698, 661, 261, 449], &config())?.complete()?;
    Ok(session)
}

/// The names and bytes of all that lies in `folder`.
fn contents(folder: &Path) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let paths = fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path()));
    let mut files = Vec::new();
    for path in paths.collect::<Result<Vec<_>, _>>()? {
        files.push((path.clone(), fs::read(&path)?));
    }
    files.sort_unstable();
    Ok(files)
}

#[test]
fn whatever_fails_while_writing_the_old_file_stays_and_no_other_comes() -> Result<()> {
    let _alone = system::alone();
    let model = llama()?;
    let session = session(&model)?;
    let tokens: Vec<u32> = (3..40).collect();
    let checkpoint = Checkpoint::open(data().join("gptneox-tiny.q8_0.gguf"))?;
    let q4_0 = QuantizeType::from_name("q4_0").context("a type")?;
    let writers: [Writer<'_>; 3] = [
        ("a session", Box::new(|path| session.save(path))),
        (
            "a quantized model",
            Box::new(|path| {
                quantize(&checkpoint, path, q4_0, &Cancel::new(), &mut |_, _| {}).map(drop)
            }),
        ),
        (
            "log-probabilities",
            Box::new(|path| {
                let protocol = Protocol::SecondHalves { window: 16 };
                model.write_log_probs(path, &tokens, protocol, &Hooks::default()).map(drop)
            }),
        ),
    ];
    let mut rows = Rows::default();
    for (what, write) in &writers {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("file");
        write(&path)?;
        let whole = fs::read(&path)?;
        let (old, new) = (vec![(path.clone(), b"old".to_vec())], vec![(path.clone(), whole)]);
        // Does it over an old file; what came of it, what the folder holds, and how many calls.
        let try_with = |call, n, fault| -> Result<_> {
            fs::write(&path, "old")?;
            let (done, n_calls) = system::fault((call, n), fault, || write(&path));
            Ok((done, contents(folder.path())?, n_calls))
        };
        for call in [Call::Write, Call::Sync, Call::Rename] {
            for number in [libc::ENOSPC, libc::EIO, libc::EACCES] {
                for n in 0.. {
                    let (done, found, n_calls) = try_with(call, n, Fault::Fails(number))?;
                    let row = format!("{what}: {call:?} {n} fails with {number}");
                    // Nothing failed, or only the flush of the folder, when the file is safe.
                    if n >= n_calls || (call, n) == (Call::Sync, 1) {
                        rows.check(&row, n > 0 && done.is_ok() && found == new, "not written");
                        break;
                    }
                    let is_error = matches!(&done, Err(Error::Io { path: named, source })
                        if *named == path && source.raw_os_error() == Some(number));
                    rows.check(&row, is_error, format!("{done:?}"));
                    rows.check(&row, found == old, "the folder is not as it was");
                }
            }
        }
        for fault in [Fault::Interrupted, Fault::Short] {
            for n in 0.. {
                let (done, found, n_calls) = try_with(Call::Write, n, fault)?;
                let row = format!("{what}: write {n} is {fault:?}");
                rows.check(&row, done.is_ok() && found == new, format!("{done:?}"));
                if n >= n_calls {
                    break;
                }
            }
        }
    }
    rows.finish()
}

/// Something that is opened: a name, its path, and how.
type Reader<'a> = (&'static str, PathBuf, Box<dyn Fn(&Path) -> halfbyte::Result<Vec<u8>> + 'a>);

/// What a checkpoint holds.
fn fingerprint(path: &Path) -> halfbyte::Result<Vec<u8>> {
    Checkpoint::open(path).map(|checkpoint| checkpoint.fingerprint().to_vec())
}

#[test]
fn whatever_fails_while_reading_is_an_error_and_parts_are_put_together() -> Result<()> {
    let _alone = system::alone();
    let model = llama()?;
    let folder = tempfile::tempdir()?;
    let saved = folder.path().join("session");
    session(&model)?.save(&saved)?;
    let hub = folder.path().join("hub");
    fs::create_dir(&hub)?;
    let mut files = Folder::llama();
    let tokenizer = fs::read(data().join("tokenizer/llama-1k.tokenizer.model"))?;
    files.files.push(("tokenizer.model".into(), tokenizer));
    files.write(&hub);
    let torch = folder.path().join("torch");
    fs::create_dir(&torch)?;
    Folder::llama().write_without_weights(&torch);
    fs::write(torch.join("pytorch_model.bin"), of_folder(&Folder::llama()).bytes())?;
    let readers: [Reader<'_>; 4] = [
        ("GGUF", data().join("llama-1k.q4_0.gguf"), Box::new(fingerprint)),
        ("a folder", hub, Box::new(fingerprint)),
        ("PyTorch", torch, Box::new(fingerprint)),
        (
            "a session",
            saved,
            Box::new(|path| Session::load(&model, path).map(|session| session.to_bytes())),
        ),
    ];
    let mut rows = Rows::default();
    for (what, path, read) in &readers {
        let whole = read(path)?;
        for call in [Call::Read, Call::Map] {
            for n in 0.. {
                let fault = Fault::Fails(libc::EIO);
                let (done, n_calls) = system::fault((call, n), fault, || read(path));
                if n >= n_calls {
                    break;
                }
                let row = format!("{what}: {call:?} {n} fails");
                rows.check(&row, matches!(done, Err(Error::Io { .. })), format!("{done:?}"));
            }
        }
        for fault in [Fault::Interrupted, Fault::Short] {
            for n in 0.. {
                let (done, n_calls) = system::fault((Call::Read, n), fault, || read(path));
                let row = format!("{what}: read {n} is {fault:?}");
                let same = done.as_ref().is_ok_and(|found| *found == whole);
                rows.check(&row, same, format!("{:?}", done.map(|found| found.len())));
                if n >= n_calls {
                    rows.check(what, n > 0, "nothing was read");
                    break;
                }
            }
        }
    }
    rows.finish()
}
