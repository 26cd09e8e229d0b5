//! Broken LoRA adapters for the small LLaMA: PEFT folders; single files are in `adapter_files.rs`.

use std::path::Path;

use crate::adapters::{Lora, bytes, write_peft};
use crate::fixtures::{Folder, Gguf, safetensors_raw};
use crate::torch_file::{Zip, dict, of_folder, storage, tensor};
use halfbyte::io::Checkpoint;
use halfbyte::model::ModelConfig;
use halfbyte::{Adapter, Result};
use serde_json::{Value, json};

use super::adapter_files;
use super::{Case, MALFORMED};

const ENDS: &[&str] = &["attn_q", "attn_v", "ffn_down"];

type Tensor = (String, &'static str, Vec<usize>, Vec<u8>);

/// Opens an adapter for the small LLaMA.
pub(crate) fn open(path: &Path) -> Result<()> {
    Adapter::open(path, &config()).map(drop)
}

fn config() -> ModelConfig {
    let bytes: &'static [u8] = Gguf::llama().bytes().leak();
    let checkpoint = Checkpoint::from_static_bytes("base", bytes).expect("a valid file");
    ModelConfig::from_checkpoint(&checkpoint).expect("a valid configuration")
}

/// A valid adapter.
pub fn lora() -> Lora {
    Lora::random(&config(), 1, 4, ENDS)
}

/// All of them.
pub(crate) fn cases() -> Vec<Case> {
    let tables = [folders(), pickles(), configs(), tensors(), adapter_files::cases(), others()];
    tables.into_iter().flatten().collect()
}

/// A case whose folder has this configuration and these tensors.
fn peft(
    name: &'static str,
    (kind, says): (&'static str, &'static str),
    change: impl Fn(&mut Value, &mut Vec<Tensor>) + 'static,
) -> Case {
    let write = move |path: &Path| {
        let lora = lora();
        let (mut config, mut tensors) = (lora.config(), lora.tensors());
        change(&mut config, &mut tensors);
        write_peft(path, &config, &tensors);
        path.to_owned()
    };
    Case { name, write: Box::new(write), kind, says }
}

/// A case with a field of the configuration changed.
fn field(name: &'static str, value: Value, kind: &'static str, says: &'static str) -> Case {
    peft(name, (kind, says), move |config, _| config[name] = value.clone())
}

/// A case that is a valid folder with a file changed.
fn file(
    name: &'static str,
    (kind, says): (&'static str, &'static str),
    path: &'static str,
    bytes: impl Fn(Vec<u8>) -> Option<Vec<u8>> + 'static,
) -> Case {
    let write = move |folder: &Path| {
        lora().write_peft(folder);
        let file = folder.join(path);
        match bytes(std::fs::read(&file).expect("written")) {
            Some(bytes) => std::fs::write(&file, bytes).expect("written"),
            None => std::fs::remove_file(&file).expect("written"),
        }
        folder.to_owned()
    };
    Case { name, write: Box::new(write), kind, says }
}

fn folders() -> Vec<Case> {
    const CONFIG: &str = "adapter_config.json";
    const WEIGHTS: &str = "adapter_model.safetensors";
    vec![
        file(
            "no configuration",
            ("UnsupportedFormat", "without adapter_config.json"),
            CONFIG,
            |_| None,
        ),
        file("no weights", ("UnsupportedFormat", "without weights"), WEIGHTS, |_| None),
        file("half a configuration", (MALFORMED, "JSON"), CONFIG, |b| {
            Some(b[..b.len() / 2].to_vec())
        }),
        file("an empty configuration", (MALFORMED, "JSON"), CONFIG, |_| Some(Vec::new())),
        file("alpha is NaN", (MALFORMED, "JSON"), CONFIG, |_| {
            Some(br#"{"peft_type": "LORA", "r": 4, "lora_alpha": NaN}"#.to_vec())
        }),
        file("a list", (MALFORMED, "JSON"), CONFIG, |_| Some(b"[1]".to_vec())),
        file("no weights in the file", (MALFORMED, "header length"), WEIGHTS, |_| Some(Vec::new())),
        file("half of the weights", (MALFORMED, "data_offsets"), WEIGHTS, |b| {
            Some(b[..b.len() - 100].to_vec())
        }),
        file("a header of 2^63", (MALFORMED, "header length"), WEIGHTS, |mut b| {
            b[7] = 0x80;
            Some(b)
        }),
        file("no tensors", (MALFORMED, "no lora_a"), WEIGHTS, |_| {
            Some(safetensors_raw(b"{}", &[]))
        }),
    ]
}

/// A case that is a valid folder with these bytes as its `adapter_model.bin`.
fn pickled(
    name: &'static str,
    (kind, says): (&'static str, &'static str),
    bytes: impl Fn(Vec<u8>) -> Vec<u8> + 'static,
) -> Case {
    let write = move |folder: &Path| {
        let lora = lora();
        lora.write_peft(folder);
        std::fs::remove_file(folder.join("adapter_model.safetensors")).expect("written");
        let weights = Folder { tensors: lora.tensors(), ..Folder::llama() };
        let bytes = bytes(of_folder(&weights).bytes());
        std::fs::write(folder.join("adapter_model.bin"), bytes).expect("written");
        folder.to_owned()
    };
    Case { name, write: Box::new(write), kind, says }
}

fn pickles() -> Vec<Case> {
    vec![
        pickled("no PyTorch file", ("UnsupportedFormat", "not PyTorch's"), |_| b"hello".to_vec()),
        pickled("half of an archive", (MALFORMED, "adapter_model.bin"), |b| {
            b[..b.len() / 2].to_vec()
        }),
        pickled("a transposed factor", (MALFORMED, "row after row"), |_| {
            let storage = storage("FloatStorage", "0", 32);
            let name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
            let mut zip = Zip::default();
            let tensor = tensor(&storage, 0, &[4, 8], &[1, 4]);
            zip.record("a/data.pkl", &dict(&[(name.into(), tensor)]));
            zip.record("a/data/0", &[0; 128]);
            zip.bytes()
        }),
    ]
}

fn configs() -> Vec<Case> {
    vec![
        field("peft_type", json!("IA3"), "Config", "expected LORA"),
        field("peft_type", json!(null), "Config", "is missing, expected LORA"),
        field("use_dora", json!(true), "Config", "asks for DoRA"),
        field("use_qalora", json!(true), "Config", "asks for QALoRA"),
        field("bias", json!("all"), "Config", "expected none"),
        field("bias", json!(3), "Config", "a string"),
        field("lora_bias", json!(true), "Config", "biases of LoRA's own"),
        field("modules_to_save", json!(["lm_head"]), "Config", "whole modules"),
        field("layer_replication", json!([[0, 1]]), "Config", "repeated layers"),
        field("trainable_token_indices", json!([1]), "Config", "embeddings"),
        field("alora_invocation_tokens", json!([1, 2]), "Config", "aLoRA"),
        field("init_lora_weights", json!("pissa_niter_4"), "Config", "base weights"),
        field("lora_alpha", json!("16"), "Config", "expected a number"),
        field("lora_alpha", json!(null), "Config", "expected a number"),
        field("lora_alpha", json!(1e300), "Config", "alpha"),
        field("r", json!(0), "Config", "1 or more"),
        field("r", json!(-4), "Config", "non-negative integer"),
        field("r", json!(4_000_000_000u64), "Config", "has the rank 4"),
        field("r", json!(5), "Config", "is 5, but"),
        field("use_rslora", json!("yes"), "Config", "true or false"),
        field("alpha_pattern", json!({"q.*": 3}), "Config", "regular expression"),
        field("alpha_pattern", json!({"q_proj": "3"}), "Config", "no number"),
        field("alpha_pattern", json!([1]), "Config", "an object"),
    ]
}

/// A case with the first A (rank 4 of a query projection, width 8) changed.
fn first(
    name: &'static str,
    (kind, says): (&'static str, &'static str),
    change: impl Fn(&mut Tensor) + 'static,
) -> Case {
    peft(name, (kind, says), move |_, tensors| change(&mut tensors[0]))
}

fn tensors() -> Vec<Case> {
    let zeros = |shape: &[usize]| bytes(&vec![0.0; shape.iter().product()]);
    vec![
        peft("A without B", ("MissingTensor", "attn_q.weight.lora_b"), |_, t| drop(t.remove(1))),
        peft("B without A", ("MissingTensor", "attn_q.weight.lora_a"), |_, t| drop(t.remove(0))),
        first("A of another width", ("Shape", "[4, 8]"), move |t| {
            (t.2, t.3) = (vec![4, 9], zeros(&[4, 9]));
        }),
        first("A of another rank", ("Shape", "lora_b"), move |t| {
            (t.2, t.3) = (vec![3, 8], zeros(&[3, 8]));
        }),
        first("A is a vector", (MALFORMED, "1 dimensions"), move |t| {
            (t.2, t.3) = (vec![32], zeros(&[32]));
        }),
        first("A has three dimensions", (MALFORMED, "3 dimensions"), move |t| t.2 = vec![2, 2, 8]),
        first("a rank of zero", (MALFORMED, "zero"), |t| (t.2, t.3) = (vec![0, 8], Vec::new())),
        peft("B of another height", ("Shape", "[8, 4]"), move |_, t| {
            (t[1].2, t[1].3) = (vec![12, 4], zeros(&[12, 4]));
        }),
        peft("B that halves do not divide", (MALFORMED, "does not divide"), move |_, t| {
            (t[1].2, t[1].3) = (vec![7, 4], zeros(&[7, 4]));
        }),
        peft("A and B swapped", ("Config", "has the rank 8"), |_, t| {
            let name = t[0].0.clone();
            t[0].0 = std::mem::replace(&mut t[1].0, name);
        }),
        peft("a rank above all use", ("Config", "more than the matrix"), move |config, t| {
            *config = json!({"peft_type": "LORA", "r": 900, "lora_alpha": 1});
            t.truncate(2);
            (t[0].2, t[0].3) = (vec![900, 8], zeros(&[900, 8]));
            (t[1].2, t[1].3) = (vec![8, 900], zeros(&[8, 900]));
        }),
        first("integers", ("UnsupportedEncoding", "I32"), |t| t.1 = "I32"),
        first("A of another layer than B", ("MissingTensor", "lora_"), |t| {
            t.0 = t.0.replace("layers.0", "layers.7");
        }),
        peft("only a layer that is not there", ("Config", "of its 1 blocks"), |_, t| {
            t.iter_mut().for_each(|t| t.0 = t.0.replace("layers.0", "layers.1"));
        }),
        first("a layer with a zero in front", ("Config", "no module"), |t| {
            t.0 = t.0.replace("layers.0", "layers.00");
        }),
        first("a layer of 2^64", ("Config", "no module"), |t| {
            t.0 = t.0.replace("layers.0", "layers.18446744073709551616");
        }),
        first("another architecture", ("Config", "llama has no module"), |t| {
            t.0 = "base_model.model.transformer.h.0.attn.q_proj.lora_A.weight".into();
        }),
        peft("a norm", ("Config", "of its 1 blocks"), |_, t| {
            t.iter_mut().for_each(|t| t.0 = t.0.replace("self_attn.q_proj", "input_layernorm"));
        }),
        first("an embedding", ("Config", "changes an embedding"), |t| {
            t.0 = "base_model.model.model.embed_tokens.lora_embedding_A".into();
        }),
        first("a magnitude", ("Config", "DoRA"), |t| {
            t.0 = t.0.replace("lora_A", "lora_magnitude_vector");
        }),
        first("a bias", ("Config", "bias of LoRA"), |t| {
            t.0 = t.0.replace("lora_A.weight", "lora_B.bias");
        }),
        first("a whole weight", ("Config", "whole weight"), |t| {
            t.0 = "base_model.model.lm_head.weight".into();
        }),
        first("no name", ("Config", "whole weight"), |t| t.0 = String::new()),
        peft("a matrix twice", (MALFORMED, "twice"), |_, t| {
            let mut again = t[0].clone();
            again.0 = again.0.replace("base_model.model.", "");
            t.push(again);
        }),
    ]
}

fn others() -> Vec<Case> {
    let write = |name: &'static str, bytes: &'static [u8]| {
        move |folder: &Path| {
            let path = folder.join(name);
            std::fs::write(&path, bytes).expect("written");
            path
        }
    };
    let case = |name, (kind, says), write| Case { name, write, kind, says };
    vec![
        case("no such path", ("Io", "cannot access"), Box::new(|f: &Path| f.join("nothing"))),
        case("an empty file", ("UnsupportedFormat", "an empty file"), Box::new(write("a", b""))),
        case("a pickle", ("UnsupportedFormat", "pickle"), Box::new(write("a.bin", b"\x80\x02}"))),
        case("a text", ("UnsupportedFormat", "PEFT folder"), Box::new(write("a.txt", b"hello"))),
        case(
            "weights alone",
            ("UnsupportedFormat", "PEFT folder"),
            Box::new(write("adapter_model.safetensors", b"\x08")),
        ),
        case(
            "an empty folder",
            ("UnsupportedFormat", "without adapter_config"),
            Box::new(Path::to_owned),
        ),
    ]
}
