//! One file for each published vulnerability that a model file can carry, in whichever reader it was.
//!
//! Not here, for want of a place to carry them to: ggml's remote calls by address (CVE-2024-42478,
//! -42479), grammars (no grammar is read), downloads and digests (CVE-2024-28224, -37032, -39719,
//! -39721, -39722, CVE-2025-51471, CVE-2026-42248, -42249: nothing is downloaded), numbers in requests
//! (CVE-2026-21869: the server's own tests), long prompts (CVE-2025-52566: `tests/text.rs`).

use halfbyte::io::Value;
use serde_json::json;

use crate::fixtures::{array_value, string_value, u32_value};
use crate::torch_file::{dict, global, of_folder, storage, tensor, text, tuple};

use super::gguf::{Expected, bytes_case, gguf};
use super::safetensors::folder_case;
use super::templates::template;
use super::tokenizers::{json_with, llama, model_file};
use super::torch::{NAME, UNSUPPORTED, file, ops, zip};
use super::{Case, MALFORMED};

/// Those of model files.
pub(crate) fn models() -> Vec<Case> {
    [headers(), values(), tensors(), sizes(), folders(), pickles()].into_iter().flatten().collect()
}

fn malformed(says: &'static str) -> Expected {
    (MALFORMED, says)
}

fn raw(kind: u32, bytes: &[u8]) -> Vec<u8> {
    [&kind.to_le_bytes(), bytes].concat()
}

fn headers() -> Vec<Case> {
    vec![
        gguf("CVE-2024-21836: tensors times their size wrap", malformed("tensor count is"), |f| {
            f.tensor_count = Some(u64::MAX / 0x60 + 2);
        }),
        gguf("CVE-2024-23605: entries times their size wrap", malformed("metadata count"), |f| {
            f.entry_count = Some(u64::MAX / 0x28 + 2);
        }),
        gguf("CVE-2024-41130: nothing in it", ("UnsupportedArchitecture", "unnamed"), |f| {
            f.entries.clear();
            f.tensors.clear();
        }),
        bytes_case("CVE-2024-39720: four bytes", malformed("the version needs 4 bytes"), || {
            b"GGUF".to_vec()
        }),
        gguf(
            "llama.cpp #26318: alignment by text",
            malformed("general.alignment is string"),
            |f| {
                f.entry("general.alignment", string_value(3, "32"));
            },
        ),
        gguf(
            "llama.cpp #26318: padding wraps",
            malformed("general.alignment is 2147483648"),
            |f| {
                f.entry("general.alignment", u32_value(1 << 31));
            },
        ),
    ]
}

fn values() -> Vec<Case> {
    let entry = |name, says, value: Vec<u8>| {
        gguf(name, malformed(says), move |f| {
            f.entry("t.key", value.clone());
        })
    };
    let length = |n: u64| n.to_le_bytes();
    vec![
        entry(
            "CVE-2024-23496: a text's length plus one wraps",
            "t.key has length 18446744073709551615",
            raw(8, &length(u64::MAX)),
        ),
        entry(
            "CVE-2024-21825: texts times their size wrap",
            "array length of t.key is 1152921504606846977",
            array_value(8, (1 << 60) + 1, &length(0)),
        ),
        entry(
            "Databricks 2024-03: numbers times their size wrap",
            "array length of t.key is 2305843009213693953",
            array_value(10, (1 << 61) + 1, &length(0)),
        ),
        entry(
            "CVE-2024-32878: an error when half a list is read",
            "string in t.key has length 9223372036854775807",
            array_value(8, 2, &[&length(1)[..], b"a", &length(i64::MAX as u64)].concat()),
        ),
        entry(
            "CVE-2025-49847: a token's text longer than 2^31",
            "string in t.key has length 2147483649",
            array_value(8, 1, &length((1 << 31) + 1)),
        ),
        entry(
            "gguf-py F001: lists in lists in lists",
            "t.key is an array of arrays",
            [raw(9, &[]), [raw(9, &1u64.to_le_bytes())].concat().repeat(5000)].concat(),
        ),
        entry(
            "CVE-2025-0315, Ollama #17042: metadata without end",
            "array length of t.key is 67108865 (at most 67108864",
            array_value(0, (1 << 26) + 1, &[]),
        ),
        gguf("CVE-2025-0312: a name that is none", ("Config", "general.architecture"), |f| {
            f.entry("general.architecture", array_value(8, 0, &[]));
        }),
    ]
}

fn tensors() -> Vec<Case> {
    let tensor = |name, says, kind: u32, dims: &'static [u64]| {
        gguf(name, malformed(says), move |f| {
            let tensor = f.tensor_mut("output_norm.weight");
            (tensor.kind, tensor.dims) = (kind, dims.to_vec());
        })
    };
    vec![
        tensor("CVE-2024-21802: elements wrap", "is too large", 0, &[1 << 31, 1 << 31, 1 << 2, 1]),
        tensor("CVE-2025-53630: sums of sizes wrap", "bytes from byte", 0, &[(1 << 61) - 8]),
        tensor("CVE-2026-27940: nearly 2^64 bytes", "output_norm.weight", 0, &[(1 << 62) - 8]),
        tensor("CVE-2026-33298: an exabyte of blocks", "too large", 2, &[32, 1 << 60]),
        tensor("CVE-2026-7482: more than the file has", "but the file has", 0, &[8, 4096]),
        tensor("GHSA-3p75-pq92-q28f: no rows", "has a dimension of 0", 0, &[8, 0]),
        tensor("GHSA-3p75-pq92-q28f: no columns", "has a dimension of 0", 0, &[0, 8]),
        gguf("CVE-2024-42477: a type of nobody", ("UnsupportedEncoding", "4294967295"), |f| {
            f.tensor_mut("output_norm.weight").kind = u32::MAX;
        }),
    ]
}

fn sizes() -> Vec<Case> {
    let number = |name, key: &'static str, number, expected: Expected| {
        gguf(name, expected, move |f| {
            f.entry(key, u32_value(number));
        })
    };
    let (blocks, heads) = ("llama.block_count", "llama.attention.head_count");
    vec![
        number("CVE-2024-8063: no blocks", blocks, 0, ("Config", "0 is not between")),
        number("CVE-2025-0317: no heads", heads, 0, ("Config", "0 is not between")),
        number("llama.cpp #25821: 513 blocks", blocks, 513, ("MissingTensor", "blk.1.")),
        number("llama.cpp #26051: 2^32 blocks", blocks, u32::MAX, ("Config", "is not between")),
        number("CVE-2024-12055: more heads than width", heads, 4096, ("Config", "1 is odd")),
    ]
}

fn folders() -> Vec<Case> {
    let index = |name, says, json: serde_json::Value| {
        folder_case(name, malformed(says), move |folder, path| {
            folder.write_without_weights(path);
            let index = path.join("model.safetensors.index.json");
            std::fs::write(index, json.to_string()).expect("written");
        })
    };
    let map = |file: &str| json!({"weight_map": {"x": file}});
    vec![
        index("CVE-2024-37032: a path upwards", "no plain file name", map("../x.safetensors")),
        index("CVE-2025-1975: a list without its parts", "missing field", json!({"metadata": {}})),
        zip("CVE-2024-12886: packed again and again", (UNSUPPORTED, "compressed"), |z| {
            let record = z.get("archive/data/3");
            (record.method, record.sizes) = (8, Some((128, u32::MAX - 1)));
        }),
        zip(
            "CVE-2024-45436: a record that climbs",
            malformed("no record \"archive/data/../../../x\""),
            |z| {
                z.record("archive/data/../../../y", &[0; 4]);
                let head = tensor(&storage("FloatStorage", "../../../x", 1), 0, &[1], &[1]);
                z.get("archive/data.pkl").data = dict(&[(NAME.into(), head)]);
            },
        ),
    ]
}

/// Code in a pickle: loading it must not run it.
fn pickles() -> Vec<Case> {
    let call = |module, name| {
        [global(module, name), tuple(&[text("touch halfbyte-was-here")]), b"R".to_vec()].concat()
    };
    vec![
        zip("torch.load: a call in the archive", (UNSUPPORTED, "calls posix.system"), move |z| {
            z.get("archive/data.pkl").data = ops(&[&call("posix", "system")]);
        }),
        file(
            "CVE-2025-32434: a call in the old form",
            (UNSUPPORTED, "calls builtins.exec"),
            move |_| ops(&[&call("builtins", "exec")]),
        ),
        file(
            "CVE-2025-32434: a call behind sound weights",
            (UNSUPPORTED, "calls builtins.eval"),
            move |folder| {
                let mut zip = of_folder(folder);
                let pickle = &mut zip.get("archive/data.pkl").data;
                let end = pickle.len() - 2;
                let evil = [text("x"), call("builtins", "eval")].concat();
                drop(pickle.splice(end..end, evil));
                zip.bytes()
            },
        ),
    ]
}

/// Those of tokenizers.
pub(crate) fn tokenizers() -> Vec<Case> {
    let below_zero = ["<unk>", "<s>", "</s>", "<0x-1>", "a", "b", "ab"];
    let below_zero = below_zero.map(|token| token.as_bytes().to_vec()).to_vec();
    let words = json!({"type": "Split", "pattern": {"Regex": "(a+)+(?=$"}, "behavior": "Isolated",
                       "invert": false});
    vec![
        llama(
            "llama.cpp #26511: the byte before the first",
            "tokens",
            Value::Strings(below_zero),
            "tokenizer.ggml.tokens[3]",
        ),
        model_file(
            "CVE-2025-49847: a piece longer than 2^31",
            vec![0x0A, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F, 0],
            "tokenizer.model",
        ),
        json_with("CVE-2024-12720: a pattern that is none", "/pre_tokenizer", words, ""),
    ]
}

/// Those of chat templates: a template is a program of a stranger's.
pub(crate) fn templates() -> Vec<Case> {
    let rows = [
        (
            "CVE-2024-34359, CVE-2026-5760: every class of the interpreter",
            "{% for c in ().__class__.__base__.__subclasses__() %}{% if 'warning' in c.__name__ %}\
             {{ c()._module.__builtins__['__import__']('os').system('id') }}{% endif %}{% endfor %}",
            "undefined",
        ),
        (
            "CVE-2024-34359: by way of a function's globals",
            "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
            "undefined",
        ),
        (
            "CVE-2024-56326: by way of format",
            "{{ '{0.__class__.__init__.__globals__}'.format(messages) }}",
            "",
        ),
        (
            "CVE-2024-56326: format, named indirectly",
            "{% set f = '{0.__class__}'.format %}{{ f(messages) }}",
            "",
        ),
        (
            "CVE-2025-27516: format by the filter attr",
            "{{ ('{0.__class__}' | attr('format'))(messages) }}",
            "",
        ),
        (
            "CVE-2024-56201: a template's name as code",
            "{% include \"x'\" ~ messages[0].__init__ %}",
            "",
        ),
        ("vLLM 2025: a range without end", "{{ range(10 ** 12) | list }}", ""),
    ];
    rows.into_iter().map(|(name, source, says)| template(name, source.into(), says)).collect()
}
