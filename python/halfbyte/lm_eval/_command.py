"""lm-eval's command line, with halfbyte registered and the option ``--data``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Optional

from halfbyte.eval._published import TASKS
from halfbyte.lm_eval._harness import cli_evaluate

FOLDER = Path(__file__).parent / "tasks"

#: Commands of lm-eval that load no model.
WITHOUT_MODEL = {"ls", "validate", "-h", "--help"}


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Runs lm-eval's command line on ``arguments``, by default the program's."""
    own = argparse.ArgumentParser(prog="python -m halfbyte.lm_eval", add_help=False,
                                  allow_abbrev=False)  # fmt: skip
    own.add_argument("--data", type=Path, metavar="FOLDER")
    given, rest = own.parse_known_args(sys.argv[1:] if arguments is None else arguments)
    if given.data is not None and any(a.startswith("--include_path") for a in rest):
        own.error("--data and --include_path exclude each other")
    if given.data is not None and not given.data.is_dir():
        own.error(f"--data: {given.data} is not a folder")
    with local_tasks(given.data) as folder:
        included = [] if folder is None else ["--include_path", str(folder)]
        with program_arguments(completed([*rest, *included])):
            cli_evaluate()


def completed(arguments: list[str]) -> list[str]:
    """``arguments`` with the command `run` and the model if they are missing."""
    if not arguments or arguments[0] in WITHOUT_MODEL:
        return arguments or ["--help"]
    rest = arguments[1:] if arguments[0] == "run" else arguments
    named = any(a in ("--model", "-M") or a.startswith("--model=") for a in rest)
    return ["run", *([] if named else ["--model", "halfbyte"]), *rest]


@contextmanager
def local_tasks(data: Optional[Path]) -> Iterator[Optional[Path]]:
    """A folder of tasks like those of the package that read ``data``, wherever one stands."""
    if data is None:
        yield None
        return
    with TemporaryDirectory(prefix="halfbyte-tasks-") as folder:
        for task in TASKS:
            Path(folder, f"{task}.yaml").write_text(_local_task(task, data), encoding="utf-8")
        yield Path(folder)


def _local_task(task: str, data: Path) -> str:
    source = FOLDER / f"{task}.yaml"
    lines = source.read_text(encoding="utf-8").splitlines()
    file = f"{task}.jsonl"
    split = next(line.split(":")[0].strip() for line in lines if line.endswith(f": {file}"))
    files = {split: str(data.resolve() / file)}
    # JSON is YAML, and knows how to quote.
    return (
        f"include: {json.dumps(str(source))}\ndataset_kwargs: {json.dumps({'data_files': files})}\n"
    )


@contextmanager
def program_arguments(arguments: list[str]) -> Iterator[None]:
    """lm-eval reads the program's arguments and nothing else."""
    before = sys.argv
    sys.argv = ["lm-eval", *arguments]
    try:
        yield
    finally:
        sys.argv = before
