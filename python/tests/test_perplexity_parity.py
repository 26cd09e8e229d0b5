"""`halfbyte perplexity` against transformers in f32, by both protocols, and against llama.cpp.

The computations below follow the protocols' definitions and share nothing with halfbyte. Needs
transformers, torch and the shared data, and for its part llama-cpp-python; HALFBYTE_EVAL_CHARS is
how much of WikiText-2's test split is read.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import SHARED, skip_without

N_CHARS = int(os.environ.get("HALFBYTE_EVAL_CHARS", "4000"))

MODELS = {
    "gptj-1k": SHARED / "ggml" / "gptj-1k-hf",
    "llama-1k": SHARED / "ggml" / "llama-1k-hf",
    "stories": SHARED.parent / "demo" / "gptj-stories",
}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    whole = skip_without(SHARED / "text" / "wiki.test.raw").read_text(encoding="utf-8")
    path = tmp_path_factory.mktemp("text") / "wiki.txt"
    # transformers 5 drops spaces in front of a LLaMA's text, which SentencePiece keeps.
    path.write_text(whole.lstrip()[:N_CHARS], encoding="utf-8")
    return path


def measured(text: Path, model: Path, *options: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "halfbyte", "perplexity", str(text), "--model", str(model)]
    run = subprocess.run([*command, "--json", "--cache-type", "f32", *options],
                         capture_output=True, text=True, check=True)  # fmt: skip
    found: dict[str, Any] = json.loads(run.stdout)
    return found


def strided(model: Any, ids: Any, bos: bool, window: int, stride: int) -> float:
    """Sliding windows whose labels hide what was scored before."""
    import torch

    total, n, previous = 0.0, 0, 0
    for begin in range(0, ids.size(1), stride):
        end = min(begin + window, ids.size(1))
        read = ids[:, begin:end].clone()
        if bos:
            read[0, 0] = ids[0, 0]
        labels = ids[:, begin:end].clone()
        labels[:, : -(end - previous)] = -100
        # Nothing stands before the first token of a window.
        labels[:, 0] = -100
        count = int((labels != -100).sum())
        if count:
            with torch.no_grad():
                total += float(model(read, labels=labels).loss) * count
            n += count
        previous = end
        if end == ids.size(1):
            break
    return math.exp(total / n)


def second_halves(model: Any, ids: Any, bos: bool, window: int) -> float:
    """Chunks of which the positions from half a window on are scored."""
    import torch

    total, n = 0.0, 0
    for begin in range(0, ids.size(1) - window + 1, window):
        read = ids[:, begin : begin + window].clone()
        if bos:
            read[0, 0] = ids[0, 0]
        with torch.no_grad():
            rows = torch.log_softmax(model(read).logits[0].double(), dim=-1)
        for place in range(window // 2, window - 1):
            total -= float(rows[place, ids[0, begin + place + 1]])
            n += 1
    return math.exp(total / n)


@pytest.mark.parametrize("name", MODELS)
def test_perplexities_are_those_of_transformers(name: str, text: Path) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    pytest.importorskip("transformers", reason="transformers is not installed")
    from halfbyte.eval._reference import reference_model, reference_tokenizer

    path = skip_without(MODELS[name])
    model, tokenizer = reference_model(str(path)), reference_tokenizer(str(path))
    ids = torch.tensor([tokenizer(text.read_text(encoding="utf-8"))["input_ids"]])
    bos = bool(ids[0, 0] == tokenizer.bos_token_id)
    for window, stride in ((256, 128), (100, 30), (64, 64)):
        found = measured(text, path, "--window", str(window), "--stride", str(stride))
        expected = strided(model, ids, bos, window, stride)
        assert found["perplexity"] == pytest.approx(expected, rel=1e-3), (window, stride)
        assert (found["bos"] is not None) == bos
    found = measured(text, path, "--protocol", "llama.cpp", "--window", "128")
    assert found["perplexity"] == pytest.approx(second_halves(model, ids, bos, 128), rel=1e-3)


def test_perplexity_is_that_of_llama_cpp(text: Path) -> None:
    llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    import numpy as np

    path = skip_without(SHARED / "ggml" / "llama-1k.f16.gguf")
    theirs = llama_cpp.Llama(str(path), n_ctx=128, n_batch=128, logits_all=True, verbose=False,
                             type_k=0, type_v=0)  # fmt: skip
    ids = theirs.tokenize(text.read_bytes(), add_bos=True, special=False)
    total, n = 0.0, 0
    for begin in range(0, len(ids) - 127, 128):
        read = [ids[0], *ids[begin + 1 : begin + 128]]
        theirs.reset()
        theirs.eval(read)
        rows = np.array(theirs.scores[:128], dtype=np.float64)
        rows -= np.log(np.exp(rows).sum(axis=1, keepdims=True))
        for place in range(64, 127):
            total -= rows[place, ids[begin + place + 1]]
            n += 1
    found = measured(text, path, "--protocol", "llama.cpp", "--window", "128")
    assert found["scored_tokens"] == n
    assert found["perplexity"] == pytest.approx(math.exp(total / n), rel=1e-3)
