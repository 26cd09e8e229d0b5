//! A SentencePiece `tokenizer.model`: pieces, scores, and the few settings that matter.
//!
//! Source: google/sentencepiece, `src/sentencepiece_model.proto`.

use super::charsmap::Charsmap;
use super::protobuf::{Field, Fields};
use super::sentencepiece::Normalization;
use super::vocab::{Kind, MAX_TOKENS};
use crate::error::{Error, Result};

/// What a `tokenizer.model` says.
#[derive(Debug)]
pub(super) struct ModelFile {
    /// Spellings by id.
    pub(super) pieces: Vec<Vec<u8>>,
    /// Scores by id.
    pub(super) scores: Vec<f32>,
    /// Kinds by id.
    pub(super) kinds: Vec<Kind>,
    /// How texts are prepared.
    pub(super) normalization: Normalization,
    /// The token that starts a text, if there is one.
    pub(super) bos: Option<u32>,
    /// The token that ends a text, if there is one.
    pub(super) eos: Option<u32>,
    /// How texts are cut.
    pub(super) model: Model,
    /// What is done to characters first, compiled; empty for nothing.
    pub(super) charsmap: Vec<u8>,
}

/// The kinds of SentencePiece models that are read, with the schema's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Model {
    /// The most probable pieces.
    Unigram = 1,
    /// Merges.
    Bpe = 2,
}

impl ModelFile {
    /// Reads the file.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenizer`] if it is no protocol buffer, or asks for something that is not
    /// supported.
    pub(super) fn read(bytes: &[u8]) -> Result<Self> {
        let mut file = Self {
            pieces: Vec::new(),
            scores: Vec::new(),
            kinds: Vec::new(),
            normalization: Normalization { add_space_prefix: true, remove_extra_whitespaces: true },
            bos: Some(1),
            eos: Some(2),
            // The schema's default, for files that leave it out.
            model: Model::Unigram,
            charsmap: Vec::new(),
        };
        for field in Fields::new(bytes, 0) {
            let field = field?;
            let message = || field.bytes().map(|bytes| Fields::new(bytes, field.offset));
            match (field.number, message()) {
                (1, Some(piece)) => file.read_piece(piece)?,
                (2, Some(trainer)) => file.read_trainer(trainer)?,
                (3, Some(normalizer)) => file.read_normalizer(normalizer)?,
                _ => {}
            }
        }
        if file.model == Model::Bpe && !file.charsmap.is_empty() {
            return Err(unsupported("normalizer_spec.precompiled_charsmap of a BPE model"));
        }
        Ok(file)
    }

    /// The compiled map of characters.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenizer`] if it is broken.
    pub(super) fn charsmap(&self) -> Result<Option<Charsmap>> {
        const FIELD: &str = "tokenizer.model: normalizer_spec.precompiled_charsmap";
        Charsmap::read(&self.charsmap, FIELD)
    }

    fn read_piece(&mut self, piece: Fields<'_>) -> Result<()> {
        let id = self.pieces.len();
        if id >= MAX_TOKENS {
            return Err(Error::Tokenizer(format!(
                "tokenizer.model has more than {MAX_TOKENS} pieces"
            )));
        }
        let (mut text, mut score, mut kind) = (Vec::new(), 0.0, Kind::Normal);
        for field in piece {
            let field = field?;
            match field.number {
                1 => text = field.bytes().ok_or_else(|| wrong(&field, "piece"))?.to_vec(),
                2 => score = field.float().ok_or_else(|| wrong(&field, "score"))?,
                3 => {
                    kind = field
                        .integer()
                        .and_then(Kind::from_number)
                        .ok_or_else(|| wrong(&field, "type"))?;
                }
                _ => {}
            }
        }
        self.pieces.push(text);
        self.scores.push(score);
        self.kinds.push(kind);
        Ok(())
    }

    fn read_trainer(&mut self, trainer: Fields<'_>) -> Result<()> {
        for field in trainer {
            let field = field?;
            // A negative id means that there is no such token.
            let id = || field.integer().map(|id| u32::try_from(id).ok());
            match field.number {
                3 => {
                    let number = field.integer();
                    let mut known = [Model::Unigram, Model::Bpe].into_iter();
                    self.model = known.find(|&m| Some(m as i64) == number).ok_or_else(|| {
                        Error::Tokenizer(format!(
                            "tokenizer.model: trainer_spec.model_type is {:?} (supported: 1, \
                             Unigram, and 2, BPE); use the model's tokenizer.json",
                            field.value
                        ))
                    })?;
                }
                24 if field.integer() != Some(0) => {
                    return Err(unsupported("trainer_spec.treat_whitespace_as_suffix"));
                }
                41 => self.bos = id().ok_or_else(|| wrong(&field, "bos_id"))?,
                42 => self.eos = id().ok_or_else(|| wrong(&field, "eos_id"))?,
                _ => {}
            }
        }
        Ok(())
    }

    fn read_normalizer(&mut self, normalizer: Fields<'_>) -> Result<()> {
        for field in normalizer {
            let field = field?;
            let truth = |name| field.integer().map(|n| n != 0).ok_or_else(|| wrong(&field, name));
            match field.number {
                2 => {
                    let map = field.bytes().ok_or_else(|| wrong(&field, "precompiled_charsmap"))?;
                    self.charsmap = map.to_vec();
                }
                5 if field.integer() == Some(0) => {
                    return Err(unsupported("normalizer_spec.escape_whitespaces = false"));
                }
                3 => self.normalization.add_space_prefix = truth("add_dummy_prefix")?,
                4 => {
                    self.normalization.remove_extra_whitespaces =
                        truth("remove_extra_whitespaces")?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn unsupported(what: &str) -> Error {
    Error::Tokenizer(format!(
        "tokenizer.model: {what} is not supported; use the model's tokenizer.json"
    ))
}

fn wrong(field: &Field<'_>, name: &str) -> Error {
    Error::Tokenizer(format!(
        "tokenizer.model is malformed at byte {}: {name} is {:?}",
        field.offset, field.value
    ))
}
