//! Memory between pages that nobody may touch: a kernel that reads or writes outside dies there.

use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::MmapMut;

/// Which end of the memory lies at a forbidden page.
#[derive(Clone, Copy, Debug)]
pub(super) enum Side {
    Start,
    End,
}

/// `len` zeroed bytes whose `side` lies at a forbidden page: the map that holds them, and where in it
/// they start. Elsewhere than on Linux the pages are there and may be touched.
pub(super) fn pages(len: usize, side: Side) -> (MmapMut, usize) {
    const PAGE: usize = 64 << 10; // The largest page of the systems that we run on.
    let inner = len.next_multiple_of(PAGE);
    let mut map = MmapMut::map_anon(inner + 2 * PAGE).expect("memory for a test");
    #[cfg(target_os = "linux")]
    for at in [0, PAGE + inner] {
        let page = map[at..][..PAGE].as_mut_ptr();
        // SAFETY: whole pages of a map that is ours, which nothing refers to.
        let status = unsafe { libc::mprotect(page.cast(), PAGE, libc::PROT_NONE) };
        assert_eq!(status, 0, "pages can be protected");
    }
    let start = match side {
        Side::Start => PAGE,
        Side::End => PAGE + inner - len,
    };
    (map, start)
}

/// Floats whose `side` lies at a forbidden page.
pub(super) struct Floats {
    map: MmapMut,
    start: usize,
    len: usize,
}

impl Floats {
    pub(super) fn new(x: &[f32], side: Side) -> Self {
        let (mut map, start) = pages(size_of_val(x), side);
        for (to, x) in map[start..].as_chunks_mut::<4>().0.iter_mut().zip(x) {
            *to = x.to_ne_bytes();
        }
        Self { map, start, len: x.len() }
    }

    pub(super) fn get(&self) -> &[f32] {
        let bytes = &self.map[self.start..][..4 * self.len];
        // SAFETY: every bit pattern is a float.
        let (before, floats, after) = unsafe { bytes.align_to() };
        assert!(before.is_empty() && after.is_empty(), "pages are aligned");
        floats
    }

    pub(super) fn get_mut(&mut self) -> &mut [f32] {
        let bytes = &mut self.map[self.start..][..4 * self.len];
        // SAFETY: every bit pattern is a float.
        let (before, floats, after) = unsafe { bytes.align_to_mut() };
        assert!(before.is_empty() && after.is_empty(), "pages are aligned");
        floats
    }
}

/// The seed of the case that runs.
static SEED: AtomicU64 = AtomicU64::new(0);

/// Remembers `seed`, for the message of [`report_faults`].
pub(super) fn running(seed: u64) {
    SEED.store(seed, Ordering::Relaxed);
}

/// Makes a touch of a forbidden page say which case it was.
pub(super) fn report_faults() {
    #[cfg(target_os = "linux")]
    {
        let handler: extern "C" fn(libc::c_int) = on_fault;
        // SAFETY: the handler does only what a handler may.
        unsafe { libc::signal(libc::SIGSEGV, handler as libc::sighandler_t) };
    }
}

/// Writes the seed and ends the process, with nothing that allocates or locks.
#[cfg(target_os = "linux")]
extern "C" fn on_fault(_: libc::c_int) {
    let mut text = *b"\nread or written outside in the case of seed                     \n";
    let (mut seed, mut at) = (SEED.load(Ordering::Relaxed), text.len() - 1);
    loop {
        at -= 1;
        text[at] = b'0' + (seed % 10) as u8;
        seed /= 10;
        if seed == 0 {
            break;
        }
    }
    // SAFETY: writes from an array of that length.
    unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
    // SAFETY: ends the process, whatever its state.
    unsafe { libc::_exit(101) };
}
