//! `cargo xtask wheels`: what PyPI gets for Linux, built and tried as a user would.
//!
//! maturin builds with `ziglang` as the linker, so that a wheel runs on every Linux since 2014
//! (glibc 2.17), whatever this machine has. Every wheel is built so that the same commit gives the same
//! bytes, wherever it lies and is built: `Place::maturin` sees to that.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::process::{self, git};
use crate::python::environment;
use crate::test::target_dir;

/// The builder, and zig as a package.
const TOOLS: &[&str] = &["maturin[zig]>=1.9.4,<2"];

/// Rust's names of the processors that wheels are built for.
const TARGETS: &[&str] = &["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"];

/// How wheels for a system are built: the end of its targets' names, and maturin's options.
const SYSTEMS: &[(&str, &[&str])] = &[
    ("-linux-gnu", &["--zig", "--compatibility", "manylinux2014"]),
    ("-linux-musl", &["--zig", "--compatibility", "musllinux_1_2"]),
];

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
    /// Build each wheel again from a copy of the last commit elsewhere, and compare their bytes.
    #[arg(long)]
    reproducible: bool,
    /// More options for maturin.
    #[arg(last = true)]
    maturin: Vec<String>,
}

/// Where a build happens.
struct Place<'a> {
    /// The checkout.
    root: &'a Path,
    /// Cargo's folder there.
    target: PathBuf,
    /// The Python that has the tools.
    tools: &'a Path,
}

/// Builds into `dist/`, and installs what this machine can run into a fresh environment.
///
/// # Errors
///
/// If a build fails, a wheel is too large, takes too long to install, or does not work.
pub(crate) fn run(root: &Path, args: &Args) -> anyhow::Result<()> {
    let tools = environment(&target_dir(root).join("wheels-venv"), TOOLS)?;
    let here = Place { root, target: target_dir(root), tools: &tools };
    let wanted: Vec<&str> = if args.target.is_empty() {
        TARGETS.to_vec()
    } else {
        args.target.iter().map(String::as_str).collect()
    };
    for target in wanted {
        let wheel = take(root, &here.build(target, &args.maturin)?)?;
        let bytes = std::fs::metadata(&wheel)?.len();
        println!("{}: {:.1} MB", wheel.display(), bytes as f64 / 1e6);
        ensure!(bytes <= MAX_BYTES, "the wheel is larger than {MAX_BYTES} bytes");
        if target == format!("{}-unknown-linux-gnu", std::env::consts::ARCH) {
            try_out(root, &wheel)?;
        }
        if args.reproducible {
            here.build_again(&wheel, target, &args.maturin)?;
        }
    }
    if args.sdist {
        here.sdist()?;
    }
    Ok(())
}

impl Place<'_> {
    /// The wheel for `target`.
    fn build(&self, target: &str, options: &[String]) -> anyhow::Result<PathBuf> {
        let folder = self.target.join("wheels").join(target);
        drop(std::fs::remove_dir_all(&folder));
        let mut maturin = self.maturin()?;
        maturin.args(["build", "--release", "--locked", "--target", target, "--out"]).arg(&folder);
        let system = SYSTEMS.iter().find(|(end, _)| target.ends_with(end));
        maturin.args(system.map_or(&[][..], |(_, options)| options)).args(options);
        process::run(maturin)?;
        only_file(&folder)
    }

    /// Builds `wheel` again from a copy of the last commit with a longer path, where nothing is built
    /// yet, and compares.
    fn build_again(&self, wheel: &Path, target: &str, options: &[String]) -> anyhow::Result<()> {
        let changes = git(self.root, &["status", "--porcelain"])?;
        ensure!(changes.is_empty(), "commit first: the copy would lack\n{changes}");
        let folder = self.target.join("wheels-again");
        drop(std::fs::remove_dir_all(&folder));
        let root = folder.join("another/place");
        let mut clone = Command::new("git");
        clone.args(["clone", "--quiet"]).arg(self.root).arg(&root);
        process::run(clone)?;
        let there = Place { root: &root, target: folder.join("built"), tools: self.tools };
        let again = there.build(target, options)?;
        let same = std::fs::read(wheel)? == std::fs::read(&again)?;
        ensure!(same, "{} and {} differ: unpack and compare", wheel.display(), again.display());
        println!("{}: built twice, the same bytes", wheel.display());
        // A second build of everything takes gigabytes.
        Ok(std::fs::remove_dir_all(&folder)?)
    }

    /// The source distribution, and a wheel of it by cargo alone: no zig, no C compiler's headers.
    fn sdist(&self) -> anyhow::Result<()> {
        let folder = self.target.join("sdist");
        drop(std::fs::remove_dir_all(&folder));
        let mut maturin = self.maturin()?;
        maturin.args(["sdist", "--out"]).arg(&folder);
        process::run(maturin)?;
        let archive = take(self.root, &only_file(&folder)?)?;
        let mut pip = Command::new(self.tools);
        pip.args(["-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir"]);
        pip.arg(folder.join("built")).arg(&archive);
        // Unoptimized and beside what is built already: whether it builds is the question.
        pip.env("MATURIN_PEP517_ARGS", "--profile dev").env("CARGO_TARGET_DIR", &self.target);
        pip.env("PATH", path_with(self.tools)?);
        process::run(pip)?;
        println!("{}: builds", archive.display());
        Ok(())
    }

    /// maturin in the package's folder; it finds zig through the tools' Python on the search path.
    ///
    /// What would differ from place to place is made the same: paths in messages of panics, and the
    /// time of files in the archive, which is that of the commit.
    fn maturin(&self) -> anyhow::Result<Command> {
        let mut command = Command::new(self.tools);
        command.args(["-m", "maturin"]).current_dir(self.root.join("python"));
        command.env("CARGO_TARGET_DIR", &self.target).env("PATH", path_with(self.tools)?);
        // Of two that fit, rustc takes the later one.
        let remaps = [
            (cargo_home()?, "cargo".to_owned()),
            (self.root.to_path_buf(), "halfbyte".to_owned()),
            (self.target.clone(), "target".to_owned()),
            (sysroot_sources()?, format!("/rustc/{}", rustc("commit-hash")?)),
        ];
        let mut flags = std::env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
        for (from, to) in remaps {
            let from = from.to_str().context("a path that is not UTF-8")?.to_owned();
            let separator = if flags.is_empty() { "" } else { "\x1f" };
            flags.push_str(&format!("{separator}--remap-path-prefix={from}={to}"));
        }
        command.env("CARGO_ENCODED_RUSTFLAGS", flags);
        if std::env::var_os("SOURCE_DATE_EPOCH").is_none() {
            let time = git(self.root, &["log", "-1", "--format=%ct"])?;
            command.env("SOURCE_DATE_EPOCH", time);
        }
        Ok(command)
    }
}

/// Where cargo keeps the sources of packages.
fn cargo_home() -> anyhow::Result<PathBuf> {
    let given = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    given.or_else(|| Some(std::env::home_dir()?.join(".cargo"))).context("there is no home folder")
}

/// Where the standard library's sources are, if they are installed; without them, its paths are named
/// after the compiler's commit.
fn sysroot_sources() -> anyhow::Result<PathBuf> {
    let output = Command::new("rustc").args(["--print", "sysroot"]).output()?;
    let sysroot = String::from_utf8(output.stdout)?;
    Ok(Path::new(sysroot.trim()).join("lib/rustlib/src/rust"))
}

/// What `rustc -vV` says of `field`.
fn rustc(field: &str) -> anyhow::Result<String> {
    let output = String::from_utf8(Command::new("rustc").arg("-vV").output()?.stdout)?;
    let value = output.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(": "));
    Ok(value.with_context(|| format!("rustc does not know its {field}"))?.to_owned())
}

/// The search path with the tools' programs in front.
fn path_with(tools: &Path) -> anyhow::Result<std::ffi::OsString> {
    let bin = tools.parent().context("a virtual environment has a folder of programs")?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(bin.to_path_buf()).chain(std::env::split_paths(&path));
    Ok(std::env::join_paths(folders)?)
}

/// The one file of `folder`.
fn only_file(folder: &Path) -> anyhow::Result<PathBuf> {
    Ok(std::fs::read_dir(folder)?.next().context("maturin wrote nothing")??.path())
}

/// Copies `file` to `dist/`.
fn take(root: &Path, file: &Path) -> anyhow::Result<PathBuf> {
    let dist = root.join("dist");
    std::fs::create_dir_all(&dist)?;
    let place = dist.join(file.file_name().context("a file has a name")?);
    std::fs::copy(file, &place)?;
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
