//! A GGUF model as a file of 2023, with the same values.

use halfbyte::io::Checkpoint;
use halfbyte::quant::Encoding;

use super::{Ggml, Model, Tensor};
use crate::vocabularies::byte_of;

/// Reads numbers of a GGUF file's metadata.
fn number(checkpoint: &Checkpoint, key: &str) -> u32 {
    let metadata = checkpoint.metadata();
    let arch = metadata.str("general.architecture").ok().flatten().expect("an architecture");
    let value = metadata.u64(&format!("{arch}.{key}")).ok().flatten();
    u32::try_from(value.unwrap_or_else(|| panic!("no {key}"))).expect("a small number")
}

/// The model of a GGUF file as a file of 2023, its Q4_0 and Q8_0 blocks in `encoding`, whose
/// number was `kind`, with the same values.
///
/// `scale` multiplies the scales. F32 and F16 take any source.
pub fn of_gguf(
    source: &Checkpoint,
    model: Model,
    (encoding, kind): (Encoding, u32),
    scale: f32,
) -> Ggml {
    let (vocab, width) = (number(source, "vocab_size"), number(source, "embedding_length"));
    let (heads, blocks) = (number(source, "attention.head_count"), number(source, "block_count"));
    let rot = number(source, "rope.dimension_count");
    let context = number(source, "context_length");
    // The type of the whole file is advice; GPT's tells the generation of blocks by thousands.
    let file_kind = match (model, encoding) {
        (Model::Llama { .. }, _) => 0,
        (_, Encoding::Q4_0_V2 | Encoding::Q4_1_V2) => 1002,
        (_, Encoding::Q4_0 | Encoding::Q8_0) => 2002,
        (_, Encoding::F32) => 0,
        (_, Encoding::F16) => 1,
        _ => 2,
    };
    let words = match model {
        Model::Llama { .. } => vec![vocab, width, 256, heads, blocks, rot, file_kind],
        Model::GptJ => vec![vocab, context, width, heads, blocks, rot, file_kind, vocab],
        Model::NeoX => vec![vocab, context, width, heads, blocks, rot, 1, file_kind],
        Model::NeoXOld => vec![vocab, context, width, heads, blocks, rot, file_kind],
    };
    let tensors = source.tensor_names().map(|name| {
        let view = source.require(name).expect("a listed tensor");
        let dims: Vec<u32> = view.dims().iter().rev().map(|&d| d as u32).collect();
        let is_matrix = dims.len() == 2;
        let order = |row: usize| match () {
            () if !name.contains("attn_qkv") => row,
            // In the file: heads outside, then queries, keys, values.
            () => {
                let head = width as usize / heads as usize;
                let (h, part, d) = (row / (3 * head), row / head % 3, row % head);
                part * width as usize + h * head + d
            }
        };
        let mut data = Vec::new();
        if is_matrix {
            for row in 0..view.n_rows() {
                data.extend(blocks_as(encoding, view.encoding(), view.row(order(row)), scale));
            }
        } else {
            let values = view.to_f32().expect("little memory");
            (0..values.len()).for_each(|i| data.extend(values[order(i)].to_le_bytes()));
        }
        let kind = if is_matrix { kind } else { 0 };
        Tensor { name: file_name(model, name).into_bytes(), dims, kind, data, lies: [None; 2] }
    });
    let tensors = tensors.collect();
    let tokens = tokens(source, model, vocab as usize);
    Ggml { model, words, tokens, token_len: None, tensors, tail: Vec::new() }
}

/// A row of blocks of Q4_0 or Q8_0 in another encoding that holds the same values.
fn blocks_as(encoding: Encoding, from: Encoding, row: &[u8], factor: f32) -> Vec<u8> {
    if [Encoding::F32, Encoding::F16].contains(&encoding) || from == Encoding::Q6_K {
        let mut values = vec![0.0; row.len() / from.block_bytes() * from.block_len()];
        from.decode(row, &mut values);
        let mut out = vec![0; encoding.row_bytes(values.len()).expect("whole blocks")];
        encoding.encode(&values, &mut out).expect("a float encoding");
        return out;
    }
    assert!([Encoding::Q4_0, Encoding::Q8_0].contains(&from), "{}", from.name());
    let mut out = Vec::new();
    for block in row.chunks_exact(from.block_bytes()) {
        let half: [u8; 2] = [block[0], block[1]];
        let mut scale = [0.0];
        Encoding::F16.decode(&half, &mut scale);
        let [scale] = scale.map(|s| s * factor);
        // −8..8, or −128..128.
        let codes: [i32; 32] = std::array::from_fn(|i| match from {
            Encoding::Q4_0 => i32::from((block[2 + i % 16] >> (4 * (i / 16))) & 15) - 8,
            _ => i32::from(block[2 + i].cast_signed()),
        });
        put_block(encoding, half, scale, &codes, &mut out);
    }
    out
}

/// The block of that scale and those codes, around zero, as files of 2023 had it.
fn put_block(encoding: Encoding, half: [u8; 2], scale: f32, codes: &[i32; 32], out: &mut Vec<u8>) {
    let nibble = |i: usize| u8::try_from(codes[i] + 8).expect("a code of 4 bits");
    let neighbours = |range: std::ops::Range<usize>| -> Vec<u8> {
        range.map(|b| nibble(2 * b) | nibble(2 * b + 1) << 4).collect()
    };
    let halves: Vec<u8> = match encoding {
        Encoding::Q4_0_V2 | Encoding::Q4_1_V2 | Encoding::Q4_0 => {
            (0..16).map(|b| nibble(b) | nibble(b + 16) << 4).collect()
        }
        _ => Vec::new(),
    };
    let wide = scale.to_le_bytes();
    // The minimum that shifts codes from 0 to around zero; exact in f16, too.
    let mut low = [0; 2];
    let mut value = [0.0];
    Encoding::F16.decode(&half, &mut value);
    Encoding::F16.encode(&[-8.0 * value[0]], &mut low).expect("a float encoding");
    let wide_low = (-8.0 * scale).to_le_bytes();
    match encoding {
        Encoding::Q4_0 => out.extend([&half[..], &halves].concat()),
        Encoding::Q4_0_V1 => out.extend([&wide[..], &neighbours(0..16)].concat()),
        Encoding::Q4_0_V2 => out.extend([&wide[..], &halves].concat()),
        Encoding::Q4_1_V1 => out.extend([&wide[..], &wide_low, &neighbours(0..16)].concat()),
        Encoding::Q4_1_V2 => out.extend([&wide[..], &wide_low, &halves].concat()),
        Encoding::Q4_2 => {
            for range in [0..8, 8..16] {
                out.extend([&half[..], &neighbours(range)].concat());
            }
        }
        Encoding::Q4_3 => {
            for range in [0..8, 8..16] {
                out.extend([&half[..], &low, &neighbours(range)].concat());
            }
        }
        Encoding::Q5_0_V1 => {
            // Code n + 16: its fifth bit is set from 0 on, its other four are those of n.
            let fifth = (0..32).filter(|&i| codes[i] >= 0).fold(0u32, |bits, i| bits | 1 << i);
            let low = |i: usize| (codes[i] + 16) as u8 & 15;
            let nibbles: Vec<u8> = (0..16).map(|b| low(2 * b) | low(2 * b + 1) << 4).collect();
            out.extend([&half[..], &fifth.to_le_bytes(), &nibbles].concat());
        }
        Encoding::Q5_1_V1 => {
            out.extend([&half[..], &low, &[0; 4], &neighbours(0..16)].concat());
        }
        Encoding::Q8_0_V1 => {
            let bytes = codes.map(|code| i8::try_from(code).expect("a byte").cast_unsigned());
            out.extend([&wide[..], &bytes].concat());
        }
        Encoding::Q8_0 => {
            let bytes = codes.map(|code| i8::try_from(code).expect("a byte").cast_unsigned());
            out.extend([&half[..], &bytes].concat());
        }
        other => panic!("{} was no encoding of 2023", other.name()),
    }
}

/// What the file calls a GGUF tensor.
fn file_name(model: Model, gguf: &str) -> String {
    let pairs: &[(&str, &str)] = match model {
        Model::Llama { .. } => &[
            ("token_embd", "tok_embeddings"),
            ("output_norm", "norm"),
            ("attn_norm", "attention_norm"),
            ("attn_output", "attention.wo"),
            ("attn_", "attention.w"),
            ("ffn_gate", "feed_forward.w1"),
            ("ffn_down", "feed_forward.w2"),
            ("ffn_up", "feed_forward.w3"),
            ("blk.", "layers."),
        ],
        Model::GptJ => &[
            ("token_embd", "transformer.wte"),
            ("output_norm", "transformer.ln_f"),
            ("attn_norm", "ln_1"),
            ("attn_output.", "attn.out_proj."),
            ("output.", "lm_head."),
            ("attn_q", "attn.q_proj"),
            ("attn_k", "attn.k_proj"),
            ("attn_v", "attn.v_proj"),
            ("ffn_up", "mlp.fc_in"),
            ("ffn_down", "mlp.fc_out"),
            ("blk.", "transformer.h."),
        ],
        Model::NeoX | Model::NeoXOld => &[
            ("token_embd", "gpt_neox.embed_in"),
            ("output_norm", "gpt_neox.final_layer_norm"),
            ("attn_norm", "input_layernorm"),
            ("attn_output", "attention.dense"),
            ("output.", "embed_out."),
            ("attn_qkv", "attention.query_key_value"),
            ("ffn_norm", "post_attention_layernorm"),
            ("ffn_up", "mlp.dense_h_to_4h"),
            ("ffn_down", "mlp.dense_4h_to_h"),
            ("blk.", "gpt_neox.layers."),
        ],
    };
    pairs.iter().fold(gguf.to_owned(), |name, (from, to)| name.replace(from, to))
}

/// The vocabulary as converters of 2023 wrote it; made up where the source has none.
fn tokens(source: &Checkpoint, model: Model, n: usize) -> Vec<(Vec<u8>, f32)> {
    let metadata = source.metadata();
    let texts = metadata.strings("tokenizer.ggml.tokens").ok().flatten();
    let scores = metadata.f32s("tokenizer.ggml.scores").ok().flatten();
    let Some(texts) = texts else {
        return (0..n).map(|i| (vec![b'a' + (i % 26) as u8; 1 + i / 26], 0.0)).collect();
    };
    let text = |(id, text): (usize, &Vec<u8>)| {
        let text = String::from_utf8(text.clone()).expect("a vocabulary of text");
        let bytes = match model {
            Model::Llama { .. } if id == 0 => " \u{2047} ".into(),
            Model::Llama { .. } if id < 3 => Vec::new(),
            Model::Llama { .. } if id < 259 => vec![(id - 3) as u8],
            Model::Llama { .. } => text.replace('\u{2581}', " ").into_bytes(),
            _ if text.starts_with("<|") => text.into_bytes(),
            _ => text.chars().map(byte_of).collect::<Option<_>>().expect("the byte alphabet"),
        };
        (bytes, scores.map_or(0.0, |scores| scores[id]))
    };
    texts.iter().enumerate().map(text).collect()
}
