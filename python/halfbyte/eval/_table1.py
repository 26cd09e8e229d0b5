"""The report's table of accuracies, computed by lm-evaluation-harness."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from halfbyte._extras import need
from halfbyte.errors import ConfigError, FileMissingError
from halfbyte.eval._published import COLUMN, TASKS


@dataclass(frozen=True)
class Answered:
    """What a model made of one question."""

    task: str
    #: The question's number in its file.
    item: int
    #: The log-likelihood of each answer.
    scores: tuple[float, ...]
    #: Whether the right answer was chosen, by log-likelihood and by log-likelihood per character.
    acc: bool
    acc_norm: bool
    #: Characters of each answer, by which ``acc_norm`` divides.
    lengths: tuple[int, ...]

    def is_clear(self, metric: str) -> bool:
        """Whether errors of `TOLERANCE` in the log-likelihoods could not change the choice."""
        lengths = self.lengths if metric == "acc_norm" else (1,) * len(self.scores)
        ranked = sorted(zip(self.scores, lengths), key=lambda one: one[0] / one[1])
        best, length = ranked[-1]
        least = (best - TOLERANCE) / length
        return all(least >= (score + TOLERANCE) / n for score, n in ranked[:-1])


@dataclass(frozen=True)
class Row:
    """A model's accuracies."""

    model: str
    tasks: tuple[str, ...]
    answers: tuple[Answered, ...] = field(repr=False)

    def accuracy(self, task: str, metric: str = "") -> float:
        """The share of right answers, by the report's metric of that task unless one is given."""
        metric = metric or metric_of(task)
        return _mean([getattr(one, metric) for one in self.answers if one.task == task])

    def std_error(self, task: str) -> float:
        """How far that may be from the share among infinitely many questions."""
        n = sum(one.task == task for one in self.answers)
        share = self.accuracy(task)
        return math.sqrt(share * (1 - share) / max(n - 1, 1))

    @property
    def average(self) -> float:
        """The mean of the tasks' accuracies, which weighs each task alike."""
        return _mean([self.accuracy(task) for task in self.tasks])


@dataclass(frozen=True)
class Distance:
    """How far a row is from another on the same questions."""

    row: str
    base: str
    #: Row minus base, of each task and of the average.
    accuracies: dict[str, float]
    average: float
    largest_score: float
    mean_score: float
    #: Questions that only one of the two answers rightly, and those of them that the base would
    #: decide in the same way with errors of `TOLERANCE`.
    changed: int
    changed_clearly: int
    items: int


#: What the log-likelihoods of two correct f32 computations may differ by.
TOLERANCE = 1e-3


def metric_of(task: str) -> str:
    """``acc`` or ``acc_norm``: what the report shows of a task."""
    return COLUMN[task].metric


def table1(
    model: Any,
    *,
    data: str,
    tasks: Sequence[str] = TASKS,
    limit: Optional[int] = None,
    name: str = "",
) -> Row:
    """Answers the questions of ``tasks`` in the folder ``data`` and counts.

    ``model`` is a :class:`halfbyte.lm_eval.HalfbyteLM` or any other model of the harness; ``limit``
    takes the first questions of each task alone. Folder and fields: `docs/lm_eval.md`.
    """
    _check(data, tasks)
    harness, manager = need("lm_eval", "eval"), need("lm_eval.tasks", "eval").TaskManager
    from halfbyte.lm_eval._command import local_tasks

    with local_tasks(Path(data)) as folder:
        found = harness.simple_evaluate(
            model=model,
            tasks=list(tasks),
            task_manager=manager(include_path=str(folder)),
            limit=limit,
            log_samples=True,
            bootstrap_iters=0,
        )
    answers = [
        _answered(task, sample)
        for task in tasks
        for sample in sorted(found["samples"][task], key=lambda one: int(one["doc_id"]))
    ]
    return Row(name, tuple(tasks), tuple(answers))


def distance(row: Row, base: Row) -> Distance:
    """How far ``row`` is from ``base``, which answered the same questions."""
    pairs = list(zip(row.answers, base.answers))
    asked = [[(a.task, a.item, len(a.scores)) for a in one.answers] for one in (row, base)]
    if asked[0] != asked[1]:
        raise ConfigError(f"{row.model} and {base.model} answered different questions", "tasks")
    gaps = [abs(a - b) for mine, one in pairs for a, b in zip(mine.scores, one.scores)]
    changed = [
        one
        for mine, one in pairs
        if getattr(mine, metric_of(one.task)) != getattr(one, metric_of(one.task))
    ]
    return Distance(
        row.model,
        base.model,
        {task: row.accuracy(task) - base.accuracy(task) for task in row.tasks},
        row.average - base.average,
        max(gaps, default=0.0),
        _mean(gaps),
        len(changed),
        sum(one.is_clear(metric_of(one.task)) for one in changed),
        len(pairs),
    )


def _check(data: str, tasks: Sequence[str]) -> None:
    if not tasks:
        raise ConfigError(f"there are no tasks: choose among {', '.join(TASKS)}", "tasks")
    for task in tasks:
        if task not in TASKS:
            raise ConfigError(f"unknown task {task!r}: there are {', '.join(TASKS)}", "tasks")
        file = Path(data, f"{task}.jsonl")
        if not file.is_file():
            raise FileMissingError(f"there is no {file}: docs/lm_eval.md says what is in it")


def _answered(task: str, sample: dict[str, Any]) -> Answered:
    scores = tuple(float(answer[0][0]) for answer in sample["resps"])
    right = bool(sample["acc"])
    # A request's second argument is a space and the answer, except where the answers are contexts.
    lengths = tuple(max(len(one[1]) - 1, 1) for one in sample["arguments"])
    norm = bool(sample.get("acc_norm", right))
    return Answered(task, int(sample["doc_id"]), scores, right, norm, lengths)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
