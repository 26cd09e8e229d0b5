//! Running other programs: echo the command, inherit the terminal, fail with the command's name.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};

/// Runs a program that is not cargo with this program's terminal.
pub(crate) fn run(mut command: Command) -> anyhow::Result<()> {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let shown = words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ");
    println!("$ {shown}");
    let status = command.status().with_context(|| shown.clone())?;
    if !status.success() {
        bail!("`{shown}` failed ({status})");
    }
    Ok(())
}

/// The standard output of git in `root`.
pub(crate) fn git(root: &Path, args: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("git").args(args).current_dir(root).output().context("git")?;
    ensure!(output.status.success(), "git: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// One call of cargo in the workspace's root.
pub(crate) struct Cargo {
    command: Command,
    shown: String,
}

impl Cargo {
    /// `cargo args…`, run in `root`.
    pub(crate) fn new(root: &Path, args: &[&str]) -> Self {
        // The cargo that started this program, so that `cargo +toolchain xtask` holds throughout.
        let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(program);
        command.current_dir(root);
        Self { command, shown: "cargo".to_owned() }.args(args)
    }

    /// Adds arguments.
    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: &[S]) -> Self {
        for arg in args {
            self.shown.push(' ');
            self.shown.push_str(&arg.as_ref().to_string_lossy());
            self.command.arg(arg);
        }
        self
    }

    /// Sets an environment variable.
    pub(crate) fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    /// Runs it with this program's terminal.
    pub(crate) fn run(mut self) -> anyhow::Result<()> {
        println!("$ {}", self.shown);
        let status = self.command.status().with_context(|| self.shown.clone())?;
        if !status.success() {
            bail!("`{}` failed ({status})", self.shown);
        }
        Ok(())
    }

    /// Runs it, hands each line of its standard output to `see`, and prints the line.
    ///
    /// Returns whether it succeeded.
    pub(crate) fn run_seeing(mut self, see: &mut dyn FnMut(&str)) -> anyhow::Result<bool> {
        println!("$ {}", self.shown);
        let mut child =
            self.command.stdout(Stdio::piped()).spawn().with_context(|| self.shown.clone())?;
        let stdout = child.stdout.take().context("standard output was piped")?;
        for line in BufReader::new(stdout).lines() {
            let line = line.with_context(|| self.shown.clone())?;
            see(&line);
            println!("{line}");
        }
        Ok(child.wait()?.success())
    }

    /// Runs it and returns its standard output.
    pub(crate) fn output(self) -> anyhow::Result<String> {
        println!("$ {}", self.shown);
        self.silent_output()
    }

    /// As [`output`](Self::output), without a word about it.
    pub(crate) fn silent_output(mut self) -> anyhow::Result<String> {
        let output =
            self.command.stderr(Stdio::inherit()).output().with_context(|| self.shown.clone())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            bail!("`{}` failed ({})\n{text}", self.shown, output.status);
        }
        Ok(text)
    }

    /// Whether `cargo name` exists here.
    pub(crate) fn has(root: &Path, name: &str) -> bool {
        let probe = Self::new(root, &[name, "--version"]);
        let mut command = probe.command;
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|s| s.success())
    }
}
