//! `cargo xtask soak`: an hour of load on the Python package and the server, by `tests/soak`.
//!
//! What is run is laid aside first, so that building on meanwhile changes nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use crate::process;
use crate::python;
use crate::test::target_dir;

/// Options of `cargo xtask soak`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long; a quarter of it, ten minutes at most, is warm-up.
    #[arg(long, value_name = "N", default_value_t = 60.0)]
    minutes: f64,
    /// The model to work with; the embedded one by default.
    #[arg(short, long, value_name = "MODEL")]
    model: Option<PathBuf>,
}

/// Builds, lays aside, runs.
///
/// # Errors
///
/// If there was an error, memory or descriptors grew, or something hung.
pub(crate) fn run(root: &Path, args: &Args) -> anyhow::Result<()> {
    ensure!(cfg!(target_os = "linux"), "the soak reads /proc, which only Linux has");
    python::build(root)?;
    let folder = target_dir(root).join("soak");
    drop(fs::remove_dir_all(&folder));
    let package = folder.join("halfbyte");
    fs::create_dir_all(&package)?;
    // Its folders are programs over the package, which nothing here needs.
    for file in fs::read_dir(root.join("python/halfbyte"))? {
        let file = file?;
        if file.file_type()?.is_file() {
            fs::copy(file.path(), package.join(file.file_name()))?;
        }
    }
    let built = target_dir(root).join("debug/halfbyte");
    let server = folder.join("server");
    fs::copy(&built, &server).with_context(|| built.display().to_string())?;
    let interpreter = python::environment(&target_dir(root).join("soak-venv"), &["numpy"])?;
    let mut soak = Command::new(interpreter);
    soak.env("PYTHONPATH", &folder).env("PYTHONDONTWRITEBYTECODE", "1");
    soak.arg(root.join("tests/soak/soak.py")).args(["--minutes", &args.minutes.to_string()]);
    soak.arg("--server").arg(server).arg("--data").arg(root.join("tests/data"));
    soak.arg("--samples").arg(folder.join("samples.json"));
    if let Some(model) = &args.model {
        soak.arg("--model").arg(model);
    }
    process::run(soak)
}
