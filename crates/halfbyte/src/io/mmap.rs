//! Read-only maps of whole files: the only `unsafe` of this module.
//!
//! A map shows the file as it is, not as it was: while a model is open its files must not be
//! shortened or written to. Shortening a mapped file makes the operating system stop the process
//! (SIGBUS) when a lost page is touched, and no check in here can prevent that. Replacing a file by
//! renaming another over it is safe, and is what [`GgufWriter`](super::GgufWriter) does.
#![expect(unsafe_code, reason = "mapping a file is unsafe by nature")]

use std::fs::File;
use std::path::Path;

use crate::error::{Error, Result};

/// A file's bytes, mapped read-only.
#[derive(Debug)]
pub(super) struct Map(memmap2::Mmap);

impl Map {
    /// Maps the regular file at `path`.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = open_regular(path)?;
        // SAFETY: the map is read-only and private to this value, which hands out `&[u8]` only for
        // its own life; that nobody shortens or rewrites the file meanwhile is the module's stated
        // requirement on the user.
        let map = unsafe { memmap2::Mmap::map(&file) };
        map.map(Self).map_err(|e| Error::io(path, e))
    }

    /// The file's bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Drops the pages that hold `start..start + len` from memory, where the system can.
    ///
    /// Pages at the borders that are shared with neighbours go, too; whatever is touched again is
    /// read from the file again.
    pub(super) fn release(&self, start: usize, len: usize) {
        if start.checked_add(len).is_none_or(|end| end > self.0.len()) || len == 0 {
            return;
        }
        #[cfg(unix)]
        {
            let advice = memmap2::UncheckedAdvice::DontNeed;
            // SAFETY: on a read-only map of a file "don't need" changes no contents: dropped pages
            // are filled from the file again. The range was checked to lie in the map.
            let done = unsafe { self.0.unchecked_advise_range(advice, start, len) };
            // Advice only: a system that refuses keeps the pages, and nothing else changes.
            drop(done);
        }
    }
}

/// Opens a regular file for reading; a pipe or a device would block or never end.
pub(crate) fn open_regular(path: &Path) -> Result<File> {
    let kind = std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
    if !kind.is_file() {
        let why = std::io::Error::new(std::io::ErrorKind::InvalidInput, "is not a regular file");
        return Err(Error::io(path, why));
    }
    File::open(path).map_err(|e| Error::io(path, e))
}
