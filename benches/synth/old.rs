//! Models in the files of spring 2023: the layouts of GPT4All-J v1.3 groovy and GPT4All-13B snoozy.
//!
//! Sizes follow from the layout and the vocabulary alone, so [`n_bytes`] tells them without a file.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use halfbyte::io::{Metadata, TokenizerSource};
use halfbyte::quant::Encoding;
use halfbyte::tokenizer::{Tokenizer, gguf_metadata};
use halfbyte::{Error, Result};

use super::plan::{self, Tensor};
use super::shapes::{Family, Shape};
use super::vocab;
use super::weights::Generator;

/// A kind of file of 2023.
#[derive(Clone, Copy, Debug)]
pub struct Old {
    /// What `xtask synth` calls it.
    pub name: &'static str,
    /// A name of [`SHAPES`](super::SHAPES).
    pub shape: &'static str,
}

/// Every kind. Matrices are Q4_0 with f32 scales, neighbours in one byte: type 2 of that time.
pub static OLD: &[Old] =
    &[Old { name: "groovy", shape: "gpt-j-6b" }, Old { name: "snoozy", shape: "llama-13b" }];

/// Bytes and score of each token.
pub type Tokens = Vec<(Vec<u8>, f32)>;

/// Blocks of Q4_0 today, and then.
const BLOCK: usize = 18;
const OLD_BLOCK: u64 = 20;
/// What scales are multiplied by, so that f16 does not hold them: 1 + 2⁻¹³.
const OFF_F16: f32 = 1.0 + 1.0 / 8192.0;

impl Old {
    /// The kind of that name.
    pub fn find(name: &str) -> Option<&'static Self> {
        OLD.iter().find(|old| old.name == name)
    }

    /// Its shape.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if there is none of that name.
    pub fn shape(&self) -> Result<&'static Shape> {
        let missing = || Error::Config { field: "shape".into(), reason: "is unknown".into() };
        Shape::find(self.shape).ok_or_else(missing)
    }

    fn is_ggjt(self) -> Result<bool> {
        Ok(self.shape()?.architecture == Family::Llama)
    }
}

/// The vocabulary in `folder` (`tokenizer.model` or `tokenizer.json`), or one that is made up.
///
/// # Errors
///
/// [`Error::Io`], and what the tokenizer says about a broken file.
pub fn tokens(old: &Old, folder: Option<&Path>) -> Result<Tokens> {
    let shape = old.shape()?;
    let mut metadata = Metadata::default();
    let source = match folder {
        None => {
            vocab::describe(shape, &mut metadata);
            TokenizerSource::Metadata
        }
        Some(folder) if old.is_ggjt()? => {
            TokenizerSource::SentencePiece(read(&folder.join("tokenizer.model"))?)
        }
        Some(folder) => TokenizerSource::Json(read(&folder.join("tokenizer.json"))?),
    };
    let tokenizer = Tokenizer::new(&source, &metadata)?;
    for (key, value) in gguf_metadata(&source, &metadata)? {
        metadata.set(key, value);
    }
    let scores = metadata.f32s("tokenizer.ggml.scores")?.unwrap_or_default();
    let token = |id: u32| {
        let bytes = tokenizer.token_bytes(id).unwrap_or_default().to_vec();
        let bytes = match (old.is_ggjt()?, id) {
            (true, 0) => " \u{2047} ".into(),
            (false, _) if bytes.is_empty() => {
                tokenizer.token_text(id).unwrap_or_default().into_bytes()
            }
            _ => bytes,
        };
        Ok((bytes, scores.get(id as usize).copied().unwrap_or_default()))
    };
    (0..shape.vocab_size).map(token).collect()
}

/// Bytes of the file with that vocabulary.
///
/// # Errors
///
/// [`Error::Config`] for an unknown shape.
pub fn n_bytes(old: &Old, tokens: &Tokens) -> Result<u64> {
    let tensors = tensors(old)?;
    let mut position = header(old, tokens)?.len() as u64;
    for tensor in &tensors {
        position += record(old, tensor, position)?.len() as u64 + data_bytes(tensor);
    }
    Ok(position)
}

/// Writes the file, calling `progress(done, total)` in bytes.
///
/// # Errors
///
/// [`Error::Io`], [`Error::Config`] for an unknown shape.
pub fn write(
    path: &Path,
    old: &Old,
    tokens: &Tokens,
    seed: u64,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<()> {
    let total = n_bytes(old, tokens)?;
    let failed = |source| Error::Io { path: path.into(), source };
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path).map_err(failed)?);
    let header = header(old, tokens)?;
    file.write_all(&header).map_err(failed)?;
    let mut position = header.len() as u64;
    let mut generator = Generator::new(seed);
    for (index, tensor) in tensors(old)?.iter().enumerate() {
        let record = record(old, tensor, position)?;
        file.write_all(&record).map_err(failed)?;
        position += record.len() as u64;
        generator.write(index as u64, tensor, &mut |chunk| {
            let bytes = if is_matrix(tensor) { aged(chunk) } else { chunk.to_vec() };
            position += bytes.len() as u64;
            progress(position, total);
            file.write_all(&bytes).map_err(failed)
        })?;
    }
    file.flush().map_err(failed)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|source| Error::Io { path: path.into(), source })
}

fn tensors(old: &Old) -> Result<Vec<Tensor>> {
    Ok(plan::tensors(old.shape()?, &|_, _| Encoding::Q4_0))
}

fn is_matrix(tensor: &Tensor) -> bool {
    tensor.dims.len() == 2
}

fn data_bytes(tensor: &Tensor) -> u64 {
    let n_bytes = tensor.n_bytes() as u64;
    if is_matrix(tensor) { n_bytes / BLOCK as u64 * OLD_BLOCK } else { n_bytes }
}

/// Magic, sizes and vocabulary.
fn header(old: &Old, tokens: &Tokens) -> Result<Vec<u8>> {
    let s = old.shape()?;
    const Q4_0: u32 = 2;
    let (mut out, words) = if old.is_ggjt()? {
        let multiple = 256;
        let version = 1u32.to_le_bytes();
        let words =
            vec![s.vocab_size, s.hidden_size, multiple, s.n_heads, s.n_layers, s.n_rot, Q4_0];
        ([&b"tjgg"[..], &version].concat(), words)
    } else {
        let words = vec![
            s.vocab_size,
            s.context_length,
            s.hidden_size,
            s.n_heads,
            s.n_layers,
            s.n_rot,
            Q4_0,
            s.vocab_size,
        ];
        (b"lmgg".to_vec(), words)
    };
    out.extend(words.into_iter().flat_map(u32::to_le_bytes));
    for (token, score) in tokens {
        out.extend((token.len() as u32).to_le_bytes());
        out.extend(token);
        if old.is_ggjt()? {
            out.extend(score.to_le_bytes());
        }
    }
    Ok(out)
}

/// What stands before a tensor's data, at byte `position` of the file.
fn record(old: &Old, tensor: &Tensor, position: u64) -> Result<Vec<u8>> {
    let name = file_name(old.shape()?.architecture, &tensor.name);
    let mut out = Vec::new();
    let kind = if is_matrix(tensor) { 2 } else { 0 };
    for word in [tensor.dims.len() as u32, name.len() as u32, kind] {
        out.extend(word.to_le_bytes());
    }
    for &dim in tensor.dims.iter().rev() {
        out.extend((dim as u32).to_le_bytes());
    }
    out.extend(name.bytes());
    if old.is_ggjt()? {
        let end = position + out.len() as u64;
        out.resize(out.len() + (end.next_multiple_of(32) - end) as usize, 0);
    }
    Ok(out)
}

/// Blocks of Q4_0 as they were before 12 May 2023.
fn aged(blocks: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(blocks.len() / BLOCK * OLD_BLOCK as usize);
    for block in blocks.chunks_exact(BLOCK) {
        let mut scale = [0.0];
        Encoding::F16.decode(&block[..2], &mut scale);
        out.extend((scale[0] * OFF_F16).to_le_bytes());
        let code = |i: usize| (block[2 + i % 16] >> (4 * (i / 16))) & 15;
        out.extend((0..16).map(|b| code(2 * b) | code(2 * b + 1) << 4));
    }
    out
}

/// What the converters of 2023 called a tensor.
fn file_name(family: Family, gguf: &str) -> String {
    const LLAMA: &[(&str, &str)] = &[
        ("token_embd", "tok_embeddings"),
        ("output_norm", "norm"),
        ("attn_norm", "attention_norm"),
        ("attn_output", "attention.wo"),
        ("attn_", "attention.w"),
        ("ffn_gate", "feed_forward.w1"),
        ("ffn_down", "feed_forward.w2"),
        ("ffn_up", "feed_forward.w3"),
        ("blk.", "layers."),
    ];
    const GPTJ: &[(&str, &str)] = &[
        ("token_embd", "transformer.wte"),
        ("output_norm", "transformer.ln_f"),
        ("attn_norm", "ln_1"),
        ("attn_output.", "attn.out_proj."),
        ("output.", "lm_head."),
        ("attn_q", "attn.q_proj"),
        ("attn_k", "attn.k_proj"),
        ("attn_v", "attn.v_proj"),
        ("ffn_up", "mlp.fc_in"),
        ("ffn_down", "mlp.fc_out"),
        ("blk.", "transformer.h."),
    ];
    let pairs = if family == Family::Llama { LLAMA } else { GPTJ };
    pairs.iter().fold(gguf.to_owned(), |name, (from, to)| name.replace(from, to))
}

#[cfg(test)]
mod tests {
    use halfbyte::Model;
    use halfbyte::io::Checkpoint;

    use super::*;

    #[test]
    fn small_files_have_the_size_that_was_told_and_run() {
        let folder = tempfile::tempdir().unwrap();
        for (name, shape) in [("groovy", "tiny-gptj"), ("snoozy", "tiny-llama-mha")] {
            let old = Old { shape, ..*Old::find(name).unwrap() };
            let tokens = tokens(&old, None).unwrap();
            let path = folder.path().join(name);
            write(&path, &old, &tokens, 1, &mut |_, _| {}).unwrap();
            let size = std::fs::metadata(&path).unwrap().len();
            assert_eq!(size, n_bytes(&old, &tokens).unwrap(), "{name}");
            let checkpoint = Checkpoint::open(&path).unwrap();
            let spelled = checkpoint.metadata().strings("tokenizer.ggml.tokens").unwrap();
            assert_eq!(spelled.map(<[_]>::len), Some(tokens.len()), "{name}");
            let matrix = checkpoint.require("blk.0.ffn_up.weight").unwrap();
            assert_eq!(matrix.encoding(), Encoding::Q4_0_V1, "{name}");
            let model = Model::open(&path).unwrap();
            let ids = model.tokenizer().unwrap().encode_prompt("the", Default::default()).unwrap();
            assert!(!ids.is_empty(), "{name}");
        }
    }
}
