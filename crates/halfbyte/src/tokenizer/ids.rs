//! Which tokens start and end a text: what the metadata say, else what the spellings say.

use super::special::{BOS_SPELLINGS, EOS_SPELLINGS, control, end_tokens};
use super::vocab::Vocab;
use crate::error::{Error, Result};
use crate::io::Metadata;

/// The tokens with a role.
#[derive(Clone, Debug, Default)]
pub(super) struct SpecialIds {
    /// Starts a text.
    pub(super) bos: Option<u32>,
    /// Ends a text.
    pub(super) eos: Option<u32>,
    /// Whether prompts start with `bos`.
    pub(super) adds_bos: bool,
    /// Whether prompts end with `eos`: those that an encoder reads.
    pub(super) adds_eos: bool,
    /// End a generation; sorted.
    pub(super) ends: Vec<u32>,
}

/// What holds where the metadata are silent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Defaults {
    pub(super) bos: Option<u32>,
    pub(super) eos: Option<u32>,
    pub(super) adds_bos: bool,
}

impl SpecialIds {
    /// Reads the `tokenizer.ggml.*` ids of `metadata`.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenizer`] naming the key whose value is no token of `vocab`.
    pub(super) fn read(metadata: &Metadata, vocab: &Vocab, defaults: Defaults) -> Result<Self> {
        let spelled = |list: &[&str]| list.iter().find_map(|text| control(vocab, text));
        let id = |name| token_id(metadata, vocab, name);
        let named = |name| named_token(metadata, vocab, name);
        let bos = id("bos_token_id")?.or(named("bos_token")?).or(defaults.bos);
        let bos = bos.or_else(|| spelled(BOS_SPELLINGS));
        let eos = id("eos_token_id")?.or(named("eos_token")?).or(defaults.eos);
        let eos = eos.or_else(|| spelled(EOS_SPELLINGS));
        let adds_bos = keyed(metadata.bool("tokenizer.ggml.add_bos_token"))?;
        let mut ends: Vec<u32> = end_tokens(vocab).chain(eos).collect();
        ends.extend(id("eot_token_id")?.into_iter().chain(id("eom_token_id")?));
        let key = "tokenizer.ggml.eos_token_ids";
        for number in keyed(metadata.integers(key))?.unwrap_or_default() {
            ends.push(checked(vocab, key, number)?);
        }
        ends.sort_unstable();
        ends.dedup();
        // A decoder would take it for the end of its text, whatever the file says.
        let is_encoded = metadata.str("general.architecture").is_ok_and(|name| name == Some("t5"));
        let adds_eos = keyed(metadata.bool("tokenizer.ggml.add_eos_token"))?.unwrap_or(true);
        Ok(Self {
            bos,
            eos,
            adds_bos: adds_bos.unwrap_or(defaults.adds_bos),
            adds_eos: is_encoded && adds_eos,
            ends,
        })
    }
}

/// The token that `tokenizer.ggml.{name}` names.
///
/// # Errors
///
/// [`Error::Tokenizer`] if it is not in `vocab`.
pub(super) fn token_id(metadata: &Metadata, vocab: &Vocab, name: &str) -> Result<Option<u32>> {
    let key = format!("tokenizer.ggml.{name}");
    // Some writers store -1 for "none".
    if let Some(number) = metadata.get(&key).and_then(signed)
        && number < 0
    {
        return Ok(None);
    }
    let number = keyed(metadata.u64(&key))?;
    number.map(|number| checked(vocab, &key, i64::try_from(number).unwrap_or(i64::MAX))).transpose()
}

/// The token whose spelling `tokenizer.ggml.{name}` is: what Hugging Face folders give instead of ids.
fn named_token(metadata: &Metadata, vocab: &Vocab, name: &str) -> Result<Option<u32>> {
    let text = keyed(metadata.str(&format!("tokenizer.ggml.{name}")))?;
    Ok(text.and_then(|text| vocab.id(text.as_bytes())))
}

/// What a getter of the metadata returned, its errors as those of the tokenizer.
///
/// # Errors
///
/// [`Error::Tokenizer`] for [`Error::Config`]; the message names the key.
pub(super) fn keyed<T>(value: Result<T>) -> Result<T> {
    value.map_err(|e| match e {
        Error::Config { field, reason } => Error::Tokenizer(format!("{field}: {reason}")),
        other => other,
    })
}

fn signed(value: &crate::io::Value) -> Option<i64> {
    match *value {
        crate::io::Value::I32(n) => Some(n.into()),
        crate::io::Value::I64(n) => Some(n),
        _ => None,
    }
}

fn checked(vocab: &Vocab, key: &str, number: i64) -> Result<u32> {
    u32::try_from(number).ok().filter(|&id| vocab.get(id).is_some()).ok_or_else(|| {
        Error::Tokenizer(format!("{key} is {number}, but there are {} tokens", vocab.len()))
    })
}
