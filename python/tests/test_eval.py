"""`halfbyte.eval`: the report's columns, the two modes of perplexity, the commands."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import halfbyte
from conftest import DATA
from halfbyte.eval import PUBLISHED, TASKS, Item, main, read_items, self_instruct
from halfbyte.eval._self_instruct import ItemScore, conditional_pairs, summary, windows_2023
from halfbyte.eval._table1 import Answered, Row, distance, metric_of
from test_lm_eval import ITEMS

INSTRUCTIONS = (
    Item("a", "Write about a cat.", "", "The cat sat on the mat and was happy."),
    Item("b", "Go on.", "Once upon a time", "there was a little dog named Max."),
    Item("c", "Say one letter.", "", "a"),
    Item("d", "Say nothing.", "", ""),
)


def test_averages_of_the_report_are_those_of_its_rows() -> None:
    for row in PUBLISHED:
        assert len(row.accuracies) == len(TASKS)
        # Two digits of the average are in the report, and one of each accuracy.
        assert abs(sum(row.accuracies) / len(TASKS) - row.average) < 0.11, row.model


def row(name: str, right: list[bool], scores: list[tuple[float, float]]) -> Row:
    answers = [
        Answered("piqa", i, s, False, r, (1,) * len(s))
        for i, (r, s) in enumerate(zip(right, scores))
    ]
    return Row(name, ("piqa",), tuple(answers))


def test_rows_count_by_the_reports_metric_and_tell_their_distance() -> None:
    a = row("a", [True, True, False, False], [(-1, -2), (-1, -1.001), (-3, -1), (-4, -5)])
    b = row("b", [True, False, False, True], [(-1, -2.5), (-1, -1.002), (-3, -1), (-4, -6)])
    assert metric_of("piqa") == "acc_norm" and a.accuracy("piqa") == a.average == 0.5
    assert a.accuracy("piqa", "acc") == 0
    assert a.std_error("piqa") == pytest.approx(math.sqrt(0.25 / 3))
    found = distance(b, a)
    assert found.accuracies == {"piqa": 0.0} and found.largest_score == 1
    assert found.mean_score == pytest.approx((0.5 + 0.001 + 1) / 8)
    # The second question changed by less than two correct computations may differ.
    assert (found.changed, found.changed_clearly, found.items) == (2, 1, 4)
    with pytest.raises(ValueError, match="different questions"):
        distance(a, Row("c", ("piqa",), a.answers[:2]))


def test_a_near_tie_is_one_by_the_metric_that_decides() -> None:
    # Per character -2/20 and -1.0002/10 are near, however far their sums are from each other.
    long = Answered("piqa", 0, (-2.0, -1.0002), True, True, (20, 10))
    assert long.is_clear("acc") and not long.is_clear("acc_norm")


def test_the_median_of_an_even_number_is_between_two() -> None:
    scores = [ItemScore(str(i), value, value, 2, 1, 1.0) for i, value in enumerate((3.0, 1.0))]
    assert summary(scores)["median"] == 2


def test_a_model_with_an_encoder_has_no_such_perplexity() -> None:
    t5 = halfbyte.Model(DATA / "t5-micro")
    with pytest.raises(halfbyte.UnsupportedError, match="log_likelihood"):
        self_instruct(t5, INSTRUCTIONS)


def logprobs(model: halfbyte.Model, ids: list[int]) -> list[float]:
    """Of each token but the first, in f64."""
    rows = model.logits(ids[:-1]).astype(np.float64)
    found = rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))
    return [float(found[i, token]) for i, token in enumerate(ids[1:])]


def test_each_mode_scores_what_it_says(llama: halfbyte.Model) -> None:
    found = self_instruct(llama, INSTRUCTIONS)
    for item, conditional, published in zip(
        INSTRUCTIONS, found["conditional"], found["gpt4all-2023"]
    ):
        ids, n = llama.tokenize(item.text), len(llama.tokenize(item.prompt))
        response = ids[n:]
        assert conditional.n_tokens == published.n_tokens == len(response)
        if response:
            expected = math.exp(-sum(logprobs(llama, ids)[n - 1 :]) / len(response))
            assert conditional.perplexity == pytest.approx(expected, rel=1e-3)
        else:
            assert conditional.perplexity is None
        if len(response) > 1:
            expected = math.exp(-sum(logprobs(llama, response)) / (len(response) - 1))
            assert published.perplexity == pytest.approx(expected, rel=1e-3)
            assert published.clipped == min(published.perplexity or 0, 100)
        else:
            # NaN in the published script, which its figure shows as 0.
            assert (published.perplexity, published.clipped) == (None, 0)


def test_long_texts_are_cut_so_that_each_token_is_scored_once() -> None:
    for n in range(2, 60):
        for n_prompt in range(1, n):
            for length in (2, 5, 16):
                ids = list(range(100, 100 + n))
                pairs = conditional_pairs(ids, n_prompt, length, 100)
                assert [token for _, scored in pairs for token in scored] == ids[n_prompt:]
                assert all(context and len(context + scored) <= length for context, scored in pairs)
                # BOS in front of every window.
                assert all(context[0] == 100 for context, _ in pairs)
    windows = windows_2023(list(range(1300)), 100)
    assert [(c[0], len(c), len(s)) for c, s in windows] == [(100, 1, 511), (612, 1, 511),
                                                            (1124, 1, 175)]  # fmt: skip


def test_the_published_formula_weighs_windows_as_published() -> None:
    from halfbyte.eval._self_instruct import _published

    ids, n_prompt = list(range(1300)), 100
    pairs = windows_2023(ids, n_prompt)
    means = [1.0, 2.0, 3.0]
    nll = [mean * len(scored) for mean, (_, scored) in zip(means, pairs)]
    # trg_len of the script: the end of the first window, then the windows' own lengths.
    expected = math.exp((612 * 1.0 + 512 * 2.0 + 176 * 3.0) / 1300)
    assert _published("x", ids, n_prompt, pairs, nll).perplexity == pytest.approx(expected)
    # A last window of one token has no loss, and the script gives NaN.
    ids = list(range(100 + 513))
    pairs = windows_2023(ids, 100)
    assert len(pairs) == 1 and _published("x", ids, 100, pairs, [1.0]).perplexity is None


def write_instructions(path: Path) -> str:
    lines = [
        {"id": one.id, "instruction": one.instruction,
         "instances": [{"input": one.input, "output": one.output}]}
        for one in INSTRUCTIONS
    ]  # fmt: skip
    path.write_text("\n".join(map(json.dumps, lines)))
    return str(path)


def test_files_of_instructions_are_read_or_refused(tmp_path: Path) -> None:
    path = write_instructions(tmp_path / "a.jsonl")
    assert read_items(path) == list(INSTRUCTIONS)
    wrong = '{"instruction": 1, "instances": [{"input": "", "output": ""}]}'
    for line in ("{", "[]", '{"instruction": "a"}', '{"instruction": "a", "instances": []}', wrong,
                 "", "1"):  # fmt: skip
        Path(path).write_text(line)
        with pytest.raises(halfbyte.FormatError, match=r"line 1|no items"):
            read_items(path)
    with pytest.raises(FileNotFoundError):
        read_items(str(tmp_path / "none.jsonl"))


def test_the_command_measures_perplexity(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, items = write_instructions(tmp_path / "a.jsonl"), tmp_path / "items.jsonl"
    model = str(DATA / "llama-1k.q4_0.gguf")
    options = ["--data", path, "--items", str(items)]
    assert main(["self-instruct", model, "embedded", *options, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["model"] for one in found["models"]] == [model, "embedded"]
    figures = found["models"][0]["modes"]["gpt4all-2023"]
    assert figures["items"] == 4 and figures["without_value"] == 2
    assert len(items.read_text().splitlines()) == 2 * 2 * 4
    assert main(["self-instruct", model, "--data", path, "--markdown", "--limit", "1"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("|") and "without the prompt" in text
    assert main(["self-instruct", model, "--data", str(tmp_path / "no")]) == 1
    assert "there is no file" in capsys.readouterr().err


def test_missing_packages_are_named_before_anything_is_computed(tmp_path: Path) -> None:
    path = write_instructions(tmp_path / "a.jsonl")
    for module, arguments in (
        ("matplotlib", ["self-instruct", "no-model", "--data", path, "--plot", "a.png"]),
        ("lm_eval", ["table1", "no-model", "--data", str(tmp_path)]),
    ):
        program = (
            f"import sys; sys.modules[{module!r}] = None; from halfbyte.eval import main;"
            f"sys.exit(main({arguments!r}))"
        )
        run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        assert run.returncode == 1 and "pip install" in run.stderr, run.stderr
        assert "Traceback" not in run.stderr


@pytest.fixture
def questions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Two invented questions of each task."""
    pytest.importorskip("lm_eval", reason="lm-eval is not installed: pip install lm-eval")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    for task, item in ITEMS.items():
        line = json.dumps(item)
        other = line.replace("tea", "soup").replace("hot", "cold").replace("boils", "heats")
        (tmp_path / f"{task}.jsonl").write_text(f"{line}\n{other}\n")
    return str(tmp_path)


def test_the_command_prints_the_reports_table(
    questions: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, items = str(DATA / "llama-1k.q4_0.gguf"), tmp_path / "items.jsonl"
    options = ["--data", questions, "--tasks", "arc_easy,boolq", "--items", str(items)]
    plot: list[str] = []
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        pass
    else:
        plot = ["--plot", str(tmp_path / "figure.png")]
    assert main(["table1", model, "--against", model, *options, *plot, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["metrics"].items()) == [("boolq", "acc"), ("arc_easy", "acc_norm")]
    (first, second), (gap,) = found["models"], found["distances"]
    assert first == second and first["tasks"]["boolq"]["items"] == 2
    assert gap["largest_score"] == gap["changed"] == 0 and gap["items"] == 4
    lines: list[dict[str, Any]] = [json.loads(line) for line in items.read_text().splitlines()]
    assert len(lines) == 8 and all(len(line["scores"]) == 2 for line in lines)
    assert not plot or Path(plot[1]).read_bytes()[:4] == b"\x89PNG"
    assert main(["table1", model, "--data", str(tmp_path / "cache")]) == 1
    assert "there is no" in capsys.readouterr().err


def test_sharing_is_measured(questions: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--data", questions, "--json", "--tasks", "hellaswag,arc_easy"]
    assert main(["sharing", str(DATA / "llama-1k.q4_0.gguf"), *options]) == 0
    for one in json.loads(capsys.readouterr().out):
        ratio = one["apart_tokens"] / one["shared_tokens"]
        assert ratio > 1 and 0.85 < ratio / one["ideal"] < 1.1, one
