//! `cargo xtask package-test`: what a user gets from the registry, used as a user would.
//!
//! Packages the library and the embedded model, unpacks them into a fresh folder, and builds a
//! project of its own there that depends on the unpacked crates with their default features.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use crate::process::Cargo;

/// The crates that a user's project names.
const PACKAGES: &[&str] = &["halfbyte", "halfbyte-model"];

/// What the second program uses besides, in the workspace's versions.
const CANDLE: &[&str] = &["candle-core", "candle-nn"];

/// The largest program that counts as easy, in lines.
const MAX_LINES: usize = 15;

/// The user's programs: name, text.
const PROGRAMS: &[(&str, &str)] = &[
    ("generate", include_str!("../consumer/generate.rs")),
    ("qlinear", include_str!("../consumer/qlinear.rs")),
];

/// Packages, unpacks, builds and runs.
///
/// # Errors
///
/// If a package lacks a file, does not build, or a program fails or prints nothing.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    let target = root.join("target");
    let folder = target.join("package-test");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
    }
    fs::create_dir_all(folder.join("src/bin"))?;
    package(root, &target, &folder)?;
    let lines = PROGRAMS[0].1.trim_end().lines().count();
    ensure!(lines <= MAX_LINES, "{} has {lines} lines, above {MAX_LINES}", PROGRAMS[0].0);
    fs::write(folder.join("Cargo.toml"), manifest(root)?)?;
    // The versions that the workspace was tested with.
    fs::copy(root.join("Cargo.lock"), folder.join("Cargo.lock"))?;
    for (name, text) in PROGRAMS {
        fs::write(folder.join(format!("src/bin/{name}.rs")), text)?;
        let run = Cargo::new(&folder, &["run", "--quiet", "--bin", name]);
        // Beside the workspace's, so that a second run need not compile again.
        let printed = run.env("CARGO_TARGET_DIR", target.join("package-test-target")).output()?;
        ensure!(!printed.trim().is_empty(), "{name} printed nothing");
        println!("{}", printed.trim_end());
    }
    println!("package-test: {} programs ran on the packaged crates", PROGRAMS.len());
    Ok(())
}

/// Makes the packages in `target` and unpacks them into `folder`.
fn package(root: &Path, target: &Path, folder: &Path) -> anyhow::Result<()> {
    // Not verified here: the user's project builds them anyway.
    let mut cargo = Cargo::new(root, &["package", "--no-verify", "--allow-dirty", "--quiet"]);
    for name in PACKAGES {
        cargo = cargo.args(&["-p", name]);
    }
    cargo.env("CARGO_TARGET_DIR", target).run()?;
    let version = env!("CARGO_PKG_VERSION");
    for name in PACKAGES {
        let archive: PathBuf = target.join(format!("package/{name}-{version}.crate"));
        let bytes = fs::metadata(&archive).with_context(|| archive.display().to_string())?.len();
        println!("{name}-{version}.crate: {:.1} MB", bytes as f64 / 1e6);
        // tar is on every system that Rust supports as a host, Windows included.
        let status = Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(folder).status();
        ensure!(status.context("tar")?.success(), "cannot unpack {}", archive.display());
    }
    Ok(())
}

/// The manifest of the user's project.
///
/// Its profile is cargo's own but for two things: the library is optimized, as unoptimized kernels
/// are a hundred times slower, and nothing has debug information. The dependencies' features are
/// fewer than in the workspace, so all of them are compiled anew; unoptimized, that is quick.
fn manifest(root: &Path) -> anyhow::Result<String> {
    let version = env!("CARGO_PKG_VERSION");
    let workspace = fs::read_to_string(root.join("Cargo.toml"))?;
    let mut text = String::from(
        "[package]\nname = \"consumer\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
         [workspace]\n\n[dependencies]\n",
    );
    for name in PACKAGES {
        text.push_str(&format!("{name} = {{ path = \"{name}-{version}\" }}\n"));
    }
    for name in CANDLE {
        let line = workspace.lines().find(|line| line.starts_with(&format!("{name} = ")));
        text.push_str(line.with_context(|| format!("the workspace names no {name}"))?);
        text.push('\n');
    }
    text.push_str(
        "\n[profile.dev]\ndebug = false\n\n[profile.dev.package.halfbyte]\nopt-level = 1\n",
    );
    Ok(text)
}
