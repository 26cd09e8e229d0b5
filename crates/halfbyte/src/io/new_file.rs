//! A file in the making, which appears under its name when it is complete.

use std::fs::File;
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Bytes that are written at a time: a buffer of this size is all that a file in the making needs.
const BUFFER: usize = 32 << 10;

/// Writes a file under a temporary name in the same folder; dropping it before
/// [`finish`](Self::finish) removes that.
#[derive(Debug)]
pub(crate) struct NewFile {
    path: PathBuf,
    temporary: Temporary,
    file: BufWriter<File>,
}

/// A file that is removed when dropped, unless it was renamed away.
#[derive(Debug)]
struct Temporary {
    path: PathBuf,
    kept: bool,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.kept {
            // A file that cannot be removed is left behind; there is nobody to tell.
            drop(std::fs::remove_file(&self.path));
        }
    }
}

impl NewFile {
    /// Starts the file that will be at `path`.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        // Renaming over a device or a pipe would put a file in its place.
        if std::fs::metadata(path).is_ok_and(|found| !found.is_file()) {
            let why = std::io::Error::new(ErrorKind::InvalidInput, "is not a regular file");
            return Err(Error::io(path, why));
        }
        let (temporary, file) = create_temporary(path)?;
        Ok(Self { path: path.into(), temporary, file: BufWriter::with_capacity(BUFFER, file) })
    }

    /// Where its bytes go.
    pub(crate) fn stream(&mut self) -> &mut impl Write {
        &mut self.file
    }

    /// Appends bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| Error::io(&self.path, e))
    }

    /// Flushes the file to the disk and gives it its name, in place of what has it by then.
    pub(crate) fn finish(self) -> Result<()> {
        let Self { path, mut temporary, file } = self;
        let file = file.into_inner().map_err(|e| Error::io(&path, e.into_error()))?;
        file.sync_all().map_err(|e| Error::io(&path, e))?;
        // Windows moves no file that is open.
        drop(file);
        std::fs::rename(&temporary.path, &path).map_err(|e| Error::io(&path, e))?;
        temporary.kept = true;
        sync_folder(&path);
        Ok(())
    }
}

/// A new file next to `path`, under a name that nothing else has.
fn create_temporary(path: &Path) -> Result<(Temporary, File)> {
    let name = path.file_name().ok_or_else(|| {
        Error::io(path, std::io::Error::new(ErrorKind::InvalidInput, "is not a file name"))
    })?;
    // Two writers of one process, or what a killed one left behind, must not meet.
    for attempt in 0..1000u32 {
        let mut temporary = std::ffi::OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".{}-{attempt}.part", std::process::id()));
        let temporary = path.with_file_name(temporary);
        match File::create_new(&temporary) {
            Ok(file) => return Ok((Temporary { path: temporary, kept: false }, file)),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            Err(e) => return Err(Error::io(path, e)),
        }
    }
    let why = std::io::Error::new(ErrorKind::AlreadyExists, "too many temporary files");
    Err(Error::io(path, why))
}

/// Makes the rename last over a power failure, where folders can be flushed.
fn sync_folder(path: &Path) {
    #[cfg(unix)]
    {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
        if let Ok(folder) = File::open(folder.unwrap_or_else(|| Path::new("."))) {
            // Some file systems refuse; the file itself is on the disk already.
            drop(folder.sync_all());
        }
    }
    #[cfg(not(unix))]
    let _ = path;
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_an_io_error_and_leaves_no_file() {
        let folder = std::env::temp_dir().join(format!("halfbyte-full-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("full.gguf");
        let mut writer = NewFile::create(&path).unwrap();
        let full = File::options().write(true).open("/dev/full").unwrap();
        writer.file = BufWriter::new(full);
        let error = writer.write(&vec![0; 4 << 20]).unwrap_err();
        assert!(matches!(&error, Error::Io { path: p, .. } if *p == path), "{error:?}");
        drop(writer);
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
        std::fs::remove_dir(&folder).unwrap();
    }
}
