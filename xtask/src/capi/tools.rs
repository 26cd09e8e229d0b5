//! Compilers and the like: which are here, and how they are called.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use crate::process;

/// The compilers for C and C++ that are tried.
const COMPILERS: &[(&str, &str)] = &[("gcc", "g++"), ("clang", "clang++")];

/// What every C and C++ program must compile with.
const STRICT: &[&str] = &["-Wall", "-Wextra", "-Werror", "-pedantic"];

/// A compiler for C and one for C++ of one family.
pub(crate) struct Compiler {
    pub(crate) name: &'static str,
    cpp: &'static str,
}

/// How a program is linked with the library.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    Shared,
    Static,
}

impl Link {
    /// pkg-config's name for it, and that of the folder.
    pub(crate) fn package(self) -> &'static str {
        match self {
            Self::Shared => "halfbyte",
            Self::Static => "halfbyte-static",
        }
    }
}

impl Compiler {
    /// The families that are here, and the names of those that are not.
    pub(crate) fn all() -> (Vec<Self>, Vec<&'static str>) {
        let (here, missing): (Vec<_>, Vec<_>) =
            COMPILERS.iter().partition(|(c, cpp)| has(c) && has(cpp));
        let here = here.into_iter().map(|(name, cpp)| Self { name, cpp }).collect();
        (here, missing.into_iter().map(|(name, _)| name).collect())
    }

    /// Compiles one source file as strictly as can be, and links it; returns the program.
    pub(crate) fn build(
        &self,
        source: &Path,
        folder: &Path,
        flags: &[String],
    ) -> anyhow::Result<PathBuf> {
        std::fs::create_dir_all(folder)?;
        let is_c = source.extension().is_some_and(|e| e == "c");
        let (compiler, standard) =
            if is_c { (self.name, "-std=c99") } else { (self.cpp, "-std=c++17") };
        let program = folder.join(source.file_stem().context("a source file has a name")?);
        let mut command = Command::new(compiler);
        command.arg(standard).args(STRICT).args(["-O1", "-g", "-pthread"]).arg(source);
        command.args(flags).arg("-o").arg(&program);
        process::run(command)?;
        Ok(program)
    }

    /// Whether this compiler can build and run with `flags`, such as a sanitizer's.
    pub(crate) fn can(&self, flags: &[&str], folder: &Path) -> bool {
        let source = folder.join("can.c");
        let program = folder.join("can");
        let written = std::fs::write(&source, "int main(void) { return 0; }\n");
        let mut compile = Command::new(self.name);
        compile.args(flags).arg(&source).arg("-o").arg(&program);
        written.is_ok() && succeeds(compile) && succeeds(Command::new(program))
    }
}

/// The flags that pkg-config gives for a package of `prefix`; `package` may have options in front.
pub(crate) fn pkg_config(prefix: &Path, package: &[&str]) -> anyhow::Result<Vec<String>> {
    let mut command = Command::new("pkg-config");
    command.env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig"));
    let output = command.args(["--cflags", "--libs"]).args(package).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let flags = String::from_utf8(output.stdout)?;
    Ok(flags.split_whitespace().map(str::to_owned).collect())
}

/// Whether a program is here.
pub(crate) fn has(name: &str) -> bool {
    let mut command = Command::new(name);
    command.arg(if name == "go" { "version" } else { "--version" });
    succeeds(command)
}

fn succeeds(mut command: Command) -> bool {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
