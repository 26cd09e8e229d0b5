"""Memory comes back: sessions, models, dropped streams."""

from __future__ import annotations

import gc
import os
import sys
import weakref
from pathlib import Path
from typing import Any, Callable

import pytest

import halfbyte
from conftest import DATA, PROMPT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def resident() -> int:
    """Resident bytes of this process."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def growth(cycle: Callable[[], object], n: int, warm_up: int) -> float:
    """By which part of all memory ``n`` cycles grow it, after the allocator has warmed up.

    The least of up to three measurements: a leak grows every time, an allocator's habits do not.
    """
    for _ in range(warm_up):
        cycle()
    least = 1.0
    for _ in range(3):
        before = resident()
        for _ in range(n):
            cycle()
        least = min(least, resident() / before - 1)
        if least < 0.01:
            break
    return least


def test_ten_thousand_sessions_leave_nothing(model: halfbyte.Model) -> None:
    def cycle() -> None:
        session = model.session()
        session.append([5])
        session.close()

    assert growth(cycle, 10_000, 500) < 0.01


def test_two_hundred_models_leave_nothing() -> None:
    def cycle() -> None:
        with halfbyte.Model(DATA / "gptj-1k.q4_0.gguf", threads=2) as model:
            model.generate([5], max_new_tokens=1)

    assert growth(cycle, 200, 40) < 0.01


def test_dropped_streams_free_their_sessions(model: halfbyte.Model) -> None:
    ids = model.tokenize(PROMPT) * 20

    def cycle() -> None:
        next(model.generate(ids, stream=True))

    assert growth(cycle, 300, 50) < 0.01

    def failing() -> None:
        with pytest.raises(ZeroDivisionError):
            model.generate(ids, callback=lambda piece: bool(1 // 0))

    assert growth(failing, 300, 50) < 0.01


def test_a_processor_may_hold_what_calls_it(model: halfbyte.Model) -> None:
    class Reader:
        def __init__(self, source: Any) -> None:
            self.stream = source(stream=True, logits_processor=self.process)

        def process(self, tokens: list[int], logits: Any) -> None:
            pass

    chat, session = model.chat(), model.session()
    sources: list[Callable[..., Any]] = [
        lambda **options: model.generate(PROMPT, **options),
        lambda **options: session.generate(PROMPT, **options),
        lambda **options: chat.say(PROMPT, **options),
    ]
    for source in sources:
        for n_read in (0, 2):
            reader = Reader(source)
            for _ in range(n_read):
                next(reader.stream)
            alive = weakref.ref(reader)
            del reader
            gc.collect()
            assert alive() is None
    assert len(session) > 0 and len(chat.messages) == 4


def test_results_do_not_leak(model: halfbyte.Model) -> None:
    def cycle() -> None:
        model.logits([5] * 60)
        model.embed(PROMPT)
        model.generate(PROMPT, max_new_tokens=2, logprobs=50, logits_processor=lambda t, x: None)

    assert growth(cycle, 500, 100) < 0.01
