//! Architectures as data: one row of [`ARCHITECTURES`] each, run by one decoder.

/// How the residual stream passes a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Residual {
    /// `x += attn(norm₁(x)); x += mlp(norm₂(x))`.
    Sequential,
    /// `x += attn(norm₁(x)) + mlp(norm₁(x))`, one norm for both (GPT-J).
    ParallelShared,
    /// `x += attn(norm₁(x)) + mlp(norm₂(x))` (GPT-NeoX).
    Parallel,
}

/// The normalization of the residual stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norm {
    /// Root mean square, weight only.
    Rms,
    /// Mean and variance, weight and bias.
    Layer,
}

/// How positions enter: which pairs of a head's first `n_rot` elements rotate together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotary {
    /// (2i, 2i + 1): GPT-J, and LLaMA in GGUF's row order.
    Interleaved,
    /// (i, i + `n_rot`/2): GPT-NeoX.
    Halves,
    /// None: each head adds a learned bias to a score by the distance of key and query (T5).
    None,
}

/// The feed-forward block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mlp {
    /// `down(silu(gate(x)) · up(x))`.
    GatedSilu,
    /// `down(gelu(gate(x)) · up(x))` with the tanh form of GELU.
    GatedGeluTanh,
    /// `down(gelu(up(x)))` with the tanh form of GELU.
    GeluTanh,
    /// `down(gelu(up(x)))` with the exact erf form of GELU.
    GeluErf,
    /// `down(relu(up(x)))`.
    Relu,
}

impl Mlp {
    /// Whether a second first layer, the gate, is multiplied in.
    pub fn is_gated(self) -> bool {
        matches!(self, Self::GatedSilu | Self::GatedGeluTanh)
    }
}

/// What makes one architecture differ from another. Biases are used wherever the file has them;
/// `required_biases` must be there.
#[derive(Debug)]
pub struct Architecture {
    /// The value of `general.architecture`.
    pub name: &'static str,
    /// `model_type` in a Hugging Face `config.json`.
    pub hf_model_type: &'static str,
    /// Normalization.
    pub norm: Norm,
    /// The residual order, unless the metadata says otherwise
    /// (`{arch}.use_parallel_residual` = false makes [`Residual::Parallel`] sequential).
    pub residual: Residual,
    /// Rotary pairs in GGUF's row order.
    pub rotary: Rotary,
    /// Feed-forward block, unless the file lacks the gate: then it is [`Mlp::Relu`].
    pub mlp: Mlp,
    /// Whether an encoder reads the prompt, and the decoder's blocks look at what it made of it.
    pub encoder: bool,
    /// Whether attention's scores are divided by √D.
    pub scales_scores: bool,
    /// Whether Q, K and V are one tensor, `blk.N.attn_qkv`.
    pub fused_qkv: bool,
    /// Tensor stems (without `.bias`, with `blk.N.` left out) whose bias the maths needs.
    pub required_biases: &'static [&'static str],
}

/// Every architecture that [`Decoder`](crate::model::Decoder) runs.
pub static ARCHITECTURES: &[Architecture] = &[
    Architecture {
        name: "gptj",
        hf_model_type: "gptj",
        norm: Norm::Layer,
        residual: Residual::ParallelShared,
        rotary: Rotary::Interleaved,
        mlp: Mlp::GeluTanh,
        encoder: false,
        scales_scores: true,
        fused_qkv: false,
        required_biases: &["ffn_up", "ffn_down", "output"],
    },
    Architecture {
        name: "llama",
        hf_model_type: "llama",
        norm: Norm::Rms,
        residual: Residual::Sequential,
        rotary: Rotary::Interleaved,
        mlp: Mlp::GatedSilu,
        encoder: false,
        scales_scores: true,
        fused_qkv: false,
        required_biases: &[],
    },
    Architecture {
        name: "gptneox",
        hf_model_type: "gpt_neox",
        norm: Norm::Layer,
        residual: Residual::Parallel,
        rotary: Rotary::Halves,
        mlp: Mlp::GeluErf,
        encoder: false,
        scales_scores: true,
        fused_qkv: true,
        required_biases: &["ffn_up", "ffn_down"],
    },
    // T5 1.0 has no gate; 1.1, flan and FastChat have one.
    Architecture {
        name: "t5",
        hf_model_type: "t5",
        norm: Norm::Rms,
        residual: Residual::Sequential,
        rotary: Rotary::None,
        mlp: Mlp::GatedGeluTanh,
        encoder: true,
        scales_scores: false,
        fused_qkv: false,
        required_biases: &[],
    },
];

impl Architecture {
    /// The architecture of that `general.architecture`.
    pub fn find(name: &str) -> Option<&'static Self> {
        ARCHITECTURES.iter().find(|a| a.name == name)
    }

    /// The names of all architectures, for messages.
    pub fn supported() -> String {
        ARCHITECTURES.iter().map(|a| a.name).collect::<Vec<_>>().join(", ")
    }
}
