//! The project's chores, as one program: `cargo xtask <command>`.
//!
//! Anything here that is more than a line of shell is Rust, so that it runs the same on every
//! system. Start reading at [`Command`].

#![expect(clippy::print_stdout, reason = "a tool for the terminal")]

mod capi;
mod check;
mod emulate;
mod layers;
mod package_test;
mod page_test;
mod process;
mod python;
mod sbom;
mod server_test;
mod soak;
mod test;
mod wheels;

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Parser, Subcommand};

/// The chores of the halfbyte workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run every test and every example: the one test command.
    Test {
        #[command(flatten)]
        c_test: capi::test::Args,
        /// Handed to `cargo test` as they are, instead of running everything.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Do all that CI does: format, lints, layers, docs, licences, tests, packages.
    Check {
        /// Steps to leave out, by name.
        #[arg(long, value_delimiter = ',')]
        skip: Vec<String>,
    },
    /// Check that modules of `halfbyte` import one way only.
    Layers,
    /// Compare texts with those of other processors, emulated by QEMU.
    Emulate(emulate::Args),
    /// Use the packaged crates from a project of its own, as a user would.
    PackageTest,
    /// Compare the C header with the code.
    Header {
        /// Write it anew instead.
        #[arg(long)]
        bless: bool,
    },
    /// Install the C library, its headers, and what pkg-config and CMake look for.
    Install(capi::install::Args),
    /// Compile C and C++ programs against an installed library, and run them.
    CTest(capi::test::Args),
    /// Measure a C program against the command, decoding in turns.
    CSpeed(capi::speed::Args),
    /// Run other people's programs, such as OpenAI's SDKs, against a server.
    ServerTest(server_test::Args),
    /// Load the Python package and the server for an hour, and see what is left in memory.
    Soak(soak::Args),
    /// Run the chat page's tests in a browser.
    PageTest(page_test::Args),
    /// Build the Python package in place, compare its stubs and run its tests.
    Python(python::Args),
    /// Build the Python package's wheels for Linux and its source distribution into `dist/`.
    Wheels(wheels::Args),
    /// List what the shipped things are made of (SBOM) into `dist/sbom/`.
    Sbom,
    /// Write a GGUF model of a real shape with seeded random weights.
    Synth {
        /// `NAME --type ENCODING -o FILE [--seed N]`; `--help` lists the shapes.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

fn main() -> anyhow::Result<()> {
    let root = workspace_root()?;
    match Cli::parse().command {
        Command::Test { c_test, args } => test::run(&root, c_test, &args),
        Command::Check { skip } => check::run(&root, &skip),
        Command::Layers => layers::run(&root),
        Command::Emulate(args) => emulate::run(&root, &args),
        Command::PackageTest => package_test::run(&root),
        Command::Header { bless } => capi::header::run(&root, bless),
        Command::Install(args) => capi::install::run(&root, &args),
        Command::CTest(args) => capi::test::run(&root, args),
        Command::CSpeed(args) => capi::speed::run(&root, &args),
        Command::ServerTest(args) => server_test::run(&root, args),
        Command::Soak(args) => soak::run(&root, &args),
        Command::PageTest(args) => page_test::run(&root, &args),
        Command::Python(args) => python::run(&root, &args),
        Command::Wheels(args) => wheels::run(&root, &args),
        Command::Sbom => sbom::run(&root),
        Command::Synth { args } => {
            // The generator needs the library, which xtask itself does without; the whole
            // workspace is selected so that the features, and so candle, are those of every build.
            let build = ["build", "--quiet", "--release", "--workspace", "--bin", "synth"];
            process::Cargo::new(&root, &build).run()?;
            let program = test::target_dir(&root).join("release/synth");
            let status = std::process::Command::new(program).args(&args).status()?;
            anyhow::ensure!(status.success(), "synth failed ({status})");
            Ok(())
        }
    }
}

/// The folder of the workspace's `Cargo.toml`.
fn workspace_root() -> anyhow::Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    Ok(root.context("xtask lies in the workspace's root")?.to_path_buf())
}
