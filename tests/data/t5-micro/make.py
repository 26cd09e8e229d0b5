"""Writes a tiny T5 of random weights, and what a plain f64 implementation of T5 computes with it.

    python make.py ../unigram/own.model .

The implementation below follows arXiv:1910.10683 and arXiv:2002.05202 and was checked against the
shared goldens of transformers: `python make.py --check FOLDER` (a model folder of `data/models`).
"""

import json, math, os, shutil, sys

import numpy as np
from safetensors.numpy import load_file, save_file

CONFIG = {
    "architectures": ["T5ForConditionalGeneration"], "model_type": "t5", "d_model": 32, "d_kv": 8, "d_ff": 32,
    "num_layers": 2, "num_decoder_layers": 2, "num_heads": 2, "feed_forward_proj": "gated-gelu",
    "relative_attention_num_buckets": 32, "relative_attention_max_distance": 128, "layer_norm_epsilon": 1e-6,
    "tie_word_embeddings": True, "is_encoder_decoder": True, "vocab_size": 620, "n_positions": 512,
    "decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1, "initializer_factor": 1.0,
}


class T5:
    def __init__(self, config, weights):
        self.c, self.w = config, {name: tensor.astype(np.float64) for name, tensor in weights.items()}

    def norm(self, x, name):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.c["layer_norm_epsilon"]) * self.w[name + ".weight"]

    def heads(self, x, name):
        y = x @ self.w[name + ".weight"].T
        return y.reshape(len(x), self.c["num_heads"], self.c["d_kv"]).transpose(1, 0, 2)

    def attention(self, x, seen, name, bias):
        q, k, v = self.heads(x, name + ".q"), self.heads(seen, name + ".k"), self.heads(seen, name + ".v")
        scores = q @ k.transpose(0, 2, 1) + bias
        p = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (p / p.sum(-1, keepdims=True)) @ v
        return mixed.transpose(1, 0, 2).reshape(len(x), -1) @ self.w[name + ".o.weight"].T

    def feed_forward(self, x, name):
        gelu = lambda y: 0.5 * y * (1 + np.tanh(math.sqrt(2 / math.pi) * (y + 0.044715 * y**3)))
        if self.c["feed_forward_proj"] == "relu":
            inner = np.maximum(x @ self.w[name + ".wi.weight"].T, 0)
        else:
            inner = gelu(x @ self.w[name + ".wi_0.weight"].T) * (x @ self.w[name + ".wi_1.weight"].T)
        return inner @ self.w[name + ".wo.weight"].T

    def bias(self, n, side):
        """(H, n, n): what the distance of key j from query i adds."""
        table = self.w[f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"]
        out = np.zeros((self.c["num_heads"], n, n))
        for i in range(n):
            for j in range(n):
                classes, first, distance = self.c["relative_attention_num_buckets"], 0, i - j
                if side == "encoder":
                    classes //= 2
                    first, distance = (classes if j > i else 0), abs(distance)
                elif distance < 0:
                    out[:, i, j] = -np.inf
                    continue
                exact = classes // 2
                if distance >= exact:
                    wide = math.log(distance / exact) / math.log(self.c["relative_attention_max_distance"] / exact)
                    distance = min(exact + int(np.float32(wide) * (classes - exact)), classes - 1)
                out[:, i, j] = table[first + distance]
        return out

    def encode(self, ids):
        x, bias = self.w["shared.weight"][ids], self.bias(len(ids), "encoder")
        for i in range(self.c["num_layers"]):
            name = f"encoder.block.{i}.layer."
            h = self.norm(x, name + "0.layer_norm")
            x = x + self.attention(h, h, name + "0.SelfAttention", bias)
            x = x + self.feed_forward(self.norm(x, name + "1.layer_norm"), name + "1.DenseReluDense")
        return self.norm(x, "encoder.final_layer_norm")

    def decode(self, encoded, ids):
        x, bias = self.w["shared.weight"][ids], self.bias(len(ids), "decoder")
        for i in range(self.c["num_decoder_layers"]):
            name = f"decoder.block.{i}.layer."
            h = self.norm(x, name + "0.layer_norm")
            x = x + self.attention(h, h, name + "0.SelfAttention", bias)
            x = x + self.attention(self.norm(x, name + "1.layer_norm"), encoded, name + "1.EncDecAttention", 0)
            x = x + self.feed_forward(self.norm(x, name + "2.layer_norm"), name + "2.DenseReluDense")
        x = self.norm(x, "decoder.final_layer_norm")
        if self.c["tie_word_embeddings"]:
            return (x * self.c["d_model"] ** -0.5) @ self.w["shared.weight"].T
        return x @ self.w["lm_head.weight"].T


def random_weights(rng):
    c, weights = CONFIG, {}
    inner = c["num_heads"] * c["d_kv"]
    matrix = lambda *shape, std=0.3: rng.normal(0, std, shape).astype(np.float16)
    norm = lambda: (1 + rng.normal(0, 0.1, c["d_model"])).astype(np.float16)
    weights["shared.weight"] = rng.normal(0, 0.3, (c["vocab_size"], c["d_model"])).astype(np.float16)
    for side, attentions in ("encoder", ["SelfAttention"]), ("decoder", ["SelfAttention", "EncDecAttention"]):
        for i in range(c["num_layers"]):
            name = f"{side}.block.{i}.layer."
            for j, attention in enumerate(attentions):
                # Scores are not scaled: large ones would make rounding errors of large differences.
                for x, std in ("q", 0.1), ("k", 0.1), ("v", 0.3):
                    weights[f"{name}{j}.{attention}.{x}.weight"] = matrix(inner, c["d_model"], std=std)
                weights[f"{name}{j}.{attention}.o.weight"] = matrix(c["d_model"], inner)
                weights[f"{name}{j}.layer_norm.weight"] = norm()
            if i == 0:
                shape = c["relative_attention_num_buckets"], c["num_heads"]
                bias = rng.normal(0, 1, shape).astype(np.float16)
                weights[f"{name}0.SelfAttention.relative_attention_bias.weight"] = bias
            j = len(attentions)
            for x in "wi_0", "wi_1":
                weights[f"{name}{j}.DenseReluDense.{x}.weight"] = matrix(c["d_ff"], c["d_model"])
            weights[f"{name}{j}.DenseReluDense.wo.weight"] = matrix(c["d_model"], c["d_ff"])
            weights[f"{name}{j}.layer_norm.weight"] = norm()
        weights[f"{side}.final_layer_norm.weight"] = norm()
    return weights


def check(folder):
    model = T5(json.load(open(folder + "/config.json")), load_file(folder + "/model.safetensors"))
    golden = load_file(folder + "/golden.safetensors")
    for prompt in json.load(open(folder + "/golden.json"))["prompts"]:
        logits = model.decode(model.encode(prompt["input_ids"]), prompt["decoder_input_ids"])
        print(prompt["name"], abs(logits - golden[prompt["name"] + ".logits"]).max())


def main(vocabulary, folder):
    import sentencepiece

    rng = np.random.default_rng(20230517)
    weights = random_weights(rng)
    model, tokens = T5(CONFIG, weights), sentencepiece.SentencePieceProcessor(model_file=vocabulary)
    text = "Tell me a story about a dog who found a red ball."
    # One answer is longer than half of the decoder's classes of distances.
    prompts = [(f"len{n}", rng.integers(3, 600, n).tolist(), None, t) for n, t in ((1, 4), (40, 20))]
    prompts.append(("text", tokens.encode(text) + [1], text, 8))
    tensors, golden = {}, []
    for name, ids, text, n_answer in prompts:
        encoded, answer = model.encode(ids), [0] + rng.integers(3, 600, n_answer - 1).tolist()
        logits = model.decode(encoded, answer)
        logprobs = [row[t] - row.max() - math.log(np.exp(row - row.max()).sum()) for row, t in zip(logits, answer[1:])]
        greedy, margin = [], math.inf
        for _ in range(12):
            row = model.decode(encoded, [0] + greedy)[-1]
            best = np.sort(row)[-2:]
            margin = min(margin, best[1] - best[0])
            greedy.append(int(row.argmax()))
        assert margin > 1e-3, margin
        golden.append({"name": name, "text": text, "input_ids": ids, "decoder_input_ids": answer,
                       "decoder_token_logprobs": logprobs, "greedy": greedy, "greedy_min_margin": margin})
        tensors[name + ".logits"] = logits.astype(np.float32)
        tensors[name + ".encoder_last_hidden_state"] = encoded.astype(np.float32)
    os.makedirs(folder, exist_ok=True)
    json.dump(CONFIG, open(folder + "/config.json", "w"), indent=1)
    json.dump({"extra_ids": 20, "tokenizer_class": "T5Tokenizer"}, open(folder + "/tokenizer_config.json", "w"))
    json.dump({"prompts": golden}, open(folder + "/golden.json", "w"), separators=(",", ":"))
    save_file(weights, folder + "/model.safetensors")
    save_file(tensors, folder + "/golden.safetensors")
    shutil.copy(vocabulary, folder + "/spiece.model")


if sys.argv[1] == "--check":
    check(sys.argv[2])
else:
    main(sys.argv[1], sys.argv[2])
