//! Where what was typed is kept.

use std::env;
use std::fs::DirBuilder;
use std::io;
use std::path::{Path, PathBuf};

/// Lines that are kept.
pub(super) const MAX_ENTRIES: usize = 1000;

/// Longer texts were pasted, and nobody looks for them line by line.
pub(super) const MAX_ENTRY_BYTES: usize = 16 << 10;

/// Longer files were not written here.
pub(super) const MAX_FILE_BYTES: u64 = (MAX_ENTRIES * MAX_ENTRY_BYTES * 2) as u64;

/// The file for the history, its folder made: in `$XDG_STATE_HOME`, `~/.local/state`, or Windows'
/// folder for such things. `None` without a home.
pub(super) fn file() -> io::Result<Option<PathBuf>> {
    let Some(state) = state_folder() else { return Ok(None) };
    let folder = state.join("halfbyte");
    make_private(&folder)?;
    Ok(Some(folder.join("chat_history")))
}

fn state_folder() -> Option<PathBuf> {
    // The specification wants relative paths ignored.
    let given = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let local = || env::home_dir().filter(|home| home.is_absolute());
    given("XDG_STATE_HOME")
        .or_else(|| if cfg!(windows) { given("LOCALAPPDATA") } else { None })
        .or_else(|| Some(local()?.join(".local/state")))
}

/// Makes `folder`, for its owner alone.
fn make_private(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}
