//! Magic, version and first words of a file of 2023, and which model they are the header of.

use super::cursor::Cursor;
use super::ggml_layout::{Generation, Layout, UNVERSIONED, VERSIONED, Word};
use crate::error::{Error, Result};

/// Upper bounds for a header's words, as for GGUF's metadata; no vocabulary of 2023 has half as many.
const MAX_VOCAB: usize = 1 << 17;
const MAX_CONTEXT: usize = 1 << 24;
const MAX_WIDTH: usize = 1 << 17;
const MAX_HEADS: usize = 4096;
const MAX_BLOCKS: usize = 1024;
/// The highest type that a header names: Q6_K.
const MAX_TYPE: u32 = 18;
/// Longest token, in bytes; LLaMA's longest has 48, GPT-2's 128.
const MAX_TOKEN_BYTES: usize = 1 << 16;
/// Bytes to which tensors are aligned in `ggjt` files.
const ALIGNMENT: usize = 32;

/// What a file starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Magic {
    /// No version: scores and alignment came later.
    Ggml,
    /// LLaMA with scores.
    Ggmf,
    /// LLaMA with scores, aligned for maps.
    Ggjt(u32),
}

/// The first part of a file.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) magic: Magic,
    pub(super) layout: &'static Layout,
    pub(super) generation: Generation,
    pub(super) n_vocab: usize,
    pub(super) context: Option<u32>,
    pub(super) width: usize,
    pub(super) n_heads: usize,
    pub(super) n_blocks: usize,
    pub(super) n_rot: usize,
    pub(super) parallel: bool,
    /// The last word as it stands in the file.
    kind: u32,
}

/// Bytes from `position` to the next aligned one.
pub(super) fn unaligned(position: usize) -> usize {
    position.next_multiple_of(ALIGNMENT) - position
}

impl Magic {
    /// The magic in front of `head`; the version comes after.
    pub(super) fn of(head: &[u8]) -> Option<Self> {
        // Numbers written as little-endian words: the letters are reversed.
        match head.first_chunk()? {
            b"lmgg" => Some(Self::Ggml),
            b"fmgg" => Some(Self::Ggmf),
            b"tjgg" => Some(Self::Ggjt(0)),
            _ => None,
        }
    }

    pub(super) fn aligned(self) -> bool {
        matches!(self, Self::Ggjt(_))
    }

    fn read(cursor: &mut Cursor<'_>) -> Result<Self> {
        let magic = Self::of(cursor.take(4, "the magic")?)
            .ok_or_else(|| cursor.malformed_at(0, "the magic is none of 2023"))?;
        if magic == Self::Ggml {
            return Ok(magic);
        }
        let version = cursor.u32("the version")?;
        match (magic, version) {
            (Self::Ggmf, 1) => Ok(magic),
            (Self::Ggjt(_), 1..=3) => Ok(Self::Ggjt(version)),
            _ => Err(Error::UnsupportedFormat {
                path: cursor.path().into(),
                found: format!("{} version {version}", magic.name()),
                supported: "ggmf version 1; ggjt versions 1, 2 and 3".into(),
            }),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ggml => "ggml",
            Self::Ggmf => "ggmf",
            Self::Ggjt(_) => "ggjt",
        }
    }
}

impl Header {
    /// Reads everything before the vocabulary's first token.
    pub(super) fn read(cursor: &mut Cursor<'_>) -> Result<Self> {
        let magic = Magic::read(cursor)?;
        if magic != Magic::Ggml {
            return Self::read_as(cursor, magic, VERSIONED);
        }
        let mut likeliest: Option<(Self, Cursor<'_>, usize)> = None;
        for &layout in UNVERSIONED {
            let mut ahead = cursor.clone();
            match Self::read_as(&mut ahead, magic, layout) {
                Ok(header) => {
                    let mut far = ahead.clone();
                    if header.fits(&mut far) {
                        *cursor = ahead;
                        return Ok(header);
                    }
                    if likeliest.as_ref().is_none_or(|(.., reached)| far.position() > *reached) {
                        likeliest = Some((header, ahead, far.position()));
                    }
                }
                // A file that ends within its header tells how at once.
                Err(error) if cursor.remaining() < 4 * VERSIONED.words.len() => return Err(error),
                Err(_) => {}
            }
        }
        // Broken further on: what can be read furthest says where.
        let (header, ahead, _) = likeliest.ok_or_else(|| Error::UnsupportedFormat {
            path: cursor.path().into(),
            found: "a ggml file of 2023 of another model: its header fits none of ours".into(),
            supported: "ggml files of GPT-J, LLaMA and GPT-NeoX".into(),
        })?;
        *cursor = ahead;
        Ok(header)
    }

    /// For people: container, model, and which blocks.
    pub(super) fn describe(&self) -> String {
        let version = match self.magic {
            Magic::Ggjt(version) => format!(" version {version}"),
            _ => String::new(),
        };
        let (magic, model) = (self.magic.name(), self.layout.name);
        let blocks = self.generation.describe();
        format!("{magic}{version} of 2023, {model}, type {}: {blocks}", self.kind)
    }

    /// Whether each token is followed by its score.
    pub(super) fn has_scores(&self) -> bool {
        self.magic != Magic::Ggml
    }

    /// The bytes of the next token; `id` is its number.
    pub(super) fn token<'a>(&self, cursor: &mut Cursor<'a>, id: usize) -> Result<&'a [u8]> {
        let at = cursor.position();
        let len = cursor.u32("length of a token")?;
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        if len > MAX_TOKEN_BYTES || len > cursor.remaining() {
            let remaining = cursor.remaining();
            return Err(cursor.malformed_at(
                at,
                format!("token {id} has length {len} (at most {MAX_TOKEN_BYTES}, and {remaining} remain)"),
            ));
        }
        cursor.take(len, "a token")
    }

    /// Whether the vocabulary is followed by a tensor of this layout; leaves the cursor where it is
    /// not. Keeps nothing.
    fn fits(&self, cursor: &mut Cursor<'_>) -> bool {
        for id in 0..self.n_vocab {
            if self.token(cursor, id).is_err() {
                return false;
            }
        }
        let mut known = || -> Result<bool> {
            let (n_dims, len) = (cursor.u32("")?, cursor.u32("")?);
            if !(1..=2).contains(&n_dims) {
                return Ok(false);
            }
            cursor.take(4 + 4 * if n_dims == 1 { 1 } else { 2 }, "")?;
            let name = cursor.take(usize::try_from(len).unwrap_or(usize::MAX), "")?;
            Ok(std::str::from_utf8(name).is_ok_and(|name| self.layout.named(name).is_some()))
        };
        known().unwrap_or(false)
    }

    fn read_as(cursor: &mut Cursor<'_>, magic: Magic, layout: &'static Layout) -> Result<Self> {
        let mut header = Self {
            magic,
            layout,
            generation: Generation::One,
            n_vocab: 0,
            context: None,
            width: 0,
            n_heads: 0,
            n_blocks: 0,
            n_rot: 0,
            parallel: true,
            kind: 0,
        };
        for &word in layout.words {
            header.word(cursor, word)?;
        }
        if layout.counts_twice {
            let at = cursor.position();
            let again = cursor.u32("size of the vocabulary")?;
            if usize::try_from(again).ok() != Some(header.n_vocab) {
                let why = format!("{again} tokens follow, but the header says {}", header.n_vocab);
                return Err(cursor.malformed_at(at, why));
            }
        }
        header.check(cursor)?;
        Ok(header)
    }

    fn word(&mut self, cursor: &mut Cursor<'_>, word: Word) -> Result<()> {
        let at = cursor.position();
        let (name, max) = match word {
            Word::Vocab => ("vocabulary", MAX_VOCAB),
            Word::Context => ("context length", MAX_CONTEXT),
            Word::Width => ("width", MAX_WIDTH),
            Word::Multiple => ("multiple of the feed-forward width", MAX_WIDTH),
            Word::Heads => ("number of heads", MAX_HEADS),
            Word::Blocks => ("number of blocks", MAX_BLOCKS),
            Word::Rotary => ("rotary size", MAX_WIDTH),
            Word::Parallel | Word::Type => ("type", 0),
        };
        let number = cursor.u32(format_args!("the {name}"))?;
        let n = usize::try_from(number).unwrap_or(usize::MAX);
        if max > 0 && !(1..=max).contains(&n) {
            let why = format!("the {name} is {number}, expected 1 to {max}");
            return Err(cursor.malformed_at(at, why));
        }
        match word {
            Word::Vocab => self.n_vocab = n,
            Word::Context => self.context = Some(number),
            Word::Width => self.width = n,
            Word::Multiple => {}
            Word::Heads => self.n_heads = n,
            Word::Blocks => self.n_blocks = n,
            Word::Rotary => self.n_rot = n,
            Word::Parallel if number <= 1 => self.parallel = number == 1,
            Word::Parallel => {
                let why = format!("the order of residuals is {number}, expected 0 or 1");
                return Err(cursor.malformed_at(at, why));
            }
            Word::Type => self.set_type(cursor, at, number)?,
        }
        Ok(())
    }

    /// The type's thousands are the generation; LLaMA's versions say it instead.
    fn set_type(&mut self, cursor: &Cursor<'_>, at: usize, number: u32) -> Result<()> {
        self.kind = number;
        let thousands = number / 1000;
        let generation = match (self.magic, thousands) {
            (Magic::Ggjt(3), 0) => Some(Generation::Three),
            (Magic::Ggjt(2), 0) => Some(Generation::Two),
            (_, 0) => Some(Generation::One),
            (Magic::Ggml, 1) if self.context.is_some() => Some(Generation::Two),
            (Magic::Ggml, 2) if self.context.is_some() => Some(Generation::Three),
            _ => None,
        };
        match generation {
            Some(generation) if number % 1000 <= MAX_TYPE => {
                self.generation = generation;
                Ok(())
            }
            _ => {
                let why = format!(
                    "the type is {number}, expected 0 to {MAX_TYPE}, for GPT-J and GPT-NeoX plus \
                     1000 or 2000"
                );
                Err(cursor.malformed_at(at, why))
            }
        }
    }

    /// What numbers of one model are to each other.
    fn check(&self, cursor: &Cursor<'_>) -> Result<()> {
        let (width, heads, n_rot) = (self.width, self.n_heads, self.n_rot);
        if !width.is_multiple_of(heads) {
            return Err(cursor.malformed(format!("{heads} heads do not part a width of {width}")));
        }
        let head = width / heads;
        // Without a word for it, a LLaMA rotates all of a head.
        let all = self.context.is_none();
        if !n_rot.is_multiple_of(2) || n_rot > head || (all && n_rot != head) {
            let why = format!("the rotary size is {n_rot} for heads of {head}");
            return Err(cursor.malformed(why));
        }
        Ok(())
    }
}
