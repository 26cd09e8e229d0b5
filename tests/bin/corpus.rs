//! Writes the broken files of `tests/hostile` into a folder, for tests in other languages.

use std::path::Path;

use anyhow::Context as _;
use halfbyte_tests::hostile;

#[expect(clippy::print_stdout, reason = "says what it did")]
fn main() -> anyhow::Result<()> {
    let folder = std::env::args_os().nth(1).context("corpus FOLDER")?;
    let n = hostile::write(Path::new(&folder))?;
    println!("{n} broken files in {}", Path::new(&folder).display());
    Ok(())
}
