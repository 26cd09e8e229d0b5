//! Zip archives whose records are stored, not compressed: where each record's bytes lie.
//!
//! Source: PKWARE `APPNOTE.TXT`, 4.3.7 (local headers), 4.3.12 (central directory), 4.3.14 to
//! 4.3.16 (its ends), 4.5.3 (sizes of 64 bits).

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use super::cursor::Cursor;
use crate::error::{Error, Result};

pub(super) const MAGIC: &[u8] = b"PK\x03\x04";

const ENTRY: u32 = 0x0201_4b50;
const LOCAL: u32 = 0x0403_4b50;
const END: &[u8] = b"PK\x05\x06";
const END_64: u32 = 0x0606_4b50;
const LOCATOR_64: &[u8] = b"PK\x06\x07";

const END_BYTES: usize = 22;
const LOCATOR_BYTES: usize = 20;
/// A comment may follow the end record.
const MAX_COMMENT: usize = 0xffff;
/// Records of one archive: PyTorch writes one for each tensor.
const MAX_RECORDS: u64 = 16_384;
/// Bytes of a name.
pub(super) const MAX_NAME: usize = 1024;

/// Says that a field of 16 or 32 bits is too narrow and its value stands elsewhere.
const ELSEWHERE_16: u64 = 0xffff;
const ELSEWHERE_32: u64 = 0xffff_ffff;

/// The records of an archive.
#[derive(Debug)]
pub(super) struct Records<'a> {
    path: &'a Path,
    /// By name, each a range of the archive's bytes; `None` if it is not stored as it is.
    ranges: BTreeMap<&'a str, Option<Range<usize>>>,
}

impl Records<'_> {
    /// All names, in their order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.ranges.keys().copied()
    }

    /// The range of the record `name`, `None` if there is no such record.
    ///
    /// # Errors
    ///
    /// [`Error::UnsupportedFormat`] if it is compressed or encrypted.
    pub(super) fn get(&self, name: &str) -> Result<Option<Range<usize>>> {
        match self.ranges.get(name) {
            None => Ok(None),
            Some(Some(range)) => Ok(Some(range.clone())),
            Some(None) => Err(Error::UnsupportedFormat {
                path: self.path.into(),
                found: format!("a zip archive whose record {name:?} is compressed or encrypted"),
                supported: "PyTorch's own archives, whose records are stored".into(),
            }),
        }
    }
}

/// Reads the directory of the archive `bytes`.
///
/// # Errors
///
/// [`Error::Malformed`].
pub(super) fn records<'a>(path: &'a Path, bytes: &'a [u8]) -> Result<Records<'a>> {
    let (count, start) = directory(path, bytes)?;
    let mut cursor = Cursor::new(path, bytes);
    cursor.seek(start, "the zip directory's offset")?;
    if count > MAX_RECORDS {
        let what = format!("the zip directory has {count} records, more than {MAX_RECORDS}");
        return Err(cursor.malformed(what));
    }
    let mut records = Records { path, ranges: BTreeMap::new() };
    for _ in 0..count {
        let (name, range) = record(&mut cursor, path, bytes)?;
        if records.ranges.insert(name, range).is_some() {
            return Err(cursor.malformed(format!("record {name:?} is there twice")));
        }
    }
    Ok(records)
}

/// Number of records, and where the directory starts.
fn directory(path: &Path, bytes: &[u8]) -> Result<(u64, u64)> {
    let mut cursor = Cursor::new(path, bytes);
    let from = bytes.len().saturating_sub(END_BYTES + MAX_COMMENT);
    let tail = bytes.get(from..).unwrap_or_default();
    let at = tail.windows(END_BYTES).rposition(|window| window.starts_with(END));
    let Some(at) = at.map(|at| from + at) else {
        return Err(cursor.malformed_at(bytes.len(), "the zip archive has no end: is it cut off?"));
    };
    cursor.seek((at + 8) as u64, "the zip end")?;
    let _on_this_disk = cursor.u16("the zip end")?;
    let count: u64 = cursor.u16("the number of records")?.into();
    let _size = cursor.u32("the directory's size")?;
    let start: u64 = cursor.u32("the directory's offset")?.into();
    let locator = at.checked_sub(LOCATOR_BYTES);
    let Some(locator) =
        locator.filter(|&l| bytes.get(l..).is_some_and(|b| b.starts_with(LOCATOR_64)))
    else {
        if count == ELSEWHERE_16 || start == ELSEWHERE_32 {
            return Err(cursor.malformed_at(at, "the zip end of 64 bits is missing"));
        }
        return Ok((count, start));
    };
    cursor.seek((locator + 8) as u64, "the zip locator")?;
    let end = cursor.u64("the offset of the zip end of 64 bits")?;
    cursor.seek(end, "the offset of the zip end of 64 bits")?;
    expect(&mut cursor, END_64, "the zip end of 64 bits")?;
    cursor.take(28, "the zip end of 64 bits")?;
    let count = cursor.u64("the number of records")?;
    let _size = cursor.u64("the directory's size")?;
    Ok((count, cursor.u64("the directory's offset")?))
}

/// The directory's next record.
fn record<'a>(
    cursor: &mut Cursor<'a>,
    path: &'a Path,
    bytes: &'a [u8],
) -> Result<(&'a str, Option<Range<usize>>)> {
    expect(cursor, ENTRY, "a zip directory's record")?;
    cursor.take(4, "a record's versions")?;
    let flags = cursor.u16("a record's flags")?;
    let method = cursor.u16("a record's method")?;
    cursor.take(8, "a record's time and checksum")?;
    let packed: u64 = cursor.u32("a record's size")?.into();
    let size: u64 = cursor.u32("a record's size")?.into();
    let name_len = cursor.u16("a record's name length")?;
    let extra_len = cursor.u16("a record's extra length")?;
    let comment_len = cursor.u16("a record's comment length")?;
    cursor.take(8, "a record's attributes")?;
    let offset: u64 = cursor.u32("a record's offset")?.into();
    let name = cursor.take(name_len.into(), "a record's name")?;
    let extra = cursor.take(extra_len.into(), "a record's extra fields")?;
    cursor.take(comment_len.into(), "a record's comment")?;
    let name = std::str::from_utf8(name).ok().filter(|name| name.len() <= MAX_NAME);
    let Some(name) = name else {
        let what = format!("a record's name is not UTF-8 of at most {MAX_NAME} bytes");
        return Err(cursor.malformed(what));
    };
    if flags & 1 != 0 || method != 0 {
        return Ok((name, None));
    }
    let [size, packed, offset] = wide(cursor, extra, [size, packed, offset])?;
    if size != packed {
        let what = format!("record {name:?} is stored, but has two sizes, {size} and {packed}");
        return Err(cursor.malformed(what));
    }
    let range = data(path, bytes, (name, name_len), (offset, size))?;
    Ok((name, Some(range)))
}

/// Sizes and offset, those that do not fit in 32 bits taken from the extra field for them.
fn wide(cursor: &Cursor<'_>, mut extra: &[u8], mut fields: [u64; 3]) -> Result<[u64; 3]> {
    let mut values: &[u8] = &[];
    while let Some((&[a, b, c, d], rest)) = extra.split_first_chunk() {
        let len = usize::from(u16::from_le_bytes([c, d]));
        let Some(field) = rest.get(..len) else {
            return Err(cursor.malformed("a record's extra field is longer than the record"));
        };
        if u16::from_le_bytes([a, b]) == 1 {
            values = field;
        }
        extra = rest.get(len..).unwrap_or_default();
    }
    for field in fields.iter_mut().filter(|field| **field == ELSEWHERE_32) {
        let Some((value, rest)) = values.split_first_chunk() else {
            return Err(cursor.malformed("a record's size of 64 bits is missing"));
        };
        (*field, values) = (u64::from_le_bytes(*value), rest);
    }
    Ok(fields)
}

/// Where a record's data lies, behind its local header.
fn data(
    path: &Path,
    bytes: &[u8],
    (name, name_len): (&str, u16),
    (offset, size): (u64, u64),
) -> Result<Range<usize>> {
    let mut cursor = Cursor::new(path, bytes);
    cursor.seek(offset, format_args!("the offset of record {name:?}"))?;
    expect(&mut cursor, LOCAL, "a record's local header")?;
    cursor.take(22, "a record's local header")?;
    let local_name_len = cursor.u16("a local name's length")?;
    let extra_len = cursor.u16("a local extra field's length")?;
    if local_name_len != name_len
        || cursor.take(name_len.into(), "a local name")? != name.as_bytes()
    {
        return Err(cursor.malformed(format!("record {name:?} has another name at its data")));
    }
    cursor.take(extra_len.into(), "a local extra field")?;
    let start = cursor.position();
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    cursor.take(size, format_args!("record {name:?}"))?;
    Ok(start..cursor.position())
}

fn expect(cursor: &mut Cursor<'_>, signature: u32, field: &str) -> Result<()> {
    let at = cursor.position();
    let found = cursor.u32(field)?;
    if found != signature {
        let what = format!("{field} starts with {found:#010x}, not {signature:#010x}");
        return Err(cursor.malformed_at(at, what));
    }
    Ok(())
}
