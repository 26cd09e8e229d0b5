"""Threads that do the jobs of a table again and again, and rest when they are told to.

A job is a function that gives pairs of a name and an answer. Answers of one name must be equal,
whichever thread, round or job they came from: all are held against the first one.
"""

from __future__ import annotations

import hashlib
import random
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

#: Errors that are kept: one is enough to fail, and a hundred thousand would be a leak of our own.
MOST_ERRORS = 20

Answers = Iterable[tuple[str, object]]
Job = Callable[[], Answers]


class Crew:
    """Threads and the jobs that they do; at rest until :meth:`go`."""

    def __init__(self, jobs: dict[str, Job], n_threads: int) -> None:
        self._jobs = jobs
        self._done: Counter[str] = Counter()
        self._n_errors = 0
        self._errors: list[str] = []
        self._first: dict[str, str] = {}
        self._lock = threading.Condition()
        self._goes = False
        self._n_busy = n_threads
        for i in range(n_threads):
            threading.Thread(target=self._work, args=(random.Random(i),), daemon=True).start()

    def go(self) -> None:
        """Lets the threads work."""
        with self._lock:
            self._goes = True
            self._lock.notify_all()

    def stop(self) -> None:
        """Lets each thread rest after the job that it does."""
        with self._lock:
            self._goes = False

    @property
    def rests(self) -> bool:
        """Whether no thread does anything."""
        with self._lock:
            return self._n_busy == 0

    def wait(self) -> None:
        """Until no thread does anything."""
        with self._lock:
            self._lock.wait_for(lambda: self._n_busy == 0)

    def report(self) -> dict[str, Any]:
        """How often each job was done, how many kinds there are, and what went wrong."""
        with self._lock:
            return {
                "done": dict(self._done),
                "n_kinds": len(self._jobs),
                "n_errors": self._n_errors,
                "errors": list(self._errors),
            }

    def _work(self, rng: random.Random) -> None:
        # Shuffled, not drawn: whatever a job leaves behind for good is there after the first deck,
        # and no job is rarer than another.
        deck: list[str] = []
        while True:
            with self._lock:
                self._n_busy -= 1
                self._lock.notify_all()
                self._lock.wait_for(lambda: self._goes)
                self._n_busy += 1
            if not deck:
                deck = rng.sample(list(self._jobs), len(self._jobs))
            self._do(deck.pop())

    def _do(self, name: str) -> None:
        try:
            answers = [(key, _brief(answer)) for key, answer in self._jobs[name]()]
        except Exception:
            self._fail(f"{name}: {traceback.format_exc()}")
            return
        with self._lock:
            self._done[name] += 1
            firsts = [(key, self._first.setdefault(key, answer), answer) for key, answer in answers]
        wrong = [(key, first, answer) for key, first, answer in firsts if first != answer]
        for key, first, answer in wrong:
            self._fail(f"{name}: {answer}\ninstead of {first}, the first answer to {key}")

    def _fail(self, error: str) -> None:
        with self._lock:
            self._n_errors += 1
            if len(self._errors) < MOST_ERRORS:
                self._errors.append(error)


def _brief(answer: object) -> str:
    # The texts of floats give their bits; what is kept has one size whatever the answer.
    text = answer.hex() if isinstance(answer, bytes) else repr(answer)
    return f"{text[:100]} ({hashlib.sha256(text.encode()).hexdigest()})"
