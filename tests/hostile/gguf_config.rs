//! GGUF files whose container is sound and whose model is none: sizes, constants, tensors.

use crate::fixtures::{Gguf, array_value, f32_data, string_value, u32_value};

use super::gguf::{Expected, gguf};
use super::{Case, MALFORMED};

/// All of them.
pub(crate) fn cases() -> Vec<Case> {
    let tables = [sizes(), heads(), constants(), words(), types(), missing(), shapes(), splits()];
    tables.into_iter().flatten().collect()
}

fn raw(kind: u32, bytes: &[u8]) -> Vec<u8> {
    [&kind.to_le_bytes(), bytes].concat()
}

fn u64_value(number: u64) -> Vec<u8> {
    raw(10, &number.to_le_bytes())
}

fn i32_value(number: i32) -> Vec<u8> {
    raw(5, &number.to_le_bytes())
}

fn f32_value(number: f32) -> Vec<u8> {
    raw(6, &number.to_le_bytes())
}

/// The small model under another architecture's name. Its numbers are read before its tensors, so
/// that a wrong one is found although the tensors are LLaMA's.
fn named(architecture: &str) -> Gguf {
    let mut file = Gguf::llama();
    for (key, value) in &mut file.entries {
        *key = key.replace("llama.", &format!("{architecture}."));
        if key == "general.architecture" {
            *value = string_value(3, architecture);
        }
    }
    file
}

/// A case of that architecture whose `key` has that value.
fn key(
    (architecture, key): (&'static str, &'static str),
    (what, expected): (&str, Expected),
    value: Option<Vec<u8>>,
) -> Case {
    let key = format!("{architecture}.{key}");
    let name = format!("{key} {what}").leak();
    gguf(name, expected, move |f| {
        *f = named(architecture);
        match &value {
            Some(value) => {
                f.entry(&key, value.clone());
            }
            None => f.entries.retain(|(k, _)| *k != key),
        }
    })
}

/// What counts things, its largest number, and whether it must be there.
const SIZES: [(&str, u64, bool); 9] = [
    ("context_length", 1 << 24, true),
    ("embedding_length", 1 << 17, true),
    ("block_count", 1024, true),
    ("attention.head_count", 4096, true),
    ("attention.head_count_kv", 4096, false),
    ("attention.key_length", 1 << 17, false),
    ("attention.value_length", 1 << 17, false),
    ("feed_forward_length", 1 << 20, false),
    ("rope.dimension_count", 1 << 17, false),
];

fn sizes() -> Vec<Case> {
    let mut cases = Vec::new();
    for (architecture, others) in [("llama", true), ("gptj", false), ("gptneox", false)] {
        for (stem, most, required) in SIZES {
            let field = (architecture, stem);
            // The message is "invalid KEY: REASON", and reasons about types begin with the type.
            let says = |what: &str| match what.strip_prefix("expected") {
                Some(_) => ("Config", &*what.to_owned().leak()),
                None => ("Config", &*format!("{architecture}.{stem}: {what}").leak()),
            };
            let mut add = |what: &str, words: &str, value| {
                cases.push(key(field, (what, says(words)), Some(value)));
            };
            add("is 0", "0 is not between 1 and", u32_value(0));
            let above = format!("{} is not between 1 and {most}", most + 1);
            add("is above the most", &above, u64_value(most + 1));
            add("is 2^64 - 1", "18446744073709551615 is not", u64_value(u64::MAX));
            add("is -1", "expected a non-negative integer", i32_value(-1));
            if others {
                add("is 2^32 - 1", "4294967295 is not between", u32_value(u32::MAX));
                add("is 2^63", "9223372036854775808 is not", u64_value(1 << 63));
                add("is -2^31", "expected a non-negative", i32_value(i32::MIN));
                add("is 2.5", "expected a non-negative integer", f32_value(2.5));
                add("is text", "expected a non-negative integer", string_value(3, "8"));
                add("is true", "expected a non-negative integer", raw(7, &[1]));
                let uneven = [1u32, 2].map(u32::to_le_bytes).concat();
                add("is uneven", "expected a non-negative integer", array_value(4, 2, &uneven));
                add("is a list of none", "expected a non-negative", array_value(4, 0, &[]));
            }
            if required {
                cases.push(key(field, ("is missing", says("is missing")), None));
            }
        }
    }
    cases
}

/// Numbers that are possible alone, but not together.
fn heads() -> Vec<Case> {
    let llama = |key_, what: &str, expected: Expected, number| {
        key(("llama", key_), (what, expected), Some(u32_value(number)))
    };
    let (kv, rot) = ("attention.head_count_kv", "rope.dimension_count");
    let mut cases = vec![
        llama(kv, "is 3 of 2", ("Config", "2 heads are no multiple of 3"), 3),
        llama(kv, "is 4 of 2", ("Config", "2 heads are no multiple of 4"), 4),
        llama(kv, "is 1", ("Shape", "blk.0.attn_k.weight has shape"), 1),
        llama("attention.head_count", "is 3", ("Shape", "expected [6, 8]"), 3),
        llama("attention.head_count", "is 16", ("Config", "1 is odd or above the head"), 16),
        llama("attention.key_length", "is 3", ("Config", "rope.dimension_count"), 3),
        llama("attention.key_length", "is 8", ("Shape", "expected [16, 8]"), 8),
        llama("attention.value_length", "is 5", ("Config", "differs from key_length"), 5),
        llama(rot, "is 3", ("Config", "3 is odd or above the head size 4"), 3),
        llama(rot, "is 6", ("Config", "6 is odd or above the head size 4"), 6),
        llama("embedding_length", "is 16", ("Shape", "expected"), 16),
        llama("embedding_length", "is 1", ("Config", "is odd or above the head size"), 1),
        llama("feed_forward_length", "is 13", ("Shape", "expected [13, 8]"), 13),
        llama("feed_forward_length", "is 2^20", ("Shape", "expected [1048576, 8]"), 1 << 20),
    ];
    for n in [2, 512, 513, 1024] {
        let what = format!("is {n}, of 1");
        cases.push(llama("block_count", &what, ("MissingTensor", "blk.1."), n));
    }
    cases
}

/// Numbers that the maths divides by or takes roots of.
fn constants() -> Vec<Case> {
    let mut cases = Vec::new();
    let fields = [
        ("llama", "attention.layer_norm_rms_epsilon"),
        ("gptj", "attention.layer_norm_epsilon"),
        ("gptneox", "attention.layer_norm_epsilon"),
        ("llama", "rope.freq_base"),
        ("llama", "rope.scale_linear"),
    ];
    for field in fields {
        for number in [0.0, -1.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let expected = ("Config", &*format!("{}: {number} is not a positive", field.1).leak());
            let what = format!("is {number}");
            cases.push(key(field, (&what, expected), Some(f32_value(number))));
        }
        let expected = ("Config", "expected a number");
        cases.push(key(field, ("is text", expected), Some(string_value(3, "1e-5"))));
        cases.push(key(field, ("is a list", expected), Some(array_value(6, 1, &[0; 4]))));
    }
    let factors = |name, (kind, says), numbers: &'static [f32]| {
        gguf(name, (kind, says), move |f| {
            let bytes = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
            f.tensor("rope_freqs.weight", &[numbers.len()], bytes);
        })
    };
    let (wrong, uneven) = (("Config", "a factor that is not positive"), ("Shape", "rope_freqs"));
    cases.extend([
        factors("a rotary factor of 0", wrong, &[1.0, 0.0]),
        factors("a rotary factor below 0", wrong, &[-1.0, 1.0]),
        factors("a rotary factor that is no number", wrong, &[f32::NAN, 1.0]),
        factors("an endless rotary factor", wrong, &[1.0, f32::INFINITY]),
        factors("a rotary factor too few", uneven, &[1.0]),
        factors("a rotary factor too many", uneven, &[1.0, 1.0, 1.0]),
    ]);
    cases
}

/// Values that are words and switches.
/// A name in every type of number, and lists of them for a name and for a count.
fn types() -> Vec<Case> {
    let whole = |n_bytes: usize| [&[1u8][..], &vec![0; n_bytes - 1]].concat();
    // Number, name, and the bytes of a 1.
    let types = [
        (0, "u8", whole(1)),
        (1, "i8", whole(1)),
        (2, "u16", whole(2)),
        (3, "i16", whole(2)),
        (4, "u32", whole(4)),
        (5, "i32", whole(4)),
        (6, "f32", 1f32.to_le_bytes().to_vec()),
        (7, "bool", whole(1)),
        (10, "u64", whole(8)),
        (11, "i64", whole(8)),
        (12, "f64", 1f64.to_le_bytes().to_vec()),
    ];
    let mut cases = Vec::new();
    for (kind, name, one) in types {
        let mut add = |architecture, field, what: &str, says: String, value| {
            let what = format!("is {what} {name}");
            cases.push(key((architecture, field), (&what, ("Config", says.leak())), Some(value)));
        };
        let zero_and_one = [vec![0; one.len()], one.clone()].concat();
        let says = format!("general.architecture: is {name}");
        add("general", "architecture", "a single", says, raw(kind, &one));
        let says = format!("general.architecture: is array of {name}");
        add("general", "architecture", "a list of", says, array_value(kind, 1, &one));
        let says = "expected a non-negative integer".to_owned();
        add("llama", "block_count", "an uneven list of", says, array_value(kind, 2, &zero_and_one));
    }
    cases
}

fn words() -> Vec<Case> {
    const KEY: &str = "general.architecture";
    let architecture = |name, expected: Expected, value: Vec<u8>| {
        gguf(name, expected, move |f| {
            f.entry(KEY, value.clone());
        })
    };
    let scaling = ("llama", "rope.scaling.type");
    vec![
        architecture(
            "an architecture of nobody",
            ("UnsupportedArchitecture", "mamba (supported: gptj, llama, gptneox, t5)"),
            string_value(3, "mamba"),
        ),
        architecture(
            "an architecture without a name",
            ("UnsupportedArchitecture", "(supported:"),
            string_value(3, ""),
        ),
        architecture("an architecture by number", ("Config", KEY), u32_value(1)),
        architecture("an architecture in a list", ("Config", KEY), array_value(8, 0, &[])),
        architecture(
            "an architecture that is no text",
            ("Config", "general.architecture: is not UTF-8"),
            raw(8, &[&2u64.to_le_bytes()[..], b"\xff\xfe"].concat()),
        ),
        gguf("no architecture", ("UnsupportedArchitecture", "unnamed"), |f| {
            f.entries.retain(|(key, _)| key != KEY);
        }),
        key(scaling, ("is yarn", ("Config", "yarn is not")), Some(string_value(3, "yarn"))),
        key(scaling, ("is a number", ("Config", "expected a string")), Some(u32_value(1))),
        gguf("linear scaling by 0", ("Config", "0 is not a positive number"), |f| {
            f.entry("llama.rope.scaling.type", string_value(3, "linear"));
            f.entry("llama.rope.scaling.factor", f32_value(0.0));
        }),
        key(
            ("gptneox", "use_parallel_residual"),
            ("is a number", ("Config", "expected a truth value")),
            Some(u32_value(1)),
        ),
    ]
}

/// Each tensor that a model needs, gone.
fn missing() -> Vec<Case> {
    let mut cases = Vec::new();
    // Without a head the embedding takes its place.
    for tensor in Gguf::llama().tensors.into_iter().filter(|t| t.name != "output.weight") {
        let name = format!("no {}", tensor.name).leak();
        let says = format!("has no tensor {}", tensor.name).leak();
        cases.push(gguf(name, ("MissingTensor", says), move |f| {
            f.tensors.retain(|t| t.name != tensor.name);
        }));
    }
    cases.push(gguf("no tensors at all", ("MissingTensor", "token_embd.weight"), |f| {
        f.tensors.clear();
    }));
    cases
}

/// Each tensor with a row too many, and with a column too many.
fn shapes() -> Vec<Case> {
    let mut cases = Vec::new();
    for (i, tensor) in Gguf::llama().tensors.into_iter().enumerate() {
        let more = |outer: bool| {
            let mut dims: Vec<usize> = tensor.dims.iter().map(|&d| d as usize).collect();
            let place = if outer { dims.len() - 1 } else { 0 };
            dims[place] += 1;
            dims
        };
        let mut add = |what: &str, dims: Vec<usize>| {
            let name = format!("{} with {what}", tensor.name).leak();
            let says = format!("tensor {} has shape", tensor.name).leak();
            cases.push(gguf(name, ("Shape", says), move |f| {
                let tensor = &mut f.tensors[i];
                tensor.data = f32_data("more", &dims);
                tensor.dims = dims.iter().map(|&d| d as u64).collect();
            }));
        };
        add("a column too many", more(false));
        // The vocabulary is as long as the head says, which may be less than the embedding's rows.
        if tensor.dims.len() > 1
            && tensor.name != "token_embd.weight"
            && tensor.name != "output.weight"
        {
            add("a row too many", more(true));
        }
        if tensor.dims.len() > 1 {
            add("a third dimension", [more(false), vec![1]].concat());
        }
    }
    cases.push(gguf("more tokens than embeddings", ("Shape", "token_embd.weight"), |f| {
        let head = f.tensor_mut("output.weight");
        (head.dims[1], head.data) = (5, f32_data("head", &[5, 8]));
    }));
    cases.push(gguf("more tokens than any model", ("Config", "rows in the head"), |f| {
        let n = (1 << 21) + 1;
        f.tensor_mut("output.weight").dims = vec![1, n as u64];
        f.tensor_mut("output.weight").data = vec![0; 4 * n];
    }));
    cases
}

/// Files that say that they are parts of several.
fn splits() -> Vec<Case> {
    let split = |name, says, count: Vec<u8>| {
        gguf(name, (MALFORMED, says), move |f| {
            f.entry("split.count", count.clone());
        })
    };
    vec![
        split("1025 parts", "split.count is Some(1025), more than 1024", u32_value(1025)),
        split("2^64 parts", "split.count is Some(18446744073709551615)", u64_value(u64::MAX)),
        split("minus one part", "split.count", i32_value(-1)),
        split("parts in words", "split.count", string_value(3, "two")),
        split("parts in a list of none", "split.count", array_value(4, 0, &[])),
        split("1024 parts", "its name does not end with", u32_value(1024)),
    ]
}
