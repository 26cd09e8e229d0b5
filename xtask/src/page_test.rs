//! `cargo xtask page-test`: the chat page in a browser.
//!
//! Runs `tests/page` with pytest and Playwright in a virtual environment of its own: against a server
//! that fails on command, and against the development build's, if that was built.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use crate::process;
use crate::python::environment;
use crate::test::target_dir;

/// Options of `cargo xtask page-test`.
#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// What is missing here (Playwright, Chromium, axe-core, the built command) is an error.
    #[arg(long)]
    require_all: bool,
    /// Handed to pytest as they are.
    #[arg(last = true)]
    pytest: Vec<String>,
}

/// Runs the tests that this machine can run; the others say what they lack.
///
/// # Errors
///
/// If one fails; with `require_all` also if one is skipped.
pub(crate) fn run(root: &Path, args: &Args) -> anyhow::Result<()> {
    let target = target_dir(root);
    let python = match environment(&target.join("page-venv"), &["pytest", "playwright"]) {
        Ok(python) => python,
        Err(error) if args.require_all => return Err(error),
        Err(error) => {
            println!("skipped: the chat page in a browser ({error:#})");
            return Ok(());
        }
    };
    let axe = target.join("node_modules/axe-core/axe.min.js");
    if let Err(error) = fetch_axe(&target, &axe) {
        ensure!(!args.require_all, "axe-core: {error:#}");
        println!("skipped: axe-core's rules ({error:#})");
    }
    let mut pytest = Command::new(python);
    pytest.args(["-m", "pytest", "-rs", "-p", "no:cacheprovider"]).arg(root.join("tests/page"));
    if args.require_all {
        pytest.arg("--require-all");
    }
    let name = format!("halfbyte{}", std::env::consts::EXE_SUFFIX);
    pytest.args(&args.pytest).env("AXE_CORE", axe).env("PYTHONDONTWRITEBYTECODE", "1");
    // The one that was built last; a release build beside it may be of another day.
    pytest.env("HALFBYTE", target.join("debug").join(name));
    process::run(pytest)
}

/// Installs axe-core, if it is not there.
fn fetch_axe(target: &Path, axe: &Path) -> anyhow::Result<()> {
    if axe.exists() {
        return Ok(());
    }
    let mut version = Command::new("npm");
    version.arg("--version").stdout(Stdio::null());
    version.status().context("there is no npm to install it")?;
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--silent", "--prefix"]);
    npm.arg(target).arg("axe-core");
    process::run(npm)
}
