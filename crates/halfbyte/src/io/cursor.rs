//! A reader over bytes whose every step is checked, with the field and the offset in its errors.

use std::fmt::Display;
use std::path::Path;

use crate::error::{Error, Result};

/// Reads little-endian fields from `bytes`, front to back.
///
/// What a field is comes as something that can be written, `format_args!` for the most part: a file
/// may have a million fields, and only the one that is wrong is named.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
    path: &'a Path,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(path: &'a Path, bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0, path }
    }

    /// The file, for messages.
    pub(super) fn path(&self) -> &'a Path {
        self.path
    }

    /// Bytes before the cursor.
    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// Bytes after the cursor.
    pub(super) fn remaining(&self) -> usize {
        self.bytes.len().saturating_sub(self.position)
    }

    /// Goes to byte `offset` of the file; `field` is what said so.
    pub(super) fn seek(&mut self, offset: u64, field: impl Display) -> Result<()> {
        match usize::try_from(offset).ok().filter(|&offset| offset <= self.bytes.len()) {
            Some(offset) => self.position = offset,
            None => {
                let n = self.bytes.len();
                return Err(self.malformed(format!("{field} is {offset}, the file has {n} bytes")));
            }
        }
        Ok(())
    }

    /// An [`Error::Malformed`] at the cursor.
    pub(super) fn malformed(&self, what: impl Into<String>) -> Error {
        self.malformed_at(self.position, what)
    }

    /// An [`Error::Malformed`] at `offset`.
    pub(super) fn malformed_at(&self, offset: usize, what: impl Into<String>) -> Error {
        Error::Malformed { path: self.path.into(), what: what.into(), offset: offset as u64 }
    }

    /// The next `n` bytes; `field` is what they are.
    pub(super) fn take(&mut self, n: usize, field: impl Display) -> Result<&'a [u8]> {
        let end = self.position.checked_add(n);
        let taken = end.and_then(|end| self.bytes.get(self.position..end));
        let Some(taken) = taken else {
            return Err(self.malformed(format!(
                "{field} needs {n} bytes, but the file ends after {}",
                self.remaining()
            )));
        };
        self.position += n;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: impl Display) -> Result<[u8; N]> {
        let taken = self.take(N, field)?;
        Ok(taken.try_into().expect("take gives exactly N bytes"))
    }

    pub(super) fn u8(&mut self, field: impl Display) -> Result<u8> {
        Ok(u8::from_le_bytes(self.array(field)?))
    }

    pub(super) fn u16(&mut self, field: impl Display) -> Result<u16> {
        Ok(u16::from_le_bytes(self.array(field)?))
    }

    pub(super) fn u32(&mut self, field: impl Display) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array(field)?))
    }

    pub(super) fn u64(&mut self, field: impl Display) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array(field)?))
    }
}
