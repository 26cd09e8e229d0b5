//! Broken pickles: opcodes, values, calls, tensors.

use crate::torch_file::{dict, global, int, of_folder, storage, tensor, text, tuple};

use super::safetensors::folder_case;
use super::torch::{NAME, UNSUPPORTED, ops, pickle};
use super::{Case, MALFORMED};

/// The first tensor that a folder without weights lacks.
pub(crate) const NAME_MISSING: &str = "no tensor model.embed_tokens.weight";

/// All of them.
pub(crate) fn cases() -> Vec<Case> {
    [opcodes(), values(), calls(), tensors()].into_iter().flatten().collect()
}

/// A case whose pickle is a dictionary of the head alone, that value.
fn value(
    name: &'static str,
    expected: (&'static str, &'static str),
    value: impl Fn() -> Vec<u8> + 'static,
) -> Case {
    pickle(name, expected, move || dict(&[(NAME.into(), value())]))
}

fn opcodes() -> Vec<Case> {
    let wrong = |says| (MALFORMED, says);
    vec![
        pickle("nothing", wrong("the next opcode needs 1 bytes"), Vec::new),
        pickle("a protocol alone", wrong("the next opcode needs 1 bytes"), || vec![0x80, 2]),
        pickle("half a protocol", wrong("a protocol number needs 1 bytes"), || vec![0x80]),
        pickle("no end", wrong("the next opcode needs 1 bytes"), || b"\x80\x02}".to_vec()),
        pickle("an end of nothing", wrong("more values than there are"), || ops(&[])),
        pickle("an unknown opcode", wrong("opcode 0xff before this"), || ops(&[&[0xff]])),
        pickle("an instance (INST)", wrong("opcode 0x69"), || ops(&[b"(ios\nsystem\n"])),
        pickle("an object (OBJ)", wrong("opcode 0x6f"), || ops(&[b"(o"])),
        pickle("a new object (NEWOBJ)", wrong("opcode 0x81"), || ops(&[b"N)", &[0x81]])),
        pickle("a number in text (INT)", wrong("opcode 0x49"), || ops(&[b"I1\n"])),
        pickle("an extension (EXT1)", wrong("opcode 0x82"), || ops(&[&[0x82, 1]])),
        pickle("a copy (DUP)", wrong("opcode 0x32"), || ops(&[b"N2"])),
        pickle("a name in text (PERSID)", wrong("opcode 0x50"), || ops(&[b"Pkey\n"])),
        pickle("a text of 4 GB", wrong("a text needs 4294967295 bytes"), || {
            ops(&[b"X\xff\xff\xff\xffabc"])
        }),
        pickle("a text that is not UTF-8", wrong("is not UTF-8"), || {
            ops(&[b"X\x02\0\0\0\xff\xfe"])
        }),
        pickle("a long that is cut", wrong("an integer needs 255 bytes"), || {
            ops(&[&[0x8a, 255, 1]])
        }),
        pickle("a name without end", wrong("the end of a name's line needs"), || {
            b"\x80\x02ctorch".to_vec()
        }),
        pickle("a name of 300 bytes", wrong("a name has more than 255 bytes"), || {
            ops(&[b"c", &[b'x'; 300], b"\ny\n"])
        }),
        pickle("a name that is not UTF-8", wrong("name before this is not UTF-8"), || {
            ops(&[b"c\xff\nx\n"])
        }),
        pickle("a memo of nothing", wrong("nothing is in the memo at 7"), || ops(&[b"h\x07"])),
        pickle("a memo of 2^32", wrong("memo's number 4294967295 is not below"), || {
            ops(&[b"Nr\xff\xff\xff\xff"])
        }),
        pickle("nothing to keep", wrong("more values than there are"), || ops(&[b"q\0"])),
        pickle("a tuple without a mark", wrong("there is no mark"), || ops(&[b"t"])),
        pickle("a value below a mark", wrong("more values than there are"), || ops(&[b"N(0"])),
        pickle("three values of two", wrong("more values than there are"), || ops(&[b"NN\x87"])),
    ]
}

fn values() -> Vec<Case> {
    let wrong = |says| (MALFORMED, says);
    vec![
        pickle("a list", (UNSUPPORTED, "something else than a dictionary"), || ops(&[b"]"])),
        pickle("a number", (UNSUPPORTED, "something else than a dictionary"), || ops(&[b"K\x01"])),
        pickle("None", (UNSUPPORTED, "something else than a dictionary"), || ops(&[b"N"])),
        pickle("a dictionary of nothing", ("MissingTensor", "model.embed_tokens.weight"), || {
            ops(&[b"}"])
        }),
        pickle("a state of nothing", ("MissingTensor", "model.embed_tokens.weight"), || {
            ops(&[b"}", &text("state_dict"), b"}s"])
        }),
        pickle("a key without a value", wrong("a key has no value"), || ops(&[b"}(Nu"])),
        pickle("items of a tuple", wrong("set in is no dictionary"), || ops(&[b")(NNu"])),
        pickle("one item of None", wrong("set in is no dictionary"), || ops(&[b"NNNs"])),
        pickle("appended to a dictionary", wrong("appended to is no list"), || ops(&[b"}Na"])),
        pickle("appended to nothing", wrong("appended to is no list"), || ops(&[b"(Ne"])),
        value("a class for a weight", ("MissingTensor", NAME_MISSING), || {
            global("collections", "OrderedDict")
        }),
        pickle("a dictionary in itself", ("MissingTensor", NAME_MISSING), || {
            ops(&[b"}q\0", &text("state_dict"), b"h\0s"])
        }),
    ]
}

fn calls() -> Vec<Case> {
    fn named(
        name: &'static str,
        says: &'static str,
        module: &'static str,
        class: &'static str,
    ) -> Case {
        value(name, (UNSUPPORTED, says), move || {
            [global(module, class), tuple(&[text("x")]), b"R".to_vec()].concat()
        })
    }
    let wrong = |says| (MALFORMED, says);
    vec![
        named(
            "a shell",
            "a pickle that calls os.system (supported: collections.Ord",
            "os",
            "system",
        ),
        named("posix", "calls posix.system", "posix", "system"),
        named("nt", "calls nt.system", "nt", "system"),
        named("a process", "calls subprocess.Popen", "subprocess", "Popen"),
        named("evaluation", "calls builtins.eval", "builtins", "eval"),
        named("execution", "calls __builtin__.exec", "__builtin__", "exec"),
        named("an attribute", "calls builtins.getattr", "builtins", "getattr"),
        named("an import", "calls builtins.__import__", "builtins", "__import__"),
        named("a dotted name", "calls torch._utils.os.system", "torch", "_utils.os.system"),
        named(
            "a name with a dot inside",
            "calls collections.OrderedDict.x",
            "collections",
            "OrderedDict.x",
        ),
        named("torch's own loader", "calls torch.load", "torch", "load"),
        named(
            "a tensor of old",
            "calls torch._utils._rebuild_tensor",
            "torch._utils",
            "_rebuild_tensor",
        ),
        named(
            "a subclass",
            "calls torch._tensor._rebuild_from_type_v2",
            "torch._tensor",
            "_rebuild_from_type_v2",
        ),
        named(
            "an array",
            "calls numpy.core.multiarray._reconstruct",
            "numpy.core.multiarray",
            "_reconstruct",
        ),
        named("control characters", "calls o\\u{1b}[2Js.x", "o\u{1b}[2Js", "x"),
        value("a stacked name", (UNSUPPORTED, "calls os.system"), || {
            [text("os"), text("system"), vec![0x93]].concat()
        }),
        value("a name of numbers", wrong("a class is named by no text"), || {
            ops(&[b"K\x01K\x02\x93"])
        }),
        value("a call of None", wrong("what is called is no class"), || b"N)R".to_vec()),
        value("a call of text", wrong("what is called is no class"), || {
            [text("x"), b")R".to_vec()].concat()
        }),
        value("a call without a tuple", wrong("what a class is called with is no tuple"), || {
            [global("collections", "OrderedDict"), b"NR".to_vec()].concat()
        }),
        value("a dictionary of arguments", wrong("OrderedDict cannot be called with 1"), || {
            [global("collections", "OrderedDict"), tuple(&[int(1)]), b"R".to_vec()].concat()
        }),
        value("a storage that is called", wrong("Storage(F32) cannot be called"), || {
            [global("torch", "FloatStorage"), b")R".to_vec()].concat()
        }),
        value("a parameter of None", wrong("RebuildParameter cannot be called"), || {
            let class = global("torch._utils", "_rebuild_parameter");
            [class, tuple(&[b"N".to_vec(), vec![0x88], b")".to_vec()]), b"R".to_vec()].concat()
        }),
        value("a tensor of nothing", wrong("RebuildTensor cannot be called with 0"), || {
            [global("torch._utils", "_rebuild_tensor_v2"), b")R".to_vec()].concat()
        }),
    ]
}

fn tensors() -> Vec<Case> {
    /// A head over the fixture's own storage of 32 f32.
    fn head(
        name: &'static str,
        says: &'static str,
        place: (i64, &'static [i64], &'static [i64]),
    ) -> Case {
        value(name, (MALFORMED, says), move || {
            tensor(&storage("FloatStorage", "11", 32), place.0, place.1, place.2)
        })
    }
    /// A head over the storage that these opcodes push.
    fn stored(name: &'static str, says: &'static str, storage: fn() -> Vec<u8>) -> Case {
        value(name, (MALFORMED, says), move || tensor(&storage(), 0, &[4, 8], &[8, 1]))
    }
    vec![
        head("an offset outside", "leaves its storage of 32", (32, &[4, 8], &[8, 1])),
        head("an offset of one", "leaves its storage of 32", (1, &[4, 8], &[8, 1])),
        head("an offset of 2^63", "leaves its storage", (i64::MAX, &[4, 8], &[8, 1])),
        head("an offset below zero", "a tensor's offset is -1", (-1, &[4, 8], &[8, 1])),
        head("too many rows", "leaves its storage", (0, &[5, 8], &[8, 1])),
        head("2^62 rows", "leaves its storage", (0, &[1 << 62, 8], &[8, 1])),
        head("2^126 elements", "leaves its storage", (0, &[1 << 62, 1 << 62], &[1 << 62, 1])),
        head("minus four rows", "a shape is -4", (0, &[-4, 8], &[8, 1])),
        head("a stride below zero", "strides is -8", (0, &[4, 8], &[-8, 1])),
        head("a stride of 2^62", "leaves its storage", (0, &[4, 8], &[1 << 62, 1])),
        head("other strides than dimensions", "has 2 dimensions, 1 strides", (0, &[4, 8], &[1])),
        head("nine dimensions", "has 9 dimensions", (0, &[1; 9], &[1; 9])),
        stored(
            "a storage that is too long",
            "has a storage of 128 bytes, too few for 33 F32",
            || storage("FloatStorage", "11", 33),
        ),
        stored("a storage of 2^62", "too few for 4611686018427387904 F32", || {
            storage("FloatStorage", "11", 1 << 62)
        }),
        stored("a storage below zero", "a storage's length is -1", || {
            storage("FloatStorage", "11", -1)
        }),
        stored("a storage of wider numbers", "too few for 32 I64", || {
            storage("LongStorage", "11", 32)
        }),
        stored("None for a storage", "RebuildTensor cannot be called", || b"N".to_vec()),
        stored("a dictionary for a storage", "a tensor has no storage", || b"}".to_vec()),
        stored("a name that is no tuple", "a storage's name is no tuple", || b"NQ".to_vec()),
        stored("a name of one", "is no storage of a known type", || {
            [tuple(&[text("storage")]), b"Q".to_vec()].concat()
        }),
        stored("a module for a storage", "is no storage of a known type", || {
            let class = global("torch", "FloatStorage");
            [tuple(&[text("module"), class, text("0"), text("cpu"), int(1)]), b"Q".to_vec()]
                .concat()
        }),
        stored("a view of a storage", "is no storage of a known type", || {
            let class = global("torch", "FloatStorage");
            let view = tuple(&[text("v"), int(0), int(1)]);
            [tuple(&[text("storage"), class, text("0"), text("cpu"), int(1), view]), b"Q".to_vec()]
                .concat()
        }),
        stored("a key of numbers", "is no storage of a known type", || {
            let class = global("torch", "FloatStorage");
            [tuple(&[text("storage"), class, int(0), text("cpu"), int(1)]), b"Q".to_vec()].concat()
        }),
        folder_case("a weight of doubles", ("UnsupportedEncoding", "dtype F64"), |folder, path| {
            folder.write_without_weights(path);
            let mut zip = of_folder(folder);
            let mut entries = Vec::new();
            for (i, (name, _, shape, _)) in folder.tensors.iter().enumerate() {
                let dims: Vec<i64> = shape.iter().map(|&d| d as i64).collect();
                let n = dims.iter().product::<i64>();
                zip.get(&format!("archive/data/{i}")).data = vec![0; 8 * n as usize];
                let strides: Vec<i64> =
                    (0..dims.len()).map(|d| dims[d + 1..].iter().product()).collect();
                let doubles = storage("DoubleStorage", &i.to_string(), n);
                entries.push((name.clone(), tensor(&doubles, 0, &dims, &strides)));
            }
            zip.get("archive/data.pkl").data = dict(&entries);
            std::fs::write(path.join("pytorch_model.bin"), zip.bytes()).expect("written");
        }),
    ]
}
