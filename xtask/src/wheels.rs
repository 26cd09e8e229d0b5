//! `cargo xtask wheels`: what PyPI gets for Linux, built and tried as a user would.
//!
//! maturin builds with `ziglang` as the linker, so that a wheel runs on every Linux since 2014
//! (glibc 2.17), whatever this machine has. The other systems' wheels are built by the workflow.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::process;
use crate::python::environment;
use crate::test::target_dir;

/// The builder, and zig as a package.
const TOOLS: &[&str] = &["maturin[zig]>=1.9.4,<2"];

/// Rust's names of the processors that wheels are built for.
const TARGETS: &[&str] = &["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"];

/// The largest wheel, in bytes.
const MAX_BYTES: u64 = 25_000_000;

/// The longest installation.
const MAX_INSTALL: Duration = Duration::from_secs(15);

/// What the README promises; prints a story.
const STORY: &str = "import halfbyte\n\
    print(halfbyte.Model().generate('Once upon a time', max_new_tokens=40, seed=1))";

/// Options of `cargo xtask wheels`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only for this target, such as `x86_64-unknown-linux-gnu`; may be repeated.
    #[arg(long, value_name = "TARGET")]
    target: Vec<String>,
    /// Build the source distribution, too, and a wheel from it with nothing but cargo.
    #[arg(long)]
    sdist: bool,
}

/// Builds into `dist/`, and installs what this machine can run into a fresh environment.
///
/// # Errors
///
/// If a build fails, a wheel is too large, takes too long to install, or does not work.
pub(crate) fn run(root: &Path, args: &Args) -> anyhow::Result<()> {
    let tools = environment(&target_dir(root).join("wheels-venv"), TOOLS)?;
    let wanted: Vec<&str> = if args.target.is_empty() {
        TARGETS.to_vec()
    } else {
        args.target.iter().map(String::as_str).collect()
    };
    for target in wanted {
        let wheel = build(root, &tools, target)?;
        let bytes = std::fs::metadata(&wheel)?.len();
        println!("{}: {:.1} MB", wheel.display(), bytes as f64 / 1e6);
        ensure!(bytes <= MAX_BYTES, "the wheel is larger than {MAX_BYTES} bytes");
        if target.starts_with(std::env::consts::ARCH) && cfg!(target_os = "linux") {
            try_out(root, &wheel)?;
        }
    }
    if args.sdist {
        sdist(root, &tools)?;
    }
    Ok(())
}

/// The wheel for `target`.
fn build(root: &Path, tools: &Path, target: &str) -> anyhow::Result<PathBuf> {
    let folder = target_dir(root).join("wheels").join(target);
    drop(std::fs::remove_dir_all(&folder));
    let mut maturin = maturin(root, tools)?;
    maturin.args(["build", "--release", "--locked", "--zig", "--compatibility", "manylinux2014"]);
    maturin.args(["--target", target, "--out"]).arg(&folder);
    process::run(maturin)?;
    take(root, &folder)
}

/// The source distribution, and a wheel of it by cargo alone: no zig, no C compiler's headers.
fn sdist(root: &Path, tools: &Path) -> anyhow::Result<()> {
    let folder = target_dir(root).join("sdist");
    drop(std::fs::remove_dir_all(&folder));
    let mut maturin = maturin(root, tools)?;
    maturin.args(["sdist", "--out"]).arg(&folder);
    process::run(maturin)?;
    let archive = take(root, &folder)?;
    let mut pip = Command::new(tools);
    pip.args(["-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir"]);
    pip.arg(folder.join("built")).arg(&archive);
    // Unoptimized and beside what is built already: whether it builds is the question.
    pip.env("MATURIN_PEP517_ARGS", "--profile dev").env("CARGO_TARGET_DIR", target_dir(root));
    pip.env("PATH", path_with(tools)?);
    process::run(pip)?;
    println!("{}: builds", archive.display());
    Ok(())
}

/// maturin in the package's folder; it finds zig through the tools' Python on the search path.
fn maturin(root: &Path, tools: &Path) -> anyhow::Result<Command> {
    let mut command = Command::new(tools);
    command.args(["-m", "maturin"]).current_dir(root.join("python"));
    command.env("CARGO_TARGET_DIR", target_dir(root)).env("PATH", path_with(tools)?);
    Ok(command)
}

/// The search path with the tools' programs in front.
fn path_with(tools: &Path) -> anyhow::Result<std::ffi::OsString> {
    let bin = tools.parent().context("a virtual environment has a folder of programs")?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(bin.to_path_buf()).chain(std::env::split_paths(&path));
    Ok(std::env::join_paths(folders)?)
}

/// Moves the one file of `folder` to `dist/`.
fn take(root: &Path, folder: &Path) -> anyhow::Result<PathBuf> {
    let file = std::fs::read_dir(folder)?.next().context("maturin wrote nothing")??;
    let dist = root.join("dist");
    std::fs::create_dir_all(&dist)?;
    let place = dist.join(file.file_name());
    std::fs::copy(file.path(), &place)?;
    Ok(place)
}

/// Installs `wheel` where there is no compiler, and lets it write a story.
fn try_out(root: &Path, wheel: &Path) -> anyhow::Result<()> {
    let folder = target_dir(root).join("wheel-try");
    drop(std::fs::remove_dir_all(&folder));
    let python = environment(&folder, &[])?;
    let bin = python.parent().context("a virtual environment has a folder of programs")?;
    // numpy comes first: how long it takes says nothing about this package.
    let mut numpy = Command::new(&python);
    numpy.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "numpy"]);
    process::run(numpy)?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).arg(wheel);
    let start = Instant::now();
    process::run(with_path(pip, bin))?;
    println!("installed in {:.1} s", start.elapsed().as_secs_f64());
    ensure!(start.elapsed() < MAX_INSTALL, "installing took longer than {MAX_INSTALL:?}");
    let mut story = Command::new(&python);
    story.args(["-c", STORY]);
    process::run(with_path(story, bin))?;
    let mut command = Command::new(bin.join("halfbyte"));
    command.arg("--version");
    process::run(with_path(command, bin))
}

/// `command` with a search path of `bin` alone: no compiler, no linker, no cargo.
fn with_path(mut command: Command, bin: &Path) -> Command {
    command.env("PATH", bin);
    command
}
