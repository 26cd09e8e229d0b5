//! A SentencePiece `tokenizer.model`: pieces, scores, and the few settings that matter.
//!
//! Source: google/sentencepiece, `src/sentencepiece_model.proto`.

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
}

const UNIGRAM: i64 = 1;
const BPE: i64 = 2;

impl ModelFile {
    /// Reads the file.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenizer`] if it is no protocol buffer, or not of a BPE model.
    pub(super) fn read(bytes: &[u8]) -> Result<Self> {
        let mut file = Self {
            pieces: Vec::new(),
            scores: Vec::new(),
            kinds: Vec::new(),
            normalization: Normalization { add_space_prefix: true, remove_extra_whitespaces: true },
            bos: Some(1),
            eos: Some(2),
        };
        // The schema's default, for files that leave it out.
        let mut model_type = UNIGRAM;
        for field in Fields::new(bytes, 0) {
            let field = field?;
            let message = || field.bytes().map(|bytes| Fields::new(bytes, field.offset));
            match (field.number, message()) {
                (1, Some(piece)) => file.read_piece(piece)?,
                (2, Some(trainer)) => file.read_trainer(trainer, &mut model_type)?,
                (3, Some(normalizer)) => file.read_normalizer(normalizer)?,
                _ => {}
            }
        }
        if model_type != BPE {
            return Err(Error::Tokenizer(format!(
                "tokenizer.model: trainer_spec.model_type is {model_type}, expected {BPE} (BPE); \
                 use the model's tokenizer.json"
            )));
        }
        Ok(file)
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

    fn read_trainer(&mut self, trainer: Fields<'_>, model_type: &mut i64) -> Result<()> {
        for field in trainer {
            let field = field?;
            // A negative id means that there is no such token.
            let id = || field.integer().map(|id| u32::try_from(id).ok());
            match field.number {
                3 => *model_type = field.integer().ok_or_else(|| wrong(&field, "model_type"))?,
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
                2 if field.bytes().is_some_and(|map| !map.is_empty()) => {
                    return Err(Error::Tokenizer(
                        "tokenizer.model: normalizer_spec.precompiled_charsmap is not supported; \
                         use the model's tokenizer.json"
                            .into(),
                    ));
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

fn wrong(field: &Field<'_>, name: &str) -> Error {
    Error::Tokenizer(format!(
        "tokenizer.model is malformed at byte {}: {name} is {:?}",
        field.offset, field.value
    ))
}
