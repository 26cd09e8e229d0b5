//! `cargo xtask test`: every test of the workspace, every example, then the programs in C and C++
//! and the Python package's tests.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};

use crate::process::Cargo;
use crate::{capi, python};

/// The programs of `examples/`; each must run to its end and print something.
pub(crate) const EXAMPLES: &[&str] = &["generate", "chat", "batch", "candle_qlinear"];

/// Runs `cargo test` over the workspace (or with `args`), the examples, and the tests in C and Python.
///
/// # Errors
///
/// If a test or an example fails.
pub(crate) fn run(root: &Path, c_test: capi::test::Args, args: &[String]) -> anyhow::Result<()> {
    let cargo = Cargo::new(root, &["test"]);
    let cargo = if args.is_empty() {
        // A failing binary must not hide the failures of the next one.
        cargo.args(&["--workspace", "--no-fail-fast"])
    } else {
        cargo.args(args)
    };
    let mut tally = Tally::default();
    let ok = cargo.run_seeing(&mut |line| tally.add(line))?;
    println!("{} passed, {} failed, in {} runs", tally.passed, tally.failed, tally.runs);
    if !ok {
        bail!("tests failed");
    }
    if args.is_empty() {
        examples(root)?;
        capi::test::run(root, c_test)?;
        python::run_if_python(root)?;
    }
    Ok(())
}

/// Runs every example and checks that it prints something.
///
/// They are built as the tests are: another selection of packages would be another selection of
/// features, and compile candle a second time.
pub(crate) fn examples(root: &Path) -> anyhow::Result<()> {
    Cargo::new(root, &["test", "--quiet", "--workspace", "--examples", "--no-run"]).run()?;
    for name in EXAMPLES {
        let program = target_dir(root).join("debug/examples").join(name);
        let output = std::process::Command::new(&program)
            .stderr(std::process::Stdio::inherit())
            .output()
            .with_context(|| format!("cannot run {}", program.display()))?;
        ensure!(output.status.success(), "the example {name} failed ({})", output.status);
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(!text.trim().is_empty(), "the example {name} printed nothing");
        println!("== example {name}\n{}", text.trim_end());
    }
    println!("{} examples ran", EXAMPLES.len());
    Ok(())
}

/// Where cargo, which runs in `root`, puts what it builds.
pub(crate) fn target_dir(root: &Path) -> PathBuf {
    root.join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

/// The sums over all `test result:` lines.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    runs: u64,
}

impl Tally {
    /// Counts a line such as `test result: ok. 3 passed; 0 failed; …`.
    fn add(&mut self, line: &str) {
        let Some(rest) = line.strip_prefix("test result: ") else { return };
        self.runs += 1;
        for part in rest.split([';', '.']) {
            let mut words = part.split_whitespace();
            let Some(Ok(count)) = words.next().map(str::parse::<u64>) else { continue };
            match words.next() {
                Some("passed") => self.passed += count,
                Some("failed") => self.failed += count,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_add_up() {
        let mut tally = Tally::default();
        tally.add("test result: ok. 3 passed; 0 failed; 0 ignored; finished in 0.00s");
        tally.add("test a_test ... ok");
        tally.add("test result: FAILED. 7 passed; 2 failed; 0 ignored; finished in 1.50s");
        assert_eq!(tally, Tally { passed: 10, failed: 2, runs: 2 });
    }
}
