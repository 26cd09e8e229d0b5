//! Writes GGUF version 3, tensor after tensor, however large the model.

use std::path::Path;

use super::checkpoint::Layout;
use super::gguf::{DEFAULT_ALIGNMENT, MAGIC, MAX_DIMS, MAX_NAME_BYTES, is_alignment};
use super::metadata::{Metadata, Value};
use super::new_file::NewFile;
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
    file: NewFile,
    tensors: Vec<(TensorInfo, usize)>,
    /// The tensor being written and how many of its bytes are there.
    current: usize,
    written: usize,
    alignment: usize,
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
        let alignment = alignment(metadata)?;
        let tensors = sized(tensors, alignment)?;
        let mut file = NewFile::create(path.as_ref())?;
        let (mut n_bytes, mut written) = (0usize, Ok(()));
        // Piece by piece: a vocabulary has megabytes, which would be in memory twice.
        let put: Sink<'_> = &mut |bytes| {
            n_bytes += bytes.len();
            if written.is_ok() {
                written = file.write(bytes);
            }
        };
        put(MAGIC);
        put(&3u32.to_le_bytes());
        put(&(tensors.len() as u64).to_le_bytes());
        encode_metadata(metadata, put);
        encode_tensors(&tensors, alignment, put);
        written?;
        let padding = n_bytes.next_multiple_of(alignment) - n_bytes;
        file.write(&vec![0; padding])?;
        Ok(Self { file, tensors, current: 0, written: 0, alignment })
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
        self.file.write(bytes)?;
        self.written += bytes.len();
        if self.written == n_bytes {
            let padding = n_bytes.next_multiple_of(self.alignment) - n_bytes;
            self.file.write(&vec![0; padding])?;
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
        self.file.finish()
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

/// Takes the bytes of a header, piece by piece.
type Sink<'a> = &'a mut dyn FnMut(&[u8]);

/// Checks the tensors and gives each its size in bytes.
fn sized(tensors: Vec<TensorInfo>, alignment: usize) -> Result<Vec<(TensorInfo, usize)>> {
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
        offset = offset
            .checked_add(n_bytes)
            .and_then(|end| end.checked_next_multiple_of(alignment))
            .ok_or_else(|| Error::config("tensor data", "is too large"))?;
        sized.push((info, n_bytes));
    }
    Ok(sized)
}

/// The tensor list as it stands in a GGUF file.
fn encode_tensors(tensors: &[(TensorInfo, usize)], alignment: usize, out: Sink<'_>) {
    let mut offset = 0usize;
    for (info, n_bytes) in tensors {
        put_string(out, info.name.as_bytes());
        out(&(info.dims.len() as u32).to_le_bytes());
        for &dim in info.dims.iter().rev() {
            out(&(dim as u64).to_le_bytes());
        }
        out(&info.encoding.ggml_type().to_le_bytes());
        out(&(offset as u64).to_le_bytes());
        offset += n_bytes.next_multiple_of(alignment);
    }
}

/// The metadata count and entries as they stand in a GGUF file.
pub(super) fn encode_metadata(metadata: &Metadata, out: Sink<'_>) {
    out(&(metadata.iter().count() as u64).to_le_bytes());
    for (key, value) in metadata.iter() {
        put_string(out, key.as_bytes());
        put_value(out, value);
    }
}

fn put_string(out: Sink<'_>, bytes: &[u8]) {
    out(&(bytes.len() as u64).to_le_bytes());
    out(bytes);
}

fn put_value(out: Sink<'_>, value: &Value) {
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
            out(&8u32.to_le_bytes());
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

fn put_one<const N: usize>(out: Sink<'_>, kind: u32, bytes: [u8; N]) {
    out(&kind.to_le_bytes());
    out(&bytes);
}

fn put_all<T: Copy, const N: usize>(
    out: Sink<'_>,
    kind: u32,
    values: &[T],
    bytes: impl Fn(T) -> [u8; N],
) {
    put_array_head(out, kind, values.len());
    for &value in values {
        out(&bytes(value));
    }
}

fn put_array_head(out: Sink<'_>, kind: u32, n: usize) {
    out(&9u32.to_le_bytes());
    out(&kind.to_le_bytes());
    out(&(n as u64).to_le_bytes());
}
