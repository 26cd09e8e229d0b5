//! Broken files of 2023: the same mistakes in every container.

use std::path::Path;

use crate::legacy_files::{Ggml, LLAMA, Model, Tensor};

use super::gguf::Expected;
use super::{Case, MALFORMED};

/// Every container.
const MODELS: [Model; 8] =
    [LLAMA[0], LLAMA[1], LLAMA[2], LLAMA[3], LLAMA[4], Model::GptJ, Model::NeoX, Model::NeoXOld];

/// All of them.
pub(crate) fn cases() -> Vec<Case> {
    let tables = [headers, words, vocabularies, records, tensors].map(|table| {
        let of = |&model: &Model| table(model);
        MODELS.iter().flat_map(of).collect::<Vec<_>>()
    });
    tables.into_iter().flatten().chain(versions()).chain(special()).collect()
}

fn bytes_case(name: String, (kind, says): Expected, bytes: impl Fn() -> Vec<u8> + 'static) -> Case {
    let write = move |folder: &Path| {
        let path = folder.join("broken.bin");
        std::fs::write(&path, bytes()).expect("written");
        path
    };
    // Names of a table that is made once, for the life of a test.
    Case { name: name.leak(), write: Box::new(write), kind, says }
}

/// A case that is the small model, changed.
fn file(
    model: Model,
    name: &str,
    expected: Expected,
    change: impl Fn(&mut Ggml) + 'static,
) -> Case {
    bytes_case(format!("{}: {name}", model.name()), expected, move || {
        let mut file = Ggml::tiny(model);
        change(&mut file);
        file.bytes()
    })
}

/// Whether the file says which model it is of.
fn is_versioned(model: Model) -> bool {
    model.has_scores()
}

/// Bytes before the first word.
fn first_word(model: Model) -> usize {
    if is_versioned(model) { 8 } else { 4 }
}

fn headers(model: Model) -> Vec<Case> {
    let whole = Ggml::tiny(model).bytes();
    let n_words = Ggml::tiny(model).words.len();
    let start = first_word(model);
    let prefix = |name: &str, expected: Expected, len: usize| {
        let bytes = whole[..len].to_vec();
        bytes_case(format!("{}: {name}", model.name()), expected, move || bytes.clone())
    };
    vec![
        prefix("only a magic", (MALFORMED, "needs 4 bytes, but the file ends"), 4),
        prefix("half a header", (MALFORMED, "needs 4 bytes, but the file ends"), start + 12),
        prefix("a cut word", (MALFORMED, "needs 4 bytes, but the file ends"), start + 17),
        prefix("no vocabulary", (MALFORMED, "length of a token needs 4"), start + 4 * n_words),
        prefix("no tensors", ("MissingTensor", "feed-forward"), vocabulary_end(model)),
        prefix("a cut record", (MALFORMED, "needs 4 bytes"), vocabulary_end(model) + 6),
        prefix("the data are cut", (MALFORMED, "data of tensor"), whole.len() - 1),
    ]
}

/// Where the first tensor's record starts.
fn vocabulary_end(model: Model) -> usize {
    let mut file = Ggml::tiny(model);
    file.tensors.clear();
    file.bytes().len()
}

/// Each word of the header with nonsense in it.
fn words(model: Model) -> Vec<Case> {
    let n = Ggml::tiny(model).words.len();
    let broken = |i: usize, number: u32| {
        // Versioned files are LLaMA's, whatever they say; others may be of no model at all.
        let expected =
            if is_versioned(model) { (MALFORMED, "") } else { ("UnsupportedFormat", "") };
        // A GPT-J whose sizes differ reads like a GPT-NeoX until its vocabulary ends.
        let expected = if model == Model::GptJ && i == 7 { (MALFORMED, "") } else { expected };
        // And one with a wrong type like one that has no word for the order of residuals.
        let expected = if model == Model::NeoX && i == 7 { (MALFORMED, "") } else { expected };
        file(model, &format!("word {i} is {number}"), expected, move |f| f.words[i] = number)
    };
    // The type comes last, before GPT-J's second size; 0 is a type.
    let kind = if model == Model::GptJ { n - 2 } else { n - 1 };
    let sizes = (0..n).filter(|&i| i != kind && !(model == Model::NeoX && i == n - 2));
    let mut cases: Vec<_> = sizes.flat_map(|i| [broken(i, 0), broken(i, u32::MAX)]).collect();
    cases.push(broken(kind, 999));
    cases
}

fn vocabularies(model: Model) -> Vec<Case> {
    // Read without its word for the order of residuals, a GPT-NeoX is a token behind.
    let last = if model == Model::NeoX { "" } else { "token 3 has length 1048576" };
    let mut cases = vec![
        file(model, "a token of 4 GiB", (MALFORMED, "token 2 has length 4294967295"), |f| {
            f.token_len = Some((2, u32::MAX));
        }),
        file(model, "a token of 1 MiB", (MALFORMED, last), |f| {
            f.token_len = Some((3, 1 << 20));
        }),
        file(model, "a token that eats the rest", (MALFORMED, ""), |f| {
            f.token_len = Some((1, 300));
        }),
    ];
    if model.has_scores() {
        for score in [f32::NAN, f32::INFINITY] {
            let name = format!("a score of {score}");
            cases.push(file(model, &name, (MALFORMED, "score of token 2 is"), move |f| {
                f.tokens[2].1 = score;
            }));
        }
    }
    cases
}

/// A change of the last tensor's record.
fn record(
    model: Model,
    name: &str,
    expected: Expected,
    change: impl Fn(&mut Tensor) + 'static,
) -> Case {
    file(model, name, expected, move |f| change(f.tensors.last_mut().expect("a tensor")))
}

fn records(model: Model) -> Vec<Case> {
    let unsupported = ("UnsupportedEncoding", "of tensor");
    vec![
        record(model, "no dimensions", (MALFORMED, "a tensor has 0 dimensions"), |t| {
            t.lies[0] = Some(0);
        }),
        record(model, "three dimensions", (MALFORMED, "a tensor has 3 dimensions"), |t| {
            t.lies[0] = Some(3);
        }),
        record(model, "most dimensions", (MALFORMED, "a tensor has 4294967295 dim"), |t| {
            t.lies[0] = Some(u32::MAX);
        }),
        record(model, "no name", (MALFORMED, "name has 0 bytes"), |t| t.lies[1] = Some(0)),
        record(model, "a long name", (MALFORMED, "name has 257 bytes"), |t| t.lies[1] = Some(257)),
        record(model, "the longest name", (MALFORMED, "name has 4294967295 bytes"), |t| {
            t.lies[1] = Some(u32::MAX);
        }),
        record(model, "a name of bytes", (MALFORMED, "name is not UTF-8"), |t| t.name[0] = 0xff),
        record(model, "an unknown name", (MALFORMED, "tensor model.norm.weight is no part"), |t| {
            t.name = b"model.norm.weight".to_vec();
        }),
        record(model, "a name without a kind", (MALFORMED, "is no part of a"), |t| {
            let stem = t.name.len() - 5;
            t.name.truncate(stem);
        }),
        record(model, "type 9", unsupported, |t| t.kind = 9),
        record(model, "type 4 billion", unsupported, |t| t.kind = u32::MAX),
        record(model, "width 0", (MALFORMED, "has a dimension of zero"), |t| t.dims[0] = 0),
        record(model, "width 2^32 - 1", (MALFORMED, "data of tensor"), |t| t.dims[0] = u32::MAX),
        record(model, "half a block", (MALFORMED, "no multiple of the 32"), |t| {
            (t.kind, t.dims[0]) = (8, 16);
        }),
        record(model, "another width", ("Shape", "has shape"), |t| {
            t.dims[0] -= 1;
            t.data.truncate(t.data.len() - t.data.len() / 8);
            let n: u32 = t.dims.iter().product();
            t.data.resize(4 * n as usize, 0);
        }),
    ]
}

fn tensors(model: Model) -> Vec<Case> {
    let gone = |name: &str, i: usize| {
        file(model, name, ("MissingTensor", "has no tensor"), move |f| drop(f.tensors.remove(i)))
    };
    vec![
        gone("the second tensor is gone", 1),
        gone("the last tensor is gone", Ggml::tiny(model).tensors.len() - 1),
        file(model, "a tensor twice", (MALFORMED, "is there twice"), |f| {
            f.tensors.push(f.tensors[1].clone());
        }),
        file(model, "a block too many", (MALFORMED, "of a block beyond the 1"), |f| {
            let mut tensor = f.tensors[3].clone();
            let name = String::from_utf8(tensor.name).expect("a name");
            tensor.name = format!(
                "{}1{}",
                &name[..name.find("0.").expect("a block")],
                &name[name.find("0.").expect("a block") + 1..]
            )
            .into_bytes();
            f.tensors.push(tensor);
        }),
        file(model, "a block of 2^64", (MALFORMED, "is no part of a"), |f| {
            let name = String::from_utf8(f.tensors[3].name.clone()).expect("a name");
            f.tensors[3].name = name.replacen("0.", "18446744073709551616.", 1).into_bytes();
        }),
        file(model, "a block of 00", (MALFORMED, "is no part of a"), |f| {
            let name = String::from_utf8(f.tensors[3].name.clone()).expect("a name");
            f.tensors[3].name = name.replacen("0.", "00.", 1).into_bytes();
        }),
        file(model, "three bytes more", (MALFORMED, "needs 4 bytes"), |f| f.tail = vec![0; 3]),
        file(model, "zeros at the end", (MALFORMED, "a tensor has 0 dimensions"), |f| {
            f.tail = vec![0; 64];
        }),
    ]
}

fn versions() -> Vec<Case> {
    let version = |magic: &'static [u8; 4], version: u32, says: &'static str| {
        bytes_case(format!("{says}?"), ("UnsupportedFormat", says), move || {
            let mut bytes = Ggml::tiny(Model::Llama { magic, version: 1 }).bytes();
            bytes[4..8].copy_from_slice(&version.to_le_bytes());
            bytes
        })
    };
    vec![
        version(b"fmgg", 0, "ggmf version 0"),
        version(b"fmgg", 2, "ggmf version 2"),
        version(b"tjgg", 0, "ggjt version 0"),
        version(b"tjgg", 4, "ggjt version 4"),
        version(b"tjgg", u32::MAX, "ggjt version 4294967295"),
    ]
}

/// What only some models can have wrong.
fn special() -> Vec<Case> {
    let q4_2 = |model| {
        record(model, "Q4_2 after its time", ("UnsupportedEncoding", "Q4_2 (4) of tensor"), |t| {
            t.kind = 4;
        })
    };
    vec![
        q4_2(LLAMA[3]),
        q4_2(LLAMA[4]),
        record(LLAMA[2], "Q4_K before its time", ("UnsupportedEncoding", "Q4_K (12) of"), |t| {
            t.kind = 12;
        }),
        record(LLAMA[4], "Q4_K in blocks of 64", (MALFORMED, "no multiple of the 256"), |t| {
            (t.kind, t.dims[0]) = (12, 64);
        }),
        file(Model::NeoX, "residuals in a third order", (MALFORMED, ""), |f| f.words[6] = 2),
        file(Model::GptJ, "a third generation", ("UnsupportedFormat", ""), |f| f.words[6] = 3002),
        file(
            LLAMA[0],
            "a fifth of a model",
            (MALFORMED, "rows of 3, which is no part of 8"),
            |f| {
                let tensor = f.tensor_mut("tok_embeddings.weight");
                tensor.dims[0] = 3;
                tensor.data.truncate(3 * 4 * 4);
            },
        ),
        file(LLAMA[0], "half a model", ("Io", "broken.bin.1"), |f| {
            let tensor = f.tensor_mut("tok_embeddings.weight");
            tensor.dims[0] = 4;
            tensor.data.truncate(4 * 4 * 4);
        }),
        file(
            LLAMA[4],
            "keys for no number of heads",
            (MALFORMED, "rows of keys do not fit"),
            |f| {
                let tensor = f.tensor_mut("layers.0.attention.wk.weight");
                tensor.dims[1] = 3;
                tensor.data.truncate(3 * 8 * 4);
            },
        ),
        file(Model::GptJ, "Q4_0, transposed", ("UnsupportedEncoding", "stored transposed"), |f| {
            f.words[2] = 32;
            f.words[3] = 8;
            *f = wide(f);
        }),
        file(Model::GptJ, "2^17 empty tokens", (MALFORMED, "data of tensor"), |f| {
            (f.words[0], f.words[7]) = (1 << 17, 1 << 17);
            f.tokens = vec![(Vec::new(), 0.0); 1 << 17];
            f.tensors.last_mut().expect("a tensor").data.clear();
        }),
        file(LLAMA[4], "2^17 tokens", (MALFORMED, "data of tensor"), |f| {
            f.words[0] = 1 << 17;
            f.tokens = (0..1u32 << 17).map(|i| (i.to_le_bytes().to_vec(), 0.0)).collect();
            f.tensors.last_mut().expect("a tensor").data.clear();
        }),
        file(LLAMA[2], "20,000 masks, then nothing", ("MissingTensor", "feed-forward"), |f| {
            let mask = Tensor {
                name: b"layers.0.attention.bias".to_vec(),
                dims: vec![1],
                ..f.tensors[1].clone()
            };
            f.tensors = vec![Tensor { data: vec![0; 4], ..mask }; 20_000];
        }),
        file(LLAMA[2], "20,000 norms", (MALFORMED, "more than 16384 tensors"), |f| {
            f.tensors = vec![f.tensor_mut("norm.weight").clone(); 20_000];
        }),
    ]
}

/// The small GPT-J, 32 wide, its first feed-forward matrix transposed and in blocks.
fn wide(file: &Ggml) -> Ggml {
    let mut file = file.clone();
    for tensor in &mut file.tensors {
        for dim in &mut tensor.dims {
            *dim = match *dim {
                8 => 32,
                32 => 128,
                other => other,
            };
        }
        let n: u32 = tensor.dims.iter().product();
        tensor.data = vec![0; 4 * n as usize];
    }
    let up = file.tensor_mut("transformer.h.0.mlp.fc_in.weight");
    up.dims.reverse();
    up.kind = 2;
    up.data = vec![0; 32 * 128 / 32 * 20];
    file
}
