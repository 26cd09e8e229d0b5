"""ctransformers: llama.cpp of 2023 for LLaMA in GGUF, ggml's own example for GPT-J."""

import os

import ctransformers

import gguf
import gptj_ggml
from common import drive, speeds


def measure(arguments):
    path, kind, note = arguments.model, "gguf", None
    if gguf.Gguf(path).values[b"general.architecture"] == b"gptj":
        # It reads GPT-J in the format of 2023 only.
        path, kind = gguf.made(path, arguments.scratch, ".ggml.bin", gptj_ggml.write), "gptj"
        note = "on the same weights in ggml's format of 2023, the head in the embedding's encoding"
    config = ctransformers.llm.Config(
        context_length=2048, batch_size=arguments.prompt_tokens, threads=arguments.threads)
    llm = ctransformers.LLM(os.fspath(path), kind, config=config)

    def feed(ids, first):
        if first:
            llm.reset()
        llm.eval(ids)

    found = speeds(feed, llm.vocab_size, arguments)
    return {**found, "note": note} if note else found


drive("ctransformers", measure)
