"""GPT-J from GGUF to ggml's format of 2023: the same blocks of weights behind another header.

Source: ggml's examples/gpt-j. Every matrix must be in one encoding there, so where the head is
in another one it gets the embedding's weights, which are as large; for speed, not for text.
"""

import os
import struct
from pathlib import Path

# GGUF's types of values that are plain numbers.
NUMBERS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
STRING, ARRAY = 8, 9
# GGUF's type of tensors: (ftype in the old header, weights and bytes of a block).
F32, F16 = 0, 1
TYPES = {F32: (0, 1, 4), F16: (1, 1, 2), 2: (2, 32, 18), 3: (3, 32, 20), 8: (7, 32, 34)}
# ggml's version of quantized layouts, in thousands of the ftype.
LAYOUT = 2000

NAMES = [
    ("blk.", "transformer.h."), ("attn_norm.", "ln_1."), ("attn_q.", "attn.q_proj."),
    ("attn_k.", "attn.k_proj."), ("attn_v.", "attn.v_proj."), ("attn_output.", "attn.out_proj."),
    ("ffn_up.", "mlp.fc_in."), ("ffn_down.", "mlp.fc_out."),
    ("token_embd.", "transformer.wte."), ("output_norm.", "transformer.ln_f."), ("output.", "lm_head."),
]


class Gguf:
    """The header of a GGUF file."""

    def __init__(self, path):
        self.path = path
        with open(path, "rb") as self.file:
            if self.file.read(4) != b"GGUF":
                raise ValueError("no GGUF file")
            _, n_tensors, n_values = self.unpack("<IQQ")
            self.values = dict((self.text(), self.value(self.unpack("<I")[0])) for _ in range(n_values))
            self.tensors = {}
            for _ in range(n_tensors):
                name, (n_dims,) = self.text(), self.unpack("<I")
                self.tensors[name] = (self.unpack(f"<{n_dims}Q"), *self.unpack("<IQ"))
            alignment = self.values.get(b"general.alignment", 32)
            self.start = -(-self.file.tell() // alignment) * alignment

    def unpack(self, form):
        return struct.unpack(form, self.file.read(struct.calcsize(form)))

    def text(self):
        return self.file.read(self.unpack("<Q")[0])

    def value(self, kind):
        if kind == STRING:
            return self.text()
        if kind == ARRAY:
            kind, n = self.unpack("<IQ")
            return [self.value(kind) for _ in range(n)]
        return self.unpack(NUMBERS[kind])[0]


def is_gptj(path):
    return Gguf(path).values.get(b"general.architecture") == b"gptj"


def convert(path, scratch):
    """The path of the converted file, which is made if it is not there or older."""
    out = Path(scratch) / (Path(path).stem + ".ggml.bin")
    if out.exists() and out.stat().st_mtime > os.stat(path).st_mtime:
        return out
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_suffix(".partial")
    with open(path, "rb") as source, open(partial, "wb") as target:
        write(Gguf(path), source, target)
    partial.replace(out)
    return out


def write(model, source, target):
    kind = model.tensors[b"token_embd.weight"][1]
    if kind not in TYPES:
        raise ValueError(f"no encoding of 2023: GGUF's type {kind}")
    ftype = TYPES[kind][0] + (LAYOUT if kind not in (F32, F16) else 0)
    number = lambda key: model.values[b"gptj." + key]
    vocabulary = model.values[b"tokenizer.ggml.tokens"]
    target.write(struct.pack("<4s7i", b"lmgg", len(vocabulary), number(b"context_length"),
                             number(b"embedding_length"), number(b"attention.head_count"),
                             number(b"block_count"), number(b"rope.dimension_count"), ftype))
    target.write(struct.pack("<i", len(vocabulary)))
    for word in vocabulary:
        target.write(struct.pack("<i", len(word)) + word)
    for name, (dims, tensor_kind, offset) in model.tensors.items():
        if name == b"output.weight" and tensor_kind != kind:
            dims, tensor_kind, offset = model.tensors[b"token_embd.weight"]
        old = renamed(name.decode()).encode()
        target.write(struct.pack("<3i", len(dims), len(old), tensor_kind))
        target.write(struct.pack(f"<{len(dims)}i", *dims) + old)
        _, block_len, block_bytes = TYPES[tensor_kind]
        n_bytes = block_bytes
        for dim in dims:
            n_bytes *= dim
        n_bytes //= block_len
        source.seek(model.start + offset)
        while n_bytes:
            chunk = source.read(min(n_bytes, 1 << 24))
            if not chunk:
                raise ValueError(f"{name.decode()}: the file is cut off")
            target.write(chunk)
            n_bytes -= len(chunk)


def renamed(name):
    for new, old in NAMES:
        if new in name and (new != "output." or name.startswith(new)):
            name = name.replace(new, old)
    return name
