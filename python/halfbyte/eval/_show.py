"""What was measured, as tables, as JSON and as lines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from halfbyte.eval._layout import markdown, plain
from halfbyte.eval._published import COLUMN, PUBLISHED, TASKS
from halfbyte.eval._self_instruct import MODES, ItemScore, summary
from halfbyte.eval._table1 import TOLERANCE, Distance, Row, metric_of

Perplexities = dict[str, dict[str, list[ItemScore]]]


def table1_text(rows: Sequence[Row], distances: Sequence[Distance], as_markdown: bool) -> str:
    """The table beside the published rows, and the distances under it."""
    tasks = _ordered(rows[0].tasks)
    header = ["", *(COLUMN[task].title for task in tasks), "average"]
    lines = [["metric", *map(metric_of, tasks), ""]]
    for row in rows:
        values = [f"{100 * row.accuracy(t):.1f} ±{100 * row.std_error(t):.1f}" for t in tasks]
        lines.append([row.model, *values, f"{100 * row.average:.1f}"])
    for published in PUBLISHED:
        shown = [published.accuracies[TASKS.index(task)] for task in tasks]
        average = f"{published.average:.1f}" if len(tasks) == len(TASKS) else ""
        lines.append([f"{published.model} (report)", *(f"{value:.1f}" for value in shown), average])
    layout = markdown if as_markdown else plain
    parts = [layout(header, lines), _questions(rows[0])]
    if distances:
        parts.append(_distance_table(distances, tasks, as_markdown))
    return "\n\n".join(parts)


def _questions(row: Row) -> str:
    counts = {task: sum(one.task == task for one in row.answers) for task in row.tasks}
    few = sorted(set(counts.values()))
    n = f"{few[0]} questions of each task" if len(few) == 1 else f"questions: {counts}"
    return (
        f"Accuracies in percent over {n}, no examples in the prompt, ± standard error.\n"
        "acc: the answer with the highest log-likelihood; acc_norm: per character. "
        "The report's rows are over whole sets."
    )


def _distance_table(
    distances: Sequence[Distance], tasks: Sequence[str], as_markdown: bool
) -> str:  # fmt: skip
    header = ["distance", *(COLUMN[task].title for task in tasks), "average", "largest Δ", "mean Δ",
              "changed"]  # fmt: skip
    lines = []
    for one in distances:
        gaps = [f"{100 * one.accuracies[task]:+.1f}" for task in tasks]
        sizes = [f"{size:.2g}" for size in (one.largest_score, one.mean_score)]
        changed = f"{one.changed} ({one.changed_clearly})"
        lines.append([f"{one.row} − {one.base}", *gaps, f"{100 * one.average:+.1f}", *sizes,
                      changed])  # fmt: skip
    note = (
        f"Δ: of an answer's log-likelihood. changed: of {distances[0].items} questions those that "
        f"only one of the two answers rightly (those that errors of {TOLERANCE:g} cannot decide)."
    )
    return f"{(markdown if as_markdown else plain)(header, lines)}\n\n{note}"


def _ordered(tasks: Iterable[str]) -> list[str]:
    return sorted(tasks, key=TASKS.index)


def table1_json(rows: Sequence[Row], distances: Sequence[Distance]) -> dict[str, Any]:
    """The same for programs; accuracies as shares."""
    return {
        "metrics": {task: metric_of(task) for task in _ordered(rows[0].tasks)},
        "models": [
            {
                "model": row.model,
                "tasks": {
                    task: {
                        "items": sum(one.task == task for one in row.answers),
                        "acc": row.accuracy(task, "acc"),
                        "acc_norm": row.accuracy(task, "acc_norm"),
                        "shown": row.accuracy(task),
                        "std_error": row.std_error(task),
                    }
                    for task in _ordered(row.tasks)
                },
                "average": row.average,
            }
            for row in rows
        ],
        "distances": [asdict(one) for one in distances],
        "published": [
            {"model": one.model, "percent": dict(zip(TASKS, one.accuracies)),
             "average": one.average} for one in PUBLISHED
        ],
    }  # fmt: skip


def answers(rows: Sequence[Row]) -> Iterable[dict[str, Any]]:
    """Every answer's log-likelihood."""
    for row in rows:
        for one in row.answers:
            yield {"model": row.model, **asdict(one)}


def self_instruct_text(found: Perplexities, as_markdown: bool) -> str:
    """A row for each model and mode, and what the modes are."""
    header = ["", "mode", "responses", "mean", "median", "at 100", "no value", "per token"]
    lines = []
    for model, modes in found.items():
        for mode, scores in modes.items():
            figures = summary(scores)
            values = [figures[key] for key in ("mean_clipped", "median", "per_token")]
            mean, median, per_token = ("" if v is None else f"{v:.3f}" for v in values)
            counts = [str(figures[key]) for key in ("at_clip", "without_value")]
            lines.append([model, mode, str(figures["items"]), mean, median, *counts, per_token])
    used = next(iter(found.values()))
    notes = "\n".join(f"{mode}: {MODES[mode]}." for mode in used)
    more = (
        "mean and median: of the responses' perplexities, clipped at 100; no value: nothing to "
        "score, counted as 0 as in the report's figure; per token: of all scored tokens together."
    )
    return f"{(markdown if as_markdown else plain)(header, lines)}\n\n{notes}\n{more}"


def self_instruct_json(found: Perplexities) -> dict[str, Any]:
    """The same for programs, with every item."""
    return {
        "modes": {mode: MODES[mode] for mode in next(iter(found.values()))},
        "models": [
            {
                "model": model,
                "modes": {
                    mode: {**summary(scores), "per_item": [one._asdict() for one in scores]}
                    for mode, scores in modes.items()
                },
            }
            for model, modes in found.items()
        ],
    }


def perplexities(found: Perplexities) -> Iterable[dict[str, Any]]:
    """Every response's perplexity."""
    for model, modes in found.items():
        for mode, scores in modes.items():
            for one in scores:
                yield {"model": model, "mode": mode, **one._asdict()}
