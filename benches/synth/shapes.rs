//! The models that can be made up: one row of [`SHAPES`] each.

/// The tensors and keys that a family of models has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// LLaMA: RMS norms, gated feed-forward block, no biases, SentencePiece vocabulary.
    Llama,
    /// GPT-J: one layer norm a block, biases in the feed-forward block and the head.
    GptJ,
    /// GPT-NeoX: two layer norms a block, fused QKV, biases everywhere but in the head.
    GptNeoX,
}

impl Family {
    /// `general.architecture`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::GptJ => "gptj",
            Self::GptNeoX => "gptneox",
        }
    }

    /// The key of the normalization's epsilon, and its usual value.
    pub(super) fn norm_eps(self) -> (&'static str, f32) {
        match self {
            Self::Llama => ("attention.layer_norm_rms_epsilon", 1e-6),
            Self::GptJ | Self::GptNeoX => ("attention.layer_norm_epsilon", 1e-5),
        }
    }

    /// Whether attention and feed-forward block read the same residual, where the file must say so.
    pub(super) fn use_parallel_residual(self) -> Option<bool> {
        (self == Self::GptNeoX).then_some(true)
    }
}

/// The sizes of a model; all are positive, and rows are whole blocks of 32.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// What `xtask synth` calls it.
    pub name: &'static str,
    /// Its family.
    pub architecture: Family,
    /// Blocks.
    pub n_layers: u32,
    /// E: width of the residual stream.
    pub hidden_size: u32,
    /// H: query heads.
    pub n_heads: u32,
    /// K: key/value heads.
    pub n_kv_heads: u32,
    /// Rotated elements of each head.
    pub n_rot: u32,
    /// F: width of the feed-forward block.
    pub feed_forward: u32,
    /// V: tokens.
    pub vocab_size: u32,
    /// Tokens of the longest text.
    pub context_length: u32,
}

/// Every shape; the `tiny-` and `odd-` ones are for tests. `odd-`: widths that leave a tail in every
/// tile; with `-k`, rows of whole super-blocks of 256.
#[rustfmt::skip] // one row, one model
pub static SHAPES: &[Shape] = &[
    row("llama-7b",       Family::Llama,   32, 4096, 32, 32, 128, 11008, 32000, 2048),
    row("llama-13b",      Family::Llama,   40, 5120, 40, 40, 128, 13824, 32000, 2048),
    row("tinyllama-1.1b", Family::Llama,   22, 2048, 32,  4,  64,  5632, 32000, 2048),
    row("gpt-j-6b",       Family::GptJ,    28, 4096, 16, 16,  64, 16384, 50400, 2048),
    row("pythia-1b",      Family::GptNeoX, 16, 2048,  8,  8,  64,  8192, 50304, 2048),
    row("tiny-llama",     Family::Llama,    3,  256,  4,  2,  64,   512,  1024,  256),
    row("tiny-llama-mha", Family::Llama,    2,  256,  4,  4,  64,   512,  1024,  256),
    row("tiny-gptj",      Family::GptJ,     3,  256,  4,  4,  32,  1024,  1024,  256),
    row("tiny-gptneox",   Family::GptNeoX,  3,  256,  4,  4,  16,   768,  1024,  256),
    row("odd-llama",      Family::Llama,    2, 1568, 14,  7, 112,  4128,  1000, 4096),
    row("odd-gptj",       Family::GptJ,     2, 1568, 14, 14,  64,  4128,  1000, 4096),
    row("odd-k-llama",    Family::Llama,    2, 1280, 10,  5, 128,  4352,  1000, 4096),
    row("odd-k-gptj",     Family::GptJ,     2, 1280, 10, 10,  64,  4352,  1000, 4096),
];

/// A row of the table; the numbers in the order of [`Shape`]'s fields.
#[expect(clippy::too_many_arguments, reason = "a table's row, written once above")]
const fn row(
    name: &'static str,
    architecture: Family,
    n_layers: u32,
    hidden_size: u32,
    n_heads: u32,
    n_kv_heads: u32,
    n_rot: u32,
    feed_forward: u32,
    vocab_size: u32,
    context_length: u32,
) -> Shape {
    Shape {
        name,
        architecture,
        n_layers,
        hidden_size,
        n_heads,
        n_kv_heads,
        n_rot,
        feed_forward,
        vocab_size,
        context_length,
    }
}

impl Shape {
    /// The shape of that name.
    pub fn find(name: &str) -> Option<&'static Self> {
        SHAPES.iter().find(|s| s.name == name)
    }

    /// The names of all shapes, for messages.
    pub fn names() -> String {
        SHAPES.iter().map(|s| s.name).collect::<Vec<_>>().join(", ")
    }
}
