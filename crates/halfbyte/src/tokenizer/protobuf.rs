//! The few rules of protocol buffers that reading a `tokenizer.model` takes.
//!
//! Source: protobuf.dev, "Encoding".

use crate::error::{Error, Result};

/// The fields of one message, in file order. Ends after the first error.
#[derive(Clone, Debug)]
pub(super) struct Fields<'a> {
    bytes: &'a [u8],
    /// Where `bytes` starts in the file, for messages.
    offset: usize,
}

/// A field: its number, its value, and where in the file it starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Field<'a> {
    /// The number in the schema.
    pub(super) number: u64,
    /// What it holds.
    pub(super) value: Payload<'a>,
    /// Where `value` starts in the file.
    pub(super) offset: usize,
}

/// A field's value by wire type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Payload<'a> {
    /// Integers, enums and truth values.
    Varint(u64),
    /// Fixed 64 bits; no field that we read.
    Bits64,
    /// Strings, bytes and messages.
    Bytes(&'a [u8]),
    /// Floats.
    Bits32([u8; 4]),
}

impl<'a> Fields<'a> {
    /// The fields of the message `bytes`, which starts at `offset` in the file.
    pub(super) fn new(bytes: &'a [u8], offset: usize) -> Self {
        Self { bytes, offset }
    }

    fn read(&mut self) -> Result<Field<'a>> {
        let tag = self.varint()?;
        let offset = self.offset;
        let value = match tag & 7 {
            0 => Payload::Varint(self.varint()?),
            1 => self.take(8).map(|_| Payload::Bits64)?,
            2 => {
                let len = self.varint()?;
                let len = usize::try_from(len).map_err(|_| self.error("a length past the end"))?;
                return Ok(Field {
                    number: tag >> 3,
                    offset: self.offset,
                    value: Payload::Bytes(self.take(len)?),
                });
            }
            5 => {
                let mut bits = [0; 4];
                bits.copy_from_slice(self.take(4)?);
                Payload::Bits32(bits)
            }
            wire => return Err(self.error(&format!("the unknown wire type {wire}"))),
        };
        Ok(Field { number: tag >> 3, value, offset })
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (taken, rest) =
            self.bytes.split_at_checked(len).ok_or_else(|| self.error("a field past the end"))?;
        self.bytes = rest;
        self.offset += len;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.error("an integer of more than ten bytes"))
    }

    fn error(&self, what: &str) -> Error {
        Error::Tokenizer(format!(
            "tokenizer.model is malformed at byte {}: found {what} (is it a SentencePiece model?)",
            self.offset
        ))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.bytes.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.bytes = &[];
        }
        Some(field)
    }
}

impl<'a> Field<'a> {
    /// The value as an integer that may be negative (`int32` is stored as 64 bits).
    pub(super) fn integer(&self) -> Option<i64> {
        match self.value {
            Payload::Varint(n) => Some(n.cast_signed()),
            _ => None,
        }
    }

    /// The value as a float.
    pub(super) fn float(&self) -> Option<f32> {
        match self.value {
            Payload::Bits32(bits) => Some(f32::from_le_bytes(bits)),
            _ => None,
        }
    }

    /// The value as bytes.
    pub(super) fn bytes(&self) -> Option<&'a [u8]> {
        match self.value {
            Payload::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_by_wire_type() {
        let bytes = [0x08, 0x96, 0x01, 0x12, 0x02, b'h', b'i', 0x1D, 0, 0, 0x80, 0x3F];
        let fields: Vec<Field<'_>> = Fields::new(&bytes, 0).map(Result::unwrap).collect();
        assert_eq!(fields[0].integer(), Some(150));
        assert_eq!(fields[1].bytes(), Some(&b"hi"[..]));
        assert_eq!(fields[1].offset, 5);
        assert_eq!(fields[2].float(), Some(1.0));
    }

    #[test]
    fn broken_fields_are_errors() {
        let cases: [&[u8]; 6] = [
            &[0x08],
            &[0x12, 0x05, b'h'],
            &[0x0B],
            &[0x1D, 0, 0],
            &[0x08, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
            &[0x12, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01],
        ];
        for bytes in cases {
            assert!(Fields::new(bytes, 0).any(|field| field.is_err()), "{bytes:x?}");
        }
    }
}
