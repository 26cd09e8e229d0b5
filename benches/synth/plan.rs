//! Which tensors a shape has, and how each is stored.

use halfbyte::quant::Encoding;

use super::shapes::{Family, Shape};

/// One tensor to write.
#[derive(Debug)]
pub(super) struct Tensor {
    pub(super) name: String,
    /// Outermost first: (out, in) or (n).
    pub(super) dims: Vec<usize>,
    pub(super) encoding: Encoding,
    pub(super) fill: Fill,
}

/// What the elements are drawn from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fill {
    /// N(0, 1/k) for rows of k: activations of size 1 give results of size 1.
    Matrix,
    /// N(1, 0.1²), as trained norm weights scatter.
    NormWeight,
    /// N(0, 0.05²).
    Bias,
}

impl Tensor {
    /// Elements of a row.
    pub(super) fn row_len(&self) -> usize {
        self.dims.last().copied().unwrap_or(0)
    }

    /// Bytes of a row. Rows are whole blocks: `QuantizeType::encoding_of` sees to it.
    pub(super) fn row_bytes(&self) -> usize {
        self.row_len() / self.encoding.block_len() * self.encoding.block_bytes()
    }

    /// Rows; a vector is one.
    pub(super) fn n_rows(&self) -> usize {
        self.dims.iter().rev().skip(1).product()
    }

    /// Bytes of the whole tensor.
    pub(super) fn n_bytes(&self) -> usize {
        self.n_rows() * self.row_bytes()
    }
}

/// How the matrix of that name, with rows of that length, is stored.
pub(super) type EncodingOf<'a> = &'a dyn Fn(&str, usize) -> Encoding;

/// Collects tensors of one shape.
struct Plan<'a> {
    shape: Shape,
    encoding_of: EncodingOf<'a>,
    tensors: Vec<Tensor>,
}

/// Every tensor of the model, in file order.
pub(super) fn tensors(shape: &Shape, encoding_of: EncodingOf<'_>) -> Vec<Tensor> {
    let mut plan = Plan { shape: *shape, encoding_of, tensors: Vec::new() };
    let (hidden, vocab) = (shape.hidden_size, shape.vocab_size);
    plan.matrix("token_embd.weight".into(), vocab, hidden);
    for layer in 0..shape.n_layers {
        plan.block(layer);
    }
    plan.norm("output_norm");
    plan.matrix("output.weight".into(), vocab, hidden);
    if shape.architecture == Family::GptJ {
        plan.vector("output.bias".into(), vocab, Fill::Bias);
    }
    plan.tensors
}

impl Plan<'_> {
    /// The tensors of block `layer`.
    fn block(&mut self, layer: u32) {
        let s = self.shape;
        let head_dim = s.hidden_size / s.n_heads;
        let kv = s.n_kv_heads * head_dim;
        let hidden = s.hidden_size;
        self.norm(&format!("blk.{layer}.attn_norm"));
        if s.architecture == Family::GptNeoX {
            self.linear(layer, "attn_qkv", hidden + 2 * kv, hidden);
        } else {
            self.linear(layer, "attn_q", hidden, hidden);
            self.linear(layer, "attn_k", kv, hidden);
            self.linear(layer, "attn_v", kv, hidden);
        }
        self.linear(layer, "attn_output", hidden, hidden);
        if s.architecture != Family::GptJ {
            self.norm(&format!("blk.{layer}.ffn_norm"));
        }
        if s.architecture == Family::Llama {
            self.linear(layer, "ffn_gate", s.feed_forward, hidden);
        }
        self.linear(layer, "ffn_up", s.feed_forward, hidden);
        self.linear(layer, "ffn_down", hidden, s.feed_forward);
    }

    /// A matrix of block `layer`, with a bias where the family has one.
    fn linear(&mut self, layer: u32, stem: &str, n: u32, k: u32) {
        self.matrix(format!("blk.{layer}.{stem}.weight"), n, k);
        let has_bias = match self.shape.architecture {
            Family::Llama => false,
            Family::GptJ => stem.starts_with("ffn_"),
            Family::GptNeoX => true,
        };
        if has_bias {
            self.vector(format!("blk.{layer}.{stem}.bias"), n, Fill::Bias);
        }
    }

    /// A norm's weight, and its bias if it is a layer norm.
    fn norm(&mut self, stem: &str) {
        self.vector(format!("{stem}.weight"), self.shape.hidden_size, Fill::NormWeight);
        if self.shape.architecture != Family::Llama {
            self.vector(format!("{stem}.bias"), self.shape.hidden_size, Fill::Bias);
        }
    }

    fn matrix(&mut self, name: String, n: u32, k: u32) {
        let (n, k) = (n as usize, k as usize);
        let encoding = (self.encoding_of)(&name, k);
        self.tensors.push(Tensor { name, dims: vec![n, k], encoding, fill: Fill::Matrix });
    }

    fn vector(&mut self, name: String, n: u32, fill: Fill) {
        let dims = vec![n as usize];
        self.tensors.push(Tensor { name, dims, encoding: Encoding::F32, fill });
    }
}

#[cfg(test)]
mod tests {
    use halfbyte::QuantizeType;

    use super::super::encodings;
    use super::*;

    fn tensors_of(shape: &str, kind: &str) -> Vec<Tensor> {
        let shape = Shape::find(shape).unwrap();
        tensors(shape, &encodings(shape, QuantizeType::from_name(kind).unwrap()))
    }

    fn find<'a>(tensors: &'a [Tensor], name: &str) -> &'a Tensor {
        tensors.iter().find(|t| t.name == name).unwrap()
    }

    #[test]
    fn parameters_count_as_published() {
        // The published totals: LLaMA paper table 2, the GPT-J, TinyLlama and Pythia model cards.
        let cases = [
            ("llama-7b", 6_738_415_616),
            ("llama-13b", 13_015_864_320),
            ("tinyllama-1.1b", 1_100_048_384),
            ("gpt-j-6b", 6_050_882_784),
            ("pythia-1b", 1_011_781_632),
        ];
        for (name, expected) in cases {
            let tensors = tensors_of(name, "f32");
            let total: usize = tensors.iter().map(|t| t.n_rows() * t.row_len()).sum();
            assert_eq!(total, expected, "{name}");
        }
    }

    #[test]
    fn heads_are_q6_k_and_norms_f32() {
        for (kind, head) in
            [("q4_0", Encoding::Q6_K), ("q8_0", Encoding::Q8_0), ("f16", Encoding::F16)]
        {
            let tensors = tensors_of("llama-7b", kind);
            assert_eq!(find(&tensors, "output.weight").encoding, head, "{kind}");
            assert_eq!(find(&tensors, "output_norm.weight").encoding, Encoding::F32);
        }
    }

    #[test]
    fn q4_k_m_gives_half_of_the_values_six_bits() {
        let tensors = tensors_of("llama-7b", "q4_k_m");
        let is_six_bits =
            |i: &i32| find(&tensors, &format!("blk.{i}.attn_v.weight")).encoding == Encoding::Q6_K;
        let six_bits: Vec<_> = (0..32).filter(is_six_bits).collect();
        assert_eq!(six_bits, [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]);
    }
}
