//! Text ↔ token ids, from GGUF vocabularies, `tokenizer.json` and SentencePiece models.
//!
//! A [`Tokenizer`] is a table of tokens (`vocab`) and an engine that encodes: `sentencepiece` and
//! `byte_level` merge by themselves, `unigram` weighs pieces, `hugging_face` is the `tokenizers`
//! crate. Decoding is the
//! same for all: the bytes of the tokens, joined (`text_decoder`). Where the parts come from:
//! `gguf`, `model_file`, `json`; where they go when a model is written: `export`.

mod added;
mod byte_level;
mod charsmap;
mod export;
mod gguf;
mod hugging_face;
mod ids;
mod json;
mod json_unigram;
mod merge;
mod model_file;
mod protobuf;
mod sentencepiece;
mod special;
mod split;
mod text_decoder;
mod unigram;
mod vocab;

pub use export::gguf_metadata;
pub use text_decoder::TextDecoder;
pub(crate) use text_decoder::Undecoded;

use added::Added;
use byte_level::ByteLevel;
use hugging_face::HuggingFace;
use ids::{Defaults, SpecialIds};
use json::JsonFile;
use model_file::{Model, ModelFile};
use sentencepiece::SentencePiece;
use special::{Finder, Part};
use unigram::Unigram;
use vocab::{Kind, Spelling, Vocab};

use crate::error::{Error, Result};
use crate::io::{Checkpoint, Metadata, TokenizerSource, Value};

/// The key under which a GGUF file carries a whole `tokenizer.json`.
const HUGGING_FACE_JSON: &str = "tokenizer.huggingface.json";

/// Whether text that spells a special token becomes that token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Specials {
    /// No: prompts are plain text.
    #[default]
    AsText,
    /// Yes: rendered chat templates.
    Parse,
}

/// A model's tokenizer.
#[derive(Debug)]
pub struct Tokenizer {
    vocab: Vocab,
    engine: Engine,
    specials: Finder,
    user_defined: Finder,
    ids: SpecialIds,
    /// Whether the encoder puts a space in front of a text, which decoding takes away again.
    strips_space: bool,
    /// Whether it does so only at the start, not after every token that was spelled out.
    prefixes_once: bool,
    /// User-defined tokens between which every text is decoded by itself; ascending.
    parting: Vec<u32>,
}

/// What encodes the text between special tokens.
#[derive(Debug)]
enum Engine {
    SentencePiece(SentencePiece),
    Unigram(Unigram),
    ByteLevel(ByteLevel),
    HuggingFace(Box<HuggingFace>),
}

impl Tokenizer {
    /// Builds the tokenizer that `checkpoint` describes.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenizer`] if there is none, or it is broken.
    pub fn from_checkpoint(checkpoint: &Checkpoint) -> Result<Self> {
        Self::new(checkpoint.tokenizer(), checkpoint.metadata())
    }

    /// Builds the tokenizer of `source`; `metadata` name the tokens that start and end a text.
    ///
    /// Metadata that carry a `tokenizer.json` (`tokenizer.huggingface.json`) are read from that.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenizer`] if there is none, or it is broken; the message names the field.
    pub fn new(source: &TokenizerSource, metadata: &Metadata) -> Result<Self> {
        match source {
            TokenizerSource::None => Err(Error::Tokenizer(
                "the model has none: expected tokenizer.ggml.* metadata, tokenizer.json or \
                 tokenizer.model"
                    .into(),
            )),
            TokenizerSource::Metadata => match metadata.get(HUGGING_FACE_JSON) {
                Some(Value::String(bytes)) => Self::from_json(bytes, metadata),
                _ => gguf::tokenizer(metadata),
            },
            TokenizerSource::Json(bytes) => Self::from_json(bytes, metadata),
            TokenizerSource::SentencePiece(bytes) => Self::from_model_file(bytes, metadata),
        }
    }

    fn from_json(bytes: &[u8], metadata: &Metadata) -> Result<Self> {
        let file = JsonFile::read(bytes)?;
        if file.is_unigram() {
            return json_unigram::tokenizer(&file, metadata);
        }
        let vocab = file.vocab()?;
        let first = file.first_token().and_then(|text| vocab.id(text.as_bytes()));
        let defaults = Defaults { bos: first, eos: None, adds_bos: first.is_some() };
        let ids = SpecialIds::read(metadata, &vocab, defaults)?;
        let engine = Engine::HuggingFace(Box::new(HuggingFace::new(&file)?));
        Self::assemble(vocab, engine, ids, file.strips_space())
    }

    fn from_model_file(bytes: &[u8], metadata: &Metadata) -> Result<Self> {
        const FIELD: &str = "tokenizer.model: pieces";
        let file = ModelFile::read(bytes)?;
        let mut vocab = Vocab::with_capacity(file.pieces.len(), FIELD)?;
        for (piece, &kind) in file.pieces.iter().zip(&file.kinds) {
            vocab.push(piece, kind, Spelling::SentencePiece, FIELD)?;
        }
        let added = Added::read(metadata)?;
        added.append_to(&mut vocab)?;
        let known = |id: Option<u32>| id.filter(|&id| vocab.get(id).is_some());
        let adds_bos = file.model == Model::Bpe;
        let defaults = Defaults { bos: known(file.bos), eos: known(file.eos), adds_bos };
        let ids = SpecialIds::read(metadata, &vocab, defaults)?;
        let strips_space = file.normalization.add_space_prefix;
        if file.model == Model::Unigram {
            let normalizer = (file.normalization, file.charsmap()?);
            let engine = Unigram::new(&vocab, &file.scores, normalizer, "scores")?;
            let tokenizer = Self::unigram(vocab, engine, ids, strips_space, &added.ids())?;
            return Ok(Self { parting: added.ids(), ..tokenizer });
        }
        let mut scores = file.scores;
        scores.resize(vocab.len(), 0.0);
        let engine = SentencePiece::new(&vocab, &scores, file.normalization, "scores")?;
        Self::assemble(vocab, Engine::SentencePiece(engine), ids, strips_space)
    }

    /// A tokenizer that looks for user-defined tokens before its engine sees the text.
    fn assemble(vocab: Vocab, engine: Engine, ids: SpecialIds, strips_space: bool) -> Result<Self> {
        let user_defined = Finder::new(&vocab, |_, kind| kind == Kind::UserDefined)?;
        Self::with_finder(vocab, engine, ids, strips_space, user_defined)
    }

    /// A Unigram tokenizer, which looks for its user-defined pieces itself, but not for those that
    /// were `added` later (ids, ascending).
    fn unigram(
        vocab: Vocab,
        engine: Unigram,
        ids: SpecialIds,
        strips_space: bool,
        added: &[u32],
    ) -> Result<Self> {
        let is_added = |id, kind| kind == Kind::UserDefined && added.binary_search(&id).is_ok();
        let user_defined = Finder::new(&vocab, is_added)?;
        Self::with_finder(vocab, Engine::Unigram(engine), ids, strips_space, user_defined)
    }

    fn with_finder(
        vocab: Vocab,
        engine: Engine,
        ids: SpecialIds,
        strips_space: bool,
        user_defined: Finder,
    ) -> Result<Self> {
        let specials = Finder::new(&vocab, |_, kind| kind.is_special())?;
        Ok(Self {
            vocab,
            engine,
            specials,
            user_defined,
            ids,
            strips_space,
            prefixes_once: false,
            parting: Vec::new(),
        })
    }

    /// The ids of `text`, without BOS or EOS.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenizer`] if the vocabulary has no token for a part of the text,
    /// [`Error::OutOfMemory`].
    pub fn encode(&self, text: &str, specials: Specials) -> Result<Vec<u32>> {
        if let Engine::HuggingFace(engine) = &self.engine {
            return engine.encode(text, specials);
        }
        let parts = match specials {
            Specials::AsText => vec![Part::Text(text)],
            Specials::Parse => self.specials.parts(text),
        };
        let mut ids = Vec::new();
        let mut after_token = true;
        for part in parts {
            match part {
                Part::Token(id) => {
                    ids.push(id);
                    after_token = !self.prefixes_once;
                }
                Part::Text(text) => self.encode_text(text, &mut after_token, &mut ids)?,
            }
        }
        Ok(ids)
    }

    /// Appends the ids of a text without special tokens; user-defined ones are looked for.
    ///
    /// `after_token` says whether a token, or nothing, came before: there SentencePiece may put
    /// its space.
    fn encode_text(&self, text: &str, after_token: &mut bool, ids: &mut Vec<u32>) -> Result<()> {
        let text = match &self.engine {
            Engine::ByteLevel(engine) => engine.normalize(text),
            _ => text.into(),
        };
        for part in self.user_defined.parts(&text) {
            match (part, &self.engine) {
                (Part::Token(id), _) => ids.push(id),
                (Part::Text(text), Engine::SentencePiece(engine)) => {
                    engine.encode(&self.vocab, text, *after_token, ids)?;
                }
                (Part::Text(text), Engine::Unigram(engine)) => {
                    engine.encode(&self.vocab, text, *after_token, ids)?;
                }
                (Part::Text(text), Engine::ByteLevel(engine)) => engine.encode(text, ids)?,
                (Part::Text(text), Engine::HuggingFace(engine)) => {
                    ids.extend(engine.encode(text, Specials::AsText)?);
                }
            }
            *after_token = matches!(part, Part::Token(_)) && !self.prefixes_once;
        }
        Ok(())
    }

    /// The ids of a prompt: [`encode`](Self::encode) with BOS in front if the file asks for it, and
    /// EOS behind if an encoder is to read it.
    ///
    /// A text that spells BOS or EOS itself, as chat templates do, does not get a second one.
    ///
    /// # Errors
    ///
    /// As [`encode`](Self::encode).
    pub fn encode_prompt(&self, text: &str, specials: Specials) -> Result<Vec<u32>> {
        let mut ids = self.encode(text, specials)?;
        if let Some(bos) = self.ids.bos
            && self.ids.adds_bos
            && ids.first() != Some(&bos)
        {
            ids.insert(0, bos);
        }
        if let Some(eos) = self.ids.eos
            && self.ids.adds_eos
            && ids.last() != Some(&eos)
        {
            ids.push(eos);
        }
        Ok(ids)
    }

    /// The text of `ids`; special tokens are left out, broken UTF-8 becomes U+FFFD.
    ///
    /// Ids outside the vocabulary, which models with padded rows can yield, are nothing.
    pub fn decode(&self, ids: &[u32]) -> String {
        let mut decoder = self.decoder();
        let mut text: String = ids.iter().map(|&id| decoder.push(id)).collect();
        text.push_str(&decoder.finish());
        text
    }

    /// Whether what follows token `id` is decoded as a text of its own.
    fn parts_texts(&self, id: u32) -> bool {
        self.strips_space && self.parting.binary_search(&id).is_ok()
    }

    /// A decoder for a stream of tokens: its pieces join to what [`decode`](Self::decode) gives.
    pub fn decoder(&self) -> TextDecoder<'_> {
        TextDecoder::new(self, self.strips_space)
    }

    /// A decoder for tokens that go on a text: a space at their start is kept.
    pub fn continuation_decoder(&self) -> TextDecoder<'_> {
        TextDecoder::new(self, false)
    }

    /// The raw bytes that token `id` stands for; empty for special tokens, `None` outside the vocabulary.
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        self.vocab.get(id).map(|token| &*token.bytes)
    }

    /// The token's text as the vocabulary spells it, for people to read.
    pub fn token_text(&self, id: u32) -> Option<String> {
        self.vocab.get(id).map(|token| String::from_utf8_lossy(&token.text).into_owned())
    }

    /// The id of the token that is spelled `text` in the vocabulary.
    pub fn token_id(&self, text: &str) -> Option<u32> {
        self.vocab.id(text.as_bytes())
    }

    /// How texts are encoded, in words for people.
    pub fn kind(&self) -> &'static str {
        match &self.engine {
            Engine::SentencePiece(_) => "SentencePiece BPE",
            Engine::Unigram(_) => "SentencePiece Unigram",
            Engine::ByteLevel(_) => "byte-level BPE",
            Engine::HuggingFace(_) => "tokenizer.json",
        }
    }

    /// Tokens in the vocabulary.
    pub fn vocab_size(&self) -> usize {
        self.vocab.len()
    }

    /// The token that starts a text.
    pub fn bos(&self) -> Option<u32> {
        self.ids.bos
    }

    /// The token that ends a text.
    pub fn eos(&self) -> Option<u32> {
        self.ids.eos
    }

    /// Whether prompts start with BOS.
    pub fn adds_bos(&self) -> bool {
        self.ids.adds_bos
    }

    /// Whether `id` ends a generation: EOS, end of turn.
    pub fn is_end(&self, id: u32) -> bool {
        self.ids.ends.binary_search(&id).is_ok()
    }

    /// Whether `id` is a special (control) token, shown as no text.
    pub fn is_special(&self, id: u32) -> bool {
        self.vocab.get(id).is_some_and(|token| token.kind.is_special())
    }
}
