//! GPT-2's byte alphabet: 256 printable characters that stand for the 256 bytes.
//!
//! Printable Latin-1 stands for itself; the other 68 bytes, in order, are U+0100 to U+0143.
//! A space is `Ġ` (U+0120), a line feed `Ċ` (U+010A).
//!
//! Source: `bytes_to_unicode` of openai/gpt-2, `src/encoder.py`.

/// What a space looks like: its presence shows that a vocabulary is written in the alphabet.
pub(crate) const SPACE: &str = "\u{120}";

const FIRST_STAND_IN: u32 = 0x100;
/// How many bytes without a character of their own lie up to the space, and how many from DEL on;
/// one more is the soft hyphen.
const N_LOW: u8 = 33;
const N_MIDDLE: u8 = 34;

/// Whether `byte` is its own character.
fn is_itself(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF)
}

/// All bytes in the order of their characters.
pub(super) fn bytes() -> impl Iterator<Item = u8> {
    let own = (0..=u8::MAX).filter(|&byte| is_itself(byte));
    let others = (0..=u8::MAX).filter(|&byte| !is_itself(byte));
    own.chain(others)
}

/// The character that stands for `byte`.
fn to_char(byte: u8) -> char {
    let nth = match byte {
        ..=b' ' => byte,
        0x7F..=0xA0 => byte - 0x7F + N_LOW,
        0xAD => N_LOW + N_MIDDLE,
        _ => return char::from(byte),
    };
    char::from_u32(FIRST_STAND_IN + u32::from(nth)).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// The byte for which `c` stands.
fn to_byte(c: char) -> Option<u8> {
    if let Ok(byte) = u8::try_from(u32::from(c))
        && is_itself(byte)
    {
        return Some(byte);
    }
    let nth = u8::try_from(u32::from(c).checked_sub(FIRST_STAND_IN)?).ok()?;
    match nth.checked_sub(N_LOW) {
        None => Some(nth),
        Some(middle @ ..N_MIDDLE) => Some(0x7F + middle),
        Some(N_MIDDLE) => Some(0xAD),
        Some(_) => None,
    }
}

/// `bytes` in the alphabet: a character for each.
pub(super) fn encode(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| to_char(byte)).collect()
}

/// The bytes that `text` spells; `text` itself if it is not written in the alphabet.
pub(crate) fn decode(text: &[u8]) -> Box<[u8]> {
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.chars().map(to_byte).collect())
        .unwrap_or_else(|| text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alphabet_is_a_bijection() {
        let characters = (0..0x200).filter_map(char::from_u32);
        let (characters, found): (Vec<char>, Vec<u8>) =
            characters.filter_map(|c| Some((c, to_byte(c)?))).unzip();
        assert_eq!(found, bytes().collect::<Vec<u8>>());
        assert_eq!(found.iter().map(|&byte| to_char(byte)).collect::<Vec<char>>(), characters);
        let mut sorted = found;
        sorted.sort_unstable();
        assert_eq!(sorted, (0..=u8::MAX).collect::<Vec<u8>>());
    }

    #[test]
    fn known_characters_stand_for_known_bytes() {
        let cases: [(&str, &[u8]); 3] =
            [("\u{120}the", b" the"), ("\u{10A}", b"\n"), ("\u{C3}\u{A9}", "\u{E9}".as_bytes())];
        for (text, bytes) in cases {
            assert_eq!(*decode(text.as_bytes()), *bytes, "{text}");
            assert_eq!(encode(bytes), text);
        }
        assert_eq!(*decode(b"a b"), *b"a b", "no text of the alphabet");
    }
}
