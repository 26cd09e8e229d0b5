//! PyTorch files made in code, opcode by opcode, so that any of them can be wrong.

use crate::fixtures::Folder;

/// One record of a zip archive, with what its headers say.
#[derive(Clone, Debug)]
pub struct Record {
    /// The name in the directory.
    pub name: String,
    /// The name before the data, if it is another one.
    pub local_name: Option<String>,
    /// The bytes.
    pub data: Vec<u8>,
    /// 0 for stored.
    pub method: u16,
    /// Bit 0 for encrypted.
    pub flags: u16,
    /// Says other sizes than the right one (compressed, plain).
    pub sizes: Option<(u32, u32)>,
    /// Says another place.
    pub offset: Option<u32>,
    /// Extra fields in the directory.
    pub extra: Vec<u8>,
}

/// A zip archive about to be written.
#[derive(Clone, Debug, Default)]
pub struct Zip {
    /// The records.
    pub records: Vec<Record>,
    /// Says another number of records.
    pub count: Option<u64>,
    /// Says another place of the directory.
    pub directory: Option<u64>,
    /// Writes the end of 64 bits, with its own place if that is to be wrong.
    pub end_64: Option<Option<u64>>,
    /// Follows the end.
    pub comment: Vec<u8>,
}

impl Zip {
    /// Adds a stored record.
    pub fn record(&mut self, name: &str, data: &[u8]) -> &mut Self {
        self.records.push(Record {
            name: name.into(),
            local_name: None,
            data: data.into(),
            method: 0,
            flags: 0,
            sizes: None,
            offset: None,
            extra: Vec::new(),
        });
        self
    }

    /// The record of that name.
    pub fn get(&mut self, name: &str) -> &mut Record {
        self.records.iter_mut().find(|record| record.name == name).expect("a record of the fixture")
    }

    /// The archive's bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut directory = Vec::new();
        for record in &self.records {
            let offset = record.offset.unwrap_or(out.len() as u32);
            let n = record.data.len() as u32;
            let (packed, size) = record.sizes.unwrap_or((n, n));
            let middle = |name: &str, extra: usize| {
                let mut bytes = vec![20, 0];
                bytes.extend(record.flags.to_le_bytes());
                bytes.extend(record.method.to_le_bytes());
                bytes.extend([0; 8]);
                bytes.extend(packed.to_le_bytes());
                bytes.extend(size.to_le_bytes());
                bytes.extend((name.len() as u16).to_le_bytes());
                bytes.extend((extra as u16).to_le_bytes());
                bytes
            };
            let local = record.local_name.as_ref().unwrap_or(&record.name);
            out.extend(b"PK\x03\x04");
            out.extend(middle(local, 0));
            out.extend(local.as_bytes());
            out.extend(&record.data);
            directory.extend(b"PK\x01\x02\x14\0");
            directory.extend(middle(&record.name, record.extra.len()));
            directory.extend([0; 10]);
            directory.extend(offset.to_le_bytes());
            directory.extend(record.name.as_bytes());
            directory.extend(&record.extra);
        }
        let start = out.len() as u64;
        let size = directory.len() as u64;
        out.extend(directory);
        let count = self.count.unwrap_or(self.records.len() as u64);
        let place = self.directory.unwrap_or(start);
        let (mut count_16, mut place_32) = (count as u16, place as u32);
        if let Some(end) = self.end_64 {
            let at = end.unwrap_or(out.len() as u64);
            out.extend(b"PK\x06\x06");
            out.extend([44, 0, 0, 0, 0, 0, 0, 0, 45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            for word in [count, count, size, place] {
                out.extend(word.to_le_bytes());
            }
            out.extend(b"PK\x06\x07\0\0\0\0");
            out.extend(at.to_le_bytes());
            out.extend([1, 0, 0, 0]);
            (count_16, place_32) = (u16::MAX, u32::MAX);
        }
        out.extend(b"PK\x05\x06\0\0\0\0");
        out.extend(count_16.to_le_bytes());
        out.extend(count_16.to_le_bytes());
        out.extend((size as u32).to_le_bytes());
        out.extend(place_32.to_le_bytes());
        out.extend((self.comment.len() as u16).to_le_bytes());
        out.extend(&self.comment);
        out
    }
}

/// Opcodes that push text.
pub fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

/// Opcodes that push an integer.
pub fn int(number: i64) -> Vec<u8> {
    [&[0x8a, 8], &number.to_le_bytes()[..]].concat()
}

/// Opcodes that push what a module calls a name.
pub fn global(module: &str, name: &str) -> Vec<u8> {
    format!("c{module}\n{name}\n").into_bytes()
}

/// Opcodes that push a tuple of those values.
pub fn tuple(parts: &[Vec<u8>]) -> Vec<u8> {
    [b"(", &parts.concat()[..], b"t"].concat()
}

/// Opcodes that push the storage of that class, key and length.
pub fn storage(class: &str, key: &str, len: i64) -> Vec<u8> {
    let id = [text("storage"), global("torch", class), text(key), text("cpu"), int(len)];
    [tuple(&id), b"Q".to_vec()].concat()
}

/// Opcodes that push a tensor over the storage that `storage` pushes.
pub fn tensor(storage: &[u8], offset: i64, dims: &[i64], strides: &[i64]) -> Vec<u8> {
    let sizes = |sizes: &[i64]| tuple(&sizes.iter().map(|&n| int(n)).collect::<Vec<_>>());
    let hooks = [global("collections", "OrderedDict"), b")R".to_vec()].concat();
    let arguments = [storage.to_vec(), int(offset), sizes(dims), sizes(strides), vec![0x89], hooks];
    let class = global("torch._utils", "_rebuild_tensor_v2");
    [class, tuple(&arguments), b"R".to_vec()].concat()
}

/// A pickle of a dictionary of those entries.
pub fn dict(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut out = vec![0x80, 2, b'}', b'('];
    for (name, value) in entries {
        out.extend(text(name));
        out.extend(value);
    }
    out.extend(b"u.");
    out
}

/// The class of a storage of that safetensors dtype.
fn class(dtype: &str) -> (&'static str, usize) {
    match dtype {
        "F32" => ("FloatStorage", 4),
        "F16" => ("HalfStorage", 2),
        "BF16" => ("BFloat16Storage", 2),
        "I32" => ("IntStorage", 4),
        _ => ("LongStorage", 8),
    }
}

/// The weights of `folder` as PyTorch saves them.
pub fn of_folder(folder: &Folder) -> Zip {
    let mut zip = Zip::default();
    zip.record("archive/data.pkl", &[]);
    let mut entries = Vec::new();
    for (i, (name, dtype, shape, data)) in folder.tensors.iter().enumerate() {
        let (class, size) = class(dtype);
        let dims: Vec<i64> = shape.iter().map(|&d| d as i64).collect();
        let strides: Vec<i64> = (0..dims.len()).map(|d| dims[d + 1..].iter().product()).collect();
        let storage = storage(class, &i.to_string(), (data.len() / size) as i64);
        entries.push((name.clone(), tensor(&storage, 0, &dims, &strides)));
        zip.record(&format!("archive/data/{i}"), data);
    }
    zip.get("archive/data.pkl").data = dict(&entries);
    zip.record("archive/byteorder", b"little");
    zip
}
