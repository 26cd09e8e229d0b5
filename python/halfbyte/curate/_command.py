"""``python -m halfbyte.curate``: reads, cleans, compares, draws, and says how many are left."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any, Callable, Optional

from halfbyte._extras import need
from halfbyte._model import Model
from halfbyte.curate._clean import REASONS, Removed, clean
from halfbyte.curate._near import near_duplicates
from halfbyte.curate._rows import Row, read_rows
from halfbyte.curate._spaces import ModelSpace, Space, TfidfSpace
from halfbyte.curate._topics import LAYOUTS, topics
from halfbyte.errors import ConfigError, Error

#: What is compared by meaning.
TEXTS: dict[str, Callable[[Row], str]] = {
    "prompt": lambda row: row.prompt,
    "both": lambda row: f"{row.prompt}\n{row.response}",
}


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Runs the command line on ``arguments``, by default the program's; returns its status."""
    given = _parser().parse_args(arguments)
    try:
        _run(given)
    except (Error, ImportError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    reasons = "; ".join(f"{name}: {what}" for name, what in REASONS.items())
    parser = argparse.ArgumentParser(
        prog="python -m halfbyte.curate",
        description="Cleans prompts and responses, a JSON object a line, as the GPT4All report "
        f"does. What goes, in this order: {reasons}.",
    )
    add = parser.add_argument
    add("data", metavar="FILE", help="JSON lines with prompt and response, or instruction, input "
        "and output, or question and answer")  # fmt: skip
    add("--prompt", type=lambda text: text.split(","), default=[], metavar="A,B",
        help="the fields of the prompt")  # fmt: skip
    add("--response", metavar="C", help="the field of the response")
    add("--out", metavar="FILE", help="write the rows that stay, as they were")
    add("--removed", metavar="FILE", help="write which rows go, and why, as JSON lines")
    add("--space", choices=("tfidf", "model", "none"), default="tfidf",
        help="what compares meanings: words, a model's embeddings, or nothing "
        "[default: tfidf]")  # fmt: skip
    add("--model", metavar="MODEL", help="the model for --space model [default: the one inside]")
    add("--threshold", type=float, metavar="X",
        help="the cosine from which on two texts say the same [default: the space's]")  # fmt: skip
    add("--on", choices=TEXTS, default="prompt", help="what is compared [default: prompt]")
    add("--map", metavar="FILE", help="write an interactive map of topics, such as map.html")
    add("--plot", metavar="FILE", help="draw the map, such as map.png")
    add("--layout", choices=LAYOUTS, default=LAYOUTS[0], help=f"[default: {LAYOUTS[0]}]")
    add("--json", action="store_true", help="print one JSON object")
    return parser


def _run(given: argparse.Namespace) -> None:
    start = time.perf_counter()
    if given.model and given.space != "model":
        raise ConfigError("--model is for --space model", "model")
    if given.plot:
        need("matplotlib", "curate")
    if given.layout == "umap" and (given.map or given.plot):
        need("umap", "curate")
    kept, removed = clean(read_rows(given.data, given.prompt, given.response))
    places: Optional[Space] = None
    texts = [TEXTS[given.on](row) for row in kept]
    if texts and (given.space != "none" or given.map or given.plot):
        if given.space == "model":
            places = ModelSpace(texts, Model(given.model), progress=True)
        else:
            places = TfidfSpace(texts)
    vectors: Any = None if places is None else places.search
    if places is not None and given.space != "none":
        found = near_duplicates(places, given.threshold, progress=True)
        gone = {one.text for one in found}
        removed += [
            Removed(kept[one.text], "semantic duplicate", kept[one.repeats].number, one.similarity)
            for one in found
        ]
        stay = [i for i in range(len(kept)) if i not in gone]
        kept, texts, vectors = [kept[i] for i in stay], [texts[i] for i in stay], vectors[stay]
    _write(given, kept, removed)
    if vectors is not None and (given.map or given.plot):
        _draw(given, vectors, texts)
    seconds = time.perf_counter() - start
    _report(given, kept, removed, seconds, 0.0 if places is None else places.seconds)


def _write(given: argparse.Namespace, kept: Iterable[Row], removed: Iterable[Removed]) -> None:
    if given.out:
        with open(given.out, "w", encoding="utf-8") as file:
            file.writelines(f"{row.line}\n" for row in kept)
    if given.removed:
        with open(given.removed, "w", encoding="utf-8") as file:
            for one in removed:
                fields: dict[str, Any] = {"line": one.row.number, "reason": one.reason}
                if one.repeats is not None:
                    fields["repeats"] = one.repeats
                if one.similarity is not None:
                    fields["similarity"] = round(one.similarity, 4)
                if one.row.broken is not None:
                    fields["what"] = one.row.broken
                file.write(f"{json.dumps({**fields, 'text': one.row.line})}\n")


def _draw(given: argparse.Namespace, vectors: Any, texts: Sequence[str]) -> None:
    from halfbyte.curate._map import write_page, write_picture

    found = topics(vectors, texts, layout=given.layout)
    title = f"{given.data}: {len(texts)} rows"
    if given.map:
        write_page(given.map, found, texts, title)
    if given.plot:
        write_picture(given.plot, found, title)


def _report(
    given: argparse.Namespace,
    kept: Sequence[Row],
    removed: Sequence[Removed],
    seconds: float,
    embedding: float,
) -> None:
    total = len(kept) + len(removed)
    counts = {reason: sum(one.reason == reason for one in removed) for reason in REASONS}
    if given.json:
        spent = {"seconds": round(seconds, 3), "vector_seconds": round(embedding, 3)}
        fields = {"rows": total, "removed": counts, "kept": len(kept), **spent}
        print(json.dumps(fields, indent=2))
        return
    left = total
    width = max(map(len, ["rows", *REASONS]))
    print(f"{'rows'.ljust(width)}  {'':>9}  {total:>9,}")
    for reason, n in counts.items():
        left -= n
        print(f"{reason.ljust(width)}  {-n:>9,}  {left:>9,}")
    print(f"\n{seconds:.1f} s, {embedding:.1f} s of them for vectors", file=sys.stderr)
