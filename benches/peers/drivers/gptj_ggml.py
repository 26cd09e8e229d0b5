"""GPT-J from GGUF to ggml's format of 2023: the same blocks of weights behind another header.

Source: ggml's examples/gpt-j. Every matrix must be in one encoding there, so where the head is
in another one it gets the embedding's weights, which are as large; for speed, not for text.
"""

import struct

# GGUF's type of tensors: (ftype in the old header, weights and bytes of a block).
F32, F16 = 0, 1
TYPES = {F32: (0, 1, 4), F16: (1, 1, 2), 2: (2, 32, 18), 3: (3, 32, 20), 8: (7, 32, 34)}
# ggml's version of quantized layouts, in thousands of the ftype.
LAYOUT = 2000

# The order counts: `output.` is what is left.
NAMES = [
    ("blk.", "transformer.h."), ("attn_norm.", "ln_1."), ("attn_q.", "attn.q_proj."),
    ("attn_k.", "attn.k_proj."), ("attn_v.", "attn.v_proj."), ("attn_output.", "attn.out_proj."),
    ("ffn_up.", "mlp.fc_in."), ("ffn_down.", "mlp.fc_out."),
    ("token_embd.", "transformer.wte."), ("output_norm.", "transformer.ln_f."), ("output.", "lm_head."),
]


def write(model, source, target):
    """Writes `model`, whose bytes are in `source`, to `target`."""
    kind = model.tensors[b"token_embd.weight"][1]
    if kind not in TYPES:
        raise ValueError(f"no encoding of 2023: GGUF's type {kind}")
    ftype = TYPES[kind][0] + (LAYOUT if kind not in (F32, F16) else 0)
    vocabulary = model.values[b"tokenizer.ggml.tokens"]
    keys = ["context_length", "embedding_length", "attention.head_count", "block_count", "rope.dimension_count"]
    numbers = [model.values[b"gptj." + key.encode()] for key in keys]
    target.write(struct.pack("<4s7i", b"lmgg", len(vocabulary), *numbers, ftype))
    target.write(struct.pack("<i", len(vocabulary)))
    for word in vocabulary:
        target.write(struct.pack("<i", len(word)) + word)
    for name, tensor in model.tensors.items():
        if name == b"output.weight" and tensor[1] != kind:
            tensor = model.tensors[b"token_embd.weight"]
        write_tensor(name.decode(), tensor, (source, model.data), target)


def write_tensor(name, tensor, place, target):
    dims, kind, offset = tensor
    source, data = place
    for new, old in NAMES:
        name = name.replace(new, old)
    target.write(struct.pack("<3i", len(dims), len(name), kind))
    target.write(struct.pack(f"<{len(dims)}i", *dims) + name.encode())
    _, block_len, n_bytes = TYPES[kind]
    for dim in dims:
        n_bytes *= dim
    n_bytes //= block_len
    source.seek(data + offset)
    while n_bytes:
        chunk = source.read(min(n_bytes, 1 << 24))
        if not chunk:
            raise ValueError(f"{name}: the file is cut off")
        target.write(chunk)
        n_bytes -= len(chunk)
