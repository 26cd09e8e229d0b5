//! `cargo xtask c-speed`: a C program against the command, decoding the same tokens in turns.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use super::header::CRATE;
use super::install;
use super::tools::{Compiler, Link, pkg_config};
use crate::process::Cargo;
use crate::test::target_dir;

/// Options of `cargo xtask c-speed`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A GGUF file; one of 1.1B parameters by `cargo xtask synth` will do.
    #[arg(short, long)]
    model: PathBuf,
    /// Tokens that each run decodes.
    #[arg(short, long, default_value_t = 64)]
    n_tokens: u32,
    /// Runs of each; the first pair only warms the caches and does not count.
    #[arg(short, long, default_value_t = 15)]
    pairs: usize,
    /// Measure the development build.
    #[arg(long)]
    debug: bool,
}

/// The least that the median of the ratios may be.
const MIN_RATIO: f64 = 0.98;

/// Builds both, runs them in turns, and prints each pair and the median of the ratios.
///
/// # Errors
///
/// If something does not build or run, or the C program is slower than the command.
pub(crate) fn run(root: &Path, args: &Args) -> anyhow::Result<()> {
    let build = Cargo::new(root, &["build", "--workspace", "--lib", "--bin", "halfbyte"]);
    let (build, profile) =
        if args.debug { (build, "debug") } else { (build.args(&["--release"]), "release") };
    build.run()?;
    let (built, folder) = (target_dir(root).join(profile), target_dir(root).join("c-speed"));
    let prefix = folder.join("prefix");
    install::install(root, &built, &prefix)?;
    let compiler = Compiler::all().0.into_iter().next().context("there is no C compiler")?;
    let flags = pkg_config(&prefix, &[Link::Static.package()])?;
    let source = root.join(CRATE).join("tests/c/speed.c");
    let program = compiler.build(&source, &folder, &flags)?;
    let mut ratios = Vec::new();
    for pair in 0..=args.pairs {
        // Who is first changes, so that neither has the quieter moment.
        let mut speeds = [0.0; 2];
        for side in [pair % 2, 1 - pair % 2] {
            speeds[side] = match side {
                0 => of_program(&program, args)?,
                _ => of_command(&built.join("halfbyte"), args)?,
            };
        }
        let ratio = speeds[0] / speeds[1];
        println!("C {:.2} tok/s, command {:.2} tok/s, ratio {ratio:.3}", speeds[0], speeds[1]);
        if pair > 0 {
            ratios.push(ratio);
        }
    }
    ratios.sort_by(f64::total_cmp);
    let median = ratios.get(ratios.len() / 2).copied().context("there were no pairs")?;
    println!("median of {} ratios: {median:.3}", ratios.len());
    ensure!(median >= MIN_RATIO, "the C program is slower than {MIN_RATIO} of the command");
    Ok(())
}

fn of_program(program: &Path, args: &Args) -> anyhow::Result<f64> {
    let mut command = Command::new(program);
    let output = command.arg(&args.model).arg(args.n_tokens.to_string()).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

fn of_command(program: &Path, args: &Args) -> anyhow::Result<f64> {
    let mut command = Command::new(program);
    command.args(["generate", "--json", "--ignore-eos", "--seed", "1", "-m"]).arg(&args.model);
    let output = command.args(["-n", &args.n_tokens.to_string(), "Once upon a time"]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let json = String::from_utf8(output.stdout)?;
    let number = |key: &str| -> anyhow::Result<f64> {
        let (_, rest) = json.split_once(&format!("\"{key}\":")).context(key.to_owned())?;
        let end = rest.find([',', '}', '\n']).unwrap_or(rest.len());
        Ok(rest[..end].trim().parse()?)
    };
    Ok((number("new_tokens")? - 1.0) / number("decode_s")?)
}
