//! Broken weights of Hugging Face folders.

use std::path::Path;

use crate::fixtures::{Folder, safetensors_bytes, safetensors_raw};
use serde_json::{Value, json};

use super::{Case, MALFORMED};

/// All of them.
pub(crate) fn cases() -> Vec<Case> {
    let tables = [files(), offsets_and_shapes(), large_headers(), indices(), folders()];
    tables.into_iter().flatten().collect()
}

/// A case that is the small Hugging Face folder, changed, and then its weights file replaced.
pub(crate) fn folder_case(
    name: &'static str,
    (kind, says): (&'static str, &'static str),
    write: impl Fn(&mut Folder, &Path) + 'static,
) -> Case {
    let write = move |path: &Path| {
        let mut folder = Folder::llama();
        write(&mut folder, path);
        path.to_owned()
    };
    Case { name, write: Box::new(write), kind, says }
}

/// A case whose folder holds this weights file.
pub(crate) fn weights(
    name: &'static str,
    says: &'static str,
    bytes: impl Fn(Vec<u8>) -> Vec<u8> + 'static,
) -> Case {
    folder_case(name, (MALFORMED, says), move |folder, path| {
        folder.write_without_weights(path);
        let bytes = bytes(safetensors_bytes(&folder.tensors));
        std::fs::write(path.join("model.safetensors"), bytes).expect("written");
    })
}

/// A weights file with this header and that many bytes of data.
fn header(name: &'static str, says: &'static str, header: &'static str, n_bytes: usize) -> Case {
    weights(name, says, move |_| safetensors_raw(header.as_bytes(), &vec![0; n_bytes]))
}

fn files() -> Vec<Case> {
    vec![
        weights("an empty file", "the header length needs 8 bytes", |_| Vec::new()),
        weights("half a length", "the header length needs 8 bytes", |b| b[..7].to_vec()),
        weights("half a header", "model.safetensors is malformed at byte 0: the header le", |b| {
            b[..100].to_vec()
        }),
        weights("data is cut", "do not cover the file's data", |b| b[..b.len() - 1].to_vec()),
        weights("data goes on", "do not cover the file's data", |b| [&b[..], &[0; 9]].concat()),
        weights("a header of 2^64", "the header length is 18446744073709551615", |mut b| {
            b[..8].fill(0xff);
            b
        }),
        weights("a header above the cap", "(at most 16777216", |_| {
            safetensors_raw(&vec![b' '; 17 << 20], &[])
        }),
        weights("a header of bytes", "at byte 10: header: invalid utf-8", |_| {
            safetensors_raw(b"{\"\xff\":1}", &[])
        }),
        header("a header of words", "at byte 8: header: expected value", "hello", 0),
        header("a header list", "header: invalid type: sequence", "[[1]]", 0),
        weights("a deep header", "recursion limit", |_| {
            safetensors_raw(format!("{{\"a\":{}", "[".repeat(100_000)).as_bytes(), &[])
        }),
    ]
}

/// Headers that promise what is not there.
fn offsets_and_shapes() -> Vec<Case> {
    vec![
        header(
            "a hole",
            "at byte 63: data_offsets of tensor b leave a hole",
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}, "b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}"#,
            12,
        ),
        header(
            "an overlap",
            "data_offsets of tensor b leave a hole, overlap",
            r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}, "b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#,
            12,
        ),
        header(
            "an end before the beginning",
            "tensor a leave a hole, overlap or end early",
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#,
            4,
        ),
        header(
            "a negative offset",
            "header: invalid value: integer `-4`",
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}"#,
            4,
        ),
        header(
            "2^80 elements",
            "at byte 9: data_offsets of tensor a do not fit its dtype and shape",
            r#"{"a":{"dtype":"F32","shape":[1099511627776,1099511627776],"data_offsets":[0,4]}}"#,
            4,
        ),
        header(
            "a shape that needs more",
            "data_offsets of tensor a do not fit its dtype and shape",
            r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#,
            4,
        ),
        header(
            "an unknown dtype",
            "header: unknown variant `Q9`",
            r#"{"a":{"dtype":"Q9","shape":[1],"data_offsets":[0,4]}}"#,
            4,
        ),
    ]
}

/// Headers that would take much memory.
fn large_headers() -> Vec<Case> {
    vec![
        weights("100,000 tensors", "more than 16384 tensors", |_| {
            let tensor =
                |i| format!("\"{i}\":{{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}");
            let tensors: Vec<_> = (0..100_000).map(tensor).collect();
            safetensors_raw(format!("{{{}}}", tensors.join(",")).as_bytes(), &[])
        }),
        weights("90,000 dimensions", "tensor a do not fit its dtype and shape", |_| {
            let ones = "1,".repeat(90_000);
            let header = format!(
                "{{\"a\":{{\"dtype\":\"F32\",\"shape\":[{ones}1],\"data_offsets\":[0,8]}}}}"
            );
            safetensors_raw(header.as_bytes(), &[0; 8])
        }),
        weights("90,000 notes, then an error", "data_offsets do not cover", |_| {
            let notes: Vec<_> = (0..90_000).map(|i| format!("\"{i:x}\":\"\"")).collect();
            let header = format!("{{\"__metadata__\":{{{}}}}}", notes.join(","));
            safetensors_raw(header.as_bytes(), &[0; 8])
        }),
        folder_case("16,000 unknown tensors", ("MissingTensor", "15992 more"), |folder, path| {
            let tensor = |i| (format!("{i}"), "U8", vec![0], Vec::new());
            folder.tensors = (0..16_000).map(tensor).collect();
            folder.write(path);
        }),
    ]
}

fn indices() -> Vec<Case> {
    /// A folder whose index is that JSON.
    fn index(name: &'static str, expected: (&'static str, &'static str), json: Value) -> Case {
        folder_case(name, expected, move |folder, path| {
            folder.write_without_weights(path);
            let weights = safetensors_bytes(&folder.tensors);
            for shard in ["a.safetensors", "b.safetensors"] {
                std::fs::write(path.join(shard), &weights).expect("written");
            }
            let index = path.join("model.safetensors.index.json");
            std::fs::write(index, json.to_string()).expect("written");
        })
    }
    let map = |file: &str| json!({"weight_map": {"x": file}});
    vec![
        index("a path upwards", (MALFORMED, "no plain file name"), map("../../x.safetensors")),
        index("an absolute path", (MALFORMED, "no plain file name"), map("/x.safetensors")),
        index("a file of another kind", (MALFORMED, "no plain file name"), map("passwd")),
        index("a shard that is not there", ("Io", "c.safetensors"), map("c.safetensors")),
        index("an index without its map", (MALFORMED, "missing field `weight_map`"), json!({})),
        index(
            "a map of numbers",
            (MALFORMED, "invalid type: integer"),
            json!({"weight_map": {"x": 3}}),
        ),
        index(
            "a tensor in two shards",
            (MALFORMED, "is also in"),
            json!({"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}),
        ),
    ]
}

fn folders() -> Vec<Case> {
    vec![
        folder_case(
            "no weights",
            ("UnsupportedFormat", "without model.safetensors"),
            |folder, path| folder.write_without_weights(path),
        ),
        folder_case(
            "a weight that is not there",
            (
                "MissingTensor",
                "no tensor model.layers.0.mlp.up_proj.weight (blk.0.ffn_up.weight; not used: odd)",
            ),
            |folder, path| {
                folder.tensors.retain(|t| !t.0.contains("up_proj"));
                folder.tensors.push(("odd".into(), "F32", vec![1], vec![0; 4]));
                folder.write(path);
            },
        ),
        folder_case(
            "a weight of integers",
            ("UnsupportedEncoding", "dtype I64 of tensor model.norm.weight"),
            |folder, path| {
                let norm = folder.tensors.iter_mut().find(|t| t.0 == "model.norm.weight");
                let norm = norm.expect("a tensor of the fixture");
                (norm.1, norm.2) = ("I64", vec![4]);
                folder.write(path);
            },
        ),
        folder_case(
            "queries of another shape",
            ("Shape", "q_proj.weight has shape [4, 16], expected [8, 8]"),
            |folder, path| {
                let query = folder.tensors.iter_mut().find(|t| t.0.contains("q_proj"));
                query.expect("a tensor of the fixture").2 = vec![4, 16];
                folder.write(path);
            },
        ),
        folder_case(
            "a weight without elements",
            (MALFORMED, "tensor model.norm.weight has a dimension of zero"),
            |folder, path| {
                let norm = folder.tensors.iter_mut().find(|t| t.0 == "model.norm.weight");
                let norm = norm.expect("a tensor of the fixture");
                (norm.2, norm.3) = (vec![0], Vec::new());
                folder.write(path);
            },
        ),
    ]
}
