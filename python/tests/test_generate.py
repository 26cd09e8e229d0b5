"""Generating: results, streams, options, callbacks."""

from __future__ import annotations

import asyncio
import inspect
import math
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, cast

import numpy as np
import pytest

import halfbyte
from conftest import DATA, PROMPT


def test_a_result_is_a_text_that_knows_how_it_came_about(model: halfbyte.Model) -> None:
    done = model.generate(PROMPT, max_new_tokens=20, seed=1)
    assert isinstance(done, str) and done.text == str(done) and type(done.text) is str
    assert model.detokenize(model.tokenize(PROMPT) + done.tokens) == PROMPT + done
    assert (len(done.tokens), done.finish_reason, done.stop) == (20, "length", None)
    assert done.seed == 1 and done.logprobs is None
    assert done.usage == (len(model.tokenize(PROMPT)), 0, 20)
    assert done.timings.prompt > 0 and done.timings.decode > 0 and done.tokens_per_second > 0
    assert repr(done.text) in repr(done) and "'length'" in repr(done)
    assert "length" in done._repr_html_()
    assert str.__eq__(model.generate(PROMPT, max_new_tokens=20, seed=1), done)
    again = pickle.loads(pickle.dumps(done))
    assert (again, again.tokens, again.usage) == (done, done.tokens, done.usage)


def test_without_a_seed_texts_differ_and_the_seed_is_told(model: halfbyte.Model) -> None:
    a, b = (model.generate(PROMPT, max_new_tokens=30, temperature=1.5) for _ in range(2))
    assert a.seed != b.seed and a != b
    assert model.generate(PROMPT, max_new_tokens=30, temperature=1.5, seed=a.seed) == a


def test_a_stream_joins_to_the_whole(model: halfbyte.Model) -> None:
    whole = model.generate(PROMPT, max_new_tokens=30, seed=2, logprobs=2)
    stream = model.generate(PROMPT, max_new_tokens=30, seed=2, logprobs=2, stream=True)
    assert (stream.finish_reason, stream.text) == (None, "")
    pieces = []
    for piece in stream:
        pieces.append(piece)
        assert stream.text == "".join(pieces)
    assert "".join(pieces) == whole
    assert [piece.token for piece in pieces] == whole.tokens == stream.tokens
    assert whole.logprobs is not None
    assert [(p.token, p.logprob, p.top) for p in pieces] == whole.logprobs
    assert (stream.finish_reason, stream.seed) == ("length", 2)
    assert list(stream) == []
    assert stream.result() == whole and stream.result().tokens == whole.tokens


def test_a_stream_can_be_finished_at_once_or_left(model: halfbyte.Model) -> None:
    whole = model.generate(PROMPT, max_new_tokens=30, seed=2)
    stream = model.generate(PROMPT, max_new_tokens=30, seed=2, stream=True)
    first = next(stream)
    assert stream.result() == whole and stream.tokens[0] == first.token
    with model.generate(PROMPT, stream=True) as stream:
        next(stream)
    assert (stream.finish_reason, list(stream)) == ("cancelled", [])
    assert stream.usage.new_tokens == 1


def test_log_probabilities_are_those_of_the_logits(model: halfbyte.Model) -> None:
    done = model.generate(PROMPT, max_new_tokens=5, temperature=0, logprobs=3)
    assert done.logprobs is not None and len(done.logprobs) == 5
    prompt = model.tokenize(PROMPT)
    rows = model.logits(prompt + done.tokens)[len(prompt) - 1 :].astype(np.float64)
    for row, scored in zip(rows, done.logprobs):
        logprobs = row - np.log(np.exp(row).sum())
        assert abs(logprobs[scored.token] - scored.logprob) < 1e-5
        assert [token for token, _ in scored.top] == list(np.argsort(-row)[:3])


def test_stop_texts_end_it_and_are_left_out(model: halfbyte.Model) -> None:
    whole = model.generate(PROMPT, max_new_tokens=60, seed=3)
    word = whole.split()[4]
    for stop in (word, [word], ["not there", word]):
        done = model.generate(PROMPT, max_new_tokens=60, seed=3, stop=stop)
        assert (done.finish_reason, done.stop) == ("stop", word)
        assert whole.startswith(done) and word not in done


def test_a_callback_hears_pieces_and_ends_the_generation(model: halfbyte.Model) -> None:
    heard: list[str] = []
    done = model.generate(PROMPT, max_new_tokens=9, seed=1, callback=heard.append)
    assert "".join(heard) == done and len(heard) == 9

    def three(piece: halfbyte.Piece) -> bool:
        heard.append(piece)
        return len(heard) < 3

    heard.clear()
    done = model.generate(PROMPT, seed=1, callback=three)
    assert (len(heard), done.finish_reason, len(done.tokens)) == (3, "cancelled", 3)


def test_an_exception_in_a_callback_comes_through(model: halfbyte.Model) -> None:
    class Stop(Exception):
        pass

    heard = []

    def fail(piece: halfbyte.Piece) -> None:
        heard.append(piece)
        if len(heard) == 2:
            raise Stop("enough")

    with pytest.raises(Stop, match="enough"):
        model.generate(PROMPT, callback=fail)
    assert len(heard) == 2

    calls = []

    def processor(tokens: list[int], logits: Any) -> None:
        calls.append(len(tokens))
        if len(calls) == 2:
            raise Stop("no more")

    with pytest.raises(Stop, match="no more"):
        model.generate(PROMPT, logits_processor=processor)
    assert len(calls) == 2
    assert model.generate(PROMPT, max_new_tokens=2).finish_reason == "length"


@pytest.mark.parametrize("kind", [StopIteration, StopAsyncIteration])
def test_a_stop_iteration_is_an_error_like_others(
    model: halfbyte.Model, kind: type[Exception]
) -> None:
    def fail(*_: Any) -> None:
        raise kind

    functions: dict[str, dict[str, Any]] = {
        "callback": {"callback": fail}, "logits_processor": {"logits_processor": fail}
    }  # fmt: skip

    async def heard(options: dict[str, Any]) -> None:
        async for _ in model.agenerate(PROMPT, **options):
            pass

    async def awaited(options: dict[str, Any]) -> None:
        await asyncio.wait_for(model.agenerate(PROMPT, **options), 20)

    def uses(options: dict[str, Any]) -> list[Callable[[], object]]:
        return [
            lambda: model.generate(PROMPT, **options),
            lambda: list(model.generate(PROMPT, stream=True, **options)),
            lambda: asyncio.run(heard(options)),
            lambda: asyncio.run(awaited(options)),
        ]

    for name, options in functions.items():
        for use in uses(options):
            with pytest.raises(RuntimeError, match=f"{name} raised {kind.__name__}"):
                use()


def test_a_logits_processor_changes_in_place_or_returns(model: halfbyte.Model) -> None:
    wanted = model.tokenize(" cat", add_bos=False)[0]
    seen: list[list[int]] = []

    def in_place(tokens: list[int], logits: Any) -> None:
        assert logits.dtype == np.float32 and logits.shape == (model.vocab_size,)
        seen.append(tokens)
        logits[:] = -np.inf
        logits[wanted] = 0

    def returned(tokens: list[int], logits: Any) -> Any:
        return np.where(np.arange(len(logits)) == wanted, 0.0, -np.inf)

    for processor in (in_place, returned):
        done = model.generate(PROMPT, max_new_tokens=3, logits_processor=processor)
        assert done.tokens == [wanted] * 3 and done == " cat" * 3
    assert seen[0] == model.tokenize(PROMPT) and seen[2] == seen[0] + [wanted] * 2
    with pytest.raises(ValueError, match="shape"):
        model.generate(PROMPT, logits_processor=lambda tokens, logits: logits[:3])
    with pytest.raises(TypeError, match="callable"):
        model.generate(PROMPT, logits_processor=3)  # type: ignore[call-overload]


def test_biases_force_and_forbid(model: halfbyte.Model) -> None:
    wanted = model.tokenize(" dog", add_bos=False)[0]
    done = model.generate(PROMPT, max_new_tokens=2, temperature=0, logit_bias={wanted: 1000})
    assert done.tokens == [wanted, wanted]
    first = model.generate(PROMPT, max_new_tokens=1, temperature=0).tokens[0]
    banned = model.generate(PROMPT, max_new_tokens=1, temperature=0, logit_bias={first: -math.inf})
    assert banned.tokens != [first]


def test_a_batch_gives_what_each_prompt_gives_alone(model: halfbyte.Model) -> None:
    prompts = [PROMPT, "The cat", "", "A little girl named Lily went to the park and"] * 3
    heard: list[tuple[int, int]] = []
    together = model.generate_batch(
        prompts, max_new_tokens=12, seed=5, progress=lambda *reached: heard.append(reached)
    )
    assert len(together) == len(prompts)
    for prompt, done in zip(prompts, together):
        alone = model.generate(prompt, max_new_tokens=12, seed=5)
        assert (done, done.tokens) == (alone, alone.tokens)
        assert done.finish_reason == alone.finish_reason
    assert heard[-1] == (12, 12)
    ids = [model.tokenize(prompt) or [model.bos or 0] for prompt in prompts[:4]]
    assert model.generate_batch(ids, max_new_tokens=12, seed=5) == together[:4]
    assert model.generate_batch([]) == []
    with pytest.raises(TypeError, match="several texts"):
        model.generate_batch(PROMPT)


def test_prompts_may_be_tokens_of_any_kind(model: halfbyte.Model) -> None:
    ids = model.tokenize(PROMPT)
    expected = model.generate(PROMPT, max_new_tokens=5, seed=1)
    for prompt in (ids, tuple(ids), np.array(ids), iter(ids), expected[:0] + PROMPT):
        assert model.generate(prompt, max_new_tokens=5, seed=1) == expected


WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"temperature": -1}, ValueError, "temperature"),
    ({"temperature": "hot"}, TypeError, "temperature"),
    ({"temperature": float("nan")}, ValueError, "temperature"),
    ({"top_k": -1}, ValueError, "top_k.*-1"),
    ({"top_k": 1.5}, TypeError, "top_k"),
    ({"top_p": 1.5}, ValueError, "top_p"),
    ({"max_new_tokens": -5}, ValueError, "max_new_tokens"),
    ({"max_new_tokens": 1 << 70}, ValueError, "max_new_tokens"),
    ({"seed": -1}, ValueError, "seed"),
    ({"stop": ""}, ValueError, "stop"),
    ({"stop": [1]}, TypeError, "stop"),
    ({"logit_bias": {1: math.inf}}, ValueError, "logit_bias"),
    ({"logit_bias": {"a": 1}}, TypeError, "logit_bias"),
    ({"logit_bias": {10**9: 1}}, ValueError, "logit_bias: 1000000000 is outside"),
    ({"logprobs": 5000}, ValueError, "logprobs"),
    ({"context_policy": "forget"}, ValueError, "error, drop_oldest_turns, shift"),
    ({"repetition_penalty": 0}, ValueError, "repetition_penalty"),
]


@pytest.mark.parametrize(("options", "kind", "words"), WRONG)
def test_wrong_options_are_named(
    model: halfbyte.Model, options: dict[str, Any], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        model.generate(PROMPT, **options)
    if kind is ValueError:
        with pytest.raises(halfbyte.ConfigError) as caught:
            model.generate(PROMPT, **options)
        assert caught.value.field in options


def test_wrong_prompts_are_refused(model: halfbyte.Model) -> None:
    cases: list[tuple[Any, type[Exception], str]] = [
        (None, TypeError, "text or token ids"),
        (3, TypeError, "text or token ids"),
        (b"bytes", TypeError, "bytes"),
        ([-1], ValueError, "prompt"),
        (["a"], TypeError, "prompt"),
        ([], ValueError, "no token"),
        ([10**9], ValueError, "vocabulary"),
        ("\ud800", Exception, "surrogate"),
    ]
    for prompt, kind, words in cases:
        with pytest.raises(kind, match=words):
            model.generate(prompt)
    with pytest.raises(halfbyte.ContextFullError) as caught:
        model.generate([5] * model.context_length)
    assert caught.value.context_length == model.context_length
    assert caught.value.needed == model.context_length + 1
    with pytest.raises(TypeError, match="wrong"):
        model.generate(PROMPT, wrong=1)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="there is no option wrong"):
        model.generate_batch([PROMPT], wrong=1)  # type: ignore[call-arg]


def test_defaults_are_those_of_the_command() -> None:
    command = [sys.executable, "-m", "halfbyte", "generate", "--help"]
    text = " ".join(
        subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    )
    parameters = inspect.signature(halfbyte.Model.generate).parameters
    besides = {"self", "prompt", "stream", "callback", "lora"}
    assert set(parameters) - besides == set(halfbyte.Options.__annotations__)
    checked = 0
    for name, parameter in parameters.items():
        found = re.search(rf"--{name.replace('_', '-')} <.*?\[default: ([\d.]+)\]", text)
        if found and not isinstance(parameter.default, bool) and parameter.default is not None:
            assert float(found[1]) == parameter.default, name
            checked += 1
    assert checked == 10


def test_wrong_types_are_named(model: halfbyte.Model, tmp_path: Path) -> None:
    any_: Any = model
    chat: Any = model.chat()
    session: Any = model.session()
    calls: list[tuple[Callable[[], object], str]] = [
        (lambda: any_.tokenize(5), "text must be a text, not int"),
        (lambda: chat.say(5), "text must be a text, not int"),
        (lambda: any_.chat(system=5), "system must be a text, not int"),
        (lambda: any_.perplexity("a b c", window="x"), "window must be an integer, not str"),
        (lambda: any_.perplexity("a b c", stride=1.5), "stride must be an integer, not float"),
        (lambda: any_.perplexity(5), "text or token ids, not int"),
        (lambda: any_.embed(5), "embed takes .*, not int"),
        (lambda: any_.embed(b"a"), "embed takes .*, not bytes"),
        (lambda: any_.embed([1, "a"]), "tokens"),
        (lambda: halfbyte.Session(cast("Any", 5)), "expected a halfbyte.Model, not int"),
        (lambda: halfbyte.Chat(cast("Any", 5)), "expected a halfbyte.Model, not int"),
        (lambda: any_.generate(PROMPT, callback=5), "callback must be callable, not int"),
        (lambda: session.generate(PROMPT, callback=5), "callback must be callable, not int"),
        (lambda: chat.say(PROMPT, callback=5), "callback must be callable, not int"),
    ]
    for call, words in calls:
        with pytest.raises(TypeError, match=words):
            call()
    assert chat.messages == [] and len(session) == 0
    path = os.fsencode(DATA / "llama-1k.q4_0.gguf")
    assert halfbyte.Model(path).path == os.fsdecode(path) == halfbyte.inspect(path)["path"]
    session.save(os.fsencode(tmp_path / "session"))
    assert (tmp_path / "session").exists()


def test_a_processor_that_makes_nan_is_told(model: halfbyte.Model) -> None:
    def spoil(tokens: list[int], logits: Any) -> None:
        logits[7] = np.nan

    for processor in (spoil, lambda tokens, logits: logits * np.nan):
        with pytest.raises(ValueError, match="logits_processor made logits NaN"):
            model.generate(PROMPT, logits_processor=processor)
