//! Aligned memory for packed weights and caches, on huge pages where they help.

use std::ops::{Deref, DerefMut};

use memmap2::MmapMut;

use crate::error::{Error, Result};

/// Alignment of every buffer: a cache line, and a line of sixteen lanes.
const LINE: usize = 64;
/// Alignment of large buffers: a huge page.
const HUGE_PAGE: usize = 2 << 20;

/// Zeroed bytes whose start is aligned to 64 bytes; to 2 MiB, with huge pages advised, when large.
pub(crate) struct Buffer {
    memory: Memory,
    /// Where in the memory the buffer starts, so that it is aligned.
    start: usize,
    len: usize,
}

/// Memory that stays where it is when its owner moves.
enum Memory {
    Heap(Vec<u8>),
    /// Pages of our own, zeroed by the system when they are first touched: by the threads that fill
    /// them, and as huge pages, since the advice came before.
    Pages(MmapMut),
}

impl Buffer {
    /// `len` zeroed bytes.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`].
    pub(crate) fn zeroed(len: usize) -> Result<Self> {
        let out_of_memory = || Error::OutOfMemory { bytes: len };
        if len < HUGE_PAGE {
            let bytes = zeroed::<u8>(len + LINE)?;
            let start = to_boundary(&bytes, LINE);
            return Ok(Self { memory: Memory::Heap(bytes), start, len });
        }
        let mapped = len.checked_add(HUGE_PAGE).ok_or_else(out_of_memory)?;
        let pages = MmapMut::map_anon(mapped).map_err(|_| out_of_memory())?;
        let start = to_boundary(&pages, HUGE_PAGE);
        // 15 to 20 % more read bandwidth than with 4 KiB pages (benches/RESULTS.md). Only as far as
        // the buffer goes, or its last bytes would take a whole huge page. A system that refuses
        // the advice has small pages, and nothing else changes.
        #[cfg(target_os = "linux")]
        drop(pages.advise_range(memmap2::Advice::HugePage, start, len));
        Ok(Self { memory: Memory::Pages(pages), start, len })
    }
}

#[cfg(test)]
impl Buffer {
    /// `len` bytes of `pages` from `start` on, which are aligned to 64 bytes.
    pub(super) fn from_pages(pages: MmapMut, start: usize, len: usize) -> Self {
        assert!(pages[start..].as_ptr().addr().is_multiple_of(LINE), "not aligned");
        Self { memory: Memory::Pages(pages), start, len }
    }
}

/// Bytes from the start of `memory` to its first multiple of `align`.
fn to_boundary(memory: &[u8], align: usize) -> usize {
    memory.as_ptr().addr().wrapping_neg() % align
}

impl Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        let memory: &[u8] = match &self.memory {
            Memory::Heap(bytes) => bytes,
            Memory::Pages(pages) => pages,
        };
        &memory[self.start..][..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        let memory: &mut [u8] = match &mut self.memory {
            Memory::Heap(bytes) => bytes,
            Memory::Pages(pages) => pages,
        };
        &mut memory[self.start..][..self.len]
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({} bytes)", self.len)
    }
}

/// A cache line of bytes, aligned as one.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(crate) struct Line(pub(crate) [u8; 64]);

impl Default for Line {
    fn default() -> Self {
        Self([0; 64])
    }
}

/// Resizes `data` with the allocation checked; what it held before stays in front.
///
/// # Errors
///
/// [`Error::OutOfMemory`].
pub(crate) fn resize<T: Copy + Default>(data: &mut Vec<T>, len: usize) -> Result<()> {
    let more = len.saturating_sub(data.len());
    let bytes = more.saturating_mul(size_of::<T>());
    data.try_reserve(more).map_err(|_| Error::OutOfMemory { bytes })?;
    data.resize(len, T::default());
    Ok(())
}

/// Words that start with a cache line. What they held is lost when room is made for others.
#[derive(Debug, Default)]
pub(super) struct Words {
    data: Vec<i32>,
    start: usize,
}

impl Words {
    /// Makes room for `len` words, which hold anything.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`].
    pub(super) fn reserve(&mut self, len: usize) -> Result<()> {
        const MOST: usize = LINE / size_of::<i32>() - 1;
        resize(&mut self.data, len.saturating_add(MOST))?;
        self.start = self.data.as_ptr().align_offset(LINE).min(MOST);
        Ok(())
    }

    pub(super) fn get(&self) -> &[i32] {
        &self.data[self.start..]
    }

    pub(super) fn get_mut(&mut self) -> &mut [i32] {
        &mut self.data[self.start..]
    }
}

/// `len` zeros, with the allocation checked.
///
/// # Errors
///
/// [`Error::OutOfMemory`].
pub(crate) fn zeroed<T: Copy + Default>(len: usize) -> Result<Vec<T>> {
    let mut data = Vec::new();
    resize(&mut data, len)?;
    Ok(data)
}

/// `items`, of which there are at most `n`, with the allocation checked.
///
/// # Errors
///
/// [`Error::OutOfMemory`].
pub(crate) fn collect<T>(n: usize, items: impl IntoIterator<Item = T>) -> Result<Vec<T>> {
    let mut list = Vec::new();
    let bytes = n.saturating_mul(size_of::<T>());
    list.try_reserve_exact(n).map_err(|_| Error::OutOfMemory { bytes })?;
    list.extend(items.into_iter().take(n));
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_of_any_size_are_zeroed_aligned_and_ours_to_the_last_byte() {
        for len in [0, 1, 63, 64, 65, 4096, HUGE_PAGE - 1, HUGE_PAGE, HUGE_PAGE + 1, 5 << 20] {
            let mut buffer = Buffer::zeroed(len).unwrap();
            let align = if len < HUGE_PAGE { LINE } else { HUGE_PAGE };
            assert_eq!(buffer.as_ptr().addr() % align, 0, "{len}");
            assert_eq!(buffer.len(), len);
            assert!(buffer.iter().all(|&byte| byte == 0), "{len}");
            buffer.fill(0xA5);
            let moved = Box::new(buffer);
            assert!(moved.iter().all(|&byte| byte == 0xA5), "{len}");
        }
    }

    #[test]
    fn sizes_that_no_machine_has_are_errors() {
        let most = isize::MAX.unsigned_abs();
        for len in [usize::MAX, usize::MAX - HUGE_PAGE, most, most - HUGE_PAGE, most / 2] {
            let error = Buffer::zeroed(len).unwrap_err();
            assert!(matches!(error, Error::OutOfMemory { bytes } if bytes == len), "{error}");
        }
    }
}
