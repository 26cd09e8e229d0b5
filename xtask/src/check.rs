//! `cargo xtask check`: all that CI runs, step by step, stopping at the first failure.

use std::path::Path;

use anyhow::ensure;

use crate::process::Cargo;
use crate::{capi, layers, package_test, test};

/// One step of the check.
struct Step {
    name: &'static str,
    run: fn(&Path) -> anyhow::Result<()>,
}

/// The steps in order, the quick ones first.
const STEPS: &[Step] = &[
    Step { name: "fmt", run: |root| Cargo::new(root, &["fmt", "--all", "--check"]).run() },
    Step { name: "layers", run: layers::run },
    Step { name: "header", run: |root| capi::header::run(root, false) },
    Step { name: "deny", run: deny },
    Step { name: "clippy", run: clippy },
    Step { name: "doc", run: doc },
    Step { name: "test", run: |root| test::run(root, Default::default(), &[]) },
    Step { name: "package", run: package_test::run },
];

/// Runs every step that `skip` does not name.
///
/// # Errors
///
/// If a step fails, or `skip` names no step.
pub(crate) fn run(root: &Path, skip: &[String]) -> anyhow::Result<()> {
    let names: Vec<_> = STEPS.iter().map(|s| s.name).collect();
    for name in skip {
        ensure!(names.contains(&name.as_str()), "no step {name} (steps: {})", names.join(", "));
    }
    for step in STEPS.iter().filter(|s| !skip.iter().any(|name| name == s.name)) {
        println!("== {}", step.name);
        (step.run)(root)?;
    }
    println!("check: all steps passed");
    Ok(())
}

fn clippy(root: &Path) -> anyhow::Result<()> {
    Cargo::new(root, &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]).run()
}

fn doc(root: &Path) -> anyhow::Result<()> {
    Cargo::new(root, &["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings").run()
}

/// Licences, banned crates and sources; a machine without cargo-deny skips it and says so.
fn deny(root: &Path) -> anyhow::Result<()> {
    if !Cargo::has(root, "deny") {
        println!("skipped: cargo-deny is not installed (the workflow has a job for it)");
        return Ok(());
    }
    Cargo::new(root, &["deny", "check", "bans", "licenses", "sources"]).run()
}
