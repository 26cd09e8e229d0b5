//! `cargo xtask emulate`: the same texts on processors that this machine is not.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};

use crate::test::target_dir;

/// Which programs to run.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The `halfbyte` of this machine; otherwise the release build in cargo's target folder.
    #[arg(long)]
    native: Option<PathBuf>,
    /// A `halfbyte` for Linux on 64-bit ARM.
    #[arg(long)]
    aarch64: Option<PathBuf>,
    /// Fail where something is missing, instead of skipping it.
    #[arg(long)]
    require: bool,
}

/// A processor that QEMU emulates.
struct Machine {
    /// As in `qemu-<arch>`.
    arch: &'static str,
    /// As `-cpu` takes it.
    cpu: &'static str,
    /// The instruction set that halfbyte must choose there.
    chooses: &'static str,
}

/// The table of processors.
const MACHINES: &[Machine] = &[
    Machine { arch: "x86_64", cpu: "Nehalem", chooses: "sse2" },
    Machine { arch: "x86_64", cpu: "Haswell", chooses: "avx2" },
    Machine { arch: "aarch64", cpu: "cortex-a53", chooses: "neon" },
    Machine { arch: "aarch64", cpu: "cortex-a76", chooses: "neondot" },
    Machine { arch: "aarch64", cpu: "max", chooses: "neoni8mm" },
];

/// Where Debian keeps the libraries for ARM.
const AARCH64_ROOT: &str = "/usr/aarch64-linux-gnu";

/// Prompts: one that streams weights past, one long enough to unpack them for many tokens.
const PROMPTS: &[&str] = &[
    "Once upon a time",
    "Once upon a time there was a little dog who lived in a big red house with a boy and a girl. \
     Every day they went to the park to play with a ball, and every night they read a book. One \
     day the dog saw a bird in a tree, and the bird said",
];

/// Compares texts on every processor with those of plain code on this one.
///
/// # Errors
///
/// If a text differs, another instruction set is chosen, or `--require` misses something.
pub(crate) fn run(root: &Path, args: &Args) -> anyhow::Result<()> {
    let native = args.native.clone().unwrap_or_else(|| target_dir(root).join("release/halfbyte"));
    let build = "build it: cargo build --release -p halfbyte-cli";
    ensure!(native.exists(), "there is no {} ({build})", native.display());
    let plain = Program { command: vec![native.clone()], isa: Some("scalar") };
    let want = plain.texts().context("plain code on this machine")?;
    for text in &want {
        println!("{}", text.trim_end());
    }
    let best = Program { isa: None, ..plain };
    best.check(&want, &best.chosen()?).context("this machine's best instruction set")?;
    let mut skipped = 0;
    for machine in MACHINES {
        let name = format!("{} on {}", machine.cpu, machine.arch);
        match machine.program(&native, args) {
            Ok(program) => program.check(&want, machine.chooses).context(name)?,
            Err(missing) if args.require => bail!("{name}: {missing}"),
            Err(missing) => {
                skipped += 1;
                println!("skipped: {name}: {missing}");
            }
        }
    }
    println!("emulate: all texts are the same, {skipped} processors skipped");
    Ok(())
}

impl Machine {
    /// How to run halfbyte there, or what is missing.
    fn program(&self, native: &Path, args: &Args) -> Result<Program, String> {
        let emulator = format!("qemu-{}", self.arch);
        let binary = match &args.aarch64 {
            Some(binary) if self.arch == "aarch64" => binary,
            _ if self.arch == std::env::consts::ARCH => native,
            _ => return Err(format!("no binary for {} (--{0} BINARY)", self.arch)),
        };
        if !binary.exists() {
            return Err(format!("there is no {}", binary.display()));
        }
        let probe = Command::new(&emulator).arg("--version").stdout(Stdio::null()).status();
        if !probe.is_ok_and(|status| status.success()) {
            return Err(format!("{emulator} is not installed (Debian: qemu-user)"));
        }
        let mut command: Vec<PathBuf> = vec![emulator.into(), "-cpu".into(), self.cpu.into()];
        if self.arch == "aarch64" && Path::new(AARCH64_ROOT).exists() {
            command.extend(["-L".into(), AARCH64_ROOT.into()]);
        }
        command.push(binary.into());
        Ok(Program { command, isa: None })
    }
}

/// A way to run halfbyte.
struct Program {
    /// The program and its first arguments.
    command: Vec<PathBuf>,
    /// The instruction set to ask for.
    isa: Option<&'static str>,
}

impl Program {
    /// Standard output of `halfbyte args…`.
    fn output(&self, args: &[&str]) -> anyhow::Result<String> {
        let (program, first) = self.command.split_first().context("a program")?;
        let mut command = Command::new(program);
        command.args(first).args(args).env_remove("HALFBYTE_ISA");
        command.envs(self.isa.map(|isa| ("HALFBYTE_ISA", isa)));
        let output =
            command.output().with_context(|| format!("cannot run {}", program.display()))?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "halfbyte failed ({}): {complaint}", output.status);
        String::from_utf8(output.stdout).context("text is UTF-8")
    }

    /// The texts that continue the prompts.
    fn texts(&self) -> anyhow::Result<Vec<String>> {
        let options = ["--seed", "1", "--max-new-tokens", "40", "--threads", "2"];
        let text = |prompt| self.output(&[&["generate", prompt], &options[..]].concat());
        PROMPTS.iter().map(|prompt| text(*prompt)).collect()
    }

    /// The instruction set that halfbyte chooses.
    fn chosen(&self) -> anyhow::Result<String> {
        let cpu = self.output(&["inspect", "--cpu"])?;
        chosen(&cpu).map(str::to_owned).with_context(|| format!("nothing is chosen:\n{cpu}"))
    }

    /// Compares instruction set and texts with those that are wanted.
    fn check(&self, want: &[String], isa: &str) -> anyhow::Result<()> {
        let shown: Vec<_> = self.command.iter().map(|part| part.to_string_lossy()).collect();
        println!("$ {} # {isa}", shown.join(" "));
        let chosen = self.chosen()?;
        ensure!(chosen == isa, "it chooses {chosen}, not {isa}");
        for (got, want) in self.texts()?.iter().zip(want) {
            ensure!(got == want, "another text:\n{got}\nnot\n{want}");
        }
        Ok(())
    }
}

/// The instruction set that `halfbyte inspect --cpu` says is chosen.
fn chosen(cpu: &str) -> Option<&str> {
    cpu.lines().find_map(|line| line.strip_prefix("chosen")?.split_whitespace().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chosen_instruction_set_is_found() {
        let cpu =
            "instruction sets:\n  sse2     available\nchosen     sse2 (the best)\nthreads  1\n";
        assert_eq!(chosen(cpu), Some("sse2"));
        assert_eq!(chosen("threads  1\n"), None);
    }

    #[test]
    fn what_is_missing_is_said() {
        let args = Args { native: None, aarch64: Some("nowhere".into()), require: false };
        let machine = Machine { arch: "aarch64", cpu: "max", chooses: "neon" };
        let missing = machine.program(Path::new("."), &args).map(|_| ()).unwrap_err();
        assert_eq!(missing, "there is no nowhere");
    }
}
