"""Writes the models of this folder: random weights, quantized to four bits and packed as GPTQ and AWQ
pack them, with what transformers computes from the same weights in f32. Made with torch 2.15 and
transformers 5.24: python make.py

The layouts are those that AutoGPTQ and AutoAWQ publish, written down here once more:

GPTQ  qweight[i / 8, o] holds codes[o, i] in bits 4 (i % 8), qzeros[g, o / 8] holds zeros[g, o] − 1 in
      bits 4 (o % 8) (in the format "gptq_v2" zeros[g, o] itself), scales[g, o]; g_idx[i] is the group of
      column i. weight[o, i] = scales[g, o] · (codes[o, i] − zeros[g, o]).
AWQ   qweight[i, o / 8] and qzeros[g, o / 8] hold row o in the place p with [0, 2, 4, 6, 1, 3, 5, 7][p] = o % 8.

The weights that transformers gets are made from codes, zeros and scales before they are packed. `weights`
in .golden.json has, for each matrix in GGUF's row order, the SHA-256 of its f32 and its first values.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from transformers import (
    GPTJConfig, GPTJForCausalLM, GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM,
)

HERE = Path(__file__).parent
WIDTH, INNER, VOCAB, HEADS = 64, 128, 48, 2
PROMPTS = {"len1": 1, "len7": 7, "len20": 20}


class Layout:
    """How one model is quantized and packed."""

    def __init__(self, group, *, sym=False, act=False, v2=False, awq=False, scales=np.float16):
        self.group, self.sym, self.act, self.v2, self.awq = group, sym, act, v2, awq
        self.scales = scales


def quantize(weight, layout, groups):
    """Codes (out, in), zeros and scales (groups, out) of a matrix; `groups` has each column's group."""
    count = int(groups.max()) + 1
    scales = np.zeros((count, weight.shape[0]), layout.scales)
    zeros = np.zeros((count, weight.shape[0]), np.int64)
    codes = np.zeros(weight.shape, np.int64)
    for g in range(count):
        part = weight[:, groups == g]
        low, high = np.minimum(part.min(1), 0), np.maximum(part.max(1), 0)
        if layout.sym:
            scale, zero = 2 * np.maximum(-low, high) / 15, np.full(len(low), 8)
        else:
            scale = (high - low) / 15
            zero = np.round(-low / scale).astype(np.int64)
        scales[g], zeros[g] = scale, zero
        codes[:, groups == g] = np.clip(np.round(part / scale[:, None]) + zero[:, None], 0, 15)
    return codes, zeros, scales


def words(codes, axis, order=range(8)):
    """Eight codes along `axis` in one int32, the p-th of them from place order[p] of the eight."""
    codes = np.moveaxis(codes, axis, -1)
    eights = codes.reshape(*codes.shape[:-1], -1, 8)
    packed = sum(eights[..., place].astype(np.uint64) << np.uint64(4 * p) for p, place in enumerate(order))
    return np.moveaxis(packed, -1, axis).astype(np.uint32).view(np.int32)


def pack(codes, zeros, scales, groups, layout):
    if layout.awq:
        order = [0, 2, 4, 6, 1, 3, 5, 7]
        return {"qweight": words(codes.T, 1, order), "qzeros": words(zeros, 1, order), "scales": scales}
    stored = zeros if layout.v2 else (zeros - 1) & 15
    parts = {"qweight": words(codes.T, 0), "qzeros": words(stored, 1), "scales": scales}
    return {**parts, "g_idx": groups.astype(np.int32)}


def groups_of(columns, layout, rng):
    size = columns if layout.group == -1 else layout.group
    order = rng.permutation(columns) if layout.act else np.arange(columns)
    groups = np.zeros(columns, np.int64)
    groups[order] = np.arange(columns) // size
    return groups


def gguf(name):
    pairs = [
        ("model.layers.", "blk."), ("transformer.h.", "blk."), ("gpt_neox.layers.", "blk."),
        ("self_attn.o_proj", "attn_output"), ("attn.out_proj", "attn_output"), ("attention.dense", "attn_output"),
        ("attention.query_key_value", "attn_qkv"), ("self_attn.", "attn_"), ("attn.q", "attn_q"),
        ("attn.k", "attn_k"), ("attn.v", "attn_v"), ("mlp.fc_in", "ffn_up"), ("mlp.fc_out", "ffn_down"),
        ("mlp.dense_h_to_4h", "ffn_up"), ("mlp.dense_4h_to_h", "ffn_down"), ("mlp.", "ffn_"), ("_proj", ""),
    ]
    for old, new in pairs:
        name = name.replace(old, new)
    return name


def gguf_rows(name, weight, kv_heads):
    """A matrix in GGUF's row order: rotary halves interleaved, [q k v] triples parted."""
    if "self_attn.q_proj" in name or "self_attn.k_proj" in name:
        heads = HEADS if "q_proj" in name else kv_heads
        return weight.reshape(heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)
    if "query_key_value" in name:
        return weight.reshape(HEADS, 3, -1, weight.shape[1]).swapaxes(0, 1).reshape(weight.shape)
    return weight


def golden(model, folder, weights):
    rng = np.random.default_rng(3)
    prompts, tensors = [], {}
    for name, length in PROMPTS.items():
        ids = rng.integers(0, VOCAB, length).tolist()
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0]
            logprobs = torch.log_softmax(logits, -1)
            greedy, steps, margin = [], [], float("inf")
            for _ in range(8):
                last = model(torch.tensor([ids + greedy])).logits[0, -1]
                first, second = last.topk(2).values.tolist()
                margin = min(margin, first - second)
                greedy.append(int(last.argmax()))
                steps.append(float(torch.log_softmax(last, -1)[greedy[-1]]))
        prompts.append({
            "name": name, "input_ids": ids, "argmax_last": int(logits[-1].argmax()), "greedy": greedy,
            "token_logprobs": [float(logprobs[i, t]) for i, t in enumerate(ids[1:])],
            "greedy_logprobs": steps, "greedy_min_margin": margin,
        })
        if name != "len20":
            tensors[f"{name}.logits"] = logits.numpy()
        tensors[f"{name}.logits_last"] = logits[-1].numpy()
    text = json.dumps({"weights": weights, "prompts": prompts})
    (HERE / f"{folder.name}.golden.json").write_text(text + "\n")
    save_file(tensors, HERE / f"{folder.name}.golden.safetensors")


def write(name, model, layout, files, *, seed, torch_file=False):
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(seed)
    config = model.config.to_dict()
    kv_heads = config.get("num_key_value_heads") or HEADS
    tensors, weights, last_groups = {}, {}, {}
    for key, tensor in model.state_dict().items():
        tensor.copy_(torch.tensor(rng.normal(0, 0.08, tensor.shape)).to(torch.float16).float())
        if "norm" in key and key.endswith("weight") or "ln_" in key and key.endswith("weight"):
            tensor.add_(1).copy_(tensor.half().float())
    for key, tensor in model.state_dict().items():
        if key.endswith("rotary_emb.inv_freq") or key.endswith(("attn.bias", "attn.masked_bias")):
            continue
        if tensor.dim() == 1 or not any(part in key for part in ("layers", ".h.")):
            tensors[key] = tensor.numpy().astype(np.float16)
            continue
        # Queries and keys share an order of columns, as GPTQ gives them; values have their own here.
        columns = tensor.shape[1]
        if not ("k_proj" in key and columns in last_groups):
            last_groups[columns] = groups_of(columns, layout, rng)
        groups = last_groups[columns]
        codes, zeros, scales = quantize(tensor.numpy().astype(np.float64), layout, groups)
        dequantized = np.zeros(tensor.shape, np.float32)
        for o in range(tensor.shape[0]):
            for i in range(columns):
                scale = np.float32(scales[groups[i], o])
                dequantized[o, i] = scale * np.float32(codes[o, i] - zeros[groups[i], o])
        module = key.removesuffix(".weight")
        for part, value in pack(codes, zeros, scales, groups, layout).items():
            tensors[f"{module}.{part}"] = value
        tensor.copy_(torch.tensor(dequantized))
        rows = np.ascontiguousarray(gguf_rows(key, dequantized, kv_heads))
        digest = hashlib.sha256(rows.tobytes()).hexdigest()
        weights[gguf(key)] = {"sha256": digest, "first": rows[0, :4].tolist()}
    kept = {k: v for k, v in config.items() if v is not None and not isinstance(v, dict)}
    for file, content in files.items():
        text = json.dumps({**kept, "quantization_config": content} if file == "config.json" else content)
        (folder / file).write_text(text + "\n")
    if "config.json" not in files:
        (folder / "config.json").write_text(json.dumps(kept) + "\n")
    if torch_file:
        # As the first programs wrote it: scales transposed in memory, no g_idx.
        state = {k: torch.tensor(np.ascontiguousarray(v)) for k, v in tensors.items() if not k.endswith("g_idx")}
        state = {k: v.t().contiguous().t() if k.endswith("scales") else v for k, v in state.items()}
        torch.save(state, folder / "llama-4bit-32g.pt")
    else:
        save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, folder / "model.safetensors")
    golden(model.eval(), folder, weights)


def llama():
    return LlamaForCausalLM(LlamaConfig(
        hidden_size=WIDTH, intermediate_size=INNER, num_hidden_layers=1, num_attention_heads=HEADS,
        num_key_value_heads=1, vocab_size=VOCAB, max_position_embeddings=64, rms_norm_eps=1e-5,
        tie_word_embeddings=False, bos_token_id=1, eos_token_id=2,
    ))


def gptj():
    return GPTJForCausalLM(GPTJConfig(
        n_embd=WIDTH, n_inner=INNER, n_layer=1, n_head=HEADS, rotary_dim=16, vocab_size=VOCAB,
        n_positions=64, bos_token_id=1, eos_token_id=2, tie_word_embeddings=False,
    ))


def gptneox():
    return GPTNeoXForCausalLM(GPTNeoXConfig(
        hidden_size=WIDTH, intermediate_size=INNER, num_hidden_layers=1, num_attention_heads=HEADS,
        rotary_pct=0.25, vocab_size=VOCAB, max_position_embeddings=64, bos_token_id=1, eos_token_id=2,
        tie_word_embeddings=False,
    ))


def gptq_config(layout):
    return {"bits": 4, "group_size": layout.group, "desc_act": layout.act, "sym": layout.sym}


torch.manual_seed(0)
layout = Layout(32, sym=True)
write("llama-gptq-sym-g32", llama(), layout,
      {"config.json": {**gptq_config(layout), "quant_method": "gptq"}}, seed=1)
layout = Layout(32, act=True)
write("llama-gptq-act-g32", llama(), layout, {"quantize_config.json": gptq_config(layout)}, seed=2)
layout = Layout(128, v2=True)
write("llama-gptq-v2-g128", llama(), layout, {"config.json": {
    **gptq_config(layout), "quant_method": "gptq", "checkpoint_format": "gptq_v2"}}, seed=3)
layout = Layout(-1)
write("llama-gptq-one-group", llama(), layout, {"quantize_config.json": gptq_config(layout)}, seed=4)
layout = Layout(16, act=True)
write("llama-gptq-act-g16", llama(), layout, {"quantize_config.json": gptq_config(layout)}, seed=5)
layout = Layout(32, scales=np.float32)
write("llama-gptq-2023", llama(), layout, {}, seed=6, torch_file=True)
layout = Layout(32, awq=True)
write("llama-awq-g32", llama(), layout, {"config.json": {
    "bits": 4, "group_size": 32, "quant_method": "awq", "version": "gemm", "zero_point": True}}, seed=7)
layout = Layout(64, awq=True)
write("llama-awq-g64", llama(), layout, {"quant_config.json": {
    "w_bit": 4, "q_group_size": 64, "version": "GEMM", "zero_point": True}}, seed=8)
layout = Layout(32, act=True)
write("gptj-gptq-act-g32", gptj(), layout, {"quantize_config.json": gptq_config(layout)}, seed=9)
layout = Layout(32, act=True)
write("gptneox-gptq-act-g32", gptneox(), layout, {"quantize_config.json": gptq_config(layout)}, seed=10)
