//! Files that may only be read, and names that are no text.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::Result;
use halfbyte::io::Checkpoint;
use halfbyte::{Cancel, Error, GenerationConfig, Model, QuantizeType, Session, quantize};
use halfbyte_tests::data;

use crate::system;

fn quantized(from: &Path, to: &Path) -> halfbyte::Result<()> {
    let checkpoint = Checkpoint::open(from)?;
    let kind = QuantizeType::from_name("q8_0").expect("a type");
    quantize(&checkpoint, to, kind, &Cancel::new(), &mut |_, _| {}).map(drop)
}

#[test]
fn names_need_not_be_text() -> Result<()> {
    let _alone = system::alone();
    let folder = tempfile::tempdir()?;
    let folder = folder.path().join(OsStr::from_bytes(b"fold\xe9r"));
    fs::create_dir(&folder)?;
    let [model, other, saved] = [&b"mod\xe9l.gguf"[..], b"oth\xe9r.gguf", b"s\xe9ssion"]
        .map(|name| folder.join(OsStr::from_bytes(name)));
    fs::copy(data().join("llama-1k.q4_0.gguf"), &model)?;
    quantized(&model, &other)?;
    let opened = Model::open(&other)?;
    assert_eq!(opened.path(), other);
    let mut session = opened.session();
    let config = GenerationConfig { max_new_tokens: 2, ..GenerationConfig::default() };
    session.generate_tokens(&[1, 2], &config)?.complete()?;
    session.save(&saved)?;
    assert_eq!(Session::load(&opened, &saved)?.tokens(), session.tokens());
    assert_eq!(fs::read_dir(&folder)?.count(), 3);
    let missing = folder.join(OsStr::from_bytes(b"\xff"));
    let error = Model::open(&missing).map(drop).expect_err("there is no such file");
    assert!(matches!(&error, Error::Io { path, .. } if *path == missing), "{error}");
    Ok(())
}

#[test]
fn what_may_only_be_read_opens_and_is_not_written() -> Result<()> {
    let _alone = system::alone();
    let folder = tempfile::tempdir()?;
    let locked = folder.path().join("locked");
    fs::create_dir(&locked)?;
    let model = locked.join("model.gguf");
    fs::copy(data().join("llama-1k.q4_0.gguf"), &model)?;
    fs::set_permissions(&model, Permissions::from_mode(0o444))?;
    fs::set_permissions(&locked, Permissions::from_mode(0o555))?;
    let opened = Model::open(&model)?;
    // The administrator may write everywhere, but even so not into the system's own tables.
    let mut nowhere = vec![Path::new("/proc/halfbyte").to_owned()];
    if fs::write(locked.join("allowed"), "").is_err() {
        nowhere.push(locked.join("new.gguf"));
    }
    for path in nowhere {
        for result in [quantized(&model, &path), opened.session().save(&path)] {
            let is_error = matches!(&result, Err(Error::Io { path: named, .. }) if *named == path);
            assert!(is_error, "{}: {result:?}", path.display());
        }
        assert!(!path.exists());
    }
    fs::set_permissions(&locked, Permissions::from_mode(0o755))?;
    Ok(())
}
