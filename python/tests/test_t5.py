"""An encoder-decoder model answers as it does in Rust; numbers are those of tests/data/t5-micro."""

from __future__ import annotations

import json

import pytest

import halfbyte
from conftest import DATA


@pytest.fixture(scope="module")
def t5() -> halfbyte.Model:
    return halfbyte.Model(DATA / "t5-micro")


@pytest.fixture(scope="module")
def golden() -> dict:
    prompts = json.loads((DATA / "t5-micro" / "golden.json").read_text())["prompts"]
    return next(prompt for prompt in prompts if prompt["text"])


def test_it_answers(t5: halfbyte.Model, golden: dict) -> None:
    options = {
        "max_new_tokens": len(golden["greedy"]),
        "temperature": 0,
        "repetition_penalty": 1,
        "ignore_eos": True,
    }
    answer = t5.generate(golden["text"], **options)
    assert list(answer.tokens) == golden["greedy"]
    assert "".join(t5.generate(golden["text"], stream=True, **options)) == answer


def test_a_session_goes_on_with_its_answer(t5: halfbyte.Model, golden: dict) -> None:
    options = {"temperature": 0, "repetition_penalty": 1, "ignore_eos": True}
    greedy = golden["greedy"]
    session = t5.session()
    first = session.generate(golden["text"], max_new_tokens=5, **options)
    rest = session.generate(max_new_tokens=len(greedy) - 5, **options)
    assert [*first.tokens, *rest.tokens] == greedy


def test_it_scores_answers_and_embeds_prompts(t5: halfbyte.Model, golden: dict) -> None:
    likely = t5.log_likelihood(golden["input_ids"], golden["greedy"][:4])
    assert likely.is_greedy
    assert len(t5.embed(golden["text"])) == 32
    with pytest.raises(halfbyte.Error, match="log_likelihood"):
        t5.logits([5, 6, 7])
