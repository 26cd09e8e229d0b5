"""OpenVINO GenAI's pipeline on the CPU; it reads GGUF and times its tokens itself.

It wants a file to say its type, and knows byte-level vocabularies only; no text passes here, so
it gets a copy of the file with a header that it takes.
"""

import os
from functools import partial

import numpy
import openvino
import openvino_genai

import gguf
from common import drive, tokens

# `general.file_type` for the type of most matrices.
FILE_TYPES = {0: 0, 1: 1, 2: 2, 3: 3, 8: 7, 12: 15}


def measure(arguments):
    model = gguf.Gguf(arguments.model)
    n_vocab = len(model.values[b"tokenizer.ggml.tokens"])
    kind = model.tensors[b"blk.0.attn_q.weight"][1]
    if kind not in FILE_TYPES:
        raise ValueError(f"no encoding for OpenVINO: GGUF's type {kind}")
    new = {
        b"general.file_type": gguf.u32(FILE_TYPES[kind]),
        b"tokenizer.ggml.model": gguf.string(b"gpt2"),
        b"tokenizer.ggml.pre": gguf.string(b"llama-bpe"),
        b"tokenizer.ggml.merges": gguf.strings([b"t h"]),
    }
    path = gguf.made(arguments.model, arguments.scratch, ".openvino.gguf", partial(gguf.copy_with, new))
    pipeline = openvino_genai.LLMPipeline(
        os.fspath(path), "CPU", INFERENCE_NUM_THREADS=arguments.threads)

    def run(n_prompt, n_new):
        ids = numpy.array([tokens(n_vocab, n_prompt)], dtype=numpy.int64)
        inputs = openvino_genai.TokenizedInputs(
            openvino.Tensor(ids), openvino.Tensor(numpy.ones_like(ids)))
        config = openvino_genai.GenerationConfig(
            max_new_tokens=n_new, min_new_tokens=n_new, ignore_eos=True, do_sample=False)
        return pipeline.generate(inputs, config).perf_metrics

    run(16, 2)
    prompt = run(arguments.prompt_tokens, 1).get_ttft().mean
    decode = run(1, arguments.new_tokens + 1).get_tpot().mean
    return {"prompt_tok_s": 1000 * arguments.prompt_tokens / prompt, "decode_tok_s": 1000 / decode}


drive("openvino-genai", measure)
