//! `cargo xtask python`: the Python package from the development build, its stubs and its tests.
//!
//! The extension is built with the rest of the workspace, so that nothing is compiled twice, and
//! laid into `python/halfbyte`, from where Python imports it. Wheels are made by `wheels`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};

use crate::process::{self, Cargo};
use crate::test::target_dir;

/// What the tests need, and nothing that the package needs besides.
const TEST_PACKAGES: &[&str] = &["numpy", "pytest", "mypy", "ruff"];

/// Tests in Python that are not the package's; what makes data, models and timings is left as it is.
const SCRIPTS: &[&str] = &["tests/page", "tests/server", "tests/soak"];

/// What the tests of other frameworks need besides: hundreds of megabytes.
const FRAMEWORKS: &[&str] = &[
    "langchain-core",
    "llama-index-core",
    "ray[data]",
    "lm-eval==0.4.13",
    "scikit-learn",
    "matplotlib",
];

/// The stubs of the native half, relative to the workspace.
const STUBS: &str = "python/halfbyte/_native.pyi";

/// Options of `cargo xtask python`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write the stubs anew instead of comparing them.
    #[arg(long)]
    bless: bool,
    /// Only build the package and check its stubs.
    #[arg(long)]
    no_test: bool,
    /// Install the frameworks that the examples are for, too, and run their tests.
    #[arg(long)]
    frameworks: bool,
    /// Handed to pytest as they are.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pytest: Vec<String>,
}

/// Builds the package, compares its stubs and runs its tests.
///
/// # Errors
///
/// If a step fails, or the stubs are not those of the build.
pub(crate) fn run(root: &Path, args: &Args) -> anyhow::Result<()> {
    let library = build(root)?;
    check_stubs(root, &library, args.bless)?;
    if args.no_test {
        return Ok(());
    }
    test(root, args)
}

/// As [`run`] with everything, or a line that says why not.
///
/// # Errors
///
/// As [`run`].
pub(crate) fn run_if_python(root: &Path) -> anyhow::Result<()> {
    if interpreter().is_none() {
        println!("skipped: the Python package (no python3 of version 3.9 or newer)");
        return Ok(());
    }
    run(root, &Args { bless: false, no_test: false, frameworks: false, pytest: Vec::new() })
}

/// Builds the extension and lays it into the package; returns the built library.
pub(crate) fn build(root: &Path) -> anyhow::Result<PathBuf> {
    // The whole workspace with its examples, as the tests are built: another selection of packages
    // or targets has other features, and would compile candle a second time. The stubs'
    // descriptions touch only pyo3.
    let features = ["--features", "halfbyte-python/stubs"];
    let targets = ["build", "--quiet", "--workspace", "--lib", "--bins", "--examples"];
    Cargo::new(root, &targets).args(&features).run()?;
    let (name, module) = match std::env::consts::OS {
        "windows" => ("halfbyte_native.dll", "_native.pyd"),
        "macos" => ("libhalfbyte_native.dylib", "_native.abi3.so"),
        _ => ("libhalfbyte_native.so", "_native.abi3.so"),
    };
    let library = target_dir(root).join("debug").join(name);
    let place = root.join("python/halfbyte").join(module);
    // Removed first: a process that has the old one mapped keeps it.
    drop(std::fs::remove_file(&place));
    std::fs::copy(&library, &place).with_context(|| library.display().to_string())?;
    Ok(library)
}

/// Compares the committed stubs with those of `library`, or writes them.
fn check_stubs(root: &Path, library: &Path, bless: bool) -> anyhow::Result<()> {
    let module = pyo3_introspection::introspect_cdylib(library, "_native")?;
    let stubs = pyo3_introspection::module_stub_files(&module);
    let stubs = stubs.into_values().next().context("the module has stubs")?;
    let path = root.join(STUBS);
    if bless {
        return std::fs::write(&path, stubs).with_context(|| path.display().to_string());
    }
    let committed = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    if committed.replace("\r\n", "\n") != stubs {
        bail!("{STUBS} is not what the code says: cargo xtask python --bless");
    }
    Ok(())
}

fn test(root: &Path, args: &Args) -> anyhow::Result<()> {
    let mut packages = TEST_PACKAGES.to_vec();
    let mut folder = "python-venv";
    if args.frameworks {
        packages.extend(FRAMEWORKS);
        folder = "python-frameworks-venv";
    }
    let python = environment(&target_dir(root).join(folder), &packages)?;
    let program = |name: &str| {
        target_dir(root).join("debug").join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
    };
    lint(root, &python)?;
    let mut pytest = Command::new(python);
    pytest.args(["-m", "pytest"]).args(&args.pytest).current_dir(root.join("python"));
    pytest.env("PYTHONPATH", root.join("python"));
    pytest.env("HALFBYTE_LOGITS", program("logits")).env("HALFBYTE_CORPUS", program("corpus"));
    process::run(pytest)
}

/// Runs ruff over what users run and over the scripts that run only here, which need no old Python.
fn lint(root: &Path, python: &Path) -> anyhow::Result<()> {
    let config = ["--config", "python/pyproject.toml", "--target-version", "py310"];
    for (options, paths) in
        [(&config[..0], &["python"][..]), (&config[..2], &["examples"]), (&config, SCRIPTS)]
    {
        for check in [&["check"][..], &["format", "--check"]] {
            let mut ruff = Command::new(python);
            ruff.args(["-m", "ruff"]).args(check).args(options).args(paths).current_dir(root);
            process::run(ruff)?;
        }
    }
    Ok(())
}

/// The interpreter of a virtual environment in `folder` that has `packages`, made if need be.
pub(crate) fn environment(folder: &Path, packages: &[&str]) -> anyhow::Result<PathBuf> {
    let python =
        if cfg!(windows) { folder.join("Scripts/python.exe") } else { folder.join("bin/python") };
    let wanted = packages.join("\n");
    // What was installed is written down, so that a second run need not ask a registry.
    let installed = folder.join("installed.txt");
    if python.exists() && std::fs::read_to_string(&installed).is_ok_and(|text| text == wanted) {
        return Ok(python);
    }
    let base = interpreter().context("there is no python3 of version 3.9 or newer")?;
    let mut venv = Command::new(base);
    venv.args(["-m", "venv", "--clear"]).arg(folder);
    process::run(venv).context("Debian has venv in the package python3-venv")?;
    if !packages.is_empty() {
        let mut pip = Command::new(&python);
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(packages);
        process::run(pip)?;
    }
    std::fs::write(&installed, wanted)?;
    ensure!(python.exists(), "{} was not made", python.display());
    Ok(python)
}

/// A Python that the package supports.
fn interpreter() -> Option<&'static str> {
    let recent = "import sys; sys.exit(sys.version_info < (3, 9))";
    ["python3", "python"].into_iter().find(|name| {
        let status = Command::new(name).args(["-c", recent]).status();
        status.is_ok_and(|status| status.success())
    })
}
