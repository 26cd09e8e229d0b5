//! Safetensors files with one field of the header wrong, each with each value that is none.

use serde_json::{Value, json};

use crate::fixtures::safetensors_raw;

use super::Case;
use super::safetensors::weights;

/// All of them.
pub(crate) fn cases() -> Vec<Case> {
    [lengths(), texts(), fields(), sizes(), notes()].into_iter().flatten().collect()
}

/// A malformed file of these bytes.
fn bytes(name: String, says: &str, bytes: Vec<u8>) -> Case {
    weights(name.leak(), says.to_owned().leak(), move |_| bytes.clone())
}

/// A sound header of one tensor of four bytes, with `key` of the tensor set (null takes it out).
fn tensor(key: &str, value: &Value) -> Vec<u8> {
    let mut tensor = json!({"dtype": "F32", "shape": [1], "data_offsets": [0, 4]});
    match value {
        Value::Null => drop(tensor.as_object_mut().expect("an object").remove(key)),
        other => tensor[key] = other.clone(),
    }
    safetensors_raw(json!({"a": tensor}).to_string().as_bytes(), &[0; 4])
}

/// Lengths of the header that are not its own.
fn lengths() -> Vec<Case> {
    let header = br#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    let n = header.len() as u64;
    let with = |claimed: u64, says: &str| {
        let mut file = safetensors_raw(header, &[0; 4]);
        file[..8].copy_from_slice(&claimed.to_le_bytes());
        bytes(format!("a header of {n} bytes that says {claimed}"), says, file)
    };
    let mut cases = vec![
        with(0, "header: EOF"),
        with(1, "header: EOF"),
        with(n - 1, "header: EOF"),
        with(n + 1, "header: trailing characters"),
        with(n + 4, "header: trailing characters"),
    ];
    for claimed in [n + 5, 1 << 31, u64::from(u32::MAX), 1 << 32, 1 << 62, 1 << 63, u64::MAX - 7] {
        cases.push(with(claimed, &format!("the header length is {claimed} (at most 16777216")));
    }
    cases
}

/// Headers that are no JSON object.
fn texts() -> Vec<Case> {
    let texts: [(&str, &[u8]); 14] = [
        ("nothing but a brace", b"{"),
        ("null", b"null"),
        ("true", b"true"),
        ("a number", b"17"),
        ("a text", b"\"a\""),
        ("an empty list", b"[]"),
        ("two objects", b"{}{}"),
        ("a comma at the end", b"{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]},}"),
        ("a comment", b"{/* no */}"),
        ("single quotes", b"{'a':1}"),
        ("a byte order mark", b"\xef\xbb\xbf{}"),
        ("a zero byte", b"{\"a\0\":1}"),
        ("half a surrogate", b"{\"\\ud800\":1}"),
        ("a cut escape", b"{\"\\u12"),
    ];
    let of = |(name, text): (&str, &[u8])| {
        bytes(format!("a header of {name}"), "header: ", safetensors_raw(text, &[]))
    };
    texts.into_iter().map(of).collect()
}

/// Each field of a tensor with what it cannot be.
fn fields() -> Vec<Case> {
    let rows = [
        ("dtype", json!("f32"), "unknown variant `f32`"),
        ("dtype", json!("F4"), "data_offsets of tensor a do not fit"),
        ("dtype", json!("F128"), "unknown variant `F128`"),
        ("dtype", json!("F32 "), "unknown variant `F32 `"),
        ("dtype", json!(""), "unknown variant ``"),
        ("dtype", json!(5), "header: "),
        ("dtype", json!([]), "header: "),
        ("dtype", json!({}), "header: "),
        ("dtype", json!(true), "header: "),
        ("dtype", Value::Null, "missing field `dtype`"),
        ("shape", json!([-1]), "invalid value: integer `-1`"),
        ("shape", json!([1.5]), "invalid type: floating point"),
        ("shape", json!(["1"]), "invalid type: string"),
        ("shape", json!([[1]]), "invalid type: sequence"),
        ("shape", json!([null]), "invalid type: null"),
        ("shape", json!(1), "invalid type: integer"),
        ("shape", json!("1"), "invalid type: string"),
        ("shape", json!({"0": 1}), "invalid type: map"),
        ("shape", json!([1e30]), "invalid type: floating point"),
        ("shape", Value::Null, "missing field `shape`"),
        ("data_offsets", json!([0]), "invalid length 1"),
        ("data_offsets", json!([]), "invalid length 0"),
        ("data_offsets", json!([0, 4, 8]), "header: "),
        ("data_offsets", json!([0, -4]), "invalid value: integer `-4`"),
        ("data_offsets", json!([0.0, 4.0]), "invalid type: floating point"),
        ("data_offsets", json!(["0", "4"]), "invalid type: string"),
        ("data_offsets", json!([null, 4]), "invalid type: null"),
        ("data_offsets", json!(4), "invalid type: integer"),
        ("data_offsets", json!({"0": 0}), "invalid type: map"),
        ("data_offsets", json!([0, 1e30]), "invalid type: floating point"),
        ("data_offsets", Value::Null, "missing field `data_offsets`"),
    ];
    let of = |(key, value, says): (&str, Value, &str)| {
        bytes(format!("{key} {value}"), says, tensor(key, &value))
    };
    rows.into_iter().map(of).collect()
}

/// Shapes and places that do not fit together, or the file.
fn sizes() -> Vec<Case> {
    let mut cases = Vec::new();
    let place = "data_offsets of tensor a";
    for shape in [
        json!([2]),
        json!([1, 2]),
        json!([1u64 << 30]),
        json!([1u64 << 62]),
        json!([1u64 << 63]),
        json!([u64::MAX]),
        json!([1u64 << 32, 1u64 << 32]),
        json!([u64::MAX, 0, 2]),
        json!([0]),
    ] {
        cases.push(bytes(format!("four bytes of shape {shape}"), place, tensor("shape", &shape)));
    }
    for offsets in [
        json!([4, 0]),
        json!([1, 5]),
        json!([4, 8]),
        json!([0, 1u64 << 32]),
        json!([0, 1u64 << 63]),
        json!([0, u64::MAX]),
        json!([u64::MAX, 3]),
        json!([u64::MAX - 3, u64::MAX]),
    ] {
        let file = tensor("data_offsets", &offsets);
        cases.push(bytes(format!("four bytes at {offsets}"), place, file));
    }
    for dtype in ["F64", "F16", "U8", "I64", "BF16", "F8_E4M3"] {
        let file = tensor("dtype", &json!(dtype));
        cases.push(bytes(format!("four bytes of one {dtype}"), place, file));
    }
    cases
}

/// What stands beside the tensors.
fn notes() -> Vec<Case> {
    let with = |name: &str, says: &str, notes: &Value| {
        let header = json!({"__metadata__": notes, "a": {"dtype": "F32", "shape": [1],
                                                         "data_offsets": [0, 4]}});
        let file = safetensors_raw(header.to_string().as_bytes(), &[0; 4]);
        bytes(format!("notes of {name}"), says, file)
    };
    vec![
        with("numbers", "invalid type: integer", &json!({"format": 1})),
        with("lists", "invalid type: sequence", &json!({"format": ["pt"]})),
        with("notes", "invalid type: map", &json!({"format": {"format": "pt"}})),
        with("nothing", "invalid type: null", &json!({"format": null})),
        with("text", "invalid type: string", &json!("pt")),
        with("a list", "invalid type: sequence", &json!(["pt"])),
    ]
}
