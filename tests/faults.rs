//! Memory that cannot be had and files that cannot be read or written: an error each time, never an
//! end of the process, and nothing half done.
//!
//! This program stands between the library and the system: `system` has an allocator, and functions
//! of the C library under their own names, that fail when a test says so.
#![cfg(all(target_os = "linux", target_env = "gnu"))]

#[path = "faults/files.rs"]
mod files;
#[path = "faults/formats.rs"]
mod formats;
#[path = "faults/memory.rs"]
mod memory;
#[path = "faults/paths.rs"]
mod paths;
#[path = "faults/system.rs"]
mod system;
#[path = "faults/truncated.rs"]
mod truncated;
