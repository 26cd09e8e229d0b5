//! Small files that only fuzzers begin with: whatever is long in them takes time for each input.

use serde_json::json;

use crate::fixtures::{Gguf, GgufTensor, array_value, f32_data, string_value, u32_value};

/// A vocabulary of SentencePiece's: the number of its model, and pieces with scores and kinds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pieces {
    model: u8,
    pieces: &'static [(&'static str, f32, u8)],
    /// Whether each byte has a piece, too.
    bytes: bool,
}

const NORMAL: u8 = 1;
const UNKNOWN: u8 = 2;
const CONTROL: u8 = 3;
const USER_DEFINED: u8 = 4;
const BYTE: u8 = 6;

/// Pieces that merge.
pub(super) const BPE: Pieces = Pieces {
    model: 2,
    pieces: &[
        ("<unk>", 0.0, UNKNOWN),
        ("<s>", 0.0, CONTROL),
        ("</s>", 0.0, CONTROL),
        ("<0x0A>", 0.0, BYTE),
        ("<x>", 0.0, USER_DEFINED),
        ("ll", -1.0, NORMAL),
        ("He", -2.0, NORMAL),
        ("llo", -3.0, NORMAL),
        ("\u{2581}He", -4.0, NORMAL),
        ("\u{2581}Hello", -5.0, NORMAL),
        ("\u{2581}", -6.0, NORMAL),
        ("H", -7.0, NORMAL),
        ("e", -8.0, NORMAL),
        ("l", -9.0, NORMAL),
        ("o", -10.0, NORMAL),
        ("r", -11.0, NORMAL),
        ("d", -12.0, NORMAL),
    ],
    bytes: false,
};

/// The same, which can spell everything.
pub(super) const BPE_OF_BYTES: Pieces = Pieces { bytes: true, pieces: SPELLING, ..BPE };

const SPELLING: &[(&str, f32, u8)] = &[
    ("<unk>", 0.0, UNKNOWN),
    ("<s>", 0.0, CONTROL),
    ("</s>", 0.0, CONTROL),
    ("ll", -1.0, NORMAL),
    ("He", -2.0, NORMAL),
    ("llo", -3.0, NORMAL),
    ("\u{2581}", -4.0, NORMAL),
    ("H", -5.0, NORMAL),
    ("e", -6.0, NORMAL),
    ("l", -7.0, NORMAL),
    ("o", -8.0, NORMAL),
];

/// Pieces with probabilities.
pub(super) const UNIGRAM: Pieces = Pieces { model: 1, ..BPE };

impl Pieces {
    fn all(self) -> Vec<(String, f32, u8)> {
        let owned = |&(text, score, kind): &(&str, f32, u8)| (text.to_owned(), score, kind);
        let mut all: Vec<_> = self.pieces.iter().map(owned).collect();
        if self.bytes {
            all.extend((0..=255u8).map(|byte| (format!("<0x{byte:02X}>"), 0.0, BYTE)));
        }
        all
    }
}

/// A `tokenizer.model`, with a compiled map of characters that may be empty.
pub(super) fn model_file(vocabulary: Pieces, charsmap: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for (text, score, kind) in vocabulary.all() {
        let mut piece = field(1, text.as_bytes());
        piece.push(2 << 3 | 5);
        piece.extend(score.to_le_bytes());
        piece.extend([3 << 3, kind]);
        out.extend(field(1, &piece));
    }
    out.extend(field(2, &[3 << 3, vocabulary.model]));
    let mut normalizer = field(1, b"fuzz");
    if !charsmap.is_empty() {
        normalizer.extend(field(2, charsmap));
    }
    normalizer.extend([3 << 3, 1, 4 << 3, 1, 5 << 3, 1]);
    out.extend(field(3, &normalizer));
    out
}

/// A protocol buffer's field of bytes, fewer than 128 of them.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).ok().filter(|&length| length < 128);
    [&[number << 3 | 2, length.expect("a short field")], bytes].concat()
}

/// A compiled map of characters: "w" becomes "v".
///
/// A node is the place of its children (from bit 10 on, to be combined with its own place by xor),
/// whether a key ends there (bit 8), and the byte that leads to it.
pub(super) fn charsmap() -> Vec<u8> {
    let mut nodes = [0u32; 9];
    nodes[0] = u32::from(b'w' ^ 7) << 10;
    nodes[7] = (7 ^ 8) << 10 | 1 << 8 | u32::from(b'w');
    nodes[8] = 1 << 31;
    let trie: Vec<u8> = nodes.iter().flat_map(|node| node.to_le_bytes()).collect();
    [&(trie.len() as u32).to_le_bytes()[..], &trie, b"v\0"].concat()
}

/// A `tokenizer.json` of byte-level BPE.
pub(super) fn tokenizer_json() -> Vec<u8> {
    let letters = "Helorwd,!\u{120}\u{10a}\u{109}";
    let mut vocab: serde_json::Map<_, _> =
        letters.chars().enumerate().map(|(id, c)| (c.to_string(), json!(id))).collect();
    for token in ["ll", "He", "\u{120}w"] {
        vocab.insert(token.to_owned(), json!(vocab.len()));
    }
    let end = vocab.len();
    json!({
        "added_tokens": [{"id": end, "content": "</s>", "special": true, "single_word": false,
            "lstrip": false, "rstrip": true, "normalized": false}],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true},
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true},
        "model": {"type": "BPE", "vocab": vocab, "merges": ["l l", ["H", "e"], "\u{120} w"]},
    })
    .to_string()
    .into_bytes()
}

/// A `tokenizer.json` as LLaMA's SentencePiece model becomes one.
pub(super) fn sentencepiece_json() -> Vec<u8> {
    let vocab: serde_json::Map<_, _> =
        SPELLING.iter().enumerate().map(|(id, (text, ..))| ((*text).into(), json!(id))).collect();
    json!({
        "added_tokens": [{"id": 1, "content": "<s>", "special": true}],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "\u{2581}"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"}]},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true,
            "vocab": vocab, "merges": ["l l", "H e", "ll o"]},
    })
    .to_string()
    .into_bytes()
}

/// A `tokenizer.json` of a Unigram model, with [`charsmap`] in base64.
pub(super) fn unigram_json() -> Vec<u8> {
    let map = "JAAAAADAAQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB3PQAAAAAAgHYA";
    let vocab: Vec<_> =
        UNIGRAM.pieces.iter().map(|(text, score, _)| json!([text, score])).collect();
    let space = json!({"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "first"});
    json!({
        "added_tokens": [{"id": 1, "content": "<s>", "special": true}, {"id": 4, "content": "<x>"}],
        "normalizer": {"type": "Precompiled", "precompiled_charsmap": map},
        "pre_tokenizer": space,
        "decoder": space,
        "model": {"type": "Unigram", "unk_id": 0, "vocab": vocab},
    })
    .to_string()
    .into_bytes()
}

/// A GGUF file with one block of weights in each of the usual encodings.
pub(super) fn every_encoding() -> Gguf {
    // Number, elements and bytes of a block.
    let blocks = [
        (0, 1, 4),
        (1, 1, 2),
        (2, 32, 18),
        (3, 32, 20),
        (6, 32, 22),
        (7, 32, 24),
        (8, 32, 34),
        (10, 256, 84),
        (11, 256, 110),
        (12, 256, 144),
        (13, 256, 176),
        (14, 256, 210),
        (20, 32, 18),
        (23, 256, 136),
        (30, 1, 2),
    ];
    let mut file = Gguf::llama();
    file.tensors = blocks
        .map(|(kind, n, n_bytes)| GgufTensor {
            name: format!("t{kind}"),
            dims: vec![n],
            kind,
            offset: None,
            data: (0..n_bytes).map(|i: u8| i.wrapping_mul(37)).collect(),
        })
        .into();
    file
}

fn strings<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<u8> {
    let (mut n, mut out) = (0, Vec::new());
    for text in texts {
        n += 1;
        out.extend((text.len() as u64).to_le_bytes());
        out.extend(text.as_bytes());
    }
    array_value(8, n, &out)
}

/// Gives the file a vocabulary with scores.
fn set_pieces(file: &mut Gguf, model: &str, pieces: &[(String, f32, u8)]) {
    let scores: Vec<u8> = pieces.iter().flat_map(|(_, score, _)| score.to_le_bytes()).collect();
    let kinds: Vec<u8> =
        pieces.iter().flat_map(|(.., kind)| u32::from(*kind).to_le_bytes()).collect();
    let n = pieces.len() as u64;
    for (key, value) in [
        ("model", string_value(3, model)),
        ("tokens", strings(pieces.iter().map(|(text, ..)| text.as_str()))),
        ("scores", array_value(6, n, &scores)),
        ("token_type", array_value(5, n, &kinds)),
        ("bos_token_id", u32_value(1)),
        ("eos_token_id", u32_value(2)),
    ] {
        file.entry(&format!("tokenizer.ggml.{key}"), value);
    }
}

/// GGUF files without tensors, each with another kind of vocabulary, and one with a template.
pub(super) fn with_vocabularies() -> Vec<Gguf> {
    let empty = || {
        let mut file = Gguf::llama();
        file.tensors.clear();
        file
    };
    let (mut llama, mut t5, mut gpt2) = (empty(), empty(), empty());
    set_pieces(&mut llama, "llama", &BPE.all());
    llama.entry("tokenizer.chat_template", string_value(3, "{{ bos_token }}{{ messages }}"));
    set_pieces(&mut t5, "t5", &UNIGRAM.all());
    t5.entry("tokenizer.ggml.precompiled_charsmap", array_value(0, 42, &charsmap()));
    gpt2.entry("tokenizer.ggml.model", string_value(3, "gpt2"));
    gpt2.entry("tokenizer.ggml.pre", string_value(3, "gpt-2"));
    let tokens = "H e l o , w r d \u{120} \u{10a} ll He";
    gpt2.entry("tokenizer.ggml.tokens", strings(tokens.split(' ')));
    gpt2.entry("tokenizer.ggml.merges", strings(["l l", "H e"].into_iter()));
    vec![llama, t5, gpt2]
}

/// A model that reads and writes any text, though it says nothing: 267 tokens, a context of 64.
pub(super) fn talking() -> Gguf {
    let mut file = Gguf::llama();
    let pieces = BPE_OF_BYTES.all();
    set_pieces(&mut file, "llama", &pieces);
    file.entry("llama.context_length", u32_value(64));
    let template = "{{ bos_token }}{% if tools %}{{ tools | tojson }}{% endif %}\
        {% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}\
        {% if add_generation_prompt %}assistant:{% endif %}";
    file.entry("tokenizer.chat_template", string_value(3, template));
    let shape = [pieces.len(), 8];
    for name in ["token_embd.weight", "output.weight"] {
        let tensor = file.tensor_mut(name);
        tensor.dims = vec![8, pieces.len() as u64];
        tensor.data = f32_data(name, &shape);
    }
    file
}
