//! GGUF files with one field of the container wrong: each field with each number that ever broke a
//! reader of it.

use crate::fixtures::{Gguf, array_value, string_value, u32_value};

use super::gguf::{gguf, position, prefix};
use super::{Case, MALFORMED};

/// Numbers at the edges of what 32 and 64 bits hold, as counts and lengths that no file has.
const EDGES: [u64; 6] = [1 << 31, u32::MAX as u64, 1 << 32, i64::MAX as u64, 1 << 63, u64::MAX];

/// A tensor of the small model whose name no other name ends with, its place and its first words.
const NORM: (&str, usize) = ("output_norm.weight", 10);

/// All of them.
pub(crate) fn cases() -> Vec<Case> {
    let tables = [
        counts(),
        lengths(),
        kinds(),
        truths(),
        names(),
        alignments(),
        dimensions(),
        types(),
        blocks(),
        offsets(),
        ends(),
    ];
    tables.into_iter().flatten().collect()
}

/// A malformed file, its row named as it is made.
fn row(name: String, says: String, change: impl Fn(&mut Gguf) + 'static) -> Case {
    gguf(name.leak(), (MALFORMED, says.leak()), change)
}

/// A malformed file whose bytes are changed after they were written.
fn patched(name: String, says: String, change: impl Fn(&mut Vec<u8>) + 'static) -> Case {
    super::gguf::bytes_case(name.leak(), (MALFORMED, says.leak()), move || {
        let mut file = Gguf::llama();
        file.entry("t.key", string_value(3, "value"));
        let mut bytes = file.bytes();
        change(&mut bytes);
        bytes
    })
}

fn raw(kind: u32, bytes: &[u8]) -> Vec<u8> {
    [&kind.to_le_bytes(), bytes].concat()
}

/// Overwrites the bytes that stand `back` before `text`, or behind it.
fn overwrite(bytes: &mut [u8], text: &str, distance: isize, with: &[u8]) {
    let at = position(bytes, text).checked_add_signed(distance).expect("in the file");
    bytes[at..][..with.len()].copy_from_slice(with);
}

/// Counts that no file has, in every version.
fn counts() -> Vec<Case> {
    let mut cases = Vec::new();
    for version in 1..=3 {
        let numbers = [65_537].into_iter().chain(EDGES);
        for n in numbers.filter(|&n| version > 1 || n <= u64::from(u32::MAX)) {
            cases.push(row(
                format!("{n} tensors in version {version}"),
                format!("tensor count is {n}, more than 65536"),
                move |f| (f.version, f.tensor_count) = (version, Some(n)),
            ));
            cases.push(row(
                format!("{n} entries in version {version}"),
                format!("metadata count is {n}, more than 65536"),
                move |f| (f.version, f.entry_count) = (version, Some(n)),
            ));
        }
    }
    cases
}

/// Value types that are numbers, with their bytes.
const SCALARS: [(u32, usize); 11] =
    [(0, 1), (1, 1), (2, 2), (3, 2), (4, 4), (5, 4), (6, 4), (7, 1), (10, 8), (11, 8), (12, 8)];

/// Lengths beyond the file, and values that it ends in.
fn lengths() -> Vec<Case> {
    let alone = |f: &mut Gguf, value: Vec<u8>| {
        f.tensors.clear();
        f.entries = vec![("t.key".into(), value)];
    };
    let mut cases = Vec::new();
    for (kind, width) in SCALARS {
        cases.push(row(
            format!("a value of type {kind} that is cut"),
            format!("t.key needs {width} bytes, but the file ends after {}", width - 1),
            move |f| alone(f, raw(kind, &vec![0; width - 1])),
        ));
    }
    for (kind, width) in SCALARS.into_iter().chain([(8, 8)]) {
        for n in [1 << 31, u64::from(u32::MAX), 1 << 62, 1 << 63, u64::MAX] {
            cases.push(row(
                format!("{n} values of type {kind}"),
                format!("array length of t.key is {n} (at most 67108864"),
                move |f| {
                    f.entry("t.key", array_value(kind, n, &[]));
                },
            ));
        }
        cases.push(row(
            format!("five values of type {kind} in room for four"),
            format!(
                "array length of t.key is 5 (at most 67108864, and {} bytes remain)",
                4 * width
            ),
            move |f| alone(f, array_value(kind, 5, &vec![0; 4 * width])),
        ));
    }
    for n in [1 << 31, u64::from(u32::MAX), 1 << 32, 1 << 63, u64::MAX] {
        cases.push(row(
            format!("a text of {n} bytes"),
            format!("t.key has length {n} (at most"),
            move |f| {
                f.entry("t.key", raw(8, &n.to_le_bytes()));
            },
        ));
        cases.push(row(
            format!("a text of {n} bytes in a list"),
            format!("string in t.key has length {n} (at most"),
            move |f| {
                f.entry("t.key", array_value(8, 1, &n.to_le_bytes()));
            },
        ));
        cases.push(patched(
            format!("a key of {n} bytes"),
            format!("key of metadata entry 7 has length {n} (at most"),
            move |bytes| overwrite(bytes, "t.key", -8, &n.to_le_bytes()),
        ));
        cases.push(patched(
            format!("a tensor's name of {n} bytes"),
            format!("name of tensor {} has length {n} (at most 64", NORM.1),
            move |bytes| overwrite(bytes, NORM.0, -8, &n.to_le_bytes()),
        ));
    }
    cases
}

/// Types of values that do not exist.
fn kinds() -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in [14, 16, 99, 255, 1 << 16, 1 << 31, u32::MAX] {
        cases.push(row(
            format!("a value of type {kind}"),
            format!("t.key has the unknown type {kind}"),
            move |f| {
                f.entry("t.key", raw(kind, &[0; 8]));
            },
        ));
        cases.push(row(
            format!("a list of type {kind}"),
            format!("t.key is an array of the unknown type {kind}"),
            move |f| {
                f.entry("t.key", array_value(kind, 1, &[0; 8]));
            },
        ));
    }
    for n in [0, 1, 1 << 31, u64::MAX] {
        cases.push(row(
            format!("a list of {n} lists"),
            "t.key is an array of arrays".into(),
            move |f| {
                f.entry("t.key", array_value(9, n, &[9, 0, 0, 0].repeat(1000)));
            },
        ));
    }
    cases
}

fn truths() -> Vec<Case> {
    let mut cases = Vec::new();
    for truth in [3u8, 0x7f, 0x80, 0xff] {
        let says = format!("t.key is the truth value {truth}");
        cases.push(row(format!("a truth value of {truth}"), says.clone(), move |f| {
            f.entry("t.key", raw(7, &[truth]));
        }));
        cases.push(row(format!("a truth value of {truth} in a list"), says, move |f| {
            f.entry("t.key", array_value(7, 3, &[1, 0, truth]));
        }));
    }
    cases
}

/// Names that are no text, and names that are there already.
fn names() -> Vec<Case> {
    /// A byte alone, a sequence that is cut, one that is too long, half a surrogate, beyond the end.
    const NOT_UTF8: [&[u8; 5]; 5] =
        [b"\xffkeys", b"key\xe2\x82", b"\xc0\xafkey", b"\xed\xa0\x80ke", b"\xf5\x80\x80\x80k"];
    let mut cases = Vec::new();
    for (i, text) in NOT_UTF8.into_iter().enumerate() {
        cases.push(patched(
            format!("a key that is no text ({i})"),
            "key of metadata entry 7 is empty or not UTF-8".into(),
            move |bytes| overwrite(bytes, "t.key", 0, text),
        ));
        // At the end of the name, where a cut sequence stays cut.
        cases.push(patched(
            format!("a tensor's name that is no text ({i})"),
            format!("name of tensor {} is empty or not UTF-8", NORM.1),
            move |bytes| overwrite(bytes, NORM.0, NORM.0.len() as isize - 5, text),
        ));
    }
    let sound = Gguf::llama();
    for (i, (key, _)) in sound.entries.iter().enumerate() {
        let says = format!("metadata key {key} is there twice");
        cases.push(row(format!("{key} twice"), says, move |f| {
            let again = f.entries[i].clone();
            f.entries.push(again);
        }));
    }
    for (i, pair) in sound.tensors.windows(2).enumerate() {
        let says = format!("tensor {} is there twice", pair[0].name);
        cases.push(row(format!("two tensors {}", pair[0].name), says, move |f| {
            f.tensors[i + 1].name = f.tensors[i].name.clone();
        }));
    }
    cases
}

fn alignments() -> Vec<Case> {
    const KEY: &str = "general.alignment";
    let mut cases = Vec::new();
    for n in [1, 2, 4, 7, 9, 12, 24, 31, 33, 65_535, 1 << 17, 1 << 31, u32::MAX] {
        let says = format!("{KEY} is {n}, expected a power of two");
        cases.push(row(format!("alignment {n}, which is none"), says, move |f| {
            f.entry(KEY, u32_value(n));
        }));
    }
    let of_other_types: [(&str, u32, &[u8]); 10] = [
        ("u8", 0, &[32]),
        ("i8", 1, &[32]),
        ("u16", 2, &[32, 0]),
        ("i16", 3, &[32, 0]),
        ("i32", 5, &[32, 0, 0, 0]),
        ("f32", 6, &[0, 0, 0, 0x42]),
        ("bool", 7, &[1]),
        ("u64", 10, &[32, 0, 0, 0, 0, 0, 0, 0]),
        ("i64", 11, &[32, 0, 0, 0, 0, 0, 0, 0]),
        ("f64", 12, &[0, 0, 0, 0, 0, 0, 0x40, 0x40]),
    ];
    for (name, kind, bytes) in of_other_types {
        let says = format!("{KEY} is {name}, expected u32");
        cases.push(row(format!("alignment as {name}"), says, move |f| {
            f.entry(KEY, raw(kind, bytes));
        }));
    }
    cases
}

fn dimensions() -> Vec<Case> {
    let mut cases = Vec::new();
    for n in [6, 16] {
        let says = format!("tensor {} has {n} dimensions, expected 1 to 4", NORM.0);
        cases.push(row(format!("{n} dimensions"), says, move |f| {
            f.tensor_mut(NORM.0).dims = vec![1; n];
        }));
    }
    for n in [255u32, 1 << 16, 1 << 31, u32::MAX] {
        cases.push(patched(
            format!("{n} dimensions, it says"),
            format!("tensor {} has {n} dimensions, expected 1 to 4", NORM.0),
            move |bytes| overwrite(bytes, NORM.0, NORM.0.len() as isize, &n.to_le_bytes()),
        ));
    }
    for rank in 1..=4 {
        for place in 0..rank {
            for n in [0].into_iter().chain(EDGES) {
                let name = format!("dimension {place} of {rank} is {n}");
                cases.push(row(name, format!("tensor {} ", NORM.0), move |f| {
                    let dims = &mut f.tensor_mut(NORM.0).dims;
                    *dims = vec![1; rank];
                    dims[place] = n;
                }));
            }
        }
    }
    cases
}

/// Types of tensors that ggml has or had and this library does not read, or that nobody has.
fn types() -> Vec<Case> {
    const KNOWN: [(u32, &str); 20] = [
        (9, "Q8_1"),
        (15, "Q8_K"),
        (16, "IQ2_XXS"),
        (17, "IQ2_XS"),
        (18, "IQ3_XXS"),
        (19, "IQ1_S"),
        (21, "IQ3_S"),
        (22, "IQ2_S"),
        (24, "I8"),
        (25, "I16"),
        (26, "I32"),
        (27, "I64"),
        (28, "F64"),
        (29, "IQ1_M"),
        (32, "Q4_0_4_8"),
        (33, "Q4_0_8_8"),
        (34, "TQ1_0"),
        (35, "TQ2_0"),
        (40, "NVFP4"),
        (41, "Q1_0"),
    ];
    let nobodys = [36u32, 96, 1000, 1 << 31, u32::MAX];
    let nobodys = nobodys.map(|kind| (kind, &*format!("ggml type {kind}").leak()));
    let of = |(kind, says): (u32, &'static str)| {
        let name = format!("a tensor of type {kind}").leak();
        gguf(name, ("UnsupportedEncoding", says), move |f| f.tensor_mut(NORM.0).kind = kind)
    };
    KNOWN.into_iter().chain(nobodys).map(of).collect()
}

/// Rows that no number of whole blocks fills.
fn blocks() -> Vec<Case> {
    const BLOCKS: [(u32, usize, &str); 15] = [
        (2, 32, "Q4_0"),
        (3, 32, "Q4_1"),
        (4, 32, "Q4_2"),
        (5, 32, "Q4_3"),
        (6, 32, "Q5_0"),
        (7, 32, "Q5_1"),
        (8, 32, "Q8_0"),
        (10, 256, "Q2_K"),
        (11, 256, "Q3_K"),
        (12, 256, "Q4_K"),
        (13, 256, "Q5_K"),
        (14, 256, "Q6_K"),
        (20, 32, "IQ4_NL"),
        (23, 256, "IQ4_XS"),
        (39, 32, "MXFP4"),
    ];
    let mut cases = Vec::new();
    for (kind, block, name) in BLOCKS {
        for n in [1, block / 2, block + 1] {
            cases.push(row(
                format!("rows of {n} in {name}"),
                format!("rows of {n} elements, no multiple of the {block} of a {name} block"),
                move |f| {
                    let tensor = f.tensor_mut(NORM.0);
                    (tensor.kind, tensor.dims) = (kind, vec![n as u64, 4]);
                },
            ));
        }
    }
    cases
}

/// Places of tensors that are not behind their predecessor.
fn offsets() -> Vec<Case> {
    let mut cases = Vec::new();
    for name in ["token_embd.weight", NORM.0] {
        for n in [1, 8, 31, 33].into_iter().chain(EDGES).chain([u64::MAX - 31]) {
            let says = format!("tensor {name} has offset {n}, expected ");
            cases.push(row(format!("{name} at {n}"), says, move |f| {
                f.tensor_mut(name).offset = Some(n);
            }));
        }
    }
    cases
}

/// Files that end within each tensor's data.
fn ends() -> Vec<Case> {
    let sound = Gguf::llama();
    let sizes = sound.tensors.iter().map(|t| t.data.len().next_multiple_of(sound.alignment));
    let n_bytes: usize = sizes.clone().sum();
    // The last tensor's data is not padded.
    let padding =
        sound.tensors.last().map_or(0, |t| t.data.len().next_multiple_of(32) - t.data.len());
    let mut before = 0;
    let mut cases = Vec::new();
    for (tensor, size) in sound.tensors.iter().zip(sizes) {
        let missing = n_bytes - padding - before - tensor.data.len() / 2;
        let says = format!("tensor {} has {} bytes from byte", tensor.name, tensor.data.len());
        let name = format!("a file that ends in {}", tensor.name);
        cases.push(prefix(name.leak(), (MALFORMED, says.leak()), move |b| b.len() - missing));
        before += size;
    }
    cases
}
