//! LoRA adapters made in code, written into every container that holds them.
//!
//! Written without the crate's own code, from the formats' descriptions. Numbers are kept as PEFT
//! has them; GGUF's order of rows is made here.

use std::path::Path;

use halfbyte::model::ModelConfig;
use serde_json::{Value, json};

use crate::fixtures::{Gguf, safetensors_bytes, string_value};

/// An adapter about to be written.
#[derive(Clone, Debug)]
pub struct Lora {
    /// `general.architecture` of its model.
    pub architecture: &'static str,
    /// r.
    pub rank: usize,
    /// `lora_alpha`.
    pub alpha: f64,
    /// What it changes.
    pub modules: Vec<LoraModule>,
}

/// The two factors of one matrix.
#[derive(Clone, Debug)]
pub struct LoraModule {
    /// PEFT's name, without `lora_A.weight`.
    pub hf: String,
    /// GGUF's name of the matrix.
    pub gguf: String,
    /// The name in `ggla` files, without `loraA`.
    pub meta: String,
    /// Out and in.
    pub shape: (usize, usize),
    /// (r, in).
    pub a: Vec<f32>,
    /// (out, r), rows as Hugging Face has them.
    pub b: Vec<f32>,
    /// For each row as GGUF has it, its number in `b`.
    pub order: Vec<usize>,
}

/// GGUF's and Hugging Face's names of a block's matrices; Meta's for LLaMA.
type Names = &'static [(&'static str, &'static str, &'static str)];

#[rustfmt::skip]
const LLAMA: Names = &[
    ("blk.{}.attn_q", "model.layers.{}.self_attn.q_proj", "layers.{}.attention.wq"),
    ("blk.{}.attn_k", "model.layers.{}.self_attn.k_proj", "layers.{}.attention.wk"),
    ("blk.{}.attn_v", "model.layers.{}.self_attn.v_proj", "layers.{}.attention.wv"),
    ("blk.{}.attn_output", "model.layers.{}.self_attn.o_proj", "layers.{}.attention.wo"),
    ("blk.{}.ffn_gate", "model.layers.{}.mlp.gate_proj", "layers.{}.feed_forward.w1"),
    ("blk.{}.ffn_up", "model.layers.{}.mlp.up_proj", "layers.{}.feed_forward.w3"),
    ("blk.{}.ffn_down", "model.layers.{}.mlp.down_proj", "layers.{}.feed_forward.w2"),
    ("output", "lm_head", "output"),
];

#[rustfmt::skip]
const GPTJ: Names = &[
    ("blk.{}.attn_q", "transformer.h.{}.attn.q_proj", "blk.{}.attn_q"),
    ("blk.{}.attn_k", "transformer.h.{}.attn.k_proj", "blk.{}.attn_k"),
    ("blk.{}.attn_v", "transformer.h.{}.attn.v_proj", "blk.{}.attn_v"),
    ("blk.{}.attn_output", "transformer.h.{}.attn.out_proj", "blk.{}.attn_output"),
    ("blk.{}.ffn_up", "transformer.h.{}.mlp.fc_in", "blk.{}.ffn_up"),
    ("blk.{}.ffn_down", "transformer.h.{}.mlp.fc_out", "blk.{}.ffn_down"),
    ("output", "lm_head", "output"),
];

#[rustfmt::skip]
const GPTNEOX: Names = &[
    ("blk.{}.attn_qkv", "gpt_neox.layers.{}.attention.query_key_value", "blk.{}.attn_qkv"),
    ("blk.{}.attn_output", "gpt_neox.layers.{}.attention.dense", "blk.{}.attn_output"),
    ("blk.{}.ffn_up", "gpt_neox.layers.{}.mlp.dense_h_to_4h", "blk.{}.ffn_up"),
    ("blk.{}.ffn_down", "gpt_neox.layers.{}.mlp.dense_4h_to_h", "blk.{}.ffn_down"),
    ("output", "embed_out", "output"),
];

impl Lora {
    /// An adapter of random numbers, for the matrices whose GGUF names end in one of `ends`.
    pub fn random(config: &ModelConfig, seed: u32, rank: usize, ends: &[&str]) -> Self {
        let names = match config.architecture.name {
            "llama" => LLAMA,
            "gptj" => GPTJ,
            _ => GPTNEOX,
        };
        let mut modules = Vec::new();
        for (gguf, hf, meta) in
            names.iter().filter(|(gguf, ..)| ends.iter().any(|e| gguf.ends_with(e)))
        {
            let n_blocks = if gguf.contains("{}") { config.n_layers } else { 1 };
            for block in 0..n_blocks {
                let numbered = |name: &str| name.replace("{}", &block.to_string());
                let gguf = numbered(gguf);
                let (n, k) = shape(config, &gguf);
                let seed = seed.wrapping_mul(1009).wrapping_add(modules.len() as u32);
                modules.push(LoraModule {
                    hf: format!("base_model.model.{}", numbered(hf)),
                    meta: format!("{}.weight", numbered(meta)),
                    order: order(config, &gguf, n),
                    gguf: format!("{gguf}.weight"),
                    shape: (n, k),
                    a: numbers(2 * seed, rank * k),
                    b: numbers(2 * seed + 1, n * rank),
                });
            }
        }
        Self { architecture: config.architecture.name, rank, alpha: 2.0 * rank as f64, modules }
    }

    /// α / r.
    pub fn scale(&self) -> f64 {
        self.alpha / self.rank as f64
    }

    /// A configuration as PEFT writes it, as far as it matters.
    pub fn config(&self) -> Value {
        json!({
            "peft_type": "LORA", "r": self.rank, "lora_alpha": self.alpha, "bias": "none",
            "fan_in_fan_out": false, "use_rslora": false, "use_dora": false,
            "modules_to_save": null, "rank_pattern": {}, "alpha_pattern": {},
            "init_lora_weights": true, "target_modules": ["any"],
        })
    }

    /// The tensors under PEFT's names, in f32.
    pub fn tensors(&self) -> Vec<(String, &'static str, Vec<usize>, Vec<u8>)> {
        let mut tensors = Vec::new();
        for module in &self.modules {
            let (n, k) = module.shape;
            let rank = module.a.len() / k;
            let name = |side: &str| format!("{}.lora_{side}.weight", module.hf);
            tensors.push((name("A"), "F32", vec![rank, k], bytes(&module.a)));
            tensors.push((name("B"), "F32", vec![n, rank], bytes(&module.b)));
        }
        tensors
    }

    /// Writes a PEFT folder.
    pub fn write_peft(&self, folder: &Path) {
        write_peft(folder, &self.config(), &self.tensors());
    }

    /// A GGUF adapter.
    pub fn gguf(&self) -> Gguf {
        let mut file = Gguf { entries: Vec::new(), tensors: Vec::new(), ..Gguf::llama() };
        file.entry("general.architecture", string_value(3, self.architecture));
        file.entry("general.type", string_value(3, "adapter"));
        file.entry("adapter.type", string_value(3, "lora"));
        let alpha = [6u32.to_le_bytes(), (self.alpha as f32).to_le_bytes()].concat();
        file.entry("adapter.lora.alpha", alpha);
        for module in &self.modules {
            let (n, k) = module.shape;
            let rank = module.a.len() / k;
            let name = |side: &str| format!("{}.lora_{side}", module.gguf);
            file.tensor(&name("a"), &[rank, k], bytes(&module.a));
            file.tensor(&name("b"), &[n, rank], bytes(&module.b_in_gguf()));
        }
        file
    }

    /// A `ggla` file.
    pub fn ggla(&self) -> Vec<u8> {
        let mut out = b"algg".to_vec();
        for word in [1, self.rank as i32, self.alpha as i32] {
            out.extend(word.to_le_bytes());
        }
        for module in &self.modules {
            let (n, k) = module.shape;
            let rank = module.a.len() / k;
            // A stands transposed: (in, r), so that r is the innermost dimension of both.
            let column = |i: usize| module.a.iter().skip(i).step_by(k).copied();
            let a: Vec<f32> = (0..k).flat_map(column).collect();
            for (side, outer, data) in [("A", k, &a), ("B", n, &module.b)] {
                let name = format!("{}.lora{side}", module.meta);
                for word in [2, name.len() as i32, 0, rank as i32, outer as i32] {
                    out.extend(word.to_le_bytes());
                }
                out.extend(name.bytes());
                out.resize(out.len().next_multiple_of(32), 0);
                out.extend(bytes(data));
            }
        }
        out
    }

    /// This adapter and another one beside it, at these scales, as one of both ranks.
    #[must_use]
    pub fn joined(&self, scale: f64, other: &Self, other_scale: f64) -> Self {
        let (r, s) = (self.rank, other.rank);
        let own = (scale * self.scale()) as f32;
        let others = (other_scale * other.scale()) as f32;
        let modules = self.modules.iter().zip(&other.modules).map(|(x, y)| {
            assert_eq!(x.hf, y.hf, "the same modules");
            let rows = x.b.chunks(r).zip(y.b.chunks(s));
            let row = |(x, y): (&[f32], &[f32])| {
                let scaled = x.iter().map(|x| x * own).chain(y.iter().map(|y| y * others));
                scaled.collect::<Vec<f32>>()
            };
            LoraModule {
                a: [x.a.as_slice(), &y.a].concat(),
                b: rows.flat_map(row).collect(),
                ..x.clone()
            }
        });
        Self {
            rank: r + s,
            alpha: (r + s) as f64,
            modules: modules.collect(),
            architecture: self.architecture,
        }
    }
}

impl LoraModule {
    /// B with its rows in GGUF's order.
    pub fn b_in_gguf(&self) -> Vec<f32> {
        let rank = self.a.len() / self.shape.1;
        self.order.iter().flat_map(|&row| self.b[row * rank..][..rank].iter().copied()).collect()
    }

    /// Adds `scale · B·A` to W (out, in) in GGUF's order, in f64.
    pub fn add_to(&self, weight: &mut [f32], scale: f64) {
        let (k, rank) = (self.shape.1, self.a.len() / self.shape.1);
        let b = self.b_in_gguf();
        for (row, b) in weight.chunks_mut(k).zip(b.chunks(rank)) {
            for (i, w) in row.iter_mut().enumerate() {
                let terms = b.iter().enumerate();
                let sum: f64 =
                    terms.map(|(j, &b)| f64::from(b) * f64::from(self.a[j * k + i])).sum();
                *w = (f64::from(*w) + scale * sum) as f32;
            }
        }
    }
}

/// Writes a PEFT folder.
pub fn write_peft(
    folder: &Path,
    config: &Value,
    tensors: &[(String, &'static str, Vec<usize>, Vec<u8>)],
) {
    std::fs::create_dir_all(folder).expect("a writable folder");
    let write = |name: &str, bytes: &[u8]| {
        std::fs::write(folder.join(name), bytes).expect("a writable folder");
    };
    write("adapter_config.json", config.to_string().as_bytes());
    write("adapter_model.safetensors", &safetensors_bytes(tensors));
}

/// (out, in) of the matrix of that GGUF name.
fn shape(config: &ModelConfig, gguf: &str) -> (usize, usize) {
    let (e, f) = (config.hidden_size, config.feed_forward);
    let (q, kv) = (config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim);
    match gguf.rsplit('.').next().expect("a name") {
        "attn_q" => (q, e),
        "attn_k" | "attn_v" => (kv, e),
        "attn_qkv" => (q + 2 * kv, e),
        "attn_output" => (e, q),
        "ffn_gate" | "ffn_up" => (f, e),
        "ffn_down" => (e, f),
        _ => (config.vocab_size, e),
    }
}

/// For each row as GGUF has it, its number in Hugging Face's order.
fn order(config: &ModelConfig, gguf: &str, n: usize) -> Vec<usize> {
    let dim = config.head_dim;
    let llama = config.architecture.name == "llama";
    let mut order = vec![usize::MAX; n];
    match gguf.rsplit('.').next().expect("a name") {
        // The two rotary halves of each head interleave.
        "attn_q" | "attn_k" if llama => {
            for (row, slot) in order.iter_mut().enumerate() {
                let (head, within) = (row / dim, row % dim);
                *slot = head * dim + (within % 2) * (dim / 2) + within / 2;
            }
        }
        // [q k v] of each head → all q, all k, all v.
        "attn_qkv" => {
            let heads = config.n_heads;
            for head in 0..heads {
                for part in 0..3 {
                    for d in 0..dim {
                        order[(part * heads + head) * dim + d] = (head * 3 + part) * dim + d;
                    }
                }
            }
        }
        _ => order = (0..n).collect(),
    }
    order
}

/// Numbers between −0.1 and 0.1.
fn numbers(seed: u32, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(747_796_405).wrapping_add(1);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 8) as f32 / 83_886_080.0 - 0.1
    };
    (0..n).map(|_| next()).collect()
}

/// As little-endian f32.
pub fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
