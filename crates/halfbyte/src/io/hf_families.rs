//! Model types of Hugging Face as data: which fields of `config.json` become which GGUF keys.

use super::hf_names::{self, Name};

/// One row for each model type that can be read.
#[derive(Debug)]
pub(super) struct Family {
    /// `model_type` in `config.json`.
    pub(super) model_type: &'static str,
    /// `general.architecture` in GGUF.
    pub(super) architecture: &'static str,
    pub(super) keys: &'static [Key],
    pub(super) rotary: Rotary,
    /// The field that names the activation, its default, and the names that mean what the
    /// architecture computes.
    pub(super) activation: (&'static str, &'static str, &'static [&'static str]),
    /// Tensor names.
    pub(super) names: &'static [Name],
}

/// A GGUF key without the architecture's prefix, and the fields of `config.json` that hold it.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) gguf: &'static str,
    pub(super) hf: &'static [&'static str],
    pub(super) default: Default,
}

/// What transformers takes if the field is absent; also says the field's type.
#[derive(Clone, Copy, Debug)]
pub(super) enum Default {
    /// An integer without a default, of at most that.
    Required(u64),
    /// An integer whose GGUF key is left out as well.
    Absent,
    Size(u64),
    /// That many times the hidden size, which stands above in the table.
    Widths(u64),
    Number(f32),
    Truth(bool),
}

/// How many elements of a head rotate.
#[derive(Debug)]
pub(super) enum Rotary {
    /// The field's number.
    Elements(&'static [&'static str], u64),
    /// All.
    Whole,
    /// That part of the head, rounded down.
    Part(&'static [&'static str], f64),
    /// None: distances have a learned bias.
    Nothing,
}

const fn key(gguf: &'static str, hf: &'static [&'static str], default: Default) -> Key {
    Key { gguf, hf, default }
}

pub(super) const HIDDEN: &str = "embedding_length";
pub(super) const BLOCKS: &str = "block_count";
pub(super) const HEADS: &str = "attention.head_count";
pub(super) const KV_HEADS: &str = "attention.head_count_kv";
pub(super) const DECODER_BLOCKS: &str = "decoder_block_count";
const BLOCK_FIELDS: &[&str] = &["n_layer", "num_hidden_layers"];
pub(super) const HEAD_FIELDS: &[&str] = &["n_head", "num_attention_heads"];
pub(super) const PART: &[&str] =
    &["rope_parameters.partial_rotary_factor", "partial_rotary_factor", "rotary_pct"];

/// All families; a new one is a row here and one in the architectures' table.
pub(super) static FAMILIES: &[Family] = &[
    Family {
        model_type: "gptj",
        architecture: "gptj",
        keys: &[
            key("context_length", &["n_positions", "max_position_embeddings"], Default::Size(2048)),
            key(HIDDEN, &["n_embd", "hidden_size"], Default::Required(MAX_WIDTH)),
            key(BLOCKS, BLOCK_FIELDS, Default::Required(MAX_BLOCKS)),
            key("feed_forward_length", &["n_inner"], Default::Widths(4)),
            key(HEADS, HEAD_FIELDS, Default::Required(MAX_HEADS)),
            key("attention.layer_norm_epsilon", &["layer_norm_epsilon"], Default::Number(1e-5)),
            key("vocab_size", &["vocab_size"], Default::Absent),
        ],
        rotary: Rotary::Elements(&["rotary_dim"], 64),
        activation: (
            "activation_function",
            "gelu_new",
            &["gelu_new", "gelu_fast", "gelu_pytorch_tanh"],
        ),
        names: hf_names::GPTJ,
    },
    Family {
        model_type: "llama",
        architecture: "llama",
        keys: &[
            key("context_length", &["max_position_embeddings"], Default::Size(2048)),
            key(HIDDEN, &["hidden_size"], Default::Required(MAX_WIDTH)),
            key(BLOCKS, BLOCK_FIELDS, Default::Required(MAX_BLOCKS)),
            key("feed_forward_length", &["intermediate_size"], Default::Required(MAX_SIZE)),
            key(HEADS, HEAD_FIELDS, Default::Required(MAX_HEADS)),
            key(KV_HEADS, &["num_key_value_heads"], Default::Absent),
            key("attention.layer_norm_rms_epsilon", &["rms_norm_eps"], Default::Number(1e-6)),
            key("vocab_size", &["vocab_size"], Default::Absent),
        ],
        rotary: Rotary::Whole,
        activation: ("hidden_act", "silu", &["silu", "swish"]),
        names: hf_names::LLAMA,
    },
    Family {
        model_type: "gpt_neox",
        architecture: "gptneox",
        keys: &[
            key("context_length", &["max_position_embeddings"], Default::Size(2048)),
            key(HIDDEN, &["hidden_size"], Default::Required(MAX_WIDTH)),
            key(BLOCKS, BLOCK_FIELDS, Default::Required(MAX_BLOCKS)),
            key("feed_forward_length", &["intermediate_size"], Default::Required(MAX_SIZE)),
            key(HEADS, HEAD_FIELDS, Default::Required(MAX_HEADS)),
            key("attention.layer_norm_epsilon", &["layer_norm_eps"], Default::Number(1e-5)),
            key("use_parallel_residual", &["use_parallel_residual"], Default::Truth(true)),
            key("vocab_size", &["vocab_size"], Default::Absent),
        ],
        rotary: Rotary::Part(PART, 0.25),
        activation: ("hidden_act", "gelu", &["gelu", "gelu_python"]),
        names: hf_names::GPTNEOX,
    },
    Family {
        model_type: "t5",
        architecture: "t5",
        keys: &[
            key("context_length", &["n_positions"], Default::Size(512)),
            key(HIDDEN, &["d_model"], Default::Required(MAX_WIDTH)),
            key(BLOCKS, &["num_layers"], Default::Required(MAX_BLOCKS)),
            key(
                DECODER_BLOCKS,
                &["num_decoder_layers", "num_layers"],
                Default::Required(MAX_BLOCKS),
            ),
            key("feed_forward_length", &["d_ff"], Default::Required(MAX_SIZE)),
            key(HEADS, &["num_heads"], Default::Required(MAX_HEADS)),
            key("attention.layer_norm_epsilon", &["layer_norm_epsilon"], Default::Number(1e-6)),
            key("attention.layer_norm_rms_epsilon", &["layer_norm_epsilon"], Default::Number(1e-6)),
            key(
                "attention.relative_buckets_count",
                &["relative_attention_num_buckets"],
                Default::Size(32),
            ),
            key(
                "attention.relative_max_distance",
                &["relative_attention_max_distance"],
                Default::Size(128),
            ),
            key("vocab_size", &["vocab_size"], Default::Absent),
        ],
        rotary: Rotary::Nothing,
        activation: (FEED_FORWARD, "relu", &["relu", GATED]),
        names: hf_names::T5,
    },
];

/// T5's word for its feed-forward block.
pub(super) const FEED_FORWARD: &str = "feed_forward_proj";
pub(super) const GATED: &str = "gated-gelu";

/// Fields of `config.json` that anything here reads.
pub(super) static FIELDS: &[&str] = &[
    "activation_function",
    "bos_token_id",
    "d_ff",
    "d_kv",
    "d_model",
    "decoder_start_token_id",
    "eos_token_id",
    "feed_forward_proj",
    "head_dim",
    "hidden_act",
    "hidden_size",
    "intermediate_size",
    "layer_norm_eps",
    "layer_norm_epsilon",
    "max_position_embeddings",
    "model_type",
    "n_embd",
    "n_head",
    "n_inner",
    "n_layer",
    "n_positions",
    "num_attention_heads",
    "num_decoder_layers",
    "num_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "num_layers",
    "pad_token_id",
    "partial_rotary_factor",
    "quantization_config",
    "relative_attention_max_distance",
    "relative_attention_num_buckets",
    "rms_norm_eps",
    "rope_parameters",
    "rope_scaling",
    "rope_theta",
    "rotary_dim",
    "rotary_emb_base",
    "rotary_pct",
    "tie_word_embeddings",
    "use_parallel_residual",
    "vocab_size",
];

const MAX_BLOCKS: u64 = 1024;
const MAX_HEADS: u64 = 4096;
const MAX_WIDTH: u64 = 1 << 17;
pub(super) const MAX_HEAD_DIM: u64 = 1 << 16;
/// Above any context length or width; products of two still fit in 64 bits.
pub(super) const MAX_SIZE: u64 = 1 << 24;
