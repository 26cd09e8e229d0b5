//! `cargo xtask layers`: modules of `halfbyte` import only from modules to their left, and `unsafe` is
//! where ARCHITECTURE.md says.
//!
//! Reads the sources with a small lexer, not with a compiler: it sees every `crate::…` and
//! `super::…` path, in `use` trees, in code and in macro calls, and knows re-exports of the crate
//! root. Comments, strings and `#[cfg(test)]` modules do not count.

mod imports;
mod lexer;
mod unsafe_code;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use imports::{Import, Source};

/// The order of imports, leftmost first; modules that share an entry may know each other.
const LAYERS: &[&[&str]] = &[
    &["error", "cancel", "progress"],
    &["kernels"],
    &["quant"],
    &["io"],
    &["tokenizer"],
    &["nn"],
    &["model"],
    &["generate"],
];

/// The executable specification stands beside the layers: nothing in the crate imports it.
const REFERENCE: &str = "reference";

/// What the reference may import besides the names of [`REFERENCE_MODEL_NAMES`].
const REFERENCE_MAY_IMPORT: &[&str] = &["error", "cancel", "progress", "io", "quant"];

/// The parts of `model` that are data, not computation: the reference shares them.
const REFERENCE_MODEL_NAMES: &[&str] = &[
    "adapter",
    "architecture",
    "config",
    "ARCHITECTURES",
    "Adapter",
    "Architecture",
    "EncoderConfig",
    "Mlp",
    "ModelConfig",
    "Norm",
    "Residual",
    "Rotary",
];

/// Checks the sources of the core crate, and `unsafe` in all crates.
///
/// # Errors
///
/// If a file cannot be read, an import goes the wrong way, or `unsafe` is somewhere else; every such
/// place is listed.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    let src = root.join("crates/halfbyte/src");
    let mut files = Vec::new();
    collect(&src, &src, &mut files)?;
    let n_files = files.len();
    let violations = check(&files);
    if violations.is_empty() {
        println!("layers: {n_files} files import one way");
        return unsafe_code::run(root);
    }
    for line in &violations {
        println!("{line}");
    }
    let order: Vec<_> = LAYERS.iter().map(|names| names.join("+")).collect();
    bail!("{} imports against the order {}", violations.len(), order.join(" → "))
}

/// Reads every Rust file under `dir` into `files`, in the order of their names.
fn collect(src: &Path, dir: &Path, files: &mut Vec<Source>) -> anyhow::Result<()> {
    let entries = std::fs::read_dir(dir).with_context(|| dir.display().to_string())?;
    let mut paths: Vec<PathBuf> =
        entries.map(|e| e.map(|e| e.path())).collect::<std::io::Result<_>>()?;
    paths.sort();
    for path in paths {
        if path.is_dir() {
            collect(src, &path, files)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text =
                std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            files.push(Source::new(path.strip_prefix(src)?, &text));
        }
    }
    Ok(())
}

/// Every import that goes the wrong way, as `file:line: what`.
fn check(files: &[Source]) -> Vec<String> {
    let roots = files.iter().find(|f| f.is_crate_root()).map(root_names).unwrap_or_default();
    let mut violations = Vec::new();
    for file in files.iter().filter(|f| !f.is_crate_root()) {
        for import in file.imports() {
            if let Some(problem) = judge(file.module(), &import, &roots) {
                violations.push(format!("{}:{}: {problem}", file.path(), import.line));
            }
        }
    }
    violations.dedup();
    violations
}

/// Names that the crate root re-exports → the top-level module they come from.
fn root_names(root: &Source) -> BTreeMap<String, String> {
    let first = |path: &[String]| path.first().cloned();
    root.re_exports().into_iter().filter_map(|(path, name)| Some((name, first(&path)?))).collect()
}

/// What is wrong with `import` in a file of the top-level module `from`, if anything is.
fn judge(from: &str, import: &Import, roots: &BTreeMap<String, String>) -> Option<String> {
    let first = import.path.first()?;
    let to = roots.get(first).unwrap_or(first).as_str();
    if to == from {
        return None;
    }
    let shown = format!("`{from}` imports `crate::{}`", import.path.join("::"));
    if to == REFERENCE {
        return Some(format!("{shown}: nothing in the crate imports `{REFERENCE}`"));
    }
    let Some(to_rank) = rank(to) else {
        return Some(format!("{shown}: `{to}` has no place in the order (xtask/src/layers.rs)"));
    };
    if from == REFERENCE {
        let is_data = to == "model"
            && import.path.iter().any(|name| REFERENCE_MODEL_NAMES.contains(&name.as_str()));
        let allowed = is_data || REFERENCE_MAY_IMPORT.contains(&to);
        return (!allowed).then(|| format!("{shown}: `{REFERENCE}` shares only data"));
    }
    match rank(from) {
        None => Some(format!("`{from}` has no place in the order (xtask/src/layers.rs)")),
        Some(from_rank) if to_rank > from_rank => Some(format!("{shown}, which is to its right")),
        Some(_) => None,
    }
}

/// The place of a top-level module in [`LAYERS`].
fn rank(module: &str) -> Option<usize> {
    LAYERS.iter().position(|names| names.contains(&module))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: (&str, &str) = (
        "lib.rs",
        "mod error; pub mod io; pub mod generate;
         pub use error::{Error, Result};
         pub use generate::{session::Session as Talk, Model};",
    );

    fn violations(path: &str, text: &str) -> Vec<String> {
        let files: Vec<_> =
            [ROOT, (path, text)].iter().map(|(p, t)| Source::new(Path::new(p), t)).collect();
        check(&files)
    }

    #[test]
    fn imports_to_the_left_pass() {
        let cases = [
            ("io/gguf.rs", "use crate::quant::Encoding; use crate::{Error, Result};"),
            ("io/gguf/reader.rs", "use super::super::metadata::Metadata; use super::Header;"),
            ("cancel.rs", "use crate::error::Error;"),
            ("model/decoder.rs", "use super::config::ModelConfig; use std::sync::Arc;"),
            (
                "io/mod.rs",
                "//! Read by [`crate::generate`]\nfn f() { let _ = \"crate::model::X\"; }",
            ),
            ("io/mod.rs", "#[cfg(test)]\nmod tests { use crate::model::Decoder; fn f() {} }"),
            ("io/tests.rs", "use crate::model::Decoder;"),
            ("reference/mod.rs", "use crate::model::{Architecture, ModelConfig};"),
            ("reference/mod.rs", "use crate::{io::Checkpoint, quant::Encoding, Result};"),
        ];
        for (path, text) in cases {
            assert_eq!(violations(path, text), [""; 0], "{path}: {text}");
        }
    }

    #[test]
    fn imports_to_the_right_fail() {
        let cases = [
            ("io/gguf.rs", "use crate::model::ModelConfig;"),
            ("io/gguf.rs", "use crate::{error::Error,\n quant::{Encoding}, model::Decoder};"),
            ("quant/mod.rs", "fn f() { crate::io::Metadata::default(); }"),
            ("quant/mod.rs", "fn f() { println!(\"{}\", crate::io::x()); }"),
            ("quant/q4.rs", "use super::super::io::Metadata;"),
            ("quant/q4.rs", "mod inner { use super::super::super::io::Metadata; }"),
            ("io/mod.rs", "use crate::Talk;"),
            ("error.rs", "use crate::kernels::Team;"),
            ("model/mod.rs", "use crate::reference::Reference;"),
            ("reference/mod.rs", "use crate::model::Decoder;"),
            ("reference/mod.rs", "use crate::generate::Session;"),
            ("reference/mod.rs", "use crate::nn::rope;"),
            ("drawer/mod.rs", "use crate::error::Error;"),
            ("io/mod.rs", "use crate::drawer::thing;"),
            ("io/mod.rs", "#[cfg(test)] use crate::error::Error; use crate::nn::rope;"),
        ];
        for (path, text) in cases {
            assert_eq!(violations(path, text).len(), 1, "{path}: {text}");
        }
    }

    #[test]
    fn a_violation_names_file_line_and_import() {
        let found =
            violations("quant/mod.rs", "//! Doc.\n\nuse crate::{\n    io::Checkpoint,\n};\n");
        assert_eq!(
            found,
            ["quant/mod.rs:4: `quant` imports `crate::io::Checkpoint`, which is to its right"]
        );
    }
}
