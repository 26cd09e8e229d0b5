//! Aligned memory for packed weights and caches, on huge pages where they help.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use crate::error::{Error, Result};

/// Alignment of every buffer: a cache line, and a line of sixteen lanes.
const LINE: usize = 64;
/// Alignment of large buffers: a huge page.
const HUGE_PAGE: usize = 2 << 20;

/// Zeroed bytes whose start is aligned to 64 bytes; to 2 MiB, with huge pages advised, when large.
pub(crate) struct Buffer {
    start: NonNull<u8>,
    layout: Layout,
}

impl Buffer {
    /// `len` zeroed bytes.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`].
    pub(crate) fn zeroed(len: usize) -> Result<Self> {
        let align = if len >= HUGE_PAGE { HUGE_PAGE } else { LINE };
        let out_of_memory = || Error::OutOfMemory { bytes: len };
        let layout = Layout::from_size_align(len.max(1), align).map_err(|_| out_of_memory())?;
        // SAFETY: the layout's size is at least one.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or_else(out_of_memory)?;
        let buffer = Self { start, layout };
        buffer.advise_huge_pages();
        Ok(buffer)
    }

    /// 15 to 20 % more read bandwidth than with 4 KiB pages (benches/RESULTS.md).
    fn advise_huge_pages(&self) {
        #[cfg(target_os = "linux")]
        if self.layout.align() == HUGE_PAGE {
            // SAFETY: the range is ours; the advice does not change what the memory holds.
            unsafe {
                libc::madvise(self.start.as_ptr().cast(), self.layout.size(), libc::MADV_HUGEPAGE);
            }
        }
    }
}

impl Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: `start` is valid for the layout's size, and every byte was initialized to zero.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.layout.size()) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `&mut self` makes the slice the only one.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.layout.size()) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: `start` came from `alloc_zeroed` with this layout.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

// SAFETY: a `Buffer` owns its memory alone, like a `Vec<u8>`.
unsafe impl Send for Buffer {}
// SAFETY: shared access only reads.
unsafe impl Sync for Buffer {}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({} bytes)", self.layout.size())
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
