//! Broken inputs: files that are sound but for one thing, each with the error that it must be.
//!
//! They are tables of rows, so whoever finds another way to break a file adds a row. The files are
//! made when they are needed; [`write()`] lays all of them into a folder, for programs in other
//! languages that open them, too.

mod adapter;
mod adapter_files;
mod config;
mod ggml;
mod gguf;
mod gguf_config;
mod gguf_fields;
mod packed;
mod pickle;
mod published;
mod safetensors;
mod safetensors_fields;
mod templates;
mod tokenizers;
mod torch;

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use halfbyte::io::Checkpoint;
use halfbyte::tokenizer::Tokenizer;
use halfbyte::{ChatTemplate, Message, Model, Result};

use crate::fixtures::Gguf;

pub use adapter::lora;
pub use gguf::position;

/// The kind of error that most cases are.
const MALFORMED: &str = "Malformed";

/// One broken input.
pub struct Case {
    /// What is broken.
    pub name: &'static str,
    /// Writes the files into an empty folder and returns the path to open.
    pub write: Box<dyn Fn(&Path) -> PathBuf>,
    /// The variant of the error, as [`kind`](crate::kind) names it.
    pub kind: &'static str,
    /// Words of its message.
    pub says: &'static str,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, kind, says, .. } = self;
        write!(f, "{name}: {kind} with {says:?}")
    }
}

/// What a broken input is opened as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opens {
    /// A model.
    Model,
    /// A LoRA adapter of the small LLaMA.
    Adapter,
    /// A model whose tokenizer is asked for.
    Tokenizer,
    /// A model whose chat template is asked for.
    Template,
}

impl Opens {
    /// Opens `path`.
    ///
    /// # Errors
    ///
    /// What the library says.
    pub fn open(self, path: &Path) -> Result<()> {
        match self {
            Self::Model => Model::open(path).map(drop),
            Self::Adapter => adapter::open(path),
            Self::Tokenizer => Tokenizer::from_checkpoint(&Checkpoint::open(path)?).map(drop),
            Self::Template => {
                let template = ChatTemplate::of_checkpoint(&Checkpoint::open(path)?, None)?;
                template.apply(&[Message::system("Be brief."), Message::user("Hi")], true).map(drop)
            }
        }
    }

    /// As the list of [`write`] names it.
    fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Adapter => "adapter",
            Self::Tokenizer => "tokenizer",
            Self::Template => "template",
        }
    }
}

/// Cases of one sort.
#[derive(Debug)]
pub struct Table {
    /// Of what.
    pub name: &'static str,
    /// What they are opened as.
    pub opens: Opens,
    /// How many there must be: a table that lost rows is a mistake.
    pub at_least: usize,
    /// Makes them.
    pub cases: fn() -> Vec<Case>,
}

/// Every table.
pub static TABLES: &[Table] = &[
    table("gguf", Opens::Model, 45, gguf::cases),
    table("gguf-fields", Opens::Model, 300, gguf_fields::cases),
    table("gguf-config", Opens::Model, 200, gguf_config::cases),
    table("of-2023", Opens::Model, 350, ggml::cases),
    table("safetensors", Opens::Model, 30, safetensors::cases),
    table("safetensors-fields", Opens::Model, 80, safetensors_fields::cases),
    table("pickle-zip", Opens::Model, 60, torch::cases),
    table("pickle", Opens::Model, 70, pickle::cases),
    table("packed", Opens::Model, 40, packed::cases),
    table("config", Opens::Model, 20, config::cases),
    table("adapter", Opens::Adapter, 100, adapter::cases),
    table("tokenizer", Opens::Tokenizer, 35, tokenizers::cases),
    table("template", Opens::Template, 35, templates::cases),
    table("published", Opens::Model, 25, published::models),
    table("published-tokenizer", Opens::Tokenizer, 2, published::tokenizers),
    table("published-template", Opens::Template, 6, published::templates),
];

const fn table(
    name: &'static str,
    opens: Opens,
    at_least: usize,
    cases: fn() -> Vec<Case>,
) -> Table {
    Table { name, opens, at_least, cases }
}

/// Writes every case's files into a folder of its own below `folder`, and says how many they are.
///
/// `corpus.tsv` there lists them, a line each: what to open it as (`model`, `adapter`, `tokenizer`,
/// `template`), the kind of the error, the path below `folder`, and what is broken; parted by tabs.
/// Adapters belong to `base.gguf`.
///
/// # Errors
///
/// Those of the file system.
pub fn write(folder: &Path) -> io::Result<usize> {
    let mut lines = Vec::new();
    fs::create_dir_all(folder)?;
    Gguf::llama().write(&folder.join("base.gguf"));
    for table in TABLES {
        for (number, case) in (table.cases)().into_iter().enumerate() {
            let own = folder.join(table.name).join(number.to_string());
            fs::create_dir_all(&own)?;
            let path = (case.write)(&own);
            let path = path.strip_prefix(folder).map_err(io::Error::other)?;
            let (opens, path) = (table.opens.name(), path.display());
            lines.push(format!("{opens}\t{}\t{path}\t{}\n", case.kind, case.name));
        }
    }
    fs::write(folder.join("corpus.tsv"), lines.concat())?;
    Ok(lines.len())
}
