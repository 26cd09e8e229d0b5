"""`halfbyte.curate`: what goes and what stays, and the map of what stays."""

from __future__ import annotations

import json
import lzma
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import planted
from conftest import SHARED, skip_without
from halfbyte.curate import clean, is_refusal, main, near_duplicates, read_rows

REFUSALS = (
    "As an AI language model, I cannot have feelings.",
    "I\u2019m sorry, but I can\u2019t assist with that.",
    "I apologize, but I cannot provide this.",
    "Sorry, I am unable to answer.",
    "Well, as a large language model I do not know.",
    "I'm just an AI assistant.",
    "I do not have personal opinions.",
    "I cannot fulfill this request.",
)

ANSWERS = (
    "The sun is a star.",
    "He said: I cannot help you now, the horse is lame. So they walked home through the night.",
    "A model can answer in a language that it learned.",
    "I'm sorry to hear that your dog is ill.",
    "Sorry seems to be the hardest word.",
    "An artificial lake lies behind the dam.",
    "We can not only swim but also dive.",
)


def test_refusals_are_told_from_answers() -> None:
    assert [text for text in REFUSALS if not is_refusal(text)] == []
    assert [text for text in ANSWERS if is_refusal(text)] == []
    assert all(is_refusal(text) for text in planted.REFUSALS)


#: A line and why it goes, or nothing.
LINES = (
    ('{"prompt": "What is hot?", "response": "Fire."}', None),
    ('{"prompt": "What is  hot?", "response": "Fire. "}', "exact duplicate"),
    ('{"prompt": "What is hot?", "response": "Tea."}', None),
    ('{"instruction": "Add.", "input": "1 2", "output": "3"}', None),
    ('{"question": "Add.\\n1 2", "answer": "3"}', "exact duplicate"),
    ('{"prompt": " \\n", "response": "Fire."}', "empty prompt"),
    ('{"prompt": "Say.", "response": ""}', "empty response"),
    ('{"prompt": "Say.", "response": null}', "empty response"),
    ('{"prompt": "Say.", "response": "As an AI language model, no."}', "refusal"),
    ('{"prompt": "Say.", "response": 1}', "malformed"),
    ('{"prompt": "Say."}', "malformed"),
    ("[1]", "malformed"),
    ("{", "malformed"),
    ("[" * 100_000, "malformed"),
    ("\udcff", "malformed"),
)


def test_each_line_goes_for_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    text = "\n".join(line for line, _ in LINES)
    path.write_bytes(text.encode(errors="surrogateescape"))
    kept, removed = clean(read_rows(str(path)))
    found = {row.number: None for row in kept}
    found.update({one.row.number: one.reason for one in removed})
    assert [found[i + 1] for i in range(len(LINES))] == [reason for _, reason in LINES]
    assert {one.row.number: one.repeats for one in removed if one.repeats} == {2: 1, 5: 4}


def test_wrong_arguments_say_what_is_right(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(LINES[0][0])
    assert main([str(tmp_path / "none.jsonl")]) == 1
    assert "there is no file" in capsys.readouterr().err
    assert main([str(path), "--prompt", "prompt"]) == 1
    assert "fields of prompt and response both" in capsys.readouterr().err


def test_a_missing_package_is_named() -> None:
    program = (
        "import sys; sys.modules['sklearn'] = None; from halfbyte.curate import TfidfSpace;"
        "TfidfSpace(['a b', 'c d'])"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 1 and "pip install 'halfbyte[curate]'" in run.stderr


class Given:
    """A space of given vectors."""

    name, threshold, seconds = "given", 0.9, 0.0

    def __init__(self, vectors: Any) -> None:
        self.search = vectors

    def similarity(self, left: Any, right: Any) -> Any:
        return (self.search[left] * self.search[right]).sum(axis=1)

    def matrix(self, texts: Any) -> Any:
        return self.search[texts] @ self.search[texts].T


def test_near_duplicates_are_those_of_a_plain_search() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    import numpy as np

    from halfbyte.curate import _near

    draw = np.random.default_rng(3)
    centres = draw.normal(size=(60, 8))
    vectors = centres[draw.integers(0, 60, 700)] + draw.normal(size=(700, 8)) * 0.35
    # Many copies of one: more than there are candidates.
    vectors[100:180] = vectors[7] + draw.normal(size=(80, 8)) * 1e-3
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    kept: list[int] = []
    expected = set()
    for i, vector in enumerate(vectors):
        if kept and float((vectors[kept] @ vector).max()) >= 0.9:
            expected.add(i)
        else:
            kept.append(i)
    before = _near.BLOCK
    try:
        for _near.BLOCK in (64, 1000):
            found = near_duplicates(Given(vectors))
            gone = {one.text for one in found}
            assert gone == expected and set(range(100, 180)) <= gone
            assert all(one.repeats < one.text and one.repeats not in gone for one in found)
            assert all(one.similarity >= 0.9 for one in found)
    finally:
        _near.BLOCK = before


def invented() -> list[dict[str, str]]:
    """Questions about animals and tools, in the corpus's fields."""
    animals = ["horse", "whale", "spider", "eagle", "salmon", "camel", "otter", "beetle", "wolf"]
    tools = ["hammer", "kettle", "ladder", "needle", "shovel", "scale", "rope", "saw", "lamp"]
    questions = [
        "Where does the {} sleep when winter is cold and long?",
        "Why would a {} be afraid of loud thunder?",
        "Explain to a child how the {} finds its food in the dark.",
        "Which {} lives longest, and which part of the world does it come from?",
    ]
    uses = [
        "What is the best way to repair a broken {}?",
        "Write an advertisement for an old {} in good condition.",
        "How did people manage before somebody invented the {}?",
        "List three dangers of using the {} near water, and how to avoid them.",
    ]
    made = [(q.format(a), f"{q[:9]} {a}") for q in questions for a in animals]
    made += [(q.format(t), f"{q[:9]} {t}") for q in uses for t in tools]
    source = "ARC-Easy train"
    return [{"instruction": q, "input": "", "output": a, "source": source} for q, a in made]


def test_the_command_cleans_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    rows = [{"prompt": r["instruction"], "response": r["output"]} for r in invented()]
    rows.append({"prompt": 'Why? </script><script>alert("x")</script>', "response": "<b>"})
    n = len(rows)
    rows += [dict(rows[3]), {"prompt": f"{rows[5]['prompt'].upper()} !!", "response": "other"}]
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    files = {name: str(tmp_path / name) for name in ("out.jsonl", "removed.jsonl", "map.html")}
    options = ["--out", files["out.jsonl"], "--removed", files["removed.jsonl"], "--map",
               files["map.html"], "--json", "--threshold", "0.95"]  # fmt: skip
    assert main([str(path), *options]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["rows"], report["kept"]) == (n + 2, n)
    assert report["removed"]["exact duplicate"] == report["removed"]["semantic duplicate"] == 1
    assert Path(files["out.jsonl"]).read_text().splitlines() == list(map(json.dumps, rows[:n]))
    removed = [json.loads(line) for line in Path(files["removed.jsonl"]).read_text().splitlines()]
    assert [(one["line"], one["repeats"]) for one in removed] == [(n + 1, 4), (n + 2, 6)]
    page = Path(files["map.html"]).read_text(encoding="utf-8")
    # Nothing from elsewhere, and no text that ends the script.
    assert not re.search(r"(src|href)\s*=|https?:|@import|url\(", page)
    assert page.count("</script>") == 1 and "\\u003c/script>" in page
    data = json.loads(re.findall(r"const data = (.*);\n", page)[0])
    assert len(data["x"]) == len(data["y"]) == len(data["topic"]) == len(data["text"]) == n
    assert max(map(abs, data["x"] + data["y"])) <= 1 and len(set(data["topic"])) > 3
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    picture = tmp_path / "map.png"
    assert main([str(path), "--space", "none", "--plot", str(picture)]) == 0
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_planted_copies_are_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A fifth of the recipe: `docs/curate.md` has the figures of the whole."""
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    corpus = skip_without(SHARED / "corpus" / "instruct.jsonl.xz")
    with lzma.open(corpus, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    rows = [row for row in rows if row["source"] in planted.NATURAL][:2600]
    made = planted.lines(planted.planted(rows, n_base=900, n=100))
    path, removed = tmp_path / "planted.jsonl", tmp_path / "removed.jsonl"
    path.write_text("\n".join(map(json.dumps, made)))
    assert main([str(path), "--removed", str(removed), "--json"]) == 0
    reasons: dict[str, list[str]] = {}
    for line in removed.read_text().splitlines():
        one = json.loads(line)
        reasons.setdefault(made[one["line"] - 1]["kind"], []).append(one["reason"])
    assert reasons["copy"] == ["exact duplicate"] * 100
    assert reasons["refusal"] == ["refusal"] * 40
    assert reasons["empty"] == ["empty prompt"] * 10
    assert len(reasons["edit"]) >= 95
    # Among them questions that are asked twice in the corpus.
    assert len(reasons.get("negative", [])) <= 5
