"""The options of ``python -m halfbyte.eval``."""

from __future__ import annotations

import argparse

from halfbyte.eval._published import TASKS
from halfbyte.eval._self_instruct import MODES


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    whole = argparse.ArgumentParser(
        prog="python -m halfbyte.eval",
        description="Measures models as the GPT4All report does.",
    )
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _table1(commands.add_parser("table1", help="seven accuracies and their average"))
    _self_instruct(commands.add_parser("self-instruct", help="perplexity of given responses"))
    _sharing(commands.add_parser("sharing", help="what reading each question once saves"))
    return whole


def _table1(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Answers multiple-choice questions with lm-evaluation-harness and prints the accuracies in "
        "the report's columns, beside the published rows."
    )
    _models(command)
    command.add_argument("--tasks", type=_tasks, default=TASKS, metavar="A,B",
                         help=f"some of {','.join(TASKS)} [default: all]")  # fmt: skip
    _data(command)
    command.add_argument("--limit", type=_count, metavar="N", help="the first N of each task")
    command.add_argument("--reference", action="store_true",
                         help="score the same folders with transformers in f32, too, and "
                         "compare")  # fmt: skip
    command.add_argument("--against", metavar="MODEL",
                         help="a model to whose answers the distance is given, such as the f32 "
                         "weights")  # fmt: skip
    _output(command, "answers")


def _self_instruct(command: argparse.ArgumentParser) -> None:
    modes = "; ".join(f"{name}: {what}" for name, what in MODES.items())
    command.description = f"The perplexity of responses to instructions. Modes: {modes}."
    _models(command)
    command.add_argument("--data", required=True, metavar="FILE",
                         help="self-instruct's user_oriented_instructions.jsonl")  # fmt: skip
    command.add_argument("--mode", choices=MODES, action="append",
                         help="[default: both]")  # fmt: skip
    command.add_argument("--limit", type=_count, metavar="N", help="the first N items")
    _output(command, "perplexities")


def _sharing(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Scores the answers to questions with the question read once and with it read again for "
        "each answer, checks that the results are the same bit for bit, and prints how many tokens "
        "that saved beside the most that could be saved."
    )
    command.add_argument("model", metavar="MODEL", help="a model file or folder")
    command.add_argument("--tasks", type=_tasks, default=("hellaswag", "arc_easy"), metavar="A,B",
                         help="[default: hellaswag,arc_easy]")  # fmt: skip
    _data(command)
    command.add_argument("--limit", type=_count, metavar="N", help="the first N of each task")
    _loading(command)
    command.add_argument("--json", action="store_true", help="print one JSON object")


def _models(command: argparse.ArgumentParser) -> None:
    command.add_argument("models", nargs="+", metavar="MODEL",
                         help="model files or folders; 'embedded' is the one inside "
                         "halfbyte")  # fmt: skip
    _loading(command)


def _loading(command: argparse.ArgumentParser) -> None:
    command.add_argument("--cache-type", choices=("f32", "f16", "q8"), default="f32",
                         help="of keys and values [default: f32, the most exact]")  # fmt: skip
    command.add_argument("--threads", type=_count, metavar="N", help="[default: all cores]")


def _data(command: argparse.ArgumentParser) -> None:
    command.add_argument("--data", default=".", metavar="FOLDER",
                         help="where boolq.jsonl, piqa.jsonl, ... are [default: here]")  # fmt: skip


def _output(command: argparse.ArgumentParser, what: str) -> None:
    form = command.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object")
    form.add_argument("--markdown", action="store_true", help="print Markdown")
    command.add_argument("--items", metavar="FILE", help=f"write all {what} as JSON lines")
    command.add_argument("--plot", metavar="FILE", help="draw a figure, such as figure.png")


def _tasks(text: str) -> tuple[str, ...]:
    tasks = tuple(dict.fromkeys(part for part in text.split(",") if part))
    for task in tasks:
        if task not in TASKS:
            known = ", ".join(TASKS)
            raise argparse.ArgumentTypeError(f"unknown task {task!r}: there are {known}")
    if not tasks:
        raise argparse.ArgumentTypeError("there are no tasks")
    return tasks


def _count(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return int(text)
