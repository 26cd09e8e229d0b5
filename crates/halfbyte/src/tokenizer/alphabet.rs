//! GPT-2's byte alphabet: 256 printable characters that stand for the 256 bytes.
//!
//! Printable Latin-1 stands for itself; the other 68 bytes, in order, are U+0100 to U+0143.
//! A space is `Ġ` (U+0120), a line feed `Ċ` (U+010A).
//!
//! Source: `bytes_to_unicode` of openai/gpt-2, `src/encoder.py`.

/// What a space looks like: its presence shows that a vocabulary is written in the alphabet.
pub(super) const SPACE: &str = "\u{120}";

const FIRST_STAND_IN: u32 = 0x100;

/// Whether `byte` is its own character.
fn is_itself(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF)
}

/// The byte for which `c` stands.
fn to_byte(c: char) -> Option<u8> {
    if let Ok(byte) = u8::try_from(u32::from(c))
        && is_itself(byte)
    {
        return Some(byte);
    }
    let nth = usize::try_from(u32::from(c).checked_sub(FIRST_STAND_IN)?).ok()?;
    (0..=u8::MAX).filter(|&byte| !is_itself(byte)).nth(nth)
}

/// The bytes that `text` spells; `text` itself if it is not written in the alphabet.
pub(super) fn decode(text: &[u8]) -> Box<[u8]> {
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
        let mut bytes: Vec<u8> =
            (0..0x200).filter_map(char::from_u32).filter_map(to_byte).collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=u8::MAX).collect::<Vec<u8>>());
    }

    #[test]
    fn known_characters_decode() {
        let cases: [(&str, &[u8]); 4] = [
            ("\u{120}the", b" the"),
            ("\u{10A}", b"\n"),
            ("\u{C3}\u{A9}", "\u{E9}".as_bytes()),
            ("a b", b"a b"),
        ];
        for (text, bytes) in cases {
            assert_eq!(*decode(text.as_bytes()), *bytes, "{text}");
        }
    }
}
