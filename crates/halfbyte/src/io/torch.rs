//! PyTorch's `torch.save` files: tensors by name, whether a zip archive or the form before 1.6.
//!
//! Source: PyTorch `torch/serialization.py`.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::Path;

use super::cursor::Cursor;
use super::pickle;
use super::pickle_value::{Object, Pickle, Storage, Tensor, Value};
use super::safetensors::{Info, Strides};
use super::zip::{self, Records};
use crate::error::{Error, Result};

/// How a pickle of protocol 2 to 5 begins: the form before zip archives.
const PICKLE: u8 = 0x80;
/// The number in the first of an old file's pickles, little-endian.
const LEGACY_MAGIC: &[u8] = &[0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const LEGACY_VERSION: i64 = 1001;
/// Names under which training programs keep the weights among other things.
const STATES: &[&str] = &["state_dict", "model_state_dict", "model", "module"];
/// How much larger the tensors may be than the file, since they may share storages: T5's embedding
/// has four names.
const MAX_SHARING: usize = 4;

/// Whether a file that begins with `head` may be one of PyTorch's.
pub(super) fn is_torch(head: &[u8]) -> bool {
    head.starts_with(zip::MAGIC) || head.first() == Some(&PICKLE)
}

/// The tensors of the PyTorch file `bytes` by name: dtype, shape and where their bytes start.
///
/// Every tensor's elements were proved to lie in the file. Values that are no tensors are left out;
/// a dictionary of tensors may lie one level deep, as training programs write it.
///
/// # Errors
///
/// [`Error::Malformed`]; [`Error::UnsupportedFormat`] for a pickle that calls anything but what
/// rebuilds tensors, for `TorchScript`, for compressed archives.
pub(super) fn read(path: &Path, bytes: &[u8]) -> Result<BTreeMap<String, Info>> {
    let infos = if bytes.starts_with(zip::MAGIC) {
        from_zip(path, bytes)?
    } else if is_torch(bytes) {
        from_legacy(path, bytes)?
    } else {
        return Err(unsupported(path, "a file that is not PyTorch's"));
    };
    check_sharing(path, bytes.len(), &infos)?;
    Ok(infos)
}

/// `<root>/data.pkl`, and the storage with key k in `<root>/data/k`.
fn from_zip(path: &Path, bytes: &[u8]) -> Result<BTreeMap<String, Info>> {
    let records = zip::records(path, bytes)?;
    let root = records.names().find_map(|name| {
        name.strip_suffix("/data.pkl").filter(|root| !root.contains('/')).map(str::to_owned)
    });
    let Some(root) = root else {
        return Err(unsupported(path, "a zip archive without data.pkl"));
    };
    let record = |name: &str| records.get(&format!("{root}/{name}"));
    if record("constants.pkl")?.is_some() {
        return Err(unsupported(path, "a TorchScript program: save its state_dict() instead"));
    }
    if let Some(order) = record("byteorder")?
        && bytes.get(order.clone()) != Some(b"little")
    {
        let what = "byteorder is not little: save the file on a little-endian machine".into();
        return Err(Error::Malformed { path: path.into(), what, offset: order.start as u64 });
    }
    let program = record("data.pkl")?.unwrap_or_default();
    let mut cursor = Cursor::new(path, bytes.get(..program.end).unwrap_or_default());
    cursor.seek(program.start as u64, "data.pkl")?;
    let pickle = pickle::load(&mut cursor)?;
    infos(path, &pickle, |storage| in_record(path, &records, &root, storage))
}

fn in_record(
    path: &Path,
    records: &Records<'_>,
    root: &str,
    storage: &Storage<'_>,
) -> Result<Range<usize>> {
    let name = format!("{root}/data/{}", storage.key);
    records.get(&name)?.ok_or_else(|| Error::Malformed {
        path: path.into(),
        what: format!("the archive has no record {name:?}"),
        offset: 0,
    })
}

/// Five pickles, then each storage's length and bytes in the order that the last one lists.
fn from_legacy(path: &Path, bytes: &[u8]) -> Result<BTreeMap<String, Info>> {
    let mut cursor = Cursor::new(path, bytes);
    if pickle::load(&mut cursor)?.root != Value::Long(LEGACY_MAGIC) {
        return Err(unsupported(path, "a pickle that is not PyTorch's"));
    }
    if pickle::load(&mut cursor)?.root != Value::Int(LEGACY_VERSION) {
        return Err(cursor.malformed(format!("the protocol's version is not {LEGACY_VERSION}")));
    }
    let system = pickle::load(&mut cursor)?;
    if let Some(Object::Dict(facts)) = system.object(system.root)
        && facts.contains(&(Value::Text("little_endian"), Value::Bool(false)))
    {
        return Err(cursor.malformed("the file was written on a big-endian machine"));
    }
    let pickle = pickle::load(&mut cursor)?;
    let keys = pickle::load(&mut cursor)?;
    let Some(Object::List(keys)) = keys.object(keys.root) else {
        return Err(cursor.malformed("the list of storages is no list"));
    };
    let storages: HashMap<&str, &Storage<'_>> = pickle
        .objects
        .iter()
        .filter_map(|object| if let Object::Storage(s) = object { Some((s.key, s)) } else { None })
        .collect();
    let mut ranges: HashMap<&str, Range<usize>> = HashMap::new();
    for key in keys {
        let storage = if let Value::Text(key) = key { storages.get(key) } else { None };
        let Some(storage) = storage else {
            return Err(cursor.malformed("the list of storages has one that no tensor uses"));
        };
        let n = cursor.u64("a storage's length")?;
        let size = n_bytes(storage).filter(|_| n == storage.len as u64);
        let Some(size) = size else {
            let what =
                format!("storage {} has {n} elements here, {} before", storage.key, storage.len);
            return Err(cursor.malformed(what));
        };
        let start = cursor.position();
        cursor.take(size, "a storage")?;
        if ranges.insert(storage.key, start..start + size).is_some() {
            return Err(cursor.malformed(format!("storage {} is there twice", storage.key)));
        }
    }
    infos(path, &pickle, |storage| {
        let range = ranges.get(storage.key).cloned();
        range.ok_or_else(|| cursor.malformed(format!("storage {} is not there", storage.key)))
    })
}

/// The tensors of the dictionary that the pickle is, or that it holds under one of [`STATES`].
fn infos(
    path: &Path,
    pickle: &Pickle<'_>,
    place: impl Fn(&Storage<'_>) -> Result<Range<usize>>,
) -> Result<BTreeMap<String, Info>> {
    let dict = |value| match pickle.object(value) {
        Some(Object::Dict(entries)) => Some(entries),
        _ => None,
    };
    let Some(mut entries) = dict(pickle.root) else {
        return Err(unsupported(path, "a pickle of something else than a dictionary of tensors"));
    };
    let inner = |name: &&str| {
        let (_, value) = entries.iter().find(|(key, _)| *key == Value::Text(name))?;
        dict(*value)
    };
    if let Some(state) = STATES.iter().find_map(inner) {
        entries = state;
    }
    let mut infos = BTreeMap::new();
    for &(key, value) in entries {
        if let (Value::Text(name), Some(Object::Tensor(tensor))) = (key, pickle.object(value)) {
            // A pickle may repeat a name for two bytes each time.
            if name.len() > zip::MAX_NAME {
                let (n, most) = (name.len(), zip::MAX_NAME);
                let what = format!("a tensor's name has {n} bytes, more than {most}");
                return Err(Error::Malformed { path: path.into(), what, offset: tensor.at as u64 });
            }
            let malformed = |what: String| Error::Malformed {
                path: path.into(),
                what: format!("tensor {name} {what}"),
                offset: tensor.at as u64,
            };
            let Some(Object::Storage(storage)) = pickle.objects.get(tensor.storage) else {
                return Err(malformed("has no storage".into()));
            };
            let info = info(tensor, storage, &place(storage)?).map_err(malformed)?;
            // As in Python, the last of several equal keys counts.
            infos.insert(name, info);
        }
    }
    Ok(infos.into_iter().map(|(name, info)| (name.to_owned(), info)).collect())
}

/// Checks that the tensors are not much larger than the file: each may become a matrix of its own.
fn check_sharing(path: &Path, file_bytes: usize, infos: &BTreeMap<String, Info>) -> Result<()> {
    let n_bytes = |info: &Info| match info.strides {
        // Nothing is made of these.
        Strides::Other(_) => Some(0),
        _ if info.dims.contains(&0) => Some(0),
        _ => {
            let size = info.dtype.bitsize() / 8;
            info.dims.iter().try_fold(size, |n, &dim| n.checked_mul(dim))
        }
    };
    let total = infos.values().try_fold(0usize, |sum, info| sum.checked_add(n_bytes(info)?));
    if total.is_none_or(|total| total > file_bytes.saturating_mul(MAX_SHARING)) {
        let what = "tensors share storages too often: save them contiguous".into();
        return Err(Error::Malformed { path: path.into(), what, offset: 0 });
    }
    Ok(())
}

/// A tensor's place in the file, after its last element was proved to be in its storage.
fn info(tensor: &Tensor, storage: &Storage<'_>, range: &Range<usize>) -> Result<Info, String> {
    let Tensor { offset, dims, strides, .. } = tensor;
    let is_empty = dims.contains(&0);
    let mut last = Some(*offset);
    for (dim, stride) in dims.iter().zip(strides).filter(|_| !is_empty) {
        let step = (dim - 1).checked_mul(*stride);
        last = last.and_then(|last| last.checked_add(step?));
    }
    // A tensor without elements may stand behind the storage's last one.
    let first_outside = if is_empty { storage.len.saturating_add(1) } else { storage.len };
    if last.is_none_or(|last| last >= first_outside) {
        return Err(format!(
            "of shape {dims:?} and strides {strides:?} at element {offset} leaves its storage of {}",
            storage.len
        ));
    }
    if n_bytes(storage).is_none_or(|size| size > range.len()) {
        let (n, dtype) = (storage.len, storage.dtype);
        return Err(format!("has a storage of {} bytes, too few for {n} {dtype}", range.len()));
    }
    let start = range.start + offset * (storage.dtype.bitsize() / 8);
    Ok(Info { dtype: storage.dtype, dims: dims.clone(), start, strides: layout(dims, strides) })
}

/// How strides order the elements; those of dimensions of one element mean nothing.
fn layout(dims: &[usize], strides: &[usize]) -> Strides {
    let is = |wanted: &[usize]| {
        let mut triples = dims.iter().zip(strides).zip(wanted);
        dims.contains(&0) || triples.all(|((&dim, stride), wanted)| dim == 1 || stride == wanted)
    };
    let mut contiguous = vec![1; dims.len()];
    let mut product = 1usize;
    for (slot, dim) in contiguous.iter_mut().zip(dims).rev() {
        *slot = product;
        product = product.saturating_mul(*dim);
    }
    match *dims {
        _ if is(&contiguous) => Strides::Rows,
        [rows, _] if is(&[1, rows]) => Strides::Columns,
        _ => Strides::Other(strides.to_vec()),
    }
}

/// Bytes of a storage; `None` if that overflows.
fn n_bytes(storage: &Storage<'_>) -> Option<usize> {
    storage.len.checked_mul(storage.dtype.bitsize() / 8)
}

fn unsupported(path: &Path, found: &str) -> Error {
    Error::UnsupportedFormat {
        path: path.into(),
        found: found.into(),
        supported: "a dictionary of tensors that torch.save wrote".into(),
    }
}
