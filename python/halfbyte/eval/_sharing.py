"""What reading a question once for all its answers saves."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Optional

from halfbyte._extras import need
from halfbyte.errors import Error
from halfbyte.eval._layout import plain

if TYPE_CHECKING:
    from halfbyte.lm_eval import HalfbyteLM


class Sharing(NamedTuple):
    """Tokens that were read for a task's answers, in two ways that give the same bits."""

    task: str
    questions: int
    answers: int
    #: Each question read once, and once for each answer.
    shared_tokens: int
    apart_tokens: int
    #: The most that can be saved: Σ n (c + e) / Σ (c + Σ e), for questions of c tokens with n
    #: answers of e.
    ideal: float
    shared_seconds: float
    apart_seconds: float

    @property
    def ratio(self) -> float:
        """How many times fewer tokens were read."""
        return self.apart_tokens / self.shared_tokens


def sharing(lm: HalfbyteLM, task: str, data: str, limit: Optional[int] = None) -> Sharing:
    """Scores the answers of a task in both ways, and compares them bit by bit."""
    pairs = encoded(lm, task, data, limit)
    groups = [list(group) for _, group in itertools.groupby(pairs, key=lambda pair: pair[0])]
    start = time.perf_counter()
    shared = lm.model.log_likelihood_batch(pairs)
    middle = time.perf_counter()
    # One answer of every question, then the second one of every question: no neighbours share.
    turns = itertools.zip_longest(*groups)
    order = [pair for turn in turns for pair in turn if pair is not None]
    apart_start = time.perf_counter()
    apart = lm.model.log_likelihood_batch(order)
    end = time.perf_counter()
    expected = {_key(pair): float(score) for pair, score in zip(order, apart)}
    for pair, score in zip(pairs, shared):
        if float(score) != expected[_key(pair)]:
            raise Error(f"{task}: sharing the question changed a result, which is a bug")
    asked = sum(len(context) + len(answer) for context, answer in pairs)
    least = sum(len(group[0][0]) + sum(len(answer) for _, answer in group) for group in groups)
    return Sharing(
        task,
        len(groups),
        len(pairs),
        shared.tokens_read,
        apart.tokens_read,
        asked / least,
        middle - start,
        end - apart_start,
    )


def encoded(
    lm: HalfbyteLM, task: str, data: str, limit: Optional[int]
) -> list[tuple[list[int], list[int]]]:
    """The token ids of a task's questions and answers, in the harness's order."""
    from halfbyte.lm_eval._command import local_tasks

    with local_tasks(Path(data)) as folder:
        manager = need("lm_eval.tasks", "eval").TaskManager
        found = manager(include_path=str(folder)).load([task])["tasks"][task]
        found.build_all_requests(limit=limit, rank=0, world_size=1)
    return [lm.model.encode_pair(*instance.args) for instance in found.instances]


def _key(pair: tuple[list[int], list[int]]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return tuple(pair[0]), tuple(pair[1])


def text(found: Sequence[Sharing]) -> str:
    """A row for each task."""
    header = ["task", "questions", "answers", "tokens read", "apart", "ratio", "ideal", "reached",
              "seconds", "apart"]  # fmt: skip
    rows = []
    for one in found:
        counts = (one.questions, one.answers, one.shared_tokens, one.apart_tokens)
        shares = [f"{one.ratio:.3f}", f"{one.ideal:.3f}", f"{one.ratio / one.ideal:.1%}"]
        spent = [f"{seconds:.2f}" for seconds in (one.shared_seconds, one.apart_seconds)]
        rows.append([one.task, *map(str, counts), *shares, *spent])
    return (
        f"{plain(header, rows)}\n\nThe log-likelihoods are equal bit for bit. ideal: "
        "Σ n(c + e) / Σ(c + Σe) for questions of c tokens with n answers of e tokens."
    )
