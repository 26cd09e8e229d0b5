"""Writes the PyTorch files of this folder: the small LLaMA of `tests/fixtures.rs`, saved in every
form that `torch.save` has. Made with torch 2.15: python make.py
"""

import json
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).parent
BLOCK = "model.layers.0"
SHAPES = [
    ("model.embed_tokens.weight", (4, 8)),
    (f"{BLOCK}.input_layernorm.weight", (8,)),
    (f"{BLOCK}.self_attn.q_proj.weight", (8, 8)),
    (f"{BLOCK}.self_attn.k_proj.weight", (8, 8)),
    (f"{BLOCK}.self_attn.v_proj.weight", (8, 8)),
    (f"{BLOCK}.self_attn.o_proj.weight", (8, 8)),
    (f"{BLOCK}.post_attention_layernorm.weight", (8,)),
    (f"{BLOCK}.mlp.gate_proj.weight", (12, 8)),
    (f"{BLOCK}.mlp.up_proj.weight", (12, 8)),
    (f"{BLOCK}.mlp.down_proj.weight", (8, 12)),
    ("model.norm.weight", (8,)),
    ("lm_head.weight", (4, 8)),
]


def values(name: str, shape: tuple) -> torch.Tensor:
    """`f32_data` of `tests/fixtures.rs`."""
    seed = 7
    for byte in name.encode():
        seed = (seed * 31 + byte) & 0xFFFFFFFF
    count = int(np.prod(shape))
    bits = [((seed + i) * 2654435761 & 0xFFFFFFFF) >> 8 for i in range(count)]
    return torch.tensor(np.array(bits, np.float32) / 16777216 - 0.5).reshape(shape)


def save(value: object, name: str, **options: object) -> None:
    torch.save(value, HERE / name, **options)


state = OrderedDict((name, values(name, shape)) for name, shape in SHAPES)

save(state, "zip.bin")
save(state, "legacy.bin", _use_new_zipfile_serialization=False)
save({name: tensor.half() for name, tensor in state.items()}, "half.bin")
save({name: tensor.bfloat16() for name, tensor in state.items()}, "bfloat16.bin")

# As training programs do: parameters of a module, one level deep, among other things.
module = torch.nn.Module()
module.names = torch.nn.ParameterList([torch.nn.Parameter(t) for t in state.values()])
parameters = OrderedDict(zip(state, module.names))
parameters._metadata = OrderedDict([("", {"version": 1})])
save({"epoch": 3, "lr": 0.5, "tags": ["a", None, True], "state_dict": parameters}, "nested.pth")

# Windows into one storage, and matrices that are stored transposed.
whole = torch.cat([tensor.flatten() for tensor in state.values()])
shared, at = {}, 0
for name, tensor in state.items():
    shared[name] = whole[at : at + tensor.numel()].view(tensor.shape)
    at += tensor.numel()
save(shared, "shared.bin")
save(shared, "shared-legacy.bin", _use_new_zipfile_serialization=False)
save({n: t.t().contiguous().t() if t.dim() == 2 else t for n, t in state.items()}, "transposed.bin")
save(state, "protocol4.bin", pickle_protocol=4)

names = list(state)
parts = [names[:5], names[5:9], names[9:]]
weight_map = {}
for i, part in enumerate(parts):
    file = f"pytorch_model-{i + 1:05}-of-00003.bin"
    save({name: state[name] for name in part}, file)
    weight_map.update(dict.fromkeys(part, file))
index = {"metadata": {"total_size": 4 * whole.numel()}, "weight_map": weight_map}
(HERE / "pytorch_model.bin.index.json").write_text(json.dumps(index, indent=1) + "\n")

# What must be refused.
class Evil:
    def __reduce__(self) -> tuple:
        return (print, ("called",))


save({"lm_head.weight": Evil()}, "evil.bin")
save({"lm_head.weight": Evil()}, "evil-legacy.bin", _use_new_zipfile_serialization=False)
torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(HERE / "script.pt"))
sliced = dict(state)
sliced["lm_head.weight"] = torch.zeros(4, 16)[:, ::2]
save(sliced, "sliced.bin")
