//! Small model files made in code, whole or broken in one place.
//!
//! Written without the crate's own writer, byte by byte from the formats' descriptions, so that
//! reader and writer cannot share a mistake.

use std::path::Path;

use safetensors::{Dtype, SafeTensors};
use serde_json::json;

/// A GGUF file about to be written, with every count open to lies.
#[derive(Clone, Debug)]
pub struct Gguf {
    /// The format's version: 1, 2 or 3, or anything.
    pub version: u32,
    /// Keys, and values with their type numbers in front as in the file.
    pub entries: Vec<(String, Vec<u8>)>,
    /// The tensors.
    pub tensors: Vec<GgufTensor>,
    /// Padding between tensors, in bytes.
    pub alignment: usize,
    /// Says another number of tensors than there are.
    pub tensor_count: Option<u64>,
    /// Says another number of entries than there are.
    pub entry_count: Option<u64>,
    /// Ends version 1 strings with a NUL, as some writers did.
    pub nul_strings: bool,
}

/// One tensor of a [`Gguf`].
#[derive(Clone, Debug)]
pub struct GgufTensor {
    /// The name.
    pub name: String,
    /// Dimensions in the file's order, innermost first.
    pub dims: Vec<u64>,
    /// The ggml type number.
    pub kind: u32,
    /// Says another offset than the right one.
    pub offset: Option<u64>,
    /// The bytes.
    pub data: Vec<u8>,
}

impl Gguf {
    /// A valid LLaMA of one block, width 8, two heads, 4 tokens, all weights f32.
    pub fn llama() -> Self {
        let mut file = Self {
            version: 3,
            entries: Vec::new(),
            tensors: Vec::new(),
            alignment: 32,
            tensor_count: None,
            entry_count: None,
            nul_strings: false,
        };
        file.entry("general.architecture", string_value(3, "llama"));
        for (key, number) in [
            ("context_length", 16),
            ("embedding_length", 8),
            ("block_count", 1),
            ("feed_forward_length", 12),
            ("attention.head_count", 2),
        ] {
            file.entry(&format!("llama.{key}"), u32_value(number));
        }
        let epsilon = [6u32.to_le_bytes(), 1e-5f32.to_le_bytes()].concat();
        file.entry("llama.attention.layer_norm_rms_epsilon", epsilon);
        for (name, shape) in llama_shapes() {
            file.tensor(&gguf_name(&name), &shape, f32_data(&name, &shape));
        }
        file
    }

    /// Adds or replaces an entry.
    pub fn entry(&mut self, key: &str, value: Vec<u8>) -> &mut Self {
        match self.entries.iter_mut().find(|(k, _)| k == key) {
            Some((_, slot)) => *slot = value,
            None => self.entries.push((key.to_owned(), value)),
        }
        self
    }

    /// Adds a tensor of f32; `shape` has the outermost dimension first.
    pub fn tensor(&mut self, name: &str, shape: &[usize], data: Vec<u8>) -> &mut Self {
        let dims = shape.iter().rev().map(|&d| d as u64).collect();
        self.tensors.push(GgufTensor { name: name.into(), dims, kind: 0, offset: None, data });
        self
    }

    /// The tensor of that name.
    pub fn tensor_mut(&mut self, name: &str) -> &mut GgufTensor {
        self.tensors.iter_mut().find(|t| t.name == name).expect("a tensor of the fixture")
    }

    /// The file's bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        self.size(&mut out, self.tensor_count.unwrap_or(self.tensors.len() as u64));
        self.size(&mut out, self.entry_count.unwrap_or(self.entries.len() as u64));
        for (key, value) in &self.entries {
            self.string(&mut out, key);
            out.extend(value);
        }
        let mut next = 0u64;
        for tensor in &self.tensors {
            self.string(&mut out, &tensor.name);
            out.extend((tensor.dims.len() as u32).to_le_bytes());
            for &dim in &tensor.dims {
                self.size(&mut out, dim);
            }
            out.extend(tensor.kind.to_le_bytes());
            out.extend(tensor.offset.unwrap_or(next).to_le_bytes());
            next += tensor.data.len().next_multiple_of(self.alignment) as u64;
        }
        for tensor in &self.tensors {
            out.resize(out.len().next_multiple_of(self.alignment), 0);
            out.extend(&tensor.data);
        }
        out
    }

    /// Writes the file.
    pub fn write(&self, path: &Path) {
        std::fs::write(path, self.bytes()).expect("a writable folder");
    }

    fn size(&self, out: &mut Vec<u8>, value: u64) {
        let bytes = value.to_le_bytes();
        out.extend(&bytes[..if self.version == 1 { 4 } else { 8 }]);
    }

    fn string(&self, out: &mut Vec<u8>, text: &str) {
        let nul: &[u8] = if self.nul_strings { b"\0" } else { b"" };
        self.size(out, (text.len() + nul.len()) as u64);
        out.extend(text.as_bytes());
        out.extend(nul);
    }
}

/// A GGUF string value with its type number.
pub fn string_value(version: u32, text: &str) -> Vec<u8> {
    let length = (text.len() as u64).to_le_bytes();
    let length = if version == 1 { &length[..4] } else { &length[..] };
    [&8u32.to_le_bytes(), length, text.as_bytes()].concat()
}

/// A GGUF u32 value with its type number.
pub fn u32_value(number: u32) -> Vec<u8> {
    [4u32.to_le_bytes(), number.to_le_bytes()].concat()
}

/// A GGUF array value: type numbers, the length it claims, the elements' bytes.
pub fn array_value(kind: u32, claimed: u64, elements: &[u8]) -> Vec<u8> {
    [&9u32.to_le_bytes()[..], &kind.to_le_bytes(), &claimed.to_le_bytes(), elements].concat()
}

/// Names of Hugging Face and shapes of the small LLaMA.
pub fn llama_shapes() -> Vec<(String, Vec<usize>)> {
    let block = "model.layers.0";
    let mut shapes = vec![("model.embed_tokens.weight".to_owned(), vec![4, 8])];
    for (module, shape) in [
        ("input_layernorm", vec![8]),
        ("self_attn.q_proj", vec![8, 8]),
        ("self_attn.k_proj", vec![8, 8]),
        ("self_attn.v_proj", vec![8, 8]),
        ("self_attn.o_proj", vec![8, 8]),
        ("post_attention_layernorm", vec![8]),
        ("mlp.gate_proj", vec![12, 8]),
        ("mlp.up_proj", vec![12, 8]),
        ("mlp.down_proj", vec![8, 12]),
    ] {
        shapes.push((format!("{block}.{module}.weight"), shape));
    }
    shapes.push(("model.norm.weight".into(), vec![8]));
    shapes.push(("lm_head.weight".into(), vec![4, 8]));
    shapes
}

/// The GGUF name of a tensor of the small LLaMA.
pub fn gguf_name(hf: &str) -> String {
    let pairs = [
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("lm_head", "output"),
        ("model.layers.0.", "blk.0."),
        ("input_layernorm", "attn_norm"),
        ("self_attn.o_proj", "attn_output"),
        ("self_attn.", "attn_"),
        ("post_attention_layernorm", "ffn_norm"),
        ("mlp.", "ffn_"),
        ("_proj", ""),
    ];
    pairs.iter().fold(hf.to_owned(), |name, (from, to)| name.replace(from, to))
}

/// Different small numbers for each element of each tensor.
pub fn f32_data(name: &str, shape: &[usize]) -> Vec<u8> {
    let seed = name.bytes().fold(7u32, |s, b| s.wrapping_mul(31).wrapping_add(b.into()));
    let n = shape.iter().product::<usize>() as u32;
    (0..n)
        .flat_map(|i| {
            let bits = seed.wrapping_add(i).wrapping_mul(2_654_435_761) >> 8;
            (bits as f32 / 16_777_216.0 - 0.5).to_le_bytes()
        })
        .collect()
}

/// A Hugging Face folder about to be written.
#[derive(Clone, Debug)]
pub struct Folder {
    /// `config.json`.
    pub config: serde_json::Value,
    /// Names, dtypes, shapes and bytes.
    pub tensors: Vec<(String, &'static str, Vec<usize>, Vec<u8>)>,
    /// More files.
    pub files: Vec<(String, Vec<u8>)>,
}

impl Folder {
    /// The LLaMA of [`Gguf::llama`] as Hugging Face has it.
    pub fn llama() -> Self {
        let config = json!({
            "model_type": "llama", "hidden_act": "silu", "hidden_size": 8,
            "intermediate_size": 12, "max_position_embeddings": 16, "num_attention_heads": 2,
            "num_hidden_layers": 1, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
            "tie_word_embeddings": false, "torch_dtype": "float32", "vocab_size": 4,
        });
        let tensors = llama_shapes().into_iter().map(|(name, shape)| {
            let data = f32_data(&name, &shape);
            (name, "F32", shape, data)
        });
        Self { config, tensors: tensors.collect(), files: Vec::new() }
    }

    /// Reads config, weights in one file, and the named other files.
    pub fn read(folder: &Path, files: &[&str]) -> Self {
        let read = |name: &str| std::fs::read(folder.join(name)).expect("a readable file");
        let bytes = read("model.safetensors");
        let tensors = SafeTensors::deserialize(&bytes).expect("tensors").tensors();
        let mut tensors: Vec<_> = tensors
            .into_iter()
            .map(|(name, view)| {
                let dtype = match view.dtype() {
                    Dtype::F16 => Some("F16"),
                    Dtype::F32 => Some("F32"),
                    Dtype::I32 => Some("I32"),
                    _ => None,
                };
                let dtype = dtype.expect("a dtype of our data");
                (name, dtype, view.shape().to_vec(), view.data().to_vec())
            })
            .collect();
        tensors.sort_unstable();
        let config = serde_json::from_slice(&read("config.json")).expect("JSON");
        let files = files.iter().map(|&name| (name.to_owned(), read(name))).collect();
        Self { config, tensors, files }
    }

    /// Writes config, weights in one file, and the other files.
    pub fn write(&self, folder: &Path) {
        self.write_without_weights(folder);
        let bytes = safetensors_bytes(&self.tensors);
        std::fs::write(folder.join("model.safetensors"), bytes).expect("a writable folder");
    }

    /// Writes config and the other files.
    pub fn write_without_weights(&self, folder: &Path) {
        let config = self.config.to_string();
        std::fs::write(folder.join("config.json"), config).expect("a writable folder");
        for (name, bytes) in &self.files {
            std::fs::write(folder.join(name), bytes).expect("a writable folder");
        }
    }
}

/// A valid safetensors file.
pub fn safetensors_bytes(tensors: &[(String, &str, Vec<usize>, Vec<u8>)]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".into(), json!({"format": "pt"}));
    let mut data = Vec::new();
    for (name, dtype, shape, bytes) in tensors {
        let offsets = [data.len(), data.len() + bytes.len()];
        let info = json!({"dtype": dtype, "shape": shape, "data_offsets": offsets});
        header.insert(name.clone(), info);
        data.extend(bytes);
    }
    safetensors_raw(serde_json::Value::Object(header).to_string().as_bytes(), &data)
}

/// A safetensors file with any header.
pub fn safetensors_raw(header: &[u8], data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header, data].concat()
}
