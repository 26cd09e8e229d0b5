//! SentencePiece's compiled normalization: a double-array trie from characters to replacements.
//!
//! Source: google/sentencepiece, `src/normalizer.cc`; s-yata/darts-clone, `include/darts.h`.

use crate::error::{Error, Result};

/// The longest sequences that are replaced, in bytes: what a look-up may cost.
const MAX_KEY_BYTES: usize = 1024;

/// The longest replacement: a text must not explode. Those of Unicode's NFKC have at most 33 bytes.
const MAX_REPLACEMENT_BYTES: usize = 256;

/// A compiled map of characters.
#[derive(Debug)]
pub(super) struct Charsmap {
    /// The trie's nodes.
    nodes: Vec<u32>,
    /// Replacements, each ended by a zero byte. The trie's values are places in it.
    replacements: Vec<u8>,
}

impl Charsmap {
    /// Reads `precompiled_charsmap`, which is empty where there is none; `field` names it in
    /// messages.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenizer`] if the trie does not lie in it, or the replacements are not UTF-8.
    pub(super) fn read(bytes: &[u8], field: &str) -> Result<Option<Self>> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let wrong = |what: &str| Error::Tokenizer(format!("{field} {what}"));
        let (n_bytes, rest) =
            bytes.split_first_chunk().ok_or_else(|| wrong("is shorter than its length field"))?;
        let n_bytes = u32::from_le_bytes(*n_bytes) as usize;
        let (trie, replacements) = rest
            .split_at_checked(n_bytes)
            .filter(|(trie, _)| !trie.is_empty() && trie.len() % 4 == 0)
            .ok_or_else(|| {
                wrong(&format!("says that its trie has {n_bytes} of {} bytes", rest.len()))
            })?;
        if std::str::from_utf8(replacements).is_err() {
            return Err(wrong("has replacements that are not UTF-8"));
        }
        if replacements.split(|&byte| byte == 0).any(|to| to.len() > MAX_REPLACEMENT_BYTES) {
            return Err(wrong(&format!(
                "has a replacement of more than {MAX_REPLACEMENT_BYTES} bytes"
            )));
        }
        let nodes = trie.as_chunks().0.iter().map(|&node| u32::from_le_bytes(node)).collect();
        Ok(Some(Self { nodes, replacements: replacements.to_vec() }))
    }

    /// The longest key that `text` begins with, as its length in bytes, and its replacement.
    pub(super) fn longest<'m>(&'m self, text: &str) -> Option<(usize, &'m str)> {
        let mut found = None;
        let mut place = offset(*self.nodes.first()?);
        for (i, &byte) in text.as_bytes().iter().take(MAX_KEY_BYTES).enumerate() {
            place ^= byte as usize;
            let Some(&node) = self.nodes.get(place) else { break };
            if label(node) != u32::from(byte) {
                break;
            }
            place ^= offset(node);
            // A key that ends within a character would leave half of it.
            if has_value(node) && text.is_char_boundary(i + 1) {
                let value = self.nodes.get(place).map_or(0, |value| value & 0x7FFF_FFFF);
                found = self.replacement(value as usize).map(|to| (i + 1, to)).or(found);
            }
        }
        found
    }

    fn replacement(&self, start: usize) -> Option<&str> {
        let rest = self.replacements.get(start..)?;
        let end = rest.iter().position(|&byte| byte == 0).unwrap_or(rest.len());
        std::str::from_utf8(&rest[..end]).ok()
    }
}

/// Whether a key ends at the node.
fn has_value(node: u32) -> bool {
    node >> 8 & 1 == 1
}

/// The byte that leads to the node; never a byte for a node that holds a value.
fn label(node: u32) -> u32 {
    node & (1 << 31 | 0xFF)
}

/// Where the node's children are, from its own place.
fn offset(node: u32) -> usize {
    ((node >> 10) << ((node & 1 << 9) >> 6)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A trie of the keys "a" → "b" and "ab" → "": each node's place is its parent's children's
    /// place xor the byte.
    fn map() -> Vec<u8> {
        let mut nodes = vec![0u32; 1024];
        let node = |to: u32, from: u32, label: u8, ends: bool| {
            (to ^ from) << 10 | u32::from(ends) << 8 | u32::from(label)
        };
        nodes[0] = 256 << 10;
        let a = 256 ^ u32::from(b'a');
        nodes[a as usize] = node(512, a, b'a', true);
        nodes[512] = 1 << 31;
        let ab = 512 ^ u32::from(b'b');
        nodes[ab as usize] = node(768, ab, b'b', true);
        nodes[768] = 1 << 31 | 2;
        let mut bytes = (4 * nodes.len() as u32).to_le_bytes().to_vec();
        bytes.extend(nodes.iter().flat_map(|node| node.to_le_bytes()));
        bytes.extend_from_slice(b"b\0\0");
        bytes
    }

    #[test]
    fn the_longest_key_counts() {
        let map = Charsmap::read(&map(), "map").unwrap().unwrap();
        let cases = [
            ("a", Some((1, "b"))),
            ("abc", Some((2, ""))),
            ("ac", Some((1, "b"))),
            ("b", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(map.longest(text), expected, "{text}");
        }
    }

    #[test]
    fn broken_maps_are_errors_or_find_nothing() {
        let whole = map();
        assert!(Charsmap::read(&[], "map").unwrap().is_none());
        for bytes in [&[1, 0][..], &[0, 0, 0, 0], &[3, 0, 0, 0, 1, 2, 3], &whole[..100]] {
            assert!(Charsmap::read(bytes, "map").is_err(), "{bytes:x?}");
        }
        let mut not_text = whole.clone();
        not_text.extend_from_slice(&[0xFF, 0]);
        assert!(Charsmap::read(&not_text, "map").is_err());
        // Places outside of the trie and of the replacements.
        for node in [u32::MAX, u32::MAX >> 1, 0x7FFF_FC61, 0x0000_0161] {
            let mut bytes = whole.clone();
            for place in [0, 256 ^ usize::from(b'a'), 512] {
                bytes[4 + 4 * place..8 + 4 * place].copy_from_slice(&node.to_le_bytes());
                let map = Charsmap::read(&bytes, "map").unwrap().unwrap();
                for text in ["a", "ab", "abab"] {
                    assert!(map.longest(text).is_none_or(|(n, _)| n <= text.len()));
                }
            }
        }
    }
}
