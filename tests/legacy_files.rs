//! The model files of 2023, written byte by byte from their description, whole or broken.
//!
//! Nothing here is shared with the reader: names, orders and block layouts are written down again.

use std::path::Path;

pub use of_gguf::of_gguf;

#[path = "legacy_of_gguf.rs"]
mod of_gguf;

/// A model and the header that its converter wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// Magic, version (if it is not 0), seven words.
    Llama {
        /// As it stands in the file.
        magic: &'static [u8; 4],
        /// 0 for none.
        version: u32,
    },
    /// The vocabulary's size stands before the vocabulary again.
    GptJ,
    /// With a word for the order of residuals.
    NeoX,
    /// Without it.
    NeoXOld,
}

/// LLaMA's containers.
pub const LLAMA: [Model; 5] = [
    Model::Llama { magic: b"lmgg", version: 0 },
    Model::Llama { magic: b"fmgg", version: 1 },
    Model::Llama { magic: b"tjgg", version: 1 },
    Model::Llama { magic: b"tjgg", version: 2 },
    Model::Llama { magic: b"tjgg", version: 3 },
];

/// A file about to be written, with every field open to lies.
#[derive(Clone, Debug)]
pub struct Ggml {
    /// Decides about scores and alignment.
    pub model: Model,
    /// The words after magic and version.
    pub words: Vec<u32>,
    /// The vocabulary: bytes and score.
    pub tokens: Vec<(Vec<u8>, f32)>,
    /// Says another length of token (id, length) than it has.
    pub token_len: Option<(usize, u32)>,
    /// The tensors.
    pub tensors: Vec<Tensor>,
    /// What comes after them.
    pub tail: Vec<u8>,
}

/// One tensor of a [`Ggml`].
#[derive(Clone, Debug)]
pub struct Tensor {
    /// The name.
    pub name: Vec<u8>,
    /// Innermost first.
    pub dims: Vec<u32>,
    /// ggml's number of that time.
    pub kind: u32,
    /// The bytes.
    pub data: Vec<u8>,
    /// Says another number of dimensions, or length of the name.
    pub lies: [Option<u32>; 2],
}

impl Tensor {
    /// Its name, for looking it up.
    pub fn is(&self, name: &str) -> bool {
        self.name == name.as_bytes()
    }
}

impl Model {
    /// Whether tokens have scores.
    pub fn has_scores(self) -> bool {
        matches!(self, Self::Llama { magic: b"fmgg" | b"tjgg", .. })
    }

    fn is_aligned(self) -> bool {
        matches!(self, Self::Llama { magic: b"tjgg", .. })
    }

    /// For messages.
    pub fn name(self) -> String {
        match self {
            Self::Llama { magic, version } => {
                format!("llama {}{version}", String::from_utf8_lossy(magic))
            }
            other => format!("{other:?}"),
        }
    }
}

impl Ggml {
    /// A valid model of one block, width 8, two heads, feed-forward 32 (12 for LLaMA), f32.
    pub fn tiny(model: Model) -> Self {
        let (words, inner) = match model {
            Model::Llama { .. } => (vec![4, 8, 4, 2, 1, 4, 0], 12),
            Model::GptJ => (vec![4, 16, 8, 2, 1, 4, 0, 4], 32),
            Model::NeoX => (vec![4, 16, 8, 2, 1, 4, 1, 0], 32),
            Model::NeoXOld => (vec![4, 16, 8, 2, 1, 4, 0], 32),
        };
        let tokens = [" \u{2047} ", "", "", "a"].map(|text| (text.as_bytes().to_vec(), 0.0));
        let tensor = |(name, dims): (String, Vec<u32>)| {
            let n: u32 = dims.iter().product();
            let data = (0..n).flat_map(|i| (0.01 * i as f32).to_le_bytes()).collect();
            Tensor { name: name.into_bytes(), dims, kind: 0, data, lies: [None; 2] }
        };
        let tensors = shapes(model, (4, 8, inner)).into_iter().map(tensor).collect();
        Self { model, words, tokens: tokens.into(), token_len: None, tensors, tail: Vec::new() }
    }

    /// The tensor of that name.
    pub fn tensor_mut(&mut self, name: &str) -> &mut Tensor {
        self.tensors.iter_mut().find(|t| t.is(name)).expect("a tensor of the fixture")
    }

    /// The file's bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self.model {
            Model::Llama { magic, version } => {
                out.extend(magic);
                out.extend(&version.to_le_bytes()[..if version == 0 { 0 } else { 4 }]);
            }
            _ => out.extend(b"lmgg"),
        }
        self.words.iter().for_each(|word| out.extend(word.to_le_bytes()));
        for (id, (token, score)) in self.tokens.iter().enumerate() {
            let lie = self.token_len.filter(|(other, _)| *other == id).map(|(_, len)| len);
            out.extend(lie.unwrap_or(token.len() as u32).to_le_bytes());
            out.extend(token);
            if self.model.has_scores() {
                out.extend(score.to_le_bytes());
            }
        }
        for tensor in &self.tensors {
            out.extend(tensor.lies[0].unwrap_or(tensor.dims.len() as u32).to_le_bytes());
            out.extend(tensor.lies[1].unwrap_or(tensor.name.len() as u32).to_le_bytes());
            out.extend(tensor.kind.to_le_bytes());
            tensor.dims.iter().for_each(|dim| out.extend(dim.to_le_bytes()));
            out.extend(&tensor.name);
            if self.model.is_aligned() {
                out.resize(out.len().next_multiple_of(32), 0);
            }
            out.extend(&tensor.data);
        }
        out.extend(&self.tail);
        out
    }

    /// Writes the file.
    pub fn write(&self, path: &Path) {
        std::fs::write(path, self.bytes()).expect("a writable folder");
    }
}

/// Names and dimensions, innermost first, of (vocabulary, width, feed-forward) in one block.
fn shapes(model: Model, (vocab, width, inner): (u32, u32, u32)) -> Vec<(String, Vec<u32>)> {
    let matrix = |name: &str, k, n| (format!("{name}.weight"), vec![k, n]);
    let vector = |name: &str, n| vec![(format!("{name}.weight"), vec![n])];
    let biased = |name: &str, k, n| vec![matrix(name, k, n), (format!("{name}.bias"), vec![n])];
    let norm = |name: &str| {
        vec![(format!("{name}.weight"), vec![width]), (format!("{name}.bias"), vec![width])]
    };
    match model {
        Model::Llama { .. } => [
            vec![matrix("tok_embeddings", width, vocab)],
            vector("norm", width),
            vec![matrix("output", width, vocab)],
            ["wq", "wk", "wv", "wo"]
                .map(|w| matrix(&format!("layers.0.attention.{w}"), width, width))
                .to_vec(),
            vector("layers.0.attention_norm", width),
            vec![
                matrix("layers.0.feed_forward.w1", width, inner),
                matrix("layers.0.feed_forward.w2", inner, width),
                matrix("layers.0.feed_forward.w3", width, inner),
            ],
            vector("layers.0.ffn_norm", width),
        ]
        .concat(),
        Model::GptJ => [
            vec![matrix("transformer.wte", width, vocab)],
            norm("transformer.h.0.ln_1"),
            ["q_proj", "k_proj", "v_proj", "out_proj"]
                .map(|w| matrix(&format!("transformer.h.0.attn.{w}"), width, width))
                .to_vec(),
            biased("transformer.h.0.mlp.fc_in", width, inner),
            biased("transformer.h.0.mlp.fc_out", inner, width),
            norm("transformer.ln_f"),
            biased("lm_head", width, vocab),
        ]
        .concat(),
        Model::NeoX | Model::NeoXOld => {
            let name = |stem: &str| format!("gpt_neox.layers.0.{stem}");
            [
                vec![matrix("gpt_neox.embed_in", width, vocab)],
                norm(&name("input_layernorm")),
                norm(&name("post_attention_layernorm")),
                biased(&name("attention.query_key_value"), width, 3 * width),
                biased(&name("attention.dense"), width, width),
                biased(&name("mlp.dense_h_to_4h"), width, inner),
                biased(&name("mlp.dense_4h_to_h"), inner, width),
                norm("gpt_neox.final_layer_norm"),
                vec![matrix("embed_out", width, vocab)],
            ]
            .concat()
        }
    }
}
