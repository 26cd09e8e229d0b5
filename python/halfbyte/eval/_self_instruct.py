"""The perplexity of given responses to given instructions, in two modes."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Optional, Union

from halfbyte._model import Model
from halfbyte._progress import Progress
from halfbyte.errors import ConfigError, FileMissingError, FormatError, UnsupportedError

#: What each mode measures. Both cut the text at the same token.
MODES = {
    "conditional": "the response given its prompt: every token of it, after all that precedes it",
    "gpt4all-2023": "as the published script computes it: the response's tokens without the prompt "
    "in view, from the second one on, clipped at 100",
}

#: The published figure shows nothing above.
CLIP = 100.0

#: Tokens that the published script looks at together.
WINDOW = 512


class Item(NamedTuple):
    """An instruction and a response to it."""

    id: str
    instruction: str
    input: str
    output: str

    @property
    def prompt(self) -> str:
        """What the model is shown, as the published script joins it."""
        return f"{self.instruction} {self.input}"

    @property
    def text(self) -> str:
        """Prompt and response."""
        return f"{self.prompt} {self.output}"


class ItemScore(NamedTuple):
    """A response's perplexity."""

    id: str
    #: ``None`` if there is no token to score: the published script has NaN there.
    perplexity: Optional[float]
    #: Within 0 and 100 as in the published figure, where NaN is 0.
    clipped: float
    #: The response's tokens, and those of them that were scored.
    n_tokens: int
    n_scored: int
    #: The sum of their negative natural-log probabilities.
    nll: float


#: Tokens that are read before those that are scored, and those.
Pair = tuple[list[int], list[int]]


def read_items(path: str) -> list[Item]:
    """The items of a file like self-instruct's ``user_oriented_instructions.jsonl``."""
    if not Path(path).is_file():
        raise FileMissingError(f"there is no file {path}")
    items = []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                items.append(_item(line, f"{path}, line {number}", number))
    if not items:
        raise FormatError(f"{path} holds no items")
    return items


def _item(line: str, where: str, number: int) -> Item:
    try:
        one = json.loads(line)
        first = one["instances"][0]
        texts = (one["instruction"], first["input"], first["output"])
    except (ValueError, KeyError, IndexError, TypeError) as error:
        wanted = "instruction, and input and output in instances"
        raise FormatError(f"{where}: no item with {wanted} ({error!r})") from error
    if not all(isinstance(text, str) for text in texts):
        raise FormatError(f"{where}: instruction, input and output must be texts")
    return Item(str(one.get("id", number)), *texts)


def self_instruct(
    model: Model,
    items: Iterable[Item],
    *,
    modes: Sequence[str] = tuple(MODES),
    progress: Progress = None,
) -> dict[str, list[ItemScore]]:
    """The perplexity of each item's response, in each of ``modes``."""
    for mode in modes:
        if mode not in MODES:
            raise ConfigError(f"unknown mode {mode!r}: there are {', '.join(MODES)}", "modes")
    if model.architecture == "t5":
        raise UnsupportedError(
            "self-instruct reads prompt and response as one text, which T5 cannot: "
            "score its answers with log_likelihood"
        )
    items = list(items)
    # The published tokenizer reads special tokens, should a text spell one.
    cut = [
        (model.tokenize(item.text, special=True), len(model.tokenize(item.prompt, special=True)))
        for item in items
    ]
    found = {}
    for mode in modes:
        if mode == "conditional":
            plans = [conditional_pairs(ids, n, model.context_length, model.bos) for ids, n in cut]
        else:
            plans = [windows_2023(ids, n) for ids, n in cut]
        flat = [pair for plan in plans for pair in plan]
        scores = iter(model.log_likelihood_batch(flat, progress=progress))
        sums = [[-float(next(scores)) for _ in plan] for plan in plans]
        found[mode] = [
            (_conditional if mode == "conditional" else _published)(item.id, ids, n, plan, nll)
            for item, (ids, n), plan, nll in zip(items, cut, plans, sums)
        ]
    return found


def conditional_pairs(
    ids: list[int], n_prompt: int, context_length: int, bos: Optional[int]
) -> list[Pair]:
    """Cuts a text that may be longer than the context, so that each token is scored once.

    Windows of ``context_length`` tokens move by half of that; a text that begins with ``bos`` has
    it in front of each, as :meth:`halfbyte.Model.perplexity` reads long texts.
    """
    pairs = []
    begin, scored = 0, max(n_prompt, 1)
    while scored < len(ids):
        end = min(begin + context_length, len(ids))
        if end > scored:
            read = ids[begin:scored]
            if begin > 0 and ids[0] == bos:
                read = [ids[0], *read[1:]]
            pairs.append((read, ids[scored:end]))
            scored = end
        begin += max(context_length // 2, 1)
    return pairs


def windows_2023(ids: list[int], n_prompt: int) -> list[Pair]:
    """The published script's windows: the response alone, 512 tokens at a time."""
    windows = [ids[i : i + WINDOW] for i in range(n_prompt, len(ids), WINDOW)]
    return [(window[:1], window[1:]) for window in windows if len(window) > 1]


def _conditional(
    name: str, ids: list[int], n_prompt: int, pairs: list[Pair], nll: list[float]
) -> ItemScore:
    n = sum(len(scored) for _, scored in pairs)
    value = _exp(sum(nll) / n) if n else None
    return ItemScore(name, value, _clipped(value), len(ids) - n_prompt, n, sum(nll))


def _published(
    name: str, ids: list[int], n_prompt: int, pairs: list[Pair], nll: list[float]
) -> ItemScore:
    """The published formula, in which the first window weighs as much as prompt and window."""
    n_tokens = len(ids) - n_prompt
    n = sum(len(scored) for _, scored in pairs)
    value = None
    # A window of one token has no loss, which makes the whole NaN.
    if pairs and n + len(pairs) == n_tokens:
        ends = [min(n_prompt + WINDOW * (i + 1), len(ids)) for i in range(len(pairs))]
        weights = [b - a for a, b in zip([0, *ends], ends)]
        means = [total / len(scored) for total, (_, scored) in zip(nll, pairs)]
        value = _exp(sum(w * m for w, m in zip(weights, means)) / len(ids))
    return ItemScore(name, value, _clipped(value), n_tokens, n, sum(nll))


def _clipped(value: Optional[float]) -> float:
    # numpy.nan_to_num(x, 100) in the published figure: 100 is its argument `copy`, so NaN is 0.
    return 0.0 if value is None else min(value, CLIP)


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf


def summary(scores: Sequence[ItemScore]) -> dict[str, Union[float, int, None]]:
    """Figures of a whole run."""
    clipped = [one.clipped for one in scores]
    n_scored = sum(one.n_scored for one in scores)
    nll = sum(one.nll for one in scores)
    return {
        "items": len(scores),
        "mean_clipped": sum(clipped) / len(clipped) if clipped else None,
        "median": statistics.median(clipped) if clipped else None,
        "at_clip": sum(one.clipped >= CLIP for one in scores),
        "without_value": sum(one.perplexity is None for one in scores),
        "per_token": _exp(nll / n_scored) if n_scored else None,
        "scored_tokens": n_scored,
    }
