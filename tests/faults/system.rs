//! The allocator and the calls of the C library that fail on command.
//!
//! The linker finds these functions before those of the C library, for all that is in this program:
//! the standard library's `File` reads and writes through them, and memmap2 maps through them. What
//! the C library does by itself, such as stacks of threads, it calls by other names.
#![expect(unsafe_code, reason = "an allocator, and functions of the C library")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ffi::{c_char, c_int, c_long, c_void};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Blocks of at least so many bytes are counted, and fail when their turn comes.
static LARGE: AtomicUsize = AtomicUsize::new(usize::MAX);
/// Large blocks that were asked for since [`fail_block`].
static ASKED: AtomicUsize = AtomicUsize::new(0);
/// Which of them fails.
static FAILING: AtomicUsize = AtomicUsize::new(usize::MAX);

/// The faults are those of the whole process, so only one test may run at a time.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does `work` while block number `n` (from 0) of those with at least `large` bytes cannot be had,
/// on whichever thread; also says how many such blocks were asked for.
pub(crate) fn fail_block<T>(n: usize, large: usize, work: impl FnOnce() -> T) -> (T, usize) {
    ASKED.store(0, Ordering::SeqCst);
    FAILING.store(n, Ordering::SeqCst);
    LARGE.store(large, Ordering::SeqCst);
    let done = work();
    LARGE.store(usize::MAX, Ordering::SeqCst);
    (done, ASKED.load(Ordering::SeqCst))
}

/// Whether a block of `size` bytes cannot be had.
fn is_refused(size: usize) -> bool {
    size >= LARGE.load(Ordering::SeqCst)
        && ASKED.fetch_add(1, Ordering::SeqCst) == FAILING.load(Ordering::SeqCst)
}

struct Failing;

#[global_allocator]
static ALLOCATOR: Failing = Failing;

// SAFETY: every call goes to the system's allocator unchanged, or fails as allocators may.
unsafe impl GlobalAlloc for Failing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_refused(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_refused(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if is_refused(size) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// A call of the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Read,
    Write,
    Sync,
    Rename,
    /// Of a file.
    Map,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It fails with this error number, and so do all later ones.
    Fails(c_int),
    /// It is interrupted before it did anything (`EINTR`); the next one is not.
    Interrupted,
    /// It does a part only: one byte.
    Short,
}

thread_local! {
    /// The call that fails on this thread, how many of them come before, and how.
    static PLAN: Cell<Option<(Call, usize, Fault)>> = const { Cell::new(None) };
    static CALLS: Cell<usize> = const { Cell::new(0) };
}

/// Does `work` while this thread's call number `n` (from 0) of that kind has `fault`; also says how
/// many such calls there were.
pub(crate) fn fault<T>(
    (call, n): (Call, usize),
    fault: Fault,
    work: impl FnOnce() -> T,
) -> (T, usize) {
    CALLS.set(0);
    PLAN.set(Some((call, n, fault)));
    let done = work();
    PLAN.set(None);
    (done, CALLS.get())
}

/// What is to become of a call that this thread makes now.
fn planned(call: Call) -> Option<Fault> {
    let (planned, n, fault) = PLAN.get()?;
    if planned != call {
        return None;
    }
    let number = CALLS.get();
    CALLS.set(number + 1);
    let lasts = matches!(fault, Fault::Fails(_));
    (number == n || (lasts && number > n)).then_some(fault)
}

/// Fails with that error number.
fn fail(number: c_int) -> c_long {
    // SAFETY: takes nothing.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: the place of this thread's error number, which nobody else refers to.
    unsafe { *place = number };
    -1
}

/// What a call gives that has `fault`, unless it is done in part.
fn failed(fault: Option<Fault>) -> Option<c_long> {
    match fault? {
        Fault::Fails(number) => Some(fail(number)),
        Fault::Interrupted => Some(fail(libc::EINTR)),
        Fault::Short => None,
    }
}

fn length(n: usize, fault: Option<Fault>) -> usize {
    if fault == Some(Fault::Short) { n.min(1) } else { n }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn read(file: c_int, to: *mut c_void, n: usize) -> isize {
    let fault = planned(Call::Read);
    let done = failed(fault).unwrap_or_else(|| {
        // SAFETY: the caller's promises are passed on, perhaps for fewer bytes.
        unsafe { libc::syscall(libc::SYS_read, file, to, length(n, fault)) }
    });
    done as isize
}

#[unsafe(no_mangle)]
unsafe extern "C" fn write(file: c_int, from: *const c_void, n: usize) -> isize {
    let fault = planned(Call::Write);
    let done = failed(fault).unwrap_or_else(|| {
        // SAFETY: the caller's promises are passed on, perhaps for fewer bytes.
        unsafe { libc::syscall(libc::SYS_write, file, from, length(n, fault)) }
    });
    done as isize
}

#[unsafe(no_mangle)]
unsafe extern "C" fn fsync(file: c_int) -> c_int {
    let done = failed(planned(Call::Sync)).unwrap_or_else(|| {
        // SAFETY: takes a number only.
        unsafe { libc::syscall(libc::SYS_fsync, file) }
    });
    done as c_int
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    let done = failed(planned(Call::Rename)).unwrap_or_else(|| {
        let here = libc::AT_FDCWD;
        // SAFETY: the caller's promises are passed on.
        unsafe { libc::syscall(libc::SYS_renameat2, here, from, here, to, 0) }
    });
    done as c_int
}

#[unsafe(no_mangle)]
unsafe extern "C" fn mmap64(
    address: *mut c_void,
    n: usize,
    protection: c_int,
    flags: c_int,
    file: c_int,
    offset: i64,
) -> *mut c_void {
    let refused = if flags & libc::MAP_ANONYMOUS == 0 {
        failed(planned(Call::Map)).is_some()
    } else {
        is_refused(n)
    };
    if refused {
        fail(libc::ENOMEM);
        return libc::MAP_FAILED;
    }
    // SAFETY: the caller's promises are passed on.
    let done =
        unsafe { libc::syscall(libc::SYS_mmap, address, n, protection, flags, file, offset) };
    std::ptr::with_exposed_provenance_mut(done as usize)
}
