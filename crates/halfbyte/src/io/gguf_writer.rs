//! Writes GGUF version 3, tensor after tensor, however large the model.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use super::checkpoint::Layout;
use super::gguf::{DEFAULT_ALIGNMENT, MAGIC, MAX_DIMS, MAX_NAME_BYTES, is_alignment};
use super::metadata::{Metadata, Value};
use crate::error::{Error, Result};
use crate::quant::Encoding;

/// A tensor that a file will hold.
#[derive(Clone, Debug)]
pub struct TensorInfo {
    /// The GGUF name.
    pub name: String,
    /// The shape, outermost dimension first: (out, in) for a matrix.
    pub dims: Vec<usize>,
    /// How the elements are stored.
    pub encoding: Encoding,
}

/// Writes a GGUF file: metadata and tensor list at once, then the tensors' bytes in order.
///
/// The file appears under its name only when [`finish`](Self::finish) succeeds; until then it is a
/// temporary file in the same folder, which dropping the writer removes.
///
/// ```
/// use halfbyte::io::{GgufWriter, Metadata, TensorInfo, Value};
/// use halfbyte::quant::Encoding;
///
/// # let folder = std::env::temp_dir().join(format!("halfbyte-doc-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder).unwrap();
/// # let path = folder.join("tiny.gguf");
/// let mut metadata = Metadata::default();
/// metadata.set("general.architecture", Value::from("llama"));
/// let tensors =
///     vec![TensorInfo { name: "norm".into(), dims: vec![2], encoding: Encoding::F32 }];
/// let mut writer = GgufWriter::create(&path, &metadata, tensors)?;
/// writer.write(&1f32.to_le_bytes())?;
/// writer.write(&2f32.to_le_bytes())?;
/// writer.finish()?;
/// # std::fs::remove_dir_all(&folder).unwrap();
/// # Ok::<(), halfbyte::Error>(())
/// ```
#[derive(Debug)]
pub struct GgufWriter {
    path: PathBuf,
    temporary: Temporary,
    file: BufWriter<File>,
    tensors: Vec<(TensorInfo, usize)>,
    /// The tensor being written and how many of its bytes are there.
    current: usize,
    written: usize,
    alignment: usize,
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

impl GgufWriter {
    /// Starts the file at `path` with its metadata and the list of its tensors.
    ///
    /// `general.alignment` (a u32 power of two from 8 to 65536, else 32) pads the tensors.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], and [`Error::Config`] for tensors that GGUF cannot hold.
    pub fn create(
        path: impl AsRef<Path>,
        metadata: &Metadata,
        tensors: Vec<TensorInfo>,
    ) -> Result<Self> {
        let path = path.as_ref();
        let alignment = alignment(metadata)?;
        let mut header = Vec::new();
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&3u32.to_le_bytes());
        header.extend_from_slice(&(tensors.len() as u64).to_le_bytes());
        header.extend_from_slice(&encode_metadata(metadata));
        let tensors = encode_tensors(&mut header, tensors, alignment)?;
        header.resize(header.len().next_multiple_of(alignment), 0);
        let (temporary, file) = create_temporary(path)?;
        let mut writer = Self {
            path: path.into(),
            temporary,
            file: BufWriter::with_capacity(1 << 20, file),
            tensors,
            current: 0,
            written: 0,
            alignment,
        };
        writer.put(&header)?;
        Ok(writer)
    }

    /// The tensor that the next bytes belong to, `None` after the last.
    pub fn current(&self) -> Option<&TensorInfo> {
        self.tensors.get(self.current).map(|(info, _)| info)
    }

    /// Appends bytes of the current tensor: all of it, or a piece such as one row.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], for instance when the disk is full, and [`Error::Config`] if the bytes are
    /// more than the tensor still lacks.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let Some((info, n_bytes)) = self.tensors.get(self.current) else {
            return Err(Error::config("tensor data", "goes on after the last tensor"));
        };
        let (missing, n_bytes) = (n_bytes - self.written, *n_bytes);
        if bytes.len() > missing {
            let reason = format!("lacks {missing} bytes, but {} were given", bytes.len());
            return Err(Error::config(format!("tensor {}", info.name), reason));
        }
        self.put(bytes)?;
        self.written += bytes.len();
        if self.written == n_bytes {
            let padding = n_bytes.next_multiple_of(self.alignment) - n_bytes;
            self.put(&vec![0; padding])?;
            self.current += 1;
            self.written = 0;
        }
        Ok(())
    }

    /// Completes the file: flushes it to the disk and gives it its name.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if a tensor is not complete, [`Error::Io`]; there is no file then.
    pub fn finish(self) -> Result<()> {
        if let Some((info, n_bytes)) = self.tensors.get(self.current) {
            let reason = format!("is not complete: {} of {n_bytes} bytes", self.written);
            return Err(Error::config(format!("tensor {}", info.name), reason));
        }
        let Self { path, mut temporary, file, .. } = self;
        let file = file.into_inner().map_err(|e| Error::io(&path, e.into_error()))?;
        file.sync_all().map_err(|e| Error::io(&path, e))?;
        drop(file);
        std::fs::rename(&temporary.path, &path).map_err(|e| Error::io(&path, e))?;
        temporary.kept = true;
        sync_folder(&path);
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| Error::io(&self.path, e))
    }
}

fn alignment(metadata: &Metadata) -> Result<usize> {
    let value = match metadata.get("general.alignment") {
        None => DEFAULT_ALIGNMENT,
        Some(Value::U32(v)) if is_alignment(*v) => *v,
        Some(_) => {
            let reason = "expected a u32 power of two from 8 to 65536";
            return Err(Error::config("general.alignment", reason));
        }
    };
    usize::try_from(value).map_err(|_| Error::config("general.alignment", "is too large"))
}

/// Appends the tensor list to `header` and gives each tensor its size in bytes.
fn encode_tensors(
    header: &mut Vec<u8>,
    tensors: Vec<TensorInfo>,
    alignment: usize,
) -> Result<Vec<(TensorInfo, usize)>> {
    let mut names = std::collections::HashSet::new();
    let mut sized = Vec::with_capacity(tensors.len());
    let mut offset = 0usize;
    for info in tensors {
        let invalid = |reason: String| Error::config(format!("tensor {}", info.name), reason);
        if info.name.is_empty() || info.name.len() >= MAX_NAME_BYTES {
            return Err(invalid(format!("needs a name of 1 to {} bytes", MAX_NAME_BYTES - 1)));
        }
        if !names.insert(info.name.clone()) {
            return Err(invalid("is there twice".into()));
        }
        if info.dims.len() > MAX_DIMS {
            return Err(invalid(format!("has more than {MAX_DIMS} dimensions")));
        }
        let n_bytes = Layout::of(&info.dims, info.encoding).map_err(invalid)?.n_bytes;
        put_string(header, info.name.as_bytes());
        header.extend_from_slice(&(info.dims.len() as u32).to_le_bytes());
        for &dim in info.dims.iter().rev() {
            header.extend_from_slice(&(dim as u64).to_le_bytes());
        }
        header.extend_from_slice(&info.encoding.ggml_type().to_le_bytes());
        header.extend_from_slice(&(offset as u64).to_le_bytes());
        offset = offset
            .checked_add(n_bytes)
            .and_then(|end| end.checked_next_multiple_of(alignment))
            .ok_or_else(|| Error::config("tensor data", "is too large"))?;
        sized.push((info, n_bytes));
    }
    Ok(sized)
}

/// The metadata count and entries as they stand in a GGUF file.
pub(super) fn encode_metadata(metadata: &Metadata) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(&(metadata.iter().count() as u64).to_le_bytes());
    for (key, value) in metadata.iter() {
        put_string(&mut out, key.as_bytes());
        put_value(&mut out, value);
    }
    out
}

fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::U8(v) => put_one(out, 0, v.to_le_bytes()),
        Value::I8(v) => put_one(out, 1, v.to_le_bytes()),
        Value::U16(v) => put_one(out, 2, v.to_le_bytes()),
        Value::I16(v) => put_one(out, 3, v.to_le_bytes()),
        Value::U32(v) => put_one(out, 4, v.to_le_bytes()),
        Value::I32(v) => put_one(out, 5, v.to_le_bytes()),
        Value::F32(v) => put_one(out, 6, v.to_le_bytes()),
        Value::Bool(v) => put_one(out, 7, [u8::from(*v)]),
        Value::U64(v) => put_one(out, 10, v.to_le_bytes()),
        Value::I64(v) => put_one(out, 11, v.to_le_bytes()),
        Value::F64(v) => put_one(out, 12, v.to_le_bytes()),
        Value::String(v) => {
            out.extend_from_slice(&8u32.to_le_bytes());
            put_string(out, v);
        }
        Value::U8s(v) => put_all(out, 0, v, |x| x.to_le_bytes()),
        Value::I8s(v) => put_all(out, 1, v, |x| x.to_le_bytes()),
        Value::U16s(v) => put_all(out, 2, v, |x| x.to_le_bytes()),
        Value::I16s(v) => put_all(out, 3, v, |x| x.to_le_bytes()),
        Value::U32s(v) => put_all(out, 4, v, |x| x.to_le_bytes()),
        Value::I32s(v) => put_all(out, 5, v, |x| x.to_le_bytes()),
        Value::F32s(v) => put_all(out, 6, v, |x| x.to_le_bytes()),
        Value::Bools(v) => put_all(out, 7, v, |x| [u8::from(x)]),
        Value::U64s(v) => put_all(out, 10, v, |x| x.to_le_bytes()),
        Value::I64s(v) => put_all(out, 11, v, |x| x.to_le_bytes()),
        Value::F64s(v) => put_all(out, 12, v, |x| x.to_le_bytes()),
        Value::Strings(v) => {
            put_array_head(out, 8, v.len());
            for string in v {
                put_string(out, string);
            }
        }
    }
}

fn put_one<const N: usize>(out: &mut Vec<u8>, kind: u32, bytes: [u8; N]) {
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&bytes);
}

fn put_all<T: Copy, const N: usize>(
    out: &mut Vec<u8>,
    kind: u32,
    values: &[T],
    bytes: impl Fn(T) -> [u8; N],
) {
    put_array_head(out, kind, values.len());
    for &value in values {
        out.extend_from_slice(&bytes(value));
    }
}

fn put_array_head(out: &mut Vec<u8>, kind: u32, n: usize) {
    out.extend_from_slice(&9u32.to_le_bytes());
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&(n as u64).to_le_bytes());
}

/// A new file next to `path`, under a name that nothing else has.
fn create_temporary(path: &Path) -> Result<(Temporary, File)> {
    let name = path.file_name().ok_or_else(|| {
        Error::io(path, std::io::Error::new(std::io::ErrorKind::InvalidInput, "is not a file name"))
    })?;
    // Two writers of one process, or what a killed one left behind, must not meet.
    for attempt in 0..1000u32 {
        let mut temporary = std::ffi::OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".{}-{attempt}.part", std::process::id()));
        let temporary = path.with_file_name(temporary);
        match File::create_new(&temporary) {
            Ok(file) => return Ok((Temporary { path: temporary, kept: false }, file)),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(Error::io(path, e)),
        }
    }
    let why = std::io::Error::new(std::io::ErrorKind::AlreadyExists, "too many temporary files");
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
        let infos =
            vec![TensorInfo { name: "a".into(), dims: vec![1 << 20], encoding: Encoding::F32 }];
        let mut writer = GgufWriter::create(&path, &Metadata::default(), infos).unwrap();
        let full = File::options().write(true).open("/dev/full").unwrap();
        writer.file = BufWriter::new(full);
        let error = writer.write(&vec![0; 4 << 20]).unwrap_err();
        assert!(matches!(&error, Error::Io { path: p, .. } if *p == path), "{error:?}");
        drop(writer);
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
        std::fs::remove_dir(&folder).unwrap();
    }
}
