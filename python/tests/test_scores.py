"""Logits, likelihoods, perplexity, embeddings, tokens: the numbers of the Rust library."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import halfbyte
from conftest import PROMPT, golden_models


@pytest.mark.parametrize("path", golden_models(), ids=lambda path: path.name)
def test_logits_are_those_of_rust_bit_for_bit(path: Path) -> None:
    program = os.environ.get("HALFBYTE_LOGITS")
    if program is None:
        pytest.skip("HALFBYTE_LOGITS does not name the Rust program `logits`: cargo xtask python")
    model = halfbyte.Model(path)
    rng = np.random.default_rng(7)
    for n_tokens in (1, 7, 64, 150):
        ids = rng.integers(0, model.vocab_size, n_tokens)
        command = [program, str(path), *map(str, ids)]
        bits = subprocess.run(command, capture_output=True, check=True).stdout
        found = model.logits(ids)
        assert found.dtype == np.float32 and found.shape == (n_tokens, model.vocab_size)
        assert found.tobytes() == bits, f"{n_tokens} tokens"


def test_logits_belong_to_the_caller(model: halfbyte.Model) -> None:
    ids = model.tokenize(PROMPT)
    first, second = model.logits(ids), model.logits(ids)
    first[:] = 0
    assert np.abs(second).max() > 0
    for wrong in ([], [10**6], [-1]):
        with pytest.raises(ValueError, match="tokens"):
            model.logits(wrong)
    with pytest.raises(TypeError, match="tokenize"):
        model.logits(PROMPT)  # type: ignore[arg-type]


def test_likelihoods_agree_with_the_logits(llama: halfbyte.Model) -> None:
    context, continuation = "Once upon a", " time there was"
    whole = llama.tokenize(context + continuation)
    n = len(llama.tokenize(context))
    rows = llama.logits(whole).astype(np.float64)
    logprobs = rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))
    expected = sum(logprobs[i, whole[i + 1]] for i in range(n - 1, len(whole) - 1))
    found = llama.log_likelihood(context, continuation)
    assert abs(found - expected) < 1e-4 and found.n_tokens == len(whole) - n
    assert llama.log_likelihood(whole[:n], whole[n:]) == found
    assert "is_greedy" in repr(found)
    greedy = llama.generate(whole[:n], max_new_tokens=4, temperature=0, repetition_penalty=1)
    assert llama.log_likelihood(whole[:n], greedy.tokens).is_greedy


def test_likelihoods_of_many_are_those_of_each(model: halfbyte.Model) -> None:
    pairs = [(c, e) for c in (PROMPT, "The cat", "") for e in (" was", " and then", "!")] * 10
    heard: list[tuple[int, int]] = []
    found = model.log_likelihood_batch(pairs, progress=lambda *reached: heard.append(reached))
    assert found == [model.log_likelihood(*pair) for pair in pairs]
    assert heard[-1] == (len(pairs), len(pairs))
    with pytest.raises(ValueError, match="continuation"):
        model.log_likelihood(PROMPT, "")
    merged = next(b for b in "bcdefghijk" if len(model.tokenize("a" + b)) == 1)
    with pytest.raises(ValueError, match="continuation: of pair 1 .* one token with the context"):
        model.log_likelihood_batch([(PROMPT, "!"), ("a", merged)])
    assert model.log_likelihood(" ", "x") == model.log_likelihood("", " x")
    with pytest.raises(TypeError, match="both"):
        model.log_likelihood(PROMPT, [1])


def test_perplexity_is_a_number_with_an_origin(model: halfbyte.Model) -> None:
    text = "Once upon a time there was a little dog. He liked to play in the park. " * 3
    found = model.perplexity(text)
    ids = model.tokenize(text)
    assert isinstance(found, float) and found.n_scored == len(ids) - 1
    assert abs(np.exp(found.mean_nll) - found) < 1e-9 and found.std_error > 0
    assert "±" in repr(found)
    strided = model.perplexity(ids, window=16, stride=4)
    assert strided > found and strided.n_scored == len(ids) - 1
    wrong: list[dict[str, Any]] = [{"window": 1}, {"stride": 0}, {"window": -3}, {"window": 10**9}]
    for options in wrong:
        with pytest.raises(ValueError, match="window|stride"):
            model.perplexity(text, **options)


def test_embeddings_are_rows(model: halfbyte.Model) -> None:
    one = model.embed(PROMPT)
    assert one.dtype == np.float32 and one.shape == (model.hidden_size,)
    rows = model.embed([PROMPT, "Another text"])
    assert rows.shape == (2, model.hidden_size) and np.array_equal(rows[0], one)
    ids = model.tokenize(PROMPT)
    assert np.array_equal(model.embed(ids), one) and np.array_equal(model.embed([ids])[0], one)
    assert model.embed([]).shape == (0, model.hidden_size)


def test_tokens_come_back_as_text(model: halfbyte.Model, llama: halfbyte.Model) -> None:
    for one in (model, llama):
        for text in ("Hello, world!", "naïve café ☕ 你好", "  two  spaces", ""):
            ids = one.tokenize(text)
            assert one.detokenize(ids) == text
            joined = b"".join(one.token_bytes(token) for token in ids)
            assert joined.decode().strip() == text.strip()
    assert llama.tokenize("a", add_bos=False) == llama.tokenize("a")[1:]
    with pytest.raises(ValueError, match="vocabulary"):
        model.token_bytes(10**6)
    with pytest.raises(ValueError, match="token"):
        model.token_bytes(-1)
