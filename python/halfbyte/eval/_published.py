"""What the report says: its columns, and rows of its table of accuracies."""

from __future__ import annotations

from typing import NamedTuple


class Column(NamedTuple):
    """A task of lm-evaluation-harness, as the report shows it."""

    task: str
    title: str
    #: ``acc_norm`` divides an answer's log-likelihood by its length in characters. The report does
    #: not say which one it shows; GPT-J's row is that of its published results with these.
    metric: str


#: In the report's order.
COLUMNS = (
    Column("boolq", "BoolQ", "acc"),
    Column("piqa", "PIQA", "acc_norm"),
    Column("hellaswag", "HellaSwag", "acc_norm"),
    Column("winogrande", "WinoGrande", "acc"),
    Column("arc_easy", "ARC-e", "acc_norm"),
    Column("arc_challenge", "ARC-c", "acc_norm"),
    Column("openbookqa", "OBQA", "acc_norm"),
)

TASKS = tuple(column.task for column in COLUMNS)

#: By task.
COLUMN = {column.task: column for column in COLUMNS}


class Published(NamedTuple):
    """A row of the report: percentages in the order of the columns, and their average."""

    model: str
    accuracies: tuple[float, ...]
    average: float


#: Source: "GPT4All: An Ecosystem of Open Source Compressed Language Models", table 1, whole test
#: or validation sets, no examples in the prompt.
PUBLISHED = (
    Published("GPT4All-J 6B v1.0", (73.4, 74.8, 63.4, 64.7, 54.9, 36.0, 40.2), 58.2),
    Published("GPT4All-J v1.1-breezy", (74.0, 75.1, 63.2, 63.6, 55.4, 34.9, 38.4), 57.8),
    Published("GPT4All-J v1.2-jazzy", (74.8, 74.9, 63.6, 63.8, 56.6, 35.3, 41.0), 58.6),
    Published("GPT4All-J v1.3-groovy", (73.6, 74.3, 63.8, 63.5, 57.7, 35.0, 38.8), 58.1),
    Published("GPT4All-J LoRA 6B", (68.6, 75.8, 66.2, 63.5, 56.4, 35.7, 40.2), 58.1),
    Published("GPT4All LLaMA LoRA 7B", (73.1, 77.6, 72.1, 67.8, 51.1, 40.4, 40.2), 60.3),
    Published("GPT4All 13B snoozy", (83.3, 79.2, 75.0, 71.3, 60.9, 44.2, 43.4), 65.3),
    Published("Dolly 6B", (68.8, 77.3, 67.6, 63.9, 62.9, 38.7, 41.2), 60.1),
    Published("Dolly 12B", (56.7, 75.4, 71.0, 62.2, 64.6, 38.5, 40.4), 58.4),
    Published("GPT-J 6.7B", (65.4, 76.2, 66.2, 64.1, 62.2, 36.6, 38.2), 58.4),
    Published("LLaMA 7B", (73.1, 77.4, 73.0, 66.9, 52.5, 41.4, 42.4), 61.0),
    Published("LLaMA 13B", (68.5, 79.1, 76.2, 70.1, 60.0, 44.6, 42.2), 63.0),
    Published("text-davinci-003", (88.1, 83.8, 83.4, 75.8, 83.9, 63.9, 51.0), 75.7),
)
