"""The map of topics as a page that needs nothing else, and as a picture."""

from __future__ import annotations

import colorsys
import html
import json
from collections.abc import Sequence
from pathlib import Path

from halfbyte._extras import need
from halfbyte.curate._topics import Topics

#: Characters of a text that the page shows.
SHOWN = 160

#: Texts on the page: a hundred bytes each.
PAGE_TEXTS = 30_000

PAGE = Path(__file__).parent / "map.html"


def colour(topic: int) -> str:
    """A topic's colour: hues far apart for neighbours in number."""
    hue, light, saturation = (
        topic * 137.508 % 360 / 360,
        45 + 12 * (topic % 3),
        65 - 15 * (topic % 2),
    )
    parts = colorsys.hls_to_rgb(hue, light / 100, saturation / 100)
    return "#" + "".join(f"{round(255 * part):02x}" for part in parts)


def write_page(path: str, found: Topics, texts: Sequence[str], title: str) -> None:
    """Writes the interactive map.

    Everything is in the one file: it opens without a network. If there are more than `PAGE_TEXTS`,
    every second, third, … one is on it.
    """
    step = max(1, -(-len(texts) // PAGE_TEXTS))
    chosen = range(0, len(texts), step)
    data = {
        "x": [round(float(found.places[i, 0]), 4) for i in chosen],
        "y": [round(float(found.places[i, 1]), 4) for i in chosen],
        "topic": [int(found.topic[i]) for i in chosen],
        "text": [_short(texts[i]) for i in chosen],
        "names": found.names,
        "colours": [colour(i) for i in range(len(found.names))],
        "step": step,
    }
    # Texts are anything: no end tag of theirs may end the script.
    script = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    page = PAGE.read_text(encoding="utf-8")
    page = page.replace("{{title}}", html.escape(title)).replace("{{data}}", script)
    Path(path).write_text(page, encoding="utf-8")


def _short(text: str) -> str:
    text = " ".join(text[: 4 * SHOWN].split())
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def write_picture(path: str, found: Topics, title: str) -> None:
    """Draws the same map with matplotlib."""
    need("matplotlib", "curate")
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    size = max(1.0, min(12.0, 40_000 / max(len(found.topic), 1)))
    for i, name in enumerate(found.names):
        here = found.places[found.topic == i]
        axes.scatter(here[:, 0], here[:, 1], s=size, color=colour(i), lw=0, alpha=0.7,
                     label=f"{name} ({len(here)})")  # fmt: skip
        if len(here):
            x, y = map(float, np.median(here, axis=0))
            back = {"fc": "white", "ec": "none", "alpha": 0.6, "pad": 1}
            axes.text(x, y, name.split(",")[0], fontsize=8, ha="center", weight="bold", bbox=back)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(title)
    figure.legend(loc="outside right upper", fontsize=7, markerscale=3, frameon=False)
    figure.savefig(path, dpi=140)
