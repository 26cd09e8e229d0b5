"""What processes hold, and whether it grows."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

#: Seconds between two looks at anything.
TICK = 0.25
#: A tick that took longer was no tick: somebody stopped this process, or the machine.
STOPPED = 3.0

#: Bytes of resident memory that a process may gain in an hour.
MOST_AN_HOUR = 1e6


class Clock:
    """Seconds that this process was there for: while it is stopped, time stands still.

    Whoever stops all processes for a while, to measure something else, neither makes a slope
    flatter nor a wait too long.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.n_stops = 0

    def tick(self) -> None:
        """Waits for a moment."""
        before = time.monotonic()
        time.sleep(TICK)
        spent = time.monotonic() - before
        if spent > STOPPED:
            self.n_stops += 1
            spent = TICK
        self.seconds += spent

    def wait(self, what: Callable[[], bool], seconds: float) -> bool:
        """Waits for `what`, so long at most; says whether it came."""
        end = self.seconds + seconds
        while not what():
            if self.seconds >= end:
                return False
            self.tick()
        return True


@dataclass(frozen=True)
class Sample:
    """What a process holds at one time."""

    #: As [`Clock`] counts.
    seconds: float
    #: Bytes in memory, and those of them that no file has.
    resident: int
    anonymous: int
    #: Those that were asked for and not given back, where the process can tell; or 0.
    in_use: int
    descriptors: int
    threads: int

    @classmethod
    def of(cls, pid: int, seconds: float, in_use: int) -> Sample:
        """Looks at a process."""
        # Not from `status`: since Linux 6.2 its counters may be off by some hundred kB.
        rollup = _fields(pid, "smaps_rollup")
        threads = _fields(pid, "status")["Threads"]
        descriptors = len(os.listdir(f"/proc/{pid}/fd"))
        resident, anonymous = rollup["Rss"] << 10, rollup["Anonymous"] << 10
        return cls(seconds, resident, anonymous, in_use, descriptors, threads)


def _fields(pid: int, name: str) -> dict[str, int]:
    found = {}
    for line in Path(f"/proc/{pid}/{name}").read_text().splitlines():
        words = line.split()
        if len(words) >= 2 and words[0].endswith(":") and words[1].isdigit():
            found[words[0][:-1]] = int(words[1])
    return found


@dataclass(frozen=True)
class Line:
    """The straight line through samples, by least squares."""

    #: Of the line, in an hour.
    slope: float
    #: The slope's standard error, as if the samples' distances from the line were independent.
    error: float
    hours: float

    @classmethod
    def through(cls, points: list[tuple[float, float]]) -> Line:
        """Points of seconds and values."""
        n = len(points)
        assert n > 2, f"{n} samples make no line: let it run for longer"
        mean_x = sum(x for x, _ in points) / n / 3600
        mean_y = sum(y for _, y in points) / n
        square = sum((x / 3600 - mean_x) ** 2 for x, _ in points)
        slope = sum((x / 3600 - mean_x) * (y - mean_y) for x, y in points) / square
        rest = sum((y - mean_y - slope * (x / 3600 - mean_x)) ** 2 for x, y in points)
        error = math.sqrt(rest / (n - 2) / square)
        return cls(slope, error, (points[-1][0] - points[0][0]) / 3600)

    @property
    def is_flat(self) -> bool:
        """Whether the line rises by no more than is allowed."""
        return self.slope < MOST_AN_HOUR


def grew(counts: list[int]) -> bool:
    """Whether a count that may go up and down had a new height in the last two thirds."""
    first = max(len(counts) // 3, 1)
    return max(counts[first:], default=0) > max(counts[:first])
