//! Broken LoRA adapters in one file: GGUF adapters and `ggla` files.

use std::path::Path;

use crate::fixtures::{Gguf, string_value, u32_value};

use super::adapter::lora;
use super::{Case, MALFORMED};

/// All of them.
pub(crate) fn cases() -> Vec<Case> {
    [ggufs(), gglas()].into_iter().flatten().collect()
}

fn gguf(
    name: &'static str,
    (kind, says): (&'static str, &'static str),
    change: impl Fn(&mut Gguf) + 'static,
) -> Case {
    let write = move |folder: &Path| {
        let mut file = lora().gguf();
        change(&mut file);
        let path = folder.join("adapter.gguf");
        file.write(&path);
        path
    };
    Case { name, write: Box::new(write), kind, says }
}

fn ggufs() -> Vec<Case> {
    let alpha = |alpha: f32| [6u32.to_le_bytes(), alpha.to_le_bytes()].concat();
    vec![
        gguf("a model", ("UnsupportedFormat", "a GGUF model"), |f| *f = Gguf::llama()),
        gguf("another type", ("UnsupportedFormat", "general.type"), |f| {
            f.entry("general.type", string_value(3, "mmproj"));
        }),
        gguf("a control vector", ("Config", "expected lora"), |f| {
            f.entry("adapter.type", string_value(3, "control_vector"));
        }),
        gguf("for another architecture", ("Config", "expected llama"), |f| {
            f.entry("general.architecture", string_value(3, "gptj"));
        }),
        gguf("no architecture", ("Config", "is missing"), |f| {
            f.entries.retain(|(key, _)| key != "general.architecture");
        }),
        gguf("alpha NaN", ("Config", "NaN"), move |f| {
            f.entry("adapter.lora.alpha", alpha(f32::NAN));
        }),
        gguf("alpha infinite", ("Config", "inf"), move |f| {
            f.entry("adapter.lora.alpha", alpha(f32::INFINITY));
        }),
        gguf("alpha a text", ("Config", "adapter.lora.alpha"), |f| {
            f.entry("adapter.lora.alpha", string_value(3, "16"));
        }),
        gguf("aLoRA", ("Config", "not supported"), |f| {
            f.entry("adapter.alora.invocation_tokens", string_value(3, ""));
        }),
        gguf("one of several parts", ("Config", "split.count"), |f| {
            f.entry("split.count", u32_value(2));
        }),
        gguf("a tensor of another kind", ("Config", "no A or B"), |f| {
            f.tensors[0].name = "blk.0.attn_q.weight".into();
        }),
        gguf("a matrix that no model has", ("Config", "changes blk.0.attn_z"), |f| {
            for tensor in &mut f.tensors {
                tensor.name = tensor.name.replace("attn_q", "attn_z");
            }
        }),
        gguf("the fused matrix of another architecture", ("Config", "attn_qkv"), |f| {
            for tensor in &mut f.tensors {
                tensor.name = tensor.name.replace("attn_q.", "attn_qkv.");
            }
        }),
        gguf("transposed factors", ("Shape", "lora_"), |f| {
            f.tensors.iter_mut().for_each(|tensor| tensor.dims.reverse());
        }),
        gguf("a rank of zero", (MALFORMED, "dimension of 0"), |f| f.tensors[0].dims[1] = 0),
        gguf("no tensors", (MALFORMED, "no lora_a"), |f| f.tensors.clear()),
    ]
}

fn ggla(
    name: &'static str,
    (kind, says): (&'static str, &'static str),
    change: impl Fn(Vec<u8>) -> Vec<u8> + 'static,
) -> Case {
    let write = move |folder: &Path| {
        let path = folder.join("ggml-adapter-model.bin");
        std::fs::write(&path, change(lora().ggla())).expect("written");
        path
    };
    Case { name, write: Box::new(write), kind, says }
}

/// A case with the 32-bit word at byte `at` replaced.
fn word(name: &'static str, says: (&'static str, &'static str), at: usize, value: i32) -> Case {
    ggla(name, says, move |mut bytes| {
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        bytes
    })
}

/// The first record begins at byte 16: dimensions, length of the name, type, r, in, name.
fn gglas() -> Vec<Case> {
    vec![
        ggla("only a magic", (MALFORMED, "the version"), |b| b[..4].to_vec()),
        word("version 0", ("UnsupportedFormat", "ggla version 0"), 4, 0),
        word("version 2", ("UnsupportedFormat", "ggla version 2"), 4, 2),
        word("rank 0", (MALFORMED, "the rank is 0"), 8, 0),
        word("a negative rank", (MALFORMED, "the rank is -1"), 8, -1),
        ggla("no alpha", (MALFORMED, "alpha"), |b| b[..14].to_vec()),
        ggla("no tensors", (MALFORMED, "no lora_a"), |b| b[..16].to_vec()),
        word("one dimension", (MALFORMED, "1 dimensions"), 16, 1),
        word("many dimensions", (MALFORMED, "dimensions"), 16, i32::MAX),
        word("a long name", (MALFORMED, "a name of 2147483647"), 20, i32::MAX),
        word("a negative length", (MALFORMED, "a name of 4294967295"), 20, -1),
        word("a shorter name", ("Config", "no loraA"), 20, 8),
        word("quantized", ("UnsupportedEncoding", "Q4_0"), 24, 2),
        word("no such type", ("UnsupportedEncoding", "layers.0"), 24, 999),
        word("no columns", (MALFORMED, "a dimension is 0"), 28, 0),
        word("a negative dimension", (MALFORMED, "a dimension is -5"), 32, -5),
        word("huge dimensions", (MALFORMED, "file ends"), 32, i32::MAX),
        ggla("half of a tensor", (MALFORMED, "file ends"), |b| b[..200].to_vec()),
        ggla("cut in a header", (MALFORMED, "file ends"), |b| b[..40].to_vec()),
        ggla("something after the end", (MALFORMED, "file ends"), |b| [&b[..], &[1, 2]].concat()),
        ggla("a name that is not UTF-8", (MALFORMED, "UTF-8"), |mut b| {
            b[36] = 0xff;
            b
        }),
        ggla("another matrix", ("Config", "no loraA"), |mut b| {
            b[36] = b'x';
            b
        }),
        ggla("a tensor twice", (MALFORMED, "twice"), |_| {
            let mut lora = lora();
            lora.modules.push(lora.modules[0].clone());
            lora.ggla()
        }),
    ]
}
