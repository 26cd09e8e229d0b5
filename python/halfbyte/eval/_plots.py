"""The report's two figures, with matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from halfbyte._extras import need
from halfbyte.eval._published import COLUMN, PUBLISHED, TASKS
from halfbyte.eval._self_instruct import CLIP, ItemScore
from halfbyte.eval._table1 import Row, metric_of

#: Rows of the report that are drawn: this many of the models halfbyte runs.
DRAWN = ("GPT4All-J v1.3-groovy", "GPT4All 13B snoozy", "GPT-J 6.7B")


def _figure(width: float, height: float, n: int = 1) -> tuple[Any, Any]:
    need("matplotlib", "eval")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # No pyplot: it would choose a window system, and keep every figure.
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, n, squeeze=False, sharey=True)[0]


def plot_accuracies(rows: Sequence[Row], path: str) -> None:
    """Accuracies of each task as bars, with the report's models as marks."""
    figure, (axes,) = _figure(11, 4.8)
    tasks = rows[0].tasks
    width = 0.8 / len(rows)
    for i, row in enumerate(rows):
        heights = [100 * row.accuracy(task) for task in tasks] + [100 * row.average]
        errors = [100 * row.std_error(task) for task in tasks] + [0.0]
        places = [x + (i + 0.5) * width - 0.4 for x in range(len(heights))]
        axes.bar(places, heights, width, yerr=errors, label=row.model,
                 error_kw={"lw": 0.8, "ecolor": "0.3"})  # fmt: skip
    wanted = [TASKS.index(task) for task in tasks]
    for name, marker in zip(DRAWN, "vs^"):
        published = next(one for one in PUBLISHED if one.model == name)
        heights = [published.accuracies[i] for i in wanted]
        heights.append(sum(heights) / len(heights))
        axes.plot(range(len(heights)), heights, marker, ms=6, mfc="none", mec="black",
                  label=f"{name} (report)")  # fmt: skip
    labels = [f"{COLUMN[task].title}\n{metric_of(task)}" for task in tasks]
    axes.set_xticks(range(len(labels) + 1), [*labels, "average"])
    axes.set_ylim(0, 100)
    axes.set_ylabel("accuracy, %")
    figure.legend(fontsize="small", ncols=3, loc="outside upper center", frameon=False)
    axes.grid(axis="y", lw=0.4)
    axes.set_axisbelow(True)
    figure.savefig(path, dpi=150)


def plot_perplexities(found: dict[str, dict[str, list[ItemScore]]], path: str) -> None:
    """A histogram for each mode, all models in it, as the report shows them."""
    modes = list(next(iter(found.values())))
    figure, panels = _figure(5.5 * len(modes), 4.5, len(modes))
    bins = [CLIP * i / 20 for i in range(21)]
    for axes, mode in zip(panels, modes):
        for model, scores in found.items():
            axes.hist([one.clipped for one in scores[mode]], bins, alpha=0.5, label=model)
        axes.set_title(mode)
        axes.set_xlabel("perplexity, clipped at 100")
        axes.set_ylabel("responses")
    figure.legend(*panels[0].get_legend_handles_labels(), fontsize="small", ncols=3,
                  loc="outside upper center", frameon=False)  # fmt: skip
    figure.savefig(path, dpi=150)
