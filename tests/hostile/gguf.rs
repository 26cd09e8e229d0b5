//! Broken GGUF files.

use std::path::{Path, PathBuf};

use crate::fixtures::{Gguf, GgufTensor, array_value, string_value, u32_value};

use super::{Case, MALFORMED};

/// All of them.
pub(crate) fn cases() -> Vec<Case> {
    let tables = [truncated(), headers(), values(), tensors(), many_and_split()];
    tables.into_iter().flatten().collect()
}

/// The kind of an error, and words of its message.
pub(crate) type Expected = (&'static str, &'static str);

/// A case whose file is these bytes.
pub(crate) fn bytes_case(
    name: &'static str,
    (kind, says): Expected,
    bytes: impl Fn() -> Vec<u8> + 'static,
) -> Case {
    let write = move |folder: &Path| {
        let path = folder.join("broken.gguf");
        std::fs::write(&path, bytes()).expect("written");
        path
    };
    Case { name, write: Box::new(write), kind, says }
}

/// A case that is the small GGUF, changed.
pub(crate) fn gguf(
    name: &'static str,
    expected: Expected,
    change: impl Fn(&mut Gguf) + 'static,
) -> Case {
    bytes_case(name, expected, move || {
        let mut file = Gguf::llama();
        change(&mut file);
        file.bytes()
    })
}

/// A truncation: the first bytes of the small GGUF.
pub(crate) fn prefix(
    name: &'static str,
    expected: Expected,
    len: impl Fn(&[u8]) -> usize + 'static,
) -> Case {
    bytes_case(name, expected, move || {
        let bytes = Gguf::llama().bytes();
        bytes[..len(&bytes)].to_vec()
    })
}

/// Where `text` stands in `bytes`.
pub fn position(bytes: &[u8], text: &str) -> usize {
    bytes.windows(text.len()).position(|w| w == text.as_bytes()).expect("text of the fixture")
}

fn truncated() -> Vec<Case> {
    vec![
        prefix("the magic is cut", ("UnsupportedFormat", "starts with \"GGU\""), |_| 3),
        prefix("only a magic", (MALFORMED, "at byte 4: the version needs 4 bytes"), |_| 4),
        prefix("counts are cut", (MALFORMED, "tensor count needs 8 bytes"), |_| 12),
        prefix("only a header", (MALFORMED, "metadata count 7 need"), |_| 24),
        prefix("tensor list is cut", (MALFORMED, "of tensor output_norm.weight"), |b| {
            position(b, "output_norm.weight") + 20
        }),
        prefix("data is cut", (MALFORMED, "output.weight has 128 bytes from byte"), |b| {
            b.len() - 1
        }),
    ]
}

fn headers() -> Vec<Case> {
    vec![
        gguf("version 0", (MALFORMED, "at byte 4: the version is 0"), |f| f.version = 0),
        gguf("version 4", ("UnsupportedFormat", "GGUF version 4"), |f| f.version = 4),
        gguf("big-endian", ("UnsupportedFormat", "big-endian GGUF version 3"), |f| {
            f.version = 3 << 24;
        }),
        gguf("most tensors", (MALFORMED, "at byte 8: tensor count is 18446744073709551615"), |f| {
            f.tensor_count = Some(u64::MAX);
        }),
        gguf("many tensors", (MALFORMED, "tensor count 65536 and"), |f| {
            f.tensor_count = Some(65_536);
        }),
        gguf("most entries", (MALFORMED, "at byte 16: metadata count is 9223372036854"), |f| {
            f.entry_count = Some(1 << 63);
        }),
        gguf("an entry too many", (MALFORMED, "general.alignmentX"), |f| {
            // The claimed entry is read out of the tensor list: its name is the key.
            f.entry_count = Some(f.entries.len() as u64 + 1);
            f.tensors[0].name = "general.alignmentX".into();
            f.tensors[0].dims = vec![1; 13];
        }),
        gguf("version 1 with 64-bit counts", (MALFORMED, "metadata entry 0"), |f| {
            f.version = 1;
            f.tensors.clear();
            f.entries[0].0 = String::new();
        }),
    ]
}

fn values() -> Vec<Case> {
    let raw = |kind: u32, bytes: &[u8]| [&kind.to_le_bytes(), bytes].concat();
    let value = |name, says, value: Vec<u8>| {
        gguf(name, (MALFORMED, says), move |f| {
            f.entry("t.key", value.clone());
        })
    };
    let long_string = raw(8, &(1u64 << 40).to_le_bytes());
    let strings = |n: u64| array_value(8, n, &vec![0; 8 * n as usize]);
    vec![
        gguf("an empty key", (MALFORMED, "key of metadata entry 7 is empty"), |f| {
            f.entry("", u32_value(1));
        }),
        gguf("a long key", (MALFORMED, "metadata entry 7 has length 65536 (at most"), |f| {
            f.entry(&"k".repeat(65_536), u32_value(1));
        }),
        gguf("a key twice", (MALFORMED, "metadata key llama.block_count is there twice"), |f| {
            f.entries.push(("llama.block_count".into(), u32_value(2)));
        }),
        value("an unknown type", "t.key has the unknown type 13", raw(13, &[0; 8])),
        value("a truth value of 2", "t.key is the truth value 2", raw(7, &[2])),
        value("a huge string", "t.key has length 1099511627776", long_string),
        value("an array of 2^62", "array length of t.key is 4611", array_value(10, 1 << 62, &[])),
        value("an array of 2^27", "array length of t.key is 1342", array_value(0, 1 << 27, &[])),
        value("arrays in an array", "t.key is an array of arrays", array_value(9, 1, &[0; 64])),
        value("an array of nothing", "array of the unknown type 99", array_value(99, 1, &[0; 8])),
        value("2^24 strings nowhere", "array length of t.key", array_value(8, 1 << 24, &[])),
        value("too many strings", "more than 1500000 strings", strings(1_500_001)),
        value("a truth of 7 in a list", "t.key is the truth value 7", array_value(7, 1, &[7])),
        gguf("most strings, then an error", (MALFORMED, "x has the unknown type 77"), move |f| {
            f.entry("t.key", strings(1_400_000));
            f.entry("x", raw(77, &[]));
        }),
        gguf("alignment 0", (MALFORMED, "general.alignment is 0"), |f| {
            f.entry("general.alignment", u32_value(0));
        }),
        gguf("alignment 48", (MALFORMED, "general.alignment is 48"), |f| {
            f.entry("general.alignment", u32_value(48));
        }),
        gguf("alignment as text", (MALFORMED, "general.alignment is string"), |f| {
            f.entry("general.alignment", string_value(3, "32"));
        }),
    ]
}

fn tensors() -> Vec<Case> {
    let tensor = |name, says, change: fn(&mut GgufTensor)| {
        gguf(name, (MALFORMED, says), move |f| change(f.tensor_mut("output.weight")))
    };
    vec![
        tensor("five dimensions", "output.weight has 5 dimensions", |t| t.dims = vec![1; 5]),
        tensor("no dimensions", "output.weight has 0 dimensions", |t| t.dims.clear()),
        tensor("a dimension of 0", "output.weight has a dimension of 0", |t| t.dims = vec![8, 0]),
        tensor("2^64 elements", "is too large", |t| t.dims = vec![1 << 32, 1 << 32]),
        tensor("an exabyte", "bytes from byte", |t| t.dims = vec![1 << 58]),
        tensor("half a block", "no multiple of the 32 of a Q4_0 block", |t| t.kind = 2),
        tensor("an overlap", "output.weight has offset 0, expected", |t| t.offset = Some(0)),
        tensor("the end of all offsets", "has offset 18446744073709551615", |t| {
            t.offset = Some(u64::MAX);
        }),
        tensor("a tensor twice", "tensor blk.0.attn_q.weight is there twice", |t| {
            t.name = "blk.0.attn_q.weight".into();
        }),
        tensor("a long name", "name of tensor 11 has length 65", |t| t.name = "n".repeat(65)),
        gguf(
            "a removed type",
            ("UnsupportedEncoding", "Q4_0_4_4, a repacked form that was removed"),
            |f| {
                f.tensor_mut("output.weight").kind = 31;
            },
        ),
        gguf("a fork's type", ("UnsupportedEncoding", "type 137 (of a fork of ggml)"), |f| {
            f.tensor_mut("output.weight").kind = 137;
        }),
    ]
}

fn many_and_split() -> Vec<Case> {
    let u16_value = |n: u16| [&2u32.to_le_bytes()[..], &n.to_le_bytes()].concat();
    let part = move |count: u16, number: u16, name: &'static str| {
        move |folder: &Path| {
            let mut file = Gguf::llama();
            file.entry("split.count", u16_value(count));
            file.entry("split.no", u16_value(number));
            file.write(&folder.join(name));
            folder.join(name)
        }
    };
    let case =
        |name, (kind, says), write: Box<dyn Fn(&Path) -> PathBuf>| Case { name, write, kind, says };
    let mut cases = vec![
        gguf("65,000 small entries, then an error", (MALFORMED, "the truth value 9"), |f| {
            let one = [7u32.to_le_bytes().to_vec(), vec![1]].concat();
            f.entries.extend((0..65_000).map(|i| (format!("{i:x}"), one.clone())));
            f.entries.push(("last".into(), [7u32.to_le_bytes().to_vec(), vec![9]].concat()));
        }),
        gguf("65,000 small tensors, the last one cut", (MALFORMED, "tensor last has"), |f| {
            for i in 0..65_000 {
                f.tensor(&format!("{i:x}"), &[1], vec![0; 4]);
            }
            f.tensor("last", &[2], vec![0; 4]);
        }),
    ];
    for (name, expected, write) in [
        ("a part under another name", (MALFORMED, "split.count"), part(3, 0, "m.gguf")),
        (
            "a part that says it is another",
            (MALFORMED, "split.no is not 0"),
            part(2, 1, "m-00001-of-00002.gguf"),
        ),
        ("a part whose sister is missing", ("Io", "m-00002"), part(2, 0, "m-00001-of-00002.gguf")),
    ] {
        cases.push(case(name, expected, Box::new(write)));
    }
    cases
}
