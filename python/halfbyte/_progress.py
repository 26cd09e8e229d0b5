"""Progress bars for terminals and notebooks, without a dependency."""

from __future__ import annotations

import importlib
import sys
import time
from typing import Any, Callable, Optional, Union

#: ``True`` for a bar, a function that hears (done, total), or nothing.
Progress = Union[bool, Callable[[int, int], object], None]

#: Seconds between two drawings.
INTERVAL = 0.1
WIDTH = 30


def reporter(
    progress: Progress, what: str, unit: str = ""
) -> Optional[Callable[[int, int], object]]:
    """What the native half calls with (done, total), if anything."""
    if progress is None or progress is False:
        return None
    if progress is True:
        return Bar(what, unit)
    if not callable(progress):
        kind = type(progress).__name__
        raise TypeError(f"progress must be True, False or a function of (done, total), not {kind}")
    return progress


class Bar:
    """A bar on standard error if that is a terminal, or in the notebook; else nothing."""

    def __init__(self, what: str, unit: str = "") -> None:
        self.what = what
        self.unit = unit
        self.start = time.monotonic()
        self.drawn = 0.0
        self.display: Any = None
        self.notebook = _in_notebook()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self.drawn < INTERVAL and done < total:
            return
        self.drawn = now
        if self.notebook:
            self._draw_html(done, total)
        elif sys.stderr is not None and sys.stderr.isatty():
            end = "\n" if done >= total else ""
            sys.stderr.write(f"\r{self.line(done, total)}\x1b[K{end}")
            sys.stderr.flush()

    def line(self, done: int, total: int) -> str:
        """The bar as text."""
        share = min(done / total, 1.0) if total else 1.0
        full = int(share * WIDTH)
        bar = "█" * full + "░" * (WIDTH - full)
        amounts = f"{self.amount(done)}/{self.amount(total)}"
        return f"{self.what} {share:4.0%} {bar} {amounts} {self.left(share)}"

    def amount(self, n: int) -> str:
        """A number with its unit; bytes in binary units."""
        if self.unit != "B":
            return f"{n}{' ' + self.unit if self.unit else ''}"
        value = float(n)
        for unit in ("B", "KiB", "MiB", "GiB"):
            if value < 1024 or unit == "GiB":
                break
            value /= 1024
        return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"

    def left(self, share: float) -> str:
        """Minutes and seconds until the end, or those that it took."""
        spent = time.monotonic() - self.start
        seconds = spent if share >= 1 or share <= 0 else spent / share - spent
        return f"{int(seconds) // 60:02}:{int(seconds) % 60:02}"

    def _draw_html(self, done: int, total: int) -> None:
        # Not a dependency, so nothing that a type checker would find.
        pages = importlib.import_module("IPython.display")
        text = f"{self.amount(done)}/{self.amount(total)}"
        bar = pages.HTML(
            f'{self.what} <progress value="{done}" max="{max(total, 1)}"></progress> {text}'
        )
        if self.display is None:
            self.display = pages.display(bar, display_id=True)
        else:
            self.display.update(bar)


def _in_notebook() -> bool:
    """Whether a Jupyter kernel runs this; importing IPython to find out would be slow."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and type(shell).__name__ == "ZMQInteractiveShell"
