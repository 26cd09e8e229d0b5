"""``python -m halfbyte.eval``: loads models, measures, prints."""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Optional

from halfbyte._model import Model
from halfbyte.errors import Error
from halfbyte.eval import _self_instruct, _sharing, _show
from halfbyte.eval._arguments import parser
from halfbyte.eval._reference import reference_lm
from halfbyte.eval._table1 import Row, distance, table1

#: The word for the model inside halfbyte.
EMBEDDED = "embedded"


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Runs the command line on ``arguments``, by default the program's; returns its status."""
    given = parser().parse_args(arguments)
    run = {"table1": _run_table1, "self-instruct": _run_self_instruct, "sharing": _run_sharing}
    try:
        run[given.command](given)
    except (Error, ImportError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _run_table1(given: argparse.Namespace) -> None:
    from halfbyte.lm_eval import HalfbyteLM

    _drawable(given)
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    options = {"data": given.data, "tasks": given.tasks, "limit": given.limit}

    def scored(path: str) -> Row:
        lm = HalfbyteLM(_path(path), cache_type=given.cache_type, threads=given.threads)
        with lm.model:
            return table1(lm, name=path, **options)

    rows, distances = [], []
    base = scored(given.against) if given.against else None
    for path in given.models:
        row = scored(path)
        rows.append(row)
        if base is not None:
            distances.append(distance(row, base))
        if given.reference:
            theirs = table1(reference_lm(path), name=f"{path} (transformers)", **options)
            rows.append(theirs)
            distances.append(distance(row, theirs))
    if base is not None:
        rows.append(base)
    _lines(given.items, _show.answers(rows))
    if given.plot:
        from halfbyte.eval._plots import plot_accuracies

        plot_accuracies(rows, given.plot)
    if given.json:
        _json(_show.table1_json(rows, distances))
    else:
        print(_show.table1_text(rows, distances, given.markdown))


def _run_self_instruct(given: argparse.Namespace) -> None:
    _drawable(given)
    items = _self_instruct.read_items(given.data)[: given.limit]
    modes = given.mode or list(_self_instruct.MODES)
    found = {}
    for path in given.models:
        with Model(_path(path), cache_type=given.cache_type, threads=given.threads) as model:
            found[path] = _self_instruct.self_instruct(model, items, modes=modes, progress=True)
    _lines(given.items, _show.perplexities(found))
    if given.plot:
        from halfbyte.eval._plots import plot_perplexities

        plot_perplexities(found, given.plot)
    if given.json:
        _json(_show.self_instruct_json(found))
    else:
        print(_show.self_instruct_text(found, given.markdown))


def _run_sharing(given: argparse.Namespace) -> None:
    from halfbyte.lm_eval import HalfbyteLM

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    lm = HalfbyteLM(_path(given.model), cache_type=given.cache_type, threads=given.threads)
    found = [_sharing.sharing(lm, task, given.data, given.limit) for task in given.tasks]
    if given.json:
        _json([one._asdict() for one in found])
    else:
        print(_sharing.text(found))


def _path(name: str) -> Optional[str]:
    return None if name == EMBEDDED else name


def _drawable(given: argparse.Namespace) -> None:
    """Says at once, rather than after an hour, that a figure cannot be drawn."""
    if given.plot:
        from halfbyte._extras import need

        need("matplotlib", "eval")


def _lines(path: Optional[str], items: Iterable[dict[str, Any]]) -> None:
    if path is not None:
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(f"{json.dumps(_finite(one))}\n" for one in items)


def _json(value: Any) -> None:
    print(json.dumps(_finite(value), indent=2))


def _finite(value: Any) -> Any:
    """JSON has no word for what is not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return value
