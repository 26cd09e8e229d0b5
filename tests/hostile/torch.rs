//! Broken PyTorch files: zip archives, what takes much time or memory, the form before zip archives.

use std::path::Path;

use crate::fixtures::Folder;
use crate::torch_file::{Zip, dict, global, int, of_folder, storage, tensor, text, tuple};

use super::pickle::NAME_MISSING;
use super::safetensors::folder_case;
use super::{Case, MALFORMED};

pub(crate) const UNSUPPORTED: &str = "UnsupportedFormat";
/// The tensor that the cases are about.
pub(crate) const NAME: &str = "lm_head.weight";

/// All of them.
pub(crate) fn cases() -> Vec<Case> {
    let tables = [archives(), records(), limits(), legacy(), indices()];
    tables.into_iter().flatten().collect()
}

/// A case whose folder holds these bytes as `pytorch_model.bin`.
pub(crate) fn file(
    name: &'static str,
    expected: (&'static str, &'static str),
    bytes: impl Fn(&Folder) -> Vec<u8> + 'static,
) -> Case {
    folder_case(name, expected, move |folder, path| {
        folder.write_without_weights(path);
        std::fs::write(path.join("pytorch_model.bin"), bytes(folder)).expect("written");
    })
}

/// A case whose archive is the right one, changed.
pub(crate) fn zip(
    name: &'static str,
    expected: (&'static str, &'static str),
    change: impl Fn(&mut Zip) + 'static,
) -> Case {
    file(name, expected, move |folder| {
        let mut zip = of_folder(folder);
        change(&mut zip);
        zip.bytes()
    })
}

/// A case whose archive holds this pickle.
pub(crate) fn pickle(
    name: &'static str,
    expected: (&'static str, &'static str),
    bytes: impl Fn() -> Vec<u8> + 'static,
) -> Case {
    zip(name, expected, move |zip| zip.get("archive/data.pkl").data = bytes())
}

/// Opcodes between the protocol number and the end.
pub(crate) fn ops(parts: &[&[u8]]) -> Vec<u8> {
    [&[0x80, 2], &parts.concat()[..], b"."].concat()
}

fn archives() -> Vec<Case> {
    fn cut(name: &'static str, says: &'static str, keep: fn(usize) -> usize) -> Case {
        file(name, (MALFORMED, says), move |folder| {
            let bytes = of_folder(folder).bytes();
            bytes[..keep(bytes.len())].to_vec()
        })
    }
    let wrong = |says| (MALFORMED, says);
    vec![
        file("an empty file", (UNSUPPORTED, "a file that is not PyTorch's"), |_| Vec::new()),
        file("text", (UNSUPPORTED, "a file that is not PyTorch's"), |_| b"hello, world".into()),
        file("a magic alone", wrong("the zip archive has no end"), |_| b"PK\x03\x04".into()),
        cut("half an archive", "the zip archive has no end", |n| n / 2),
        cut("an end that is cut", "the zip archive has no end", |n| n - 1),
        file("an end alone", wrong("the zip archive has no end"), |_| {
            [&b"PK\x03\x04"[..], b"PK\x05\x06"].concat()
        }),
        zip("too many records", wrong("a zip directory's record starts with"), |z| {
            z.count = Some(100);
        }),
        zip("65,534 records", wrong("has 65534 records, more than 16384"), |z| {
            z.count = Some(65534);
        }),
        zip("2^64 records", wrong("18446744073709551615 records, more than"), |z| {
            z.end_64 = Some(None);
            z.count = Some(u64::MAX);
        }),
        zip("a directory outside", wrong("the zip directory's offset is 4000000000"), |z| {
            z.directory = Some(4_000_000_000);
        }),
        zip("a directory at 2^64", wrong("offset is 18446744073709551615"), |z| {
            z.end_64 = Some(None);
            z.directory = Some(u64::MAX);
        }),
        zip("a directory that is data", wrong("a zip directory's record starts with"), |z| {
            z.directory = Some(3);
        }),
        zip(
            "an end of 64 bits outside",
            wrong("the zip end of 64 bits is 9223372036854775807"),
            |z| {
                z.end_64 = Some(Some(u64::MAX / 2));
            },
        ),
        zip("an end of 64 bits elsewhere", wrong("the zip end of 64 bits starts with"), |z| {
            z.end_64 = Some(Some(0));
        }),
        zip("no end of 64 bits", wrong("the zip end of 64 bits is missing"), |z| {
            z.directory = Some(u64::from(u32::MAX));
        }),
        zip("a long comment", wrong("has no end"), |z| z.comment = vec![0; 70_000]),
        zip("no pickle", (UNSUPPORTED, "a zip archive without data.pkl"), |z| {
            z.get("archive/data.pkl").name = "archive/other.pkl".into();
        }),
        zip("no folder", (UNSUPPORTED, "a zip archive without data.pkl"), |z| {
            z.get("archive/data.pkl").name = "data.pkl".into();
        }),
        zip("a program", (UNSUPPORTED, "a TorchScript program"), |z| {
            z.record("archive/constants.pkl", b"");
        }),
        zip("big-endian", wrong("byteorder is not little"), |z| {
            z.get("archive/byteorder").data = b"big".to_vec();
        }),
    ]
}

fn records() -> Vec<Case> {
    let wrong = |says| (MALFORMED, says);
    vec![
        zip("a compressed record", (UNSUPPORTED, "compressed or encrypted"), |z| {
            z.get("archive/data/3").method = 8;
        }),
        zip("an encrypted record", (UNSUPPORTED, "compressed or encrypted"), |z| {
            z.get("archive/data/3").flags = 1;
        }),
        zip("two sizes", wrong("has two sizes, 5 and 6"), |z| {
            z.get("archive/data/3").sizes = Some((6, 5));
        }),
        zip("a size of 4 GB", wrong("record \"archive/data/3\" needs 4000000000 bytes"), |z| {
            z.get("archive/data/3").sizes = Some((4_000_000_000, 4_000_000_000));
        }),
        zip("a size of 64 bits that is missing", wrong("size of 64 bits is missing"), |z| {
            z.get("archive/data/3").sizes = Some((u32::MAX, u32::MAX));
        }),
        zip("a size of 2^63", wrong("needs 9223372036854775807 bytes"), |z| {
            let record = z.get("archive/data/3");
            record.sizes = Some((u32::MAX, u32::MAX));
            let size = (u64::MAX / 2).to_le_bytes();
            record.extra = [&[1, 0, 16, 0], &size[..], &size].concat();
        }),
        zip("an extra field that is too long", wrong("extra field is longer"), |z| {
            z.get("archive/data/3").extra = vec![1, 0, 255, 255];
        }),
        zip(
            "an offset outside",
            wrong("the offset of record \"archive/data/3\" is 4000000000"),
            |z| {
                z.get("archive/data/3").offset = Some(4_000_000_000);
            },
        ),
        zip("an offset into data", wrong("a record's local header starts with"), |z| {
            z.get("archive/data/3").offset = Some(1);
        }),
        zip("another record's offset", wrong("has another name at its data"), |z| {
            z.get("archive/data/3").offset = Some(0);
        }),
        zip("another local name", wrong("has another name at its data"), |z| {
            z.get("archive/data/3").local_name = Some("archive/data/4".into());
        }),
        zip("a record twice", wrong("record \"archive/data/3\" is there twice"), |z| {
            z.record("archive/data/3", &[0; 32]);
        }),
        zip("a name of 2,000 bytes", wrong("not UTF-8 of at most 1024 bytes"), |z| {
            z.record(&"x".repeat(2000), b"");
        }),
        zip("a storage that is missing", wrong("no record \"archive/data/11\""), |z| {
            z.get("archive/data/11").name = "archive/data/99".into();
            z.get("archive/data/99").local_name = Some("archive/data/99".into());
        }),
        zip(
            "a storage that is cut",
            wrong("has a storage of 100 bytes, too few for 32 F32"),
            |z| {
                z.get("archive/data/11").data.truncate(100);
            },
        ),
        zip("a path for a key", wrong("no record \"archive/data/../data.pkl\""), |z| {
            let head = tensor(&storage("FloatStorage", "../data.pkl", 1), 0, &[1], &[1]);
            z.get("archive/data.pkl").data = dict(&[(NAME.into(), head)]);
        }),
    ]
}

/// Pickles that would take much time or memory.
fn limits() -> Vec<Case> {
    let wrong = |says| (MALFORMED, says);
    vec![
        pickle("two million opcodes", wrong("more than 1048576 opcodes"), || {
            b"N0".repeat(1_000_000)
        }),
        pickle("a high stack", wrong("more than 16384 values on the stack"), || {
            b"N".repeat(20_000)
        }),
        pickle("many marks", wrong("more than 16384 marks"), || b"(".repeat(20_000)),
        pickle("many objects", wrong("more than 65536 objects"), || b"}0".repeat(70_000)),
        pickle("many dictionaries of one", wrong("more than 65536 objects"), || {
            b"}NNs0".repeat(70_000)
        }),
        pickle("a deep nest", wrong("more than 65536 objects"), || {
            [&b"N"[..], &b"\x85".repeat(70_000), b"."].concat()
        }),
        pickle("tuples of tuples", wrong("more than 65536 objects"), || {
            // Each doubles what the last one would print as.
            [&b"N"[..], &b"q\0h\0\x86".repeat(70_000), b"."].concat()
        }),
        pickle("a full memo", wrong("the memo's number 262144 is not below"), || {
            let put = |i: u32| [&b"r"[..], &i.to_le_bytes()].concat();
            [b"N".to_vec(), put(262_143), put(262_144)].concat()
        }),
        pickle(
            "a long name, often",
            wrong("a tensor's name has 1000000 bytes, more than 1024"),
            || {
                let name = [text(&"x".repeat(1_000_000)), b"q\0".to_vec()].concat();
                let head = tensor(&storage("FloatStorage", "11", 32), 0, &[4, 8], &[8, 1]);
                ops(&[&name, b"0", &head, b"q\x010}(", &b"h\0h\x01".repeat(8000), b"u"])
            },
        ),
        pickle("a long key", wrong("a storage's key has 1000000 bytes, more than 1024"), || {
            let storage = storage("FloatStorage", &"x".repeat(1_000_000), 32);
            dict(&[(NAME.into(), tensor(&storage, 0, &[4, 8], &[8, 1]))])
        }),
        zip("a storage of 1,000 tensors", wrong("share storages too often: save them con"), |z| {
            z.record("archive/data/wide", &[0; 1 << 16]);
            let matrix =
                tensor(&storage("FloatStorage", "wide", 1 << 14), 0, &[128, 128], &[1, 128]);
            let matrix = [matrix, b"q\0".to_vec()].concat();
            let again = (0..999).map(|i| (format!("{i}"), b"h\0".to_vec()));
            let entries: Vec<_> = std::iter::once((NAME.into(), matrix)).chain(again).collect();
            z.get("archive/data.pkl").data = dict(&entries);
        }),
        zip("16,000 records", ("MissingTensor", NAME_MISSING), |z| {
            for i in 0..16_000 {
                z.record(&format!("archive/data/more{i}"), b"");
            }
            z.get("archive/data.pkl").data = ops(&[b"}"]);
        }),
    ]
}

fn legacy() -> Vec<Case> {
    const MAGIC: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
    const VERSION: &[u8] = b"\x80\x02M\xe9\x03.";
    fn old(
        name: &'static str,
        expected: (&'static str, &'static str),
        parts: fn() -> Vec<Vec<u8>>,
    ) -> Case {
        file(name, expected, move |_| parts().concat())
    }
    fn system() -> Vec<u8> {
        ops(&[b"}", &text("little_endian"), b"\x88s"])
    }
    fn head() -> Vec<u8> {
        dict(&[(NAME.into(), tensor(&storage("FloatStorage", "7", 32), 0, &[4, 8], &[8, 1]))])
    }
    fn start() -> Vec<Vec<u8>> {
        vec![MAGIC.into(), VERSION.into(), system(), head()]
    }
    fn with(keys: &[Vec<u8>], data: &[u8]) -> Vec<Vec<u8>> {
        let list = ops(&[b"](", &keys.concat(), b"e"]);
        [start(), vec![list, data.into()]].concat()
    }
    let wrong = |says| (MALFORMED, says);
    vec![
        old("another pickle", (UNSUPPORTED, "a pickle that is not PyTorch's"), || {
            vec![ops(&[b"}"])]
        }),
        old("another magic", (UNSUPPORTED, "a pickle that is not PyTorch's"), || {
            vec![b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x1a.".into()]
        }),
        old("a magic alone", wrong("the next opcode needs"), || vec![MAGIC.into()]),
        old("another version", wrong("the protocol's version is not 1001"), || {
            vec![MAGIC.into(), b"\x80\x02M\xea\x03.".into()]
        }),
        old("big-endian", wrong("big-endian machine"), || {
            let big = ops(&[b"}", &text("little_endian"), b"\x89s"]);
            vec![MAGIC.into(), VERSION.into(), big]
        }),
        old("no list of storages", wrong("the next opcode needs"), start),
        old("a list that is none", wrong("the list of storages is no list"), || {
            [start(), vec![ops(&[b")"])]].concat()
        }),
        old("an unknown storage", wrong("has one that no tensor uses"), || with(&[text("8")], &[])),
        old("a storage by number", wrong("has one that no tensor uses"), || with(&[int(7)], &[])),
        old("no length", wrong("a storage's length needs 8 bytes"), || with(&[text("7")], &[1, 2])),
        old("another length", wrong("storage 7 has 31 elements here, 32 before"), || {
            with(&[text("7")], &31u64.to_le_bytes())
        }),
        old("a cut storage", wrong("a storage needs 128 bytes"), || {
            with(&[text("7")], &[&32u64.to_le_bytes()[..], &[0; 100]].concat())
        }),
        old("a storage twice", wrong("storage 7 is there twice"), || {
            let one = [&32u64.to_le_bytes()[..], &[0; 128]].concat();
            with(&[text("7"), text("7")], &one.repeat(2))
        }),
        old("a storage that is missing", wrong("storage 7 is not there"), || with(&[], &[])),
        old("a call in the first pickle", (UNSUPPORTED, "calls os.system"), || {
            vec![ops(&[&global("os", "system"), &tuple(&[text("x")]), b"R"])]
        }),
    ]
}

fn indices() -> Vec<Case> {
    fn index(
        name: &'static str,
        expected: (&'static str, &'static str),
        file: &'static str,
    ) -> Case {
        folder_case(name, expected, move |folder, path: &Path| {
            folder.write_without_weights(path);
            let json = serde_json::json!({ "weight_map": { "x": file } }).to_string();
            std::fs::write(path.join("pytorch_model.bin.index.json"), json).expect("written");
        })
    }
    vec![
        index("a path upwards (bin)", (MALFORMED, "no plain file name"), "../x.bin"),
        index("another kind (bin)", (MALFORMED, "no plain file name"), "x.safetensors"),
        index("a shard that is not there (bin)", ("Io", "x.bin"), "x.bin"),
    ]
}
