//! Where a tensor's bytes live.

use super::mmap::Map;

/// Bytes that tensors point into.
#[derive(Debug)]
pub(super) enum Source {
    /// A mapped file.
    Map(Map),
    /// Bytes that are part of the program.
    Static(&'static [u8]),
    /// Bytes that were computed while opening.
    Owned(Vec<u8>),
}

impl Source {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Map(map) => map.bytes(),
            Self::Static(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }

    /// Lets the pages of `start..start + len` go, if they can be read again.
    pub(super) fn release(&self, start: usize, len: usize) {
        if let Self::Map(map) = self {
            map.release(start, len);
        }
    }
}
