//! What a broken input is, and how it is tried: errors, time and memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use halfbyte_tests::hostile::{Case, Opens, TABLES};
use halfbyte_tests::{Stopwatch, kind};

/// Counts the bytes in use and their highest number, and refuses what is too large.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// The largest block of memory that this thread gets, in bytes.
    static LARGEST: Cell<usize> = const { Cell::new(usize::MAX) };
}

fn count(taken: usize, given_back: usize) {
    let before = IN_USE.fetch_add(taken, Ordering::Relaxed);
    PEAK.fetch_max(before + taken, Ordering::Relaxed);
    IN_USE.fetch_sub(given_back, Ordering::Relaxed);
}

#[expect(unsafe_code, reason = "a global allocator is an unsafe trait")]
// SAFETY: every call goes to the system's allocator unchanged, or fails as allocators may.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() > LARGEST.get() {
            return std::ptr::null_mut();
        }
        count(layout.size(), 0);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if layout.size() > LARGEST.get() {
            return std::ptr::null_mut();
        }
        count(layout.size(), 0);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if size > LARGEST.get() {
            return std::ptr::null_mut();
        }
        // Old and new may exist at once.
        count(size, layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Does `work` on this thread with blocks of memory of at most `largest` bytes.
pub(crate) fn within<T>(largest: usize, work: impl FnOnce() -> T) -> T {
    LARGEST.set(largest);
    let done = work();
    LARGEST.set(usize::MAX);
    done
}

/// The allocator counts for the whole process, so only one test may run at a time.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts the highest number of bytes in use from here on; give the result to [`peak_since`].
pub(crate) fn start_counting() -> usize {
    let before = IN_USE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    before
}

/// The most bytes in use since [`start_counting`], beyond those of then.
pub(crate) fn peak_since(before: usize) -> usize {
    PEAK.load(Ordering::Relaxed).saturating_sub(before)
}

/// Opens the input of each case of the table of that name; lists all that went wrong.
pub(crate) fn check(name: &str) {
    // Making the cases allocates too, which another test must not count as its own.
    let _alone = alone();
    let table = TABLES.iter().find(|table| table.name == name).expect("a table's name");
    let cases = (table.cases)();
    assert!(cases.len() >= table.at_least, "{} cases of {}", cases.len(), table.at_least);
    let mut failures = Vec::new();
    for case in &cases {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = (case.write)(dir.path());
        if let Err(why) = check_one(case, dir.path(), &path, table.opens) {
            failures.push(format!("{}: {why}", case.name));
        }
    }
    assert!(failures.is_empty(), "{} cases failed:\n{}", failures.len(), failures.join("\n"));
}

fn check_one(case: &Case, folder: &Path, path: &Path, opens: Opens) -> Result<(), String> {
    let files = std::fs::read_dir(folder).map_err(|e| e.to_string())?;
    let n_bytes: u64 = files.flatten().flat_map(|f| f.metadata()).map(|m| m.len()).sum();
    let allowed = 2 * n_bytes as usize + (16 << 20);
    let (limit, mut fastest) = (Duration::from_millis(100), Duration::MAX);
    // The first run may wait for pages: the fastest of three is our own time.
    for _ in 0..3 {
        let before = start_counting();
        let start = Stopwatch::start();
        let opened = catch_unwind(AssertUnwindSafe(|| opens.open(path)));
        fastest = fastest.min(start.elapsed());
        let used = peak_since(before);
        let error = match opened {
            Err(_) => return Err("panicked".into()),
            Ok(Ok(_)) => return Err("opened".into()),
            Ok(Err(error)) => error,
        };
        let text = error.to_string();
        if kind(&error) != case.kind || !text.contains(case.says) {
            let (kind, wanted, says) = (kind(&error), case.kind, case.says);
            return Err(format!("{kind}: {text}\n    wanted {wanted} with {says:?}"));
        }
        if used > allowed {
            return Err(format!("{used} bytes allocated for a file of {n_bytes}"));
        }
        if fastest < limit {
            return Ok(());
        }
    }
    Err(format!("took {fastest:?}"))
}
