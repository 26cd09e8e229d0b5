"""`halfbyte.lm_eval`: what it answers to lm-evaluation-harness, and its command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import halfbyte
from conftest import DATA, PROMPT

#: Invented items in the layout of the tasks' files.
ITEMS: dict[str, dict[str, Any]] = {
    "boolq": {"idx": 0, "question": "is tea hot", "passage": "Tea is hot.", "label": 1},
    "piqa": {"goal": "Dry a cup.", "sol1": "Use a towel.", "sol2": "Use rain.", "label": 0},
    "hellaswag": {
        "ind": 0, "activity_label": "Tea", "ctx_a": "A man boils water.", "ctx_b": "he",
        "ctx": "A man boils water. he", "endings": ["pours it.", "eats it.", "a", "b"],
        "label": "0",
    },
    "winogrande": {
        "sentence": "The cup fits the bag because the _ is small.", "option1": "cup",
        "option2": "bag", "answer": "1",
    },
    "arc_easy": {
        "id": "a", "question": "What is hot?", "choices": {"text": ["ice", "fire"],
        "label": ["A", "B"]}, "answerKey": "B",
    },
    "openbookqa": {
        "id": "o", "question_stem": "Fire is", "choices": {"text": ["cold", "hot"],
        "label": ["A", "B"]}, "answerKey": "B",
    },
}  # fmt: skip
ITEMS["arc_challenge"] = ITEMS["arc_easy"]

#: (context, continuation) of each choice of these items.
REQUESTS = {
    "boolq": [("Tea is hot.\nQuestion: is tea hot?\nAnswer:", f" {a}") for a in ("no", "yes")],
    "piqa": [("Question: Dry a cup.\nAnswer:", f" Use {what}.") for what in ("a towel", "rain")],
    "hellaswag": [
        ("Tea: A man boils water. He", f" {end}") for end in ("pours it.", "eats it.", "a", "b")
    ],
    "winogrande": [
        (f"The cup fits the bag because the {what}", " is small.") for what in ("cup", "bag")
    ],
    "arc_easy": [("Question: What is hot?\nAnswer:", f" {what}") for what in ("ice", "fire")],
    "openbookqa": [("Fire is", f" {what}") for what in ("cold", "hot")],
}
REQUESTS["arc_challenge"] = REQUESTS["arc_easy"]


def test_a_missing_harness_is_named() -> None:
    program = "import sys; sys.modules['lm_eval'] = None; import halfbyte.lm_eval"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 1 and "pip install lm-eval" in run.stderr


@pytest.fixture(scope="module")
def lm() -> Any:
    """The tiny LLaMA as the harness sees it."""
    pytest.importorskip("lm_eval", reason="lm-eval is not installed: pip install lm-eval")
    from halfbyte.lm_eval import HalfbyteLM

    path = str(DATA / "llama-1k.q4_0.gguf")
    return HalfbyteLM(path, cache_type="f32", batch_size="auto", device="cuda:0")


def instances(*arguments: tuple[Any, ...]) -> list[Any]:
    return [SimpleNamespace(args=one) for one in arguments]


def logprob(model: halfbyte.Model, context: list[int], continuation: list[int]) -> float:
    """From the logits, in f64."""
    rows = model.logits([*context, *continuation[:-1]])[len(context) - 1 :].astype(np.float64)
    logprobs = rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))
    return float(sum(logprobs[i, token] for i, token in enumerate(continuation)))


def test_the_model_is_registered(lm: Any) -> None:
    from lm_eval.api.registry import get_model

    assert get_model("halfbyte") is type(lm)
    made = type(lm).create_from_arg_string(f"path={lm.model.path},threads=1", {"device": "cpu"})
    assert made.model.threads == 1 and made.max_length == lm.model.context_length


def test_a_prompt_that_an_encoder_reads_is_cut_from_its_answer(lm: Any) -> None:
    t5 = type(lm)(str(DATA / "t5-micro"))
    prompt, answer = "do this now", " one two"
    found = t5._encode_pair(prompt, answer)
    assert found == (t5.model.tokenize(prompt), t5.model.tokenize(answer, add_bos=False))


def test_likelihoods_are_those_of_the_tokens(lm: Any) -> None:
    model = lm.model
    pairs = [(PROMPT, " there was"), (PROMPT, " a"), ("The cat ", "sat"), ("", "Once")]
    heard: list[Any] = []
    hook, lm.cache_hook = lm.cache_hook, SimpleNamespace(add_partial=lambda *a: heard.append(a))
    found = lm.loglikelihood(instances(*pairs), disable_tqdm=True)
    lm.cache_hook = hook
    for (context, continuation), (score, is_greedy) in zip(pairs, found):
        if context:
            whole = model.tokenize(context + continuation)
            n = len(model.tokenize(context.rstrip()))
        else:
            whole, n = [model.bos, *model.tokenize(continuation, add_bos=False)], 1
        assert abs(score - logprob(model, whole[:n], whole[n:])) < 1e-4, (context, continuation)
        assert is_greedy == model.log_likelihood(whole[:n], whole[n:]).is_greedy
    assert heard == [("loglikelihood", pair, score) for pair, score in zip(pairs, found)]
    # Together the two letters are one token, which leaves nothing for the second.
    with pytest.raises(ValueError, match="no token to score"):
        lm.loglikelihood(instances(("a", "b")), disable_tqdm=True)


def test_a_start_token_is_not_doubled(lm: Any) -> None:
    ids = lm.tok_encode(PROMPT)
    assert ids[0] == lm.model.bos and lm.tok_encode(f"<s>{PROMPT}").count(lm.model.bos) == 1
    assert lm.tok_encode(PROMPT, add_special_tokens=False) == ids[1:]


def test_long_contexts_lose_their_beginning(lm: Any, caplog: pytest.LogCaptureFixture) -> None:
    context, continuation = "The cat sat on the mat and looked. " * 80, "It was"
    whole = lm.tok_encode(context + continuation)
    assert len(whole) > lm.max_length + 1
    n = len(whole) - len(lm.tok_encode(context.rstrip()))
    kept = whole[-(lm.max_length + 1) :]
    (found,) = lm.loglikelihood(instances((context, continuation)), disable_tqdm=True)
    assert abs(found[0] - logprob(lm.model, kept[:-n], kept[-n:])) < 1e-3
    assert f"left out the first {len(whole) - len(kept)} tokens" in caplog.text
    with pytest.raises(ValueError, match="continuation of"):
        lm.loglikelihood(instances(("a", context)), disable_tqdm=True)


def test_rolling_likelihoods_predict_every_token_once(lm: Any) -> None:
    text = "The cat sat on the mat and looked at the moon. " * 60
    ids = lm.tok_encode(text)
    assert lm.max_length < len(ids) < 2 * lm.max_length
    size, rest = lm.max_length, len(ids) - lm.max_length
    expected = logprob(lm.model, [lm.model.bos], ids[:size])
    expected += logprob(lm.model, ids[-size - 1 : -rest], ids[-rest:])
    short = logprob(lm.model, [lm.model.bos], lm.tok_encode("Hi"))
    found = lm.loglikelihood_rolling(instances((text,), ("Hi",), ("",)), disable_tqdm=True)
    assert abs(found[0] - expected) < 1e-2 and abs(found[1] - short) < 1e-4
    # An empty text still has its start token.
    assert found[2] == pytest.approx(logprob(lm.model, [lm.model.bos], lm.tok_encode("")), abs=1e-4)


def test_generations_stop_where_tasks_want(lm: Any) -> None:
    model = lm.model
    greedy: dict[str, Any] = {"temperature": 0, "repetition_penalty": 1, "top_k": 0, "top_p": 1}
    whole = model.generate(PROMPT, max_new_tokens=12, **greedy)
    stop = whole[len(whole) // 2 :][:2]
    long = "The cat sat. " * 200
    requests = instances(
        (PROMPT, {"until": [], "max_gen_toks": 12}),
        (PROMPT, {"until": [stop, ""], "max_gen_toks": 12, "do_sample": False}),
        ("The dog", {"until": [], "max_gen_toks": 12}),
        (long, {"until": stop, "max_new_tokens": 4}),
        (PROMPT, {"do_sample": True, "temperature": 0.9, "max_gen_toks": 12}),
    )
    found = lm.generate_until(requests, disable_tqdm=True)
    assert found[0] == whole and found[1] == whole.text.split(stop)[0]
    assert found[2] == model.generate("The dog", max_new_tokens=12, **greedy)
    kept = lm.tok_encode(long)[-(lm.max_length - 4) :]
    assert found[3] == model.generate(kept, max_new_tokens=4, stop=stop, **greedy)
    assert found[4] != whole and found == lm.generate_until(requests, disable_tqdm=True)
    assert all(type(text) is str for text in found)
    with pytest.raises(ValueError, match="num_beams.*temperature"):
        lm.generate_until(instances((PROMPT, {"num_beams": 4})), disable_tqdm=True)
    with pytest.raises(ValueError, match="no room"):
        lm.generate_until(instances((PROMPT, {"max_gen_toks": 512})), disable_tqdm=True)


def test_chats_use_the_template(lm: Any) -> None:
    chatting = type(lm)(chat_template="gpt4all-2023-06")
    messages = [{"role": "user", "content": "Hi"}]
    assert chatting.apply_chat_template(messages) == "### Human:\nHi\n### Assistant:\n"
    assert chatting.chat_template(True) == "gpt4all-2023-06" and chatting.chat_template() == ""
    assert chatting.tokenizer_name == chatting.model.path


def test_the_command_line_is_completed(lm: Any) -> None:
    from halfbyte.lm_eval._command import completed

    run = ["run", "--model", "halfbyte"]
    assert completed(["--tasks", "piqa"]) == [*run, "--tasks", "piqa"]
    assert completed(["run", "--tasks", "piqa"]) == [*run, "--tasks", "piqa"]
    assert completed(["-M", "hf", "--tasks", "piqa"]) == ["run", "-M", "hf", "--tasks", "piqa"]
    assert completed(["ls", "tasks"]) == ["ls", "tasks"] and completed([]) == ["--help"]


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "cache")}
    return subprocess.run(
        [sys.executable, "-m", "halfbyte.lm_eval", *arguments],
        capture_output=True, text=True, env=environment, cwd=folder,
    )  # fmt: skip


def test_tasks_read_local_files(lm: Any, tmp_path: Path) -> None:
    for task, item in ITEMS.items():
        (tmp_path / f"{task}.jsonl").write_text(json.dumps(item) + "\n")
    model = f"path={lm.model.path},cache_type=f32"
    asked_for = ["--tasks", ",".join(ITEMS), "--model_args", model, "--data", "."]
    run = command(tmp_path, *asked_for, "--output_path", "results", "--log_samples")
    assert run.returncode == 0, run.stderr
    for task, expected in REQUESTS.items():
        (samples,) = (tmp_path / "results").rglob(f"samples_{task}_*.jsonl")
        (sample,) = map(json.loads, samples.read_text().splitlines())
        asked = [(one["arg_0"], one["arg_1"]) for one in sample["arguments"].values()]
        assert asked == expected
        scores = [float(one[0][0]) for one in sample["resps"]]
        assert scores == [float(lm.model.log_likelihood(*pair)) for pair in asked]
        # The right choice is the first one of all tasks but these.
        right = int(task in ("boolq", "arc_easy", "arc_challenge", "openbookqa"))
        assert sample["acc"] == float(int(np.argmax(scores)) == right)


def test_wrong_arguments_are_refused(lm: Any, tmp_path: Path) -> None:
    run = command(tmp_path, "--tasks", "piqa", "--data", "nowhere")
    assert run.returncode == 2 and "nowhere is not a folder" in run.stderr
    run = command(tmp_path, "--tasks", "piqa", "--data", ".", "--include_path", ".")
    assert run.returncode == 2 and "exclude each other" in run.stderr
