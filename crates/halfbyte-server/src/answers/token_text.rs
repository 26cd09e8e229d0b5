//! Tokens as texts, for reports of log-probabilities.

use halfbyte::tokenizer::Tokenizer;

/// The token as text: unequal for unequal tokens as far as their bytes are, so that it can be a key.
/// Bytes that are no whole characters are `bytes:\xNN…`, as in OpenAI's API.
pub(super) fn label(tokenizer: Option<&Tokenizer>, token: u32) -> String {
    let bytes = bytes(tokenizer, token);
    match String::from_utf8(bytes) {
        Ok(text) if !text.is_empty() => text,
        Ok(_) => {
            let text = tokenizer.and_then(|tokenizer| tokenizer.token_text(token));
            text.filter(|text| !text.is_empty()).unwrap_or_else(|| format!("<{token}>"))
        }
        Err(error) => {
            let hex =
                error.into_bytes().iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>();
            format!("bytes:{hex}")
        }
    }
}

/// The bytes that it stands for; none for special tokens.
pub(super) fn bytes(tokenizer: Option<&Tokenizer>, token: u32) -> Vec<u8> {
    tokenizer.and_then(|tokenizer| tokenizer.token_bytes(token)).unwrap_or_default().to_vec()
}
