//! `cargo xtask header`: `halfbyte.h`, made from the crate by cbindgen and checked in.

use std::path::Path;

use anyhow::{Context, bail};

/// The C interface's crate, relative to the workspace.
pub(crate) const CRATE: &str = "crates/halfbyte-capi";

/// Compares the committed header with what the crate says, or with `bless` writes it.
///
/// # Errors
///
/// If the crate cannot be read, or the header is another one.
pub(crate) fn run(root: &Path, bless: bool) -> anyhow::Result<()> {
    let folder = root.join(CRATE);
    let path = folder.join("include/halfbyte.h");
    let text = generate(&folder)?;
    if bless {
        return std::fs::write(&path, text).with_context(|| path.display().to_string());
    }
    let committed = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    if committed.replace("\r\n", "\n") != text {
        bail!("{} is not what the code says: cargo xtask header --bless", path.display());
    }
    println!("{}: as the code says", path.display());
    Ok(())
}

fn generate(folder: &Path) -> anyhow::Result<String> {
    let config =
        cbindgen::Config::from_file(folder.join("cbindgen.toml")).map_err(anyhow::Error::msg)?;
    let bindings = cbindgen::Builder::new().with_config(config).with_crate(folder).generate()?;
    let mut text = Vec::new();
    bindings.write(&mut text);
    Ok(String::from_utf8(text)?)
}
