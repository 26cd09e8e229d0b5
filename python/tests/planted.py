"""A set with planted copies, and how well each space finds them.

    python tests/planted.py instruct.jsonl planted.jsonl          # writes the set
    python tests/planted.py instruct.jsonl --roc [--model MODEL]  # prints the ROC of each space

The recipe is seeded. 3,000 questions of the corpus's natural sources are the base. 500 rows are
exact copies of some of them; 500 are edits: every fourth has other words, every fourth other order,
every fourth other punctuation, every fourth all three. 500 hard negatives are the other questions
that share most words with one of the base without asking the same: fewer than half of the words of
both, and another answer. 200 responses refuse, 50 prompts are empty.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from typing import NamedTuple

NATURAL = {
    "OpenBookQA train", "ARC-Easy train", "ARC-Challenge train", "databricks-dolly-15k",
    "self-instruct seed tasks",
}  # fmt: skip

SYNONYMS = dict(pair.split(" ", 1) for pair in (
    "big large", "small little", "quick fast", "happy glad", "make create", "begin start",
    "end finish", "help assist", "buy purchase", "show display", "choose select", "answer reply",
    "method way", "reason cause", "result outcome", "near close to", "many numerous",
    "important essential", "hard difficult", "easy simple", "child kid", "children kids",
    "woman lady", "man guy", "doctor physician", "house home", "car automobile", "road street",
    "picture image", "story tale", "write compose", "tell inform", "explain describe",
    "find locate", "get obtain", "keep retain", "use utilize", "need require", "want wish",
    "give provide", "scientist researcher", "student pupil", "plant vegetation",
    "animal creature", "ocean sea", "rock stone", "forest woods", "rain rainfall", "wind breeze",
    "energy power", "increase rise", "decrease drop", "change alter", "cause lead to",
    "form shape", "produce generate", "protect guard", "happen occur", "likely probably",
    "most largely", "example instance", "kind type", "part piece", "group set", "area region",
    "amount quantity", "size extent", "speed velocity", "heat warmth", "cold chilly",
    "food nourishment", "body organism", "people persons", "person individual", "friend pal",
    "work labor", "job task", "word term", "sentence phrase", "following next", "which what",
    "best finest", "true correct", "wrong incorrect", "usually normally", "often frequently",
    "always constantly", "because since", "however but", "also too", "complete finish",
    "contain hold", "remove take away", "move shift", "look gaze", "live dwell", "grow develop",
))  # fmt: skip

#: Words before which a question can be cut and turned around.
JOINTS = {
    "in", "on", "of", "for", "at", "with", "during", "from", "by", "to", "when", "if", "because",
    "after", "before", "into", "through",
}  # fmt: skip

REFUSALS = (
    "As an AI language model, I cannot do that.",
    "I'm sorry, but I can't help with this request.",
    "I'm sorry, but as a language model I do not know.",
    "I am unable to provide an answer to that.",
    "Unfortunately, being an AI, I don't have personal opinions on it.",
)


class Planted(NamedTuple):
    """The set: (prompt, response) each, and for edits and copies the base row that they repeat."""

    base: list[tuple[str, str]]
    copies: list[int]
    edits: list[tuple[str, int]]
    negatives: list[tuple[str, str]]
    refusals: list[tuple[str, str]]
    empty: int


def other_words(text: str, draw: random.Random) -> str:
    """Up to three words by synonyms, fewer in short texts."""
    words = re.split(r"(\W+)", text)
    known = [i for i, word in enumerate(words) if word.lower() in SYNONYMS]
    draw.shuffle(known)
    for i in known[: max(1, min(3, len(words) // 8))]:
        other = SYNONYMS[words[i].lower()]
        words[i] = other.capitalize() if words[i][:1].isupper() else other
    return "".join(words)


def other_order(text: str, draw: random.Random) -> str:
    """The last sentence, clause or phrase first."""
    sentences = re.split(r"(?<=[.!?])\s+", text)
    if len(sentences) > 1:
        return " ".join(sentences[1:] + sentences[:1])
    if ", " in text:
        first, second = text.rstrip("?.").split(", ", 1)
        return f"{second[:1].upper()}{second[1:]}, {first[:1].lower()}{first[1:]}?"
    words = text.rstrip("?.").split()
    joints = [i for i in range(2, len(words) - 1) if words[i].lower() in JOINTS]
    cut = joints[-1] if joints else max(1, 2 * len(words) // 3)
    return f"{' '.join(words[cut:] + words[:cut]).capitalize()}?"


def other_punctuation(text: str, draw: random.Random) -> str:
    """None, more, quotes, or capitals and spaces."""
    kind = draw.randrange(4)
    if kind == 0:
        return re.sub(r"[^\w\s]", "", text).lower()
    if kind == 1:
        return f"{text.rstrip('.?!')} ?!"
    if kind == 2:
        return f'"{text}"'
    return re.sub(r"\s+", "  ", text.upper() if len(text) < 60 else text) + "..."


EDITS = (other_words, other_order, other_punctuation)


def edited(text: str, kind: int, draw: random.Random) -> str:
    """The edit number ``kind``; the last is all of them."""
    for edit in EDITS if kind == len(EDITS) else EDITS[kind : kind + 1]:
        text = edit(text, draw)
    return text


def words_of(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


def in_common(a: set[str], b: set[str]) -> float:
    return len(a & b) / max(1, len(a | b))


def planted(rows: list[dict[str, str]], n_base: int = 3000, n: int = 500) -> Planted:
    """The set of ``rows`` of the corpus."""
    draw = random.Random(7)
    natural: dict[str, str] = {}
    for row in rows:
        if row["source"] in NATURAL:
            natural.setdefault(f"{row['instruction']} {row['input']}".strip(), row["output"])
    pairs = list(natural.items())
    draw.shuffle(pairs)
    base, rest = pairs[:n_base], pairs[n_base:]
    known = [words_of(prompt) for prompt, _ in base]
    near = []
    for prompt, answer in rest:
        words = words_of(prompt)
        i = max(range(len(known)), key=lambda i: in_common(words, known[i]))
        share = in_common(words, known[i])
        if share < 0.5 and answer.strip().lower() != base[i][1].strip().lower():
            near.append((share, prompt, answer))
    near.sort(reverse=True)
    edits = [
        (edited(base[i][0], k % (len(EDITS) + 1), draw), i)
        for k, i in enumerate(draw.sample(range(len(base)), n))
    ]
    refusals = [(prompt, draw.choice(REFUSALS)) for _, prompt, _ in near[n : n + 2 * n // 5]]
    return Planted(
        base, draw.sample(range(len(base)), n), edits, [pair[1:] for pair in near[:n]], refusals,
        n // 10,
    )  # fmt: skip


def lines(made: Planted) -> list[dict[str, str]]:
    """The rows of a file: ``kind`` says what each is. Repetitions come after what they repeat."""
    found = [("base", prompt, answer) for prompt, answer in made.base]
    later = [("copy", *made.base[i]) for i in made.copies]
    later += [("edit", prompt, made.base[i][1]) for prompt, i in made.edits]
    later += [("negative", prompt, answer) for prompt, answer in made.negatives]
    later += [("refusal", prompt, answer) for prompt, answer in made.refusals]
    later += [("empty", " ", made.base[i][1]) for i in range(made.empty)]
    random.Random(8).shuffle(later)
    return [{"prompt": p, "response": r, "kind": kind} for kind, p, r in found + later]


def roc(made: Planted, name: str, model: str | None) -> None:
    """Prints how edits and negatives are told apart by their nearest row of the base."""
    import numpy as np
    from sklearn.metrics import roc_auc_score, roc_curve

    import halfbyte
    from halfbyte.curate._near import _nearest
    from halfbyte.curate._spaces import ModelSpace, TfidfSpace

    texts = [pair[0] for pair in made.base] + [text for text, _ in made.edits]
    texts += [pair[0] for pair in made.negatives]
    places = TfidfSpace(texts) if name == "tfidf" else ModelSpace(texts, halfbyte.Model(model))
    n, planted = len(made.base), len(made.edits) + len(made.negatives)
    found = _nearest(places, np.arange(n, n + planted), np.arange(n))
    scores = np.array([one[1] for one in found if one is not None])
    is_edit = np.arange(planted) < len(made.edits)
    wrong, right, thresholds = roc_curve(is_edit, scores)
    print(f"{name}: area {roc_auc_score(is_edit, scores):.4f}")
    for share in (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5):
        i = int(np.searchsorted(wrong, share, side="right")) - 1
        print(f"  ≤ {share:5.1%} wrong: {right[i]:.1%} found, from {thresholds[i]:.3f} on")
    chosen = scores >= places.threshold
    kinds = [float(chosen[: len(made.edits)][k::4].mean()) for k in range(4)]
    print(
        f"  from {places.threshold} on: {chosen[is_edit].mean():.1%} found (words, order, "
        f"punctuation, all: {', '.join(f'{share:.0%}' for share in kinds)}), "
        f"{chosen[~is_edit].mean():.1%} wrong"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("corpus")
    parser.add_argument("out", nargs="?")
    parser.add_argument("--roc", action="store_true")
    parser.add_argument("--model")
    given = parser.parse_args()
    with open(given.corpus, encoding="utf-8") as file:
        made = planted([json.loads(line) for line in file])
    if given.out:
        with open(given.out, "w", encoding="utf-8") as file:
            file.writelines(f"{json.dumps(row)}\n" for row in lines(made))
    if given.roc:
        for name in ("tfidf", "model"):
            roc(made, name, given.model)


if __name__ == "__main__":
    main()
