//! Broken matrices of GPTQ and AWQ, and what configurations say about them.

use std::path::Path;

use crate::data;
use crate::fixtures::Folder;
use serde_json::{Value, json};

use super::{Case, MALFORMED};

const Q: &str = "model.layers.0.self_attn.q_proj";

/// All of them.
pub(crate) fn cases() -> Vec<Case> {
    [parts(), shapes(), models(), awq(), descriptions()].into_iter().flatten().collect()
}

/// A model of `data/packed`, its description among the files.
fn model(name: &str, description: &str) -> Folder {
    Folder::read(&data().join("packed").join(name), &[description])
}

fn case(
    name: &'static str,
    (kind, says): (&'static str, &'static str),
    write: impl Fn(&Path) + 'static,
) -> Case {
    let write = move |path: &Path| {
        write(path);
        path.to_owned()
    };
    Case { name, write: Box::new(write), kind, says }
}

/// A tensor as fixtures have it.
type Tensor = (String, &'static str, Vec<usize>, Vec<u8>);

/// A case whose tensor of the query matrix is changed, in the model with columns out of order.
fn changed(
    name: &'static str,
    expected: (&'static str, &'static str),
    part: &'static str,
    change: impl Fn(&mut Tensor) + 'static,
) -> Case {
    case(name, expected, move |path| {
        let mut folder = model("llama-gptq-act-g32", "quantize_config.json");
        let name = format!("{Q}.{part}");
        let tensor = folder.tensors.iter_mut().find(|tensor| tensor.0 == name);
        change(tensor.expect("a tensor of the model"));
        folder.write(path);
    })
}

/// Another dtype, with as many elements.
fn typed(name: &'static str, part: &'static str, dtype: &'static str, says: &'static str) -> Case {
    changed(name, ("Config", says), part, move |tensor| {
        tensor.1 = dtype;
        let n = tensor.2.iter().product::<usize>();
        tensor.3 = vec![0; n * if dtype == "I64" { 8 } else { 4 }];
    })
}

/// Another shape, its elements zeros.
fn shaped(
    name: &'static str,
    expected: (&'static str, &'static str),
    part: &'static str,
    shape: &'static [usize],
) -> Case {
    changed(name, expected, part, move |tensor| {
        let size = tensor.3.len() / tensor.2.iter().product::<usize>();
        tensor.2 = shape.to_vec();
        tensor.3 = vec![0; size * shape.iter().product::<usize>()];
    })
}

fn parts() -> Vec<Case> {
    fn without(name: &'static str, part: &'static str, says: &'static str) -> Case {
        changed(name, ("MissingTensor", says), part, |tensor| tensor.0 = "odd".into())
    }
    fn group(name: &'static str, number: i32, says: &'static str) -> Case {
        changed(name, ("Config", says), "g_idx", move |tensor| {
            tensor.3[20..24].copy_from_slice(&number.to_le_bytes());
        })
    }
    const ZEROS: &str = "no tensor model.layers.0.self_attn.q_proj.qzeros";
    const SCALES: &str = "no tensor model.layers.0.self_attn.q_proj.scales";
    vec![
        without("no codes", "qweight", "q_proj.weight"),
        without("no zero points", "qzeros", ZEROS),
        without("no scales", "scales", SCALES),
        typed("codes of floats", "qweight", "F32", "has dtype F32, expected I32"),
        typed("zero points of I64", "qzeros", "I64", "has dtype I64, expected I32"),
        typed("scales of integers", "scales", "I32", "has dtype I32, expected F16"),
        typed("groups of I64", "g_idx", "I64", "has dtype I64, expected I32"),
        group("a group outside", 2, "puts column 5 into group 2 of 2"),
        group("a group below zero", -1, "puts column 5 into group -1 of 2"),
        group("a group of 2^31", i32::MAX, "into group 2147483647 of 2"),
    ]
}

fn shapes() -> Vec<Case> {
    const BLOCKS: &str = "holds 64 × 40 weights, not multiples of 8 × 32";
    let config = |says| ("Config", says);
    let shape = |says| ("Shape", says);
    vec![
        shaped("codes without rows", config("holds 64 × 0 weights"), "qweight", &[0, 64]),
        shaped("codes in a line", config("has shape [512], no matrix"), "qweight", &[512]),
        shaped("codes in a cube", config("[8, 8, 8], no matrix"), "qweight", &[8, 8, 8]),
        shaped("columns that fill no block", config(BLOCKS), "qweight", &[5, 64]),
        shaped("rows that fill no word", config("holds 63 × 64 weights"), "qweight", &[8, 63]),
        shaped("twice the rows", shape("[2, 64], expected [2, 128]"), "qweight", &[8, 128]),
        shaped("twice the columns", shape("[64], expected [128]"), "qweight", &[16, 64]),
        shaped("too few scales", shape("[2, 8], expected [1, 8]"), "scales", &[1, 64]),
        shaped("no scales at all", shape("[0, 64], expected [1, 64]"), "scales", &[0, 64]),
        shaped("scales of fewer rows", shape("[2, 56], expected [2, 64]"), "scales", &[2, 56]),
        shaped("scales in a line", shape("[128], expected [128, 64]"), "scales", &[128]),
        shaped("too few zero points", shape("[2, 7], expected [2, 8]"), "qzeros", &[2, 7]),
        shaped("too few groups", shape("[63], expected [64]"), "g_idx", &[63]),
    ]
}

fn models() -> Vec<Case> {
    vec![
        case("packed embeddings", ("Config", "embeddings must be floats"), |path| {
            let mut folder = model("llama-gptq-act-g32", "quantize_config.json");
            let name = "model.embed_tokens.qweight".to_owned();
            folder.tensors.push((name, "I32", vec![8, 64], vec![0; 2048]));
            folder.write(path);
        }),
        case("a matrix of another model", ("Shape", "q_proj.weight has shape [32, 64]"), |path| {
            let mut folder = model("llama-gptq-act-g32", "quantize_config.json");
            let value = |part: &str| format!("model.layers.0.self_attn.v_proj.{part}");
            for part in ["qweight", "qzeros", "scales", "g_idx"] {
                let from = folder.tensors.iter().find(|t| t.0 == value(part)).cloned();
                let to = folder.tensors.iter_mut().find(|t| t.0 == format!("{Q}.{part}"));
                let (from, to) = from.zip(to).expect("tensors of the model");
                (to.2, to.3) = (from.2, from.3);
            }
            folder.write(path);
        }),
    ]
}

fn awq() -> Vec<Case> {
    fn described(name: &'static str, says: &'static str, key: &'static str, value: Value) -> Case {
        case(name, ("Config", says), move |path| {
            let mut folder = model("llama-awq-g32", "config.json");
            folder.files.clear();
            folder.config["quantization_config"][key] = value.clone();
            folder.write(path);
        })
    }
    vec![
        described("three bits", "quantization_config.bits in", "bits", json!(3)),
        described("words for bits", "expected a non-negative integer", "bits", json!("four")),
        described("groups of none", "group_size in", "group_size", json!(0)),
        described("groups of minus two", "expected -1 or the columns", "group_size", json!(-2)),
        described("groups in words", "group_size in", "group_size", json!("many")),
        described(
            "other groups than scales",
            "has 2 groups of 64 columns for 64",
            "group_size",
            json!(64),
        ),
        described("another kernel's order", "is \"gemv\", expected gemm", "version", json!("gemv")),
        described("no zero points", "zero_point in", "zero_point", json!(false)),
        described("a zero point in words", "zero_point in", "zero_point", json!("yes")),
        described(
            "another method",
            "is \"bitsandbytes\", expected gptq or awq",
            "quant_method",
            json!("bitsandbytes"),
        ),
        described("a method by number", "quant_method in", "quant_method", json!(7)),
        case("AWQ read as GPTQ", ("Shape", "scales has shape [2, 64], expected [2, 8]"), |path| {
            let mut folder = model("llama-awq-g32", "config.json");
            folder.files.clear();
            folder.config["quantization_config"]["quant_method"] = json!("gptq");
            folder.write(path);
        }),
    ]
}

fn descriptions() -> Vec<Case> {
    fn file(
        name: &'static str,
        expected: (&'static str, &'static str),
        text: &'static str,
    ) -> Case {
        case(name, expected, move |path| {
            let mut folder = model("llama-gptq-act-g32", "quantize_config.json");
            folder.files = vec![("quantize_config.json".into(), text.into())];
            folder.write(path);
        })
    }
    vec![
        file("a cut description", (MALFORMED, "quantize_config.json is malformed"), "{\"bits\": 4"),
        file("a description in a list", (MALFORMED, "expected a JSON object"), "[4]"),
        file("eight bits", ("Config", "bits in"), "{\"bits\": 8}"),
        file("2^70 bits", ("Config", "bits in"), "{\"bits\": 1180591620717411303424}"),
        file(
            "a layout of Marlin",
            ("Config", "is \"marlin\", expected gptq or gptq_v2"),
            "{\"bits\": 4, \"checkpoint_format\": \"marlin\"}",
        ),
        file("a description of lists", ("Config", "bits in"), "{\"bits\": [4]}"),
    ]
}
