//! What the models of 2023 look like: words of the header, names and shapes of tensors, block types.

use super::hf_names::{Rows, block_of};
use crate::quant::Encoding;

/// A word of the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Vocab,
    Context,
    Width,
    /// LLaMA's feed-forward width is a multiple of it; the tensors say the width themselves.
    Multiple,
    Heads,
    Blocks,
    Rotary,
    /// GPT-NeoX: whether attention and feed-forward run side by side.
    Parallel,
    /// The type of the matrices, plus a thousand for each generation of block layouts.
    Type,
}

/// A dimension of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dim {
    Vocab,
    Width,
    /// Rows of keys and values: those of the file, which old headers do not tell.
    KeyValue,
    /// Rows of the feed-forward block: those of the file.
    Inner,
    /// Queries, keys and values in one matrix.
    Qkv,
}

/// A module of the model: what the file calls it, what GGUF calls it; `{}` is the block's number.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) file: &'static str,
    pub(super) gguf: &'static str,
    /// Of the weight, outermost first.
    pub(super) dims: &'static [Dim],
    pub(super) bias: bool,
    pub(super) rows: Rows,
}

/// A header and the model behind it. Files of three of them share one magic and no version.
#[derive(Debug)]
pub(super) struct Layout {
    /// For messages.
    pub(super) name: &'static str,
    pub(super) architecture: &'static str,
    pub(super) words: &'static [Word],
    /// Whether the size of the vocabulary stands before the vocabulary again.
    pub(super) counts_twice: bool,
    pub(super) parts: &'static [Part],
}

const fn part(file: &'static str, gguf: &'static str, dims: &'static [Dim], bias: bool) -> Part {
    Part { file, gguf, dims, bias, rows: Rows::Same }
}

use Dim::{Inner, KeyValue, Qkv, Vocab, Width};

/// Meta's names; query and key rows are in the order of pairs already, as GGUF wants them.
static LLAMA: &[Part] = &[
    part("tok_embeddings", "token_embd", &[Vocab, Width], false),
    part("layers.{}.attention_norm", "blk.{}.attn_norm", &[Width], false),
    part("layers.{}.attention.wq", "blk.{}.attn_q", &[Width, Width], false),
    part("layers.{}.attention.wk", "blk.{}.attn_k", &[KeyValue, Width], false),
    part("layers.{}.attention.wv", "blk.{}.attn_v", &[KeyValue, Width], false),
    part("layers.{}.attention.wo", "blk.{}.attn_output", &[Width, Width], false),
    part("layers.{}.ffn_norm", "blk.{}.ffn_norm", &[Width], false),
    part("layers.{}.feed_forward.w1", "blk.{}.ffn_gate", &[Inner, Width], false),
    part("layers.{}.feed_forward.w2", "blk.{}.ffn_down", &[Width, Inner], false),
    part("layers.{}.feed_forward.w3", "blk.{}.ffn_up", &[Inner, Width], false),
    part("norm", "output_norm", &[Width], false),
    part("output", "output", &[Vocab, Width], false),
];

static GPTJ: &[Part] = &[
    part("transformer.wte", "token_embd", &[Vocab, Width], false),
    part("transformer.h.{}.ln_1", "blk.{}.attn_norm", &[Width], true),
    part("transformer.h.{}.attn.q_proj", "blk.{}.attn_q", &[Width, Width], false),
    part("transformer.h.{}.attn.k_proj", "blk.{}.attn_k", &[Width, Width], false),
    part("transformer.h.{}.attn.v_proj", "blk.{}.attn_v", &[Width, Width], false),
    part("transformer.h.{}.attn.out_proj", "blk.{}.attn_output", &[Width, Width], false),
    part("transformer.h.{}.mlp.fc_in", "blk.{}.ffn_up", &[Inner, Width], true),
    part("transformer.h.{}.mlp.fc_out", "blk.{}.ffn_down", &[Width, Inner], true),
    part("transformer.ln_f", "output_norm", &[Width], true),
    part("lm_head", "output", &[Vocab, Width], true),
];

static GPTNEOX: &[Part] = &[
    part("gpt_neox.embed_in", "token_embd", &[Vocab, Width], false),
    part("gpt_neox.layers.{}.input_layernorm", "blk.{}.attn_norm", &[Width], true),
    Part {
        rows: Rows::QkvTriples,
        ..part(
            "gpt_neox.layers.{}.attention.query_key_value",
            "blk.{}.attn_qkv",
            &[Qkv, Width],
            true,
        )
    },
    part("gpt_neox.layers.{}.attention.dense", "blk.{}.attn_output", &[Width, Width], true),
    part("gpt_neox.layers.{}.post_attention_layernorm", "blk.{}.ffn_norm", &[Width], true),
    part("gpt_neox.layers.{}.mlp.dense_h_to_4h", "blk.{}.ffn_up", &[Inner, Width], true),
    part("gpt_neox.layers.{}.mlp.dense_4h_to_h", "blk.{}.ffn_down", &[Width, Inner], true),
    part("gpt_neox.final_layer_norm", "output_norm", &[Width], true),
    part("embed_out", "output", &[Vocab, Width], false),
];

/// What a versioned file is: only LLaMA's had versions.
pub(super) static VERSIONED: &Layout = &Layout {
    name: "LLaMA",
    architecture: "llama",
    words: &[
        Word::Vocab,
        Word::Width,
        Word::Multiple,
        Word::Heads,
        Word::Blocks,
        Word::Rotary,
        Word::Type,
    ],
    counts_twice: false,
    parts: LLAMA,
};

/// What a file without a version may be, the surest header first.
pub(super) static UNVERSIONED: &[&Layout] = &[
    &Layout {
        name: "GPT-J",
        architecture: "gptj",
        words: GPT_WORDS,
        counts_twice: true,
        parts: GPTJ,
    },
    VERSIONED,
    &Layout {
        name: "GPT-NeoX",
        architecture: "gptneox",
        words: &[
            Word::Vocab,
            Word::Context,
            Word::Width,
            Word::Heads,
            Word::Blocks,
            Word::Rotary,
            Word::Parallel,
            Word::Type,
        ],
        counts_twice: false,
        parts: GPTNEOX,
    },
    &Layout {
        name: "GPT-NeoX",
        architecture: "gptneox",
        words: GPT_WORDS,
        counts_twice: false,
        parts: GPTNEOX,
    },
];

const GPT_WORDS: &[Word] =
    &[Word::Vocab, Word::Context, Word::Width, Word::Heads, Word::Blocks, Word::Rotary, Word::Type];

/// Which layouts a file's blocks have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Generation {
    /// Until 12 May 2023.
    One,
    /// Until 19 May 2023.
    Two,
    /// Those of today.
    Three,
}

impl Generation {
    /// For people.
    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::One => "blocks as before 12 May 2023",
            Self::Two => "blocks of 12 to 19 May 2023",
            Self::Three => "blocks as since 19 May 2023",
        }
    }

    /// The encoding that a tensor's type number means, if there was one.
    pub(super) fn encoding(self, number: u32) -> Option<Encoding> {
        Some(match (number, self) {
            (2, Self::One) => Encoding::Q4_0_V1,
            (2, Self::Two) => Encoding::Q4_0_V2,
            (3, Self::One) => Encoding::Q4_1_V1,
            (3, Self::Two) => Encoding::Q4_1_V2,
            (4, Self::One) => Encoding::Q4_2,
            (5, Self::One) => Encoding::Q4_3,
            (6, Self::One) => Encoding::Q5_0_V1,
            (7, Self::One) => Encoding::Q5_1_V1,
            (8, Self::One | Self::Two) => Encoding::Q8_0_V1,
            (0..=3 | 6..=8, _) | (10..=14, Self::Three) => Encoding::from_ggml_type(number)?,
            _ => return None,
        })
    }

    /// The names of all encodings of this generation, for messages.
    pub(super) fn supported(self) -> String {
        let names: Vec<_> = (0..16).filter_map(|n| self.encoding(n)).map(Encoding::name).collect();
        names.join(", ")
    }
}

/// A tensor's name, understood.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named {
    pub(super) part: &'static Part,
    /// The block's number; 0 outside of blocks.
    pub(super) block: usize,
    pub(super) is_bias: bool,
}

impl Named {
    /// The GGUF name.
    pub(super) fn gguf(&self) -> String {
        let suffix = if self.is_bias { "bias" } else { "weight" };
        format!("{}.{suffix}", self.part.gguf.replace("{}", &self.block.to_string()))
    }
}

impl Layout {
    /// What the file's tensor of that name is.
    pub(super) fn named(&self, name: &str) -> Option<Named> {
        let (module, is_bias) = match name.strip_suffix(".weight") {
            Some(module) => (module, false),
            None => (name.strip_suffix(".bias")?, true),
        };
        self.parts.iter().filter(|part| part.bias || !is_bias).find_map(|part| {
            let block = block_of(part.file, module)?;
            Some(Named { part, block, is_bias })
        })
    }
}
