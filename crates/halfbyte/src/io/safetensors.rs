//! Safetensors headers, read by the `safetensors` crate, with errors that name tensor and offset.
//!
//! The crate proves that the tensors tile the file; the caps here bound what its parsing allocates.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use ::safetensors::tensor::{Dtype, Metadata, SafeTensorError, SafeTensors, TensorInfo};
use serde::de::{Deserializer as _, Error as _, IgnoredAny, MapAccess, Visitor};

use crate::error::{Error, Result};
use crate::quant::Encoding;

/// Bytes of the header's length word.
const LENGTH_BYTES: usize = 8;
const MAX_HEADER_BYTES: usize = 16 << 20;
/// A model of 1,024 blocks in one file has some 12,000 tensors.
const MAX_TENSORS: usize = 16_384;
/// Commas of the header: about five for each tensor, plus the `__metadata__`.
const MAX_COMMAS: usize = 100_000;

/// A tensor as its file describes it, its bytes proved to be in the file.
#[derive(Clone, Debug)]
pub(super) struct Info {
    pub(super) dtype: Dtype,
    pub(super) dims: Vec<usize>,
    /// From the start of the file, in bytes.
    pub(super) start: usize,
    pub(super) strides: Strides,
}

/// The order of a tensor's elements in its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Strides {
    /// Row after row: always so in safetensors.
    Rows,
    /// Column after column: a transposed matrix.
    Columns,
    /// Any other, in elements.
    Other(Vec<usize>),
}

/// Reads the header of the safetensors file `bytes`.
pub(super) fn read(path: &Path, bytes: &[u8]) -> Result<BTreeMap<String, Info>> {
    let header = header(path, bytes)?;
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|e| explain(path, header, &e))?;
    let data_start = LENGTH_BYTES + header.len();
    Ok(infos(&metadata, data_start))
}

fn infos(metadata: &Metadata, data_start: usize) -> BTreeMap<String, Info> {
    let infos = metadata.tensors().into_iter().map(|(name, info)| {
        // The crate proved that data_start plus the last end is the file's length.
        let start = data_start + info.data_offsets.0;
        let dims = info.shape.clone();
        (name, Info { dtype: info.dtype, dims, start, strides: Strides::Rows })
    });
    infos.collect()
}

/// The encoding that holds such elements, `None` for those that models' weights do not have.
pub(super) fn encoding(dtype: Dtype) -> Option<Encoding> {
    match dtype {
        Dtype::F32 => Some(Encoding::F32),
        Dtype::F16 => Some(Encoding::F16),
        Dtype::BF16 => Some(Encoding::BF16),
        _ => None,
    }
}

/// The header's JSON, checked against the caps.
fn header<'a>(path: &Path, bytes: &'a [u8]) -> Result<&'a [u8]> {
    let malformed = |offset: usize, what: String| Error::Malformed {
        path: path.into(),
        what,
        offset: offset as u64,
    };
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else {
        let why = format!("the header length needs 8 bytes, the file has {}", bytes.len());
        return Err(malformed(0, why));
    };
    let length = u64::from_le_bytes(*length);
    let header = usize::try_from(length).ok().and_then(|n| rest.get(..n));
    let Some(header) = header.filter(|h| h.len() <= MAX_HEADER_BYTES) else {
        return Err(malformed(
            0,
            format!(
                "the header length is {length} (at most {MAX_HEADER_BYTES}, and {} bytes remain)",
                rest.len()
            ),
        ));
    };
    let count = |wanted: u8| header.iter().filter(|&&b| b == wanted).count();
    // One brace opens the header, one its `__metadata__`, and one each tensor.
    if count(b'{') > MAX_TENSORS + 2 || count(b',') > MAX_COMMAS {
        let why = format!("the header has more than {MAX_TENSORS} tensors");
        return Err(malformed(LENGTH_BYTES, why));
    }
    Ok(header)
}

/// What the crate found, as an [`Error::Malformed`] that says where.
fn explain(path: &Path, header: &[u8], error: &SafeTensorError) -> Error {
    let (at, what) = match error {
        SafeTensorError::InvalidHeader(e) => (e.valid_up_to(), format!("header: {e}")),
        SafeTensorError::InvalidHeaderDeserialization(e) => {
            (super::hf_json::offset_of(header, e), format!("header: {e}"))
        }
        SafeTensorError::InvalidOffset(name) => {
            let what = format!("data_offsets of tensor {name} leave a hole, overlap or end early");
            (position_of(header, name), what)
        }
        SafeTensorError::MetadataIncompleteBuffer => {
            (0, "data_offsets do not cover the file's data exactly".into())
        }
        other => match first_wrong_size(header) {
            Some(name) => {
                let what = format!("data_offsets of tensor {name} do not fit its dtype and shape");
                (position_of(header, &name), what)
            }
            None => (0, format!("header: {other}")),
        },
    };
    Error::Malformed { path: path.into(), what, offset: (LENGTH_BYTES + at) as u64 }
}

/// Where `name` stands in the header; 0 if it is spelled with escapes there.
fn position_of(header: &[u8], name: &str) -> usize {
    let quoted = format!("\"{name}\"");
    header.windows(quoted.len()).position(|w| w == quoted.as_bytes()).unwrap_or(0)
}

/// The first tensor whose shape and dtype do not make its number of bytes.
fn first_wrong_size(header: &[u8]) -> Option<String> {
    struct Search<'a>(&'a mut Option<String>);
    impl<'de> Visitor<'de> for Search<'_> {
        type Value = ();
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
            while let Some(name) = map.next_key::<String>()? {
                if name == "__metadata__" {
                    map.next_value::<IgnoredAny>()?;
                } else if !has_right_size(&map.next_value()?) {
                    *self.0 = Some(name);
                    return Err(A::Error::custom("found"));
                }
            }
            Ok(())
        }
    }
    let mut found = None;
    // Ends early by an error on purpose; a broken header was reported before this.
    drop(serde_json::Deserializer::from_slice(header).deserialize_map(Search(&mut found)));
    found
}

fn has_right_size(info: &TensorInfo) -> bool {
    let bits = info.shape.iter().try_fold(info.dtype.bitsize(), |n, &d| n.checked_mul(d));
    let bytes = info.data_offsets.1.checked_sub(info.data_offsets.0);
    bits.is_some_and(|bits| bits % 8 == 0 && Some(bits / 8) == bytes)
}
