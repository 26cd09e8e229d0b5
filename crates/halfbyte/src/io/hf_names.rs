//! Tensor names: GGUF's on the left, Hugging Face's on the right.

use super::view::RowOrder;

/// How the rows of a tensor, and the elements of its bias, get into GGUF's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rows {
    /// They are.
    Same,
    /// Rotary halves of the query heads interleave.
    QueryHalves,
    /// Rotary halves of the key heads interleave.
    KeyHalves,
    /// `[q k v]` triples of each head part.
    QkvTriples,
}

impl Rows {
    /// The order of such rows in a model of so many heads.
    pub(super) fn order(self, n_heads: usize, n_kv_heads: usize) -> RowOrder {
        match self {
            Self::Same => RowOrder::Natural,
            Self::QueryHalves => RowOrder::InterleaveHalves { heads: n_heads },
            Self::KeyHalves => RowOrder::InterleaveHalves { heads: n_kv_heads },
            Self::QkvTriples => RowOrder::SplitQkv { heads: n_heads },
        }
    }
}

/// A module's names, without `.weight` and `.bias`; `{}` stands for the block's number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Name {
    pub(super) gguf: &'static str,
    pub(super) hf: &'static str,
    /// What other versions of transformers call it.
    pub(super) alias: Option<&'static str>,
    pub(super) rows: Rows,
}

impl Name {
    /// Whether `module` is this module of some block, in Hugging Face's names.
    pub(super) fn is_of(&self, module: &str) -> bool {
        self.hf_names().any(|name| block_of(name, module).is_some())
    }

    /// Hugging Face's names, the usual one first.
    pub(super) fn hf_names(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.hf).chain(self.alias)
    }
}

/// The number of the block whose `pattern` is `module`, `{}` standing for the number; 0 outside of
/// blocks.
pub(super) fn block_of(pattern: &str, module: &str) -> Option<usize> {
    let Some((before, after)) = pattern.split_once("{}") else {
        return (module == pattern).then_some(0);
    };
    let number = module.strip_prefix(before)?.strip_suffix(after)?;
    // Of a number only one spelling: two tensors must not have one name.
    let block = number.parse().ok()?;
    (number == usize::to_string(&block)).then_some(block)
}

const fn same(gguf: &'static str, hf: &'static str) -> Name {
    Name { gguf, hf, alias: None, rows: Rows::Same }
}

const fn reordered(gguf: &'static str, hf: &'static str, rows: Rows) -> Name {
    Name { gguf, hf, alias: None, rows }
}

pub(super) static GPTJ: &[Name] = &[
    same("token_embd", "transformer.wte"),
    same("blk.{}.attn_norm", "transformer.h.{}.ln_1"),
    same("blk.{}.attn_q", "transformer.h.{}.attn.q_proj"),
    same("blk.{}.attn_k", "transformer.h.{}.attn.k_proj"),
    same("blk.{}.attn_v", "transformer.h.{}.attn.v_proj"),
    same("blk.{}.attn_output", "transformer.h.{}.attn.out_proj"),
    same("blk.{}.ffn_up", "transformer.h.{}.mlp.fc_in"),
    same("blk.{}.ffn_down", "transformer.h.{}.mlp.fc_out"),
    same("output_norm", "transformer.ln_f"),
    same("output", "lm_head"),
];

pub(super) static LLAMA: &[Name] = &[
    same("token_embd", "model.embed_tokens"),
    same("blk.{}.attn_norm", "model.layers.{}.input_layernorm"),
    reordered("blk.{}.attn_q", "model.layers.{}.self_attn.q_proj", Rows::QueryHalves),
    reordered("blk.{}.attn_k", "model.layers.{}.self_attn.k_proj", Rows::KeyHalves),
    same("blk.{}.attn_v", "model.layers.{}.self_attn.v_proj"),
    same("blk.{}.attn_output", "model.layers.{}.self_attn.o_proj"),
    same("blk.{}.ffn_norm", "model.layers.{}.post_attention_layernorm"),
    same("blk.{}.ffn_gate", "model.layers.{}.mlp.gate_proj"),
    same("blk.{}.ffn_up", "model.layers.{}.mlp.up_proj"),
    same("blk.{}.ffn_down", "model.layers.{}.mlp.down_proj"),
    same("output_norm", "model.norm"),
    same("output", "lm_head"),
];

pub(super) static GPTNEOX: &[Name] = &[
    same("token_embd", "gpt_neox.embed_in"),
    same("blk.{}.attn_norm", "gpt_neox.layers.{}.input_layernorm"),
    reordered("blk.{}.attn_qkv", "gpt_neox.layers.{}.attention.query_key_value", Rows::QkvTriples),
    same("blk.{}.attn_output", "gpt_neox.layers.{}.attention.dense"),
    same("blk.{}.ffn_norm", "gpt_neox.layers.{}.post_attention_layernorm"),
    same("blk.{}.ffn_up", "gpt_neox.layers.{}.mlp.dense_h_to_4h"),
    same("blk.{}.ffn_down", "gpt_neox.layers.{}.mlp.dense_4h_to_h"),
    same("output_norm", "gpt_neox.final_layer_norm"),
    // transformers 5 writes the head under the name that other models have.
    Name { gguf: "output", hf: "embed_out", alias: Some("lm_head"), rows: Rows::Same },
];

/// Versions before 1.1 have no gate, and call the other first layer `wi`.
pub(super) static T5: &[Name] = &[
    Name { alias: Some("encoder.embed_tokens"), ..same("token_embd", "shared") },
    same("enc.blk.{}.attn_norm", "encoder.block.{}.layer.0.layer_norm"),
    same("enc.blk.{}.attn_q", "encoder.block.{}.layer.0.SelfAttention.q"),
    same("enc.blk.{}.attn_k", "encoder.block.{}.layer.0.SelfAttention.k"),
    same("enc.blk.{}.attn_v", "encoder.block.{}.layer.0.SelfAttention.v"),
    same("enc.blk.{}.attn_o", "encoder.block.{}.layer.0.SelfAttention.o"),
    same("enc.blk.0.attn_rel_b", "encoder.block.0.layer.0.SelfAttention.relative_attention_bias"),
    same("enc.blk.{}.ffn_norm", "encoder.block.{}.layer.1.layer_norm"),
    same("enc.blk.{}.ffn_gate", "encoder.block.{}.layer.1.DenseReluDense.wi_0"),
    Name {
        alias: Some("encoder.block.{}.layer.1.DenseReluDense.wi"),
        ..same("enc.blk.{}.ffn_up", "encoder.block.{}.layer.1.DenseReluDense.wi_1")
    },
    same("enc.blk.{}.ffn_down", "encoder.block.{}.layer.1.DenseReluDense.wo"),
    same("enc.output_norm", "encoder.final_layer_norm"),
    same("dec.blk.{}.attn_norm", "decoder.block.{}.layer.0.layer_norm"),
    same("dec.blk.{}.attn_q", "decoder.block.{}.layer.0.SelfAttention.q"),
    same("dec.blk.{}.attn_k", "decoder.block.{}.layer.0.SelfAttention.k"),
    same("dec.blk.{}.attn_v", "decoder.block.{}.layer.0.SelfAttention.v"),
    same("dec.blk.{}.attn_o", "decoder.block.{}.layer.0.SelfAttention.o"),
    same("dec.blk.0.attn_rel_b", "decoder.block.0.layer.0.SelfAttention.relative_attention_bias"),
    same("dec.blk.{}.cross_attn_norm", "decoder.block.{}.layer.1.layer_norm"),
    same("dec.blk.{}.cross_attn_q", "decoder.block.{}.layer.1.EncDecAttention.q"),
    same("dec.blk.{}.cross_attn_k", "decoder.block.{}.layer.1.EncDecAttention.k"),
    same("dec.blk.{}.cross_attn_v", "decoder.block.{}.layer.1.EncDecAttention.v"),
    same("dec.blk.{}.cross_attn_o", "decoder.block.{}.layer.1.EncDecAttention.o"),
    same("dec.blk.{}.ffn_norm", "decoder.block.{}.layer.2.layer_norm"),
    same("dec.blk.{}.ffn_gate", "decoder.block.{}.layer.2.DenseReluDense.wi_0"),
    Name {
        alias: Some("decoder.block.{}.layer.2.DenseReluDense.wi"),
        ..same("dec.blk.{}.ffn_up", "decoder.block.{}.layer.2.DenseReluDense.wi_1")
    },
    same("dec.blk.{}.ffn_down", "decoder.block.{}.layer.2.DenseReluDense.wo"),
    same("dec.output_norm", "decoder.final_layer_norm"),
    same("output", "lm_head"),
];

/// Ends of names that old checkpoints carry and no weight has: masks and frequencies.
pub(super) static BUFFERS: &[&str] = &[
    ".attn.bias",
    ".attn.masked_bias",
    ".attention.bias",
    ".attention.masked_bias",
    ".rotary_emb.inv_freq",
    ".attn.embed_positions",
    "rope.freqs",
];

#[cfg(test)]
mod tests {
    use super::block_of;

    #[test]
    fn blocks_have_one_spelling() {
        for (module, block) in [
            ("layers.0.q", Some(0)),
            ("layers.31.q", Some(31)),
            ("layers.00.q", None),
            ("layers.+1.q", None),
            ("layers.-1.q", None),
            ("layers..q", None),
            ("layers.{}.q", None),
            ("layers.18446744073709551616.q", None),
            ("layers.0.q.q", None),
            ("x.layers.0.q", None),
        ] {
            assert_eq!(block_of("layers.{}.q", module), block, "{module}");
        }
        assert_eq!(block_of("norm", "norm"), Some(0));
        assert_eq!(block_of("norm", "norm.0"), None);
    }
}
