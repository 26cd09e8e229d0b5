//! How byte-level vocabularies cut a text into words before merging: the table of splits.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokenizers::utils::SysRegex;

use crate::error::{Error, Result};

/// A way of splitting, and what else its name implies. A new name is a word in a row, a new split
/// a row.
#[derive(Debug)]
pub(super) struct PreTokenizer {
    /// What `tokenizer.ggml.pre` calls it; the first name is the one we write.
    pub(super) names: &'static [&'static str],
    /// Regular expressions, applied one after another; what they do not match stays whole.
    pub(super) patterns: &'static [&'static str],
    /// Whether a word that is a token is not built by merging.
    pub(super) ignore_merges: bool,
    /// Whether prompts start with BOS unless the file says otherwise.
    pub(super) adds_bos: bool,
    /// Whether texts are brought to Unicode's composed form (NFC) first.
    pub(super) composes: bool,
}

/// Source: openai/gpt-2, `src/encoder.py`.
pub(super) const GPT2: &str =
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// Source: meta-llama/llama3, `llama/tokenizer.py`.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Source: Qwen/Qwen2, `tokenizer.json`.
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// All splits that this crate knows.
pub(super) const PRE_TOKENIZERS: &[PreTokenizer] = &[
    PreTokenizer {
        names: &["gpt-2", "default", "phi-2", "roberta-bpe", "jais"],
        patterns: &[GPT2],
        ignore_merges: false,
        adds_bos: false,
        composes: false,
    },
    PreTokenizer {
        // OLMo and MPT share GPT-NeoX's tokenizer.
        names: &["olmo", "gpt-neox", "gptneox", "pythia", "dolly", "mpt"],
        patterns: &[GPT2],
        ignore_merges: false,
        adds_bos: false,
        composes: true,
    },
    PreTokenizer {
        names: &["llama-bpe", "llama3", "llama-v3"],
        patterns: &[LLAMA3],
        ignore_merges: true,
        adds_bos: true,
        composes: false,
    },
    PreTokenizer {
        names: &["qwen2", "deepseek-r1-qwen"],
        patterns: &[QWEN2],
        ignore_merges: false,
        adds_bos: false,
        composes: true,
    },
    PreTokenizer {
        names: &["smollm", "starcoder", "refact", "command-r", "exaone"],
        patterns: &[r"\p{N}", GPT2],
        ignore_merges: false,
        adds_bos: false,
        composes: false,
    },
];

/// The row of that name.
///
/// # Errors
///
/// [`Error::Tokenizer`] if there is none; it lists the names that there are.
pub(super) fn pre_tokenizer(name: &str) -> Result<&'static PreTokenizer> {
    PRE_TOKENIZERS.iter().find(|row| row.names.contains(&name)).ok_or_else(|| {
        let names: Vec<&str> = PRE_TOKENIZERS.iter().flat_map(|row| row.names).copied().collect();
        Error::Tokenizer(format!(
            "tokenizer.ggml.pre is {name:?}, which this version cannot split (supported: {})",
            names.join(", ")
        ))
    })
}

/// A row's expressions, compiled.
#[derive(Debug)]
pub(super) struct Splitter {
    patterns: Vec<Arc<SysRegex>>,
}

/// The expressions that were compiled so far. The table has a few, each takes about a millisecond,
/// and a process may open many files.
static COMPILED: Mutex<BTreeMap<&'static str, Arc<SysRegex>>> = Mutex::new(BTreeMap::new());

/// The compiled `pattern`.
fn compiled(pattern: &'static str) -> Result<Arc<SysRegex>> {
    let mut all = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(regex) = all.get(pattern) {
        return Ok(regex.clone());
    }
    let regex = SysRegex::new(pattern)
        .map_err(|e| Error::Tokenizer(format!("split pattern {pattern:?}: {e}")))?;
    let regex = Arc::new(regex);
    all.insert(pattern, regex.clone());
    Ok(regex)
}

impl Splitter {
    /// Compiles `patterns`.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenizer`] if one is no regular expression.
    pub(super) fn new(patterns: &[&'static str]) -> Result<Self> {
        let patterns = patterns.iter().copied().map(compiled);
        Ok(Self { patterns: patterns.collect::<Result<_>>()? })
    }

    /// Cuts `text` into words that join to it again.
    pub(super) fn split<'t>(&self, text: &'t str) -> Vec<&'t str> {
        let mut words = vec![text];
        for pattern in &self.patterns {
            words = words.into_iter().flat_map(|word| isolate(pattern, word)).collect();
        }
        words
    }
}

/// The matches of `pattern`, and what lies between them.
fn isolate<'t>(pattern: &SysRegex, text: &'t str) -> Vec<&'t str> {
    let mut words = Vec::new();
    let mut done = 0;
    for (start, end) in pattern.find_iter(text) {
        words.extend([&text[done..start], &text[start..end]]);
        done = end;
    }
    words.push(&text[done..]);
    words.retain(|word| !word.is_empty());
    words
}
