"""`halfbyte.eval` against transformers: the perplexities of the report's second measure.

The code below follows the published script and the usual way to score long texts, and shares
nothing with halfbyte. Needs transformers, torch and the shared data; HALFBYTE_EVAL_ITEMS is how
many of the 252 items are scored.
"""

from __future__ import annotations

import math
import os
from typing import Any, Optional

import pytest

import halfbyte
from conftest import SHARED, skip_without
from halfbyte.eval import read_items, self_instruct

N_ITEMS = int(os.environ.get("HALFBYTE_EVAL_ITEMS", "6"))

MODELS = {
    "gptj-1k": SHARED / "ggml" / "gptj-1k-hf",
    "llama-1k": SHARED / "ggml" / "llama-1k-hf",
    "stories": SHARED.parent / "demo" / "gptj-stories",
}


def published(model: Any, ids: Any, n_prompt: int) -> Optional[float]:
    """The published formula, window by window."""
    import torch

    losses, previous, end = [], 0, 0
    for begin in range(n_prompt, ids.size(1), 512):
        end = min(begin + 512, ids.size(1))
        window = ids[:, begin:end]
        labels = window.clone()
        labels[:, : -(end - previous)] = -100
        with torch.no_grad():
            losses.append(model(window, labels=labels).loss * (end - previous))
        previous = end
    value = math.exp(sum(float(loss) for loss in losses) / end) if losses else math.nan
    return None if math.isnan(value) else value


def conditional(model: Any, ids: Any, n_prompt: int, bos: Optional[int]) -> Optional[float]:
    """Labels for the response alone; windows of the context that move by half of it."""
    import torch

    length = model.config.max_position_embeddings
    total, n, scored = 0.0, 0, n_prompt
    for begin in range(0, ids.size(1), length // 2):
        window = ids[:, begin : begin + length].clone()
        fresh = begin + window.size(1) - scored
        if fresh <= 0:
            continue
        if begin > 0 and bos is not None:
            window[0, 0] = bos
        labels = window.clone()
        labels[:, :-fresh] = -100
        with torch.no_grad():
            total += float(model(window, labels=labels).loss) * fresh
        n, scored = n + fresh, scored + fresh
    return math.exp(total / n) if n else None


@pytest.mark.parametrize("name", MODELS)
def test_perplexities_of_responses_are_those_of_transformers(name: str) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    pytest.importorskip("transformers", reason="transformers is not installed")
    from halfbyte.eval._reference import reference_model, reference_tokenizer

    path = str(skip_without(MODELS[name]))
    items = read_items(str(skip_without(SHARED / "eval" / "user_oriented_instructions.jsonl")))
    items = items[:N_ITEMS]
    ours = self_instruct(halfbyte.Model(path, cache_type="f32"), items)
    model, tokenizer = reference_model(path), reference_tokenizer(path)
    first = tokenizer("a")["input_ids"][0]
    bos = first if first == tokenizer.bos_token_id else None
    for i, item in enumerate(items):
        ids = torch.tensor([tokenizer(item.text)["input_ids"]])
        n_prompt = len(tokenizer(item.prompt)["input_ids"])
        for mode, expected in (
            ("conditional", conditional(model, ids, n_prompt, bos)),
            ("gpt4all-2023", published(model, ids, n_prompt)),
        ):
            found = ours[mode][i]
            assert found.n_tokens == ids.size(1) - n_prompt, item.id
            if expected is None:
                assert found.perplexity is None and found.clipped == 0, (mode, item.id)
            else:
                assert found.perplexity == pytest.approx(expected, rel=1e-3), (mode, item.id)
                assert found.clipped == pytest.approx(min(expected, 100), rel=1e-3)
