//! What a broken input is, and how it is tried: errors, time and memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use halfbyte::io::Checkpoint;
use halfbyte_tests::{Stopwatch, kind};

/// The kind of error that most cases are.
pub(crate) const MALFORMED: &str = "Malformed";

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

/// One broken input.
pub(crate) struct Case {
    /// What is broken.
    pub(crate) name: &'static str,
    /// Writes the files into a folder and returns the path to open.
    pub(crate) write: Box<dyn Fn(&Path) -> PathBuf>,
    /// The variant of the error.
    pub(crate) kind: &'static str,
    /// Words of its message.
    pub(crate) says: &'static str,
}

/// The allocator counts for the whole process, so only one test may run at a time.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens the input of each case, at least so many, as a model; lists all that went wrong.
pub(crate) fn check(at_least: usize, cases: impl FnOnce() -> Vec<Case>) {
    check_with(at_least, cases, |path| Checkpoint::open(path).map(drop));
}

/// As [`check`], for inputs that `open` opens.
pub(crate) fn check_with(
    at_least: usize,
    cases: impl FnOnce() -> Vec<Case>,
    open: impl Fn(&Path) -> halfbyte::Result<()>,
) {
    // Making the cases allocates too, which another test must not count as its own.
    let _alone = alone();
    let cases = cases();
    assert!(cases.len() >= at_least, "{} cases of {at_least}", cases.len());
    let mut failures = Vec::new();
    for case in &cases {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = (case.write)(dir.path());
        if let Err(why) = check_one(case, dir.path(), &path, &open) {
            failures.push(format!("{}: {why}", case.name));
        }
    }
    assert!(failures.is_empty(), "{} cases failed:\n{}", failures.len(), failures.join("\n"));
}

fn check_one(
    case: &Case,
    folder: &Path,
    path: &Path,
    open: impl Fn(&Path) -> halfbyte::Result<()>,
) -> Result<(), String> {
    let files = std::fs::read_dir(folder).map_err(|e| e.to_string())?;
    let n_bytes: u64 = files.flatten().flat_map(|f| f.metadata()).map(|m| m.len()).sum();
    let allowed = 2 * n_bytes as usize + (16 << 20);
    let mut fastest = Duration::MAX;
    // The first run may wait for pages: the fastest of three is our own time.
    for _ in 0..3 {
        let before = IN_USE.load(Ordering::Relaxed);
        PEAK.store(before, Ordering::Relaxed);
        let start = Stopwatch::start();
        let opened = catch_unwind(AssertUnwindSafe(|| open(path)));
        fastest = fastest.min(start.elapsed());
        let used = PEAK.load(Ordering::Relaxed).saturating_sub(before);
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
    }
    let limit = Duration::from_millis(100);
    (fastest < limit).then_some(()).ok_or_else(|| format!("took {fastest:?}"))
}
