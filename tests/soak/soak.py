"""Hours of load on the Python package and the server, and what is left of it in memory.

    python soak.py --minutes 60 --server PATH/halfbyte --data tests/data [--model MODEL]

Two processes work side by side with four threads each: `library.py` with the Python package, and
the server for the clients of this one. They work in rounds of some seconds, and rest between two
rounds: what they hold then is what they keep, not what they are working with. The first part of the
run is left out, in which caches fill up to their bounds; a line through the rest must not rise.

`cargo xtask soak` builds everything, lays it aside and runs this.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Any

from clients import Clients
from crew import Crew
from measure import MOST_AN_HOUR, Clock, Line, Sample, grew

#: Seconds of work between two samples.
ROUND = 12.0
#: Seconds of a crowd of clients, before all.
CROWDED = 60.0
#: Seconds after which what does not come to rest hangs.
PATIENCE = 180.0
#: Part of a run in which caches fill, and the most seconds of it.
WARM_UP = 1 / 4
LONGEST_WARM_UP = 600.0

#: Minutes before which a run judges neither memory nor threads: caches still fill.
SHORTEST = 20.0

#: glibc gives threads arenas of their own, up to eight for each processor, and lets a block's size
#: decide anew where such blocks go. How high each arena grows then depends on which threads met,
#: for hours; so do the arenas of Python's own allocator. With one arena and one bound memory is as
#: high after minutes as it gets. What leaks, leaks as before.
ALLOCATOR = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "PYTHONMALLOC": "malloc",
}
N_CLIENTS = 4
#: MiB of keys and values: so few that the server's cache is full after minutes, and somebody always
#: has to make room.
CACHE = "24"


class Watched:
    """A process, and what it held between two rounds."""

    #: What its jobs came to.
    report: dict[str, Any]

    def __init__(self, name: str, command: list[str], **streams: Any) -> None:
        self.name = name
        environment = {**ALLOCATOR, **os.environ}
        self.process = subprocess.Popen(command, env=environment, text=True, **streams)
        self.samples: list[Sample] = []

    def sample(self, seconds: float) -> None:
        """Looks at what it holds."""
        in_use = self.report.get("in_use", 0)
        self.samples.append(Sample.of(self.process.pid, seconds, in_use))

    def state(self) -> str:
        """The last sample, in words."""
        last = self.samples[-1]
        parts = [f"{last.anonymous / 1e6:.2f} anonymous"]
        if last.in_use:
            parts.append(f"{last.in_use / 1e6:.2f} in use")
        return (
            f"{self.name} {last.resident / 1e6:.2f} MB ({', '.join(parts)}), "
            f"{last.descriptors} files, {last.threads} threads"
        )

    def verdicts(self, after: float) -> list[tuple[bool, str]]:
        """What is to be said of the samples after the warm-up."""
        kept = [sample for sample in self.samples if sample.seconds >= after]
        verdicts = []
        for what in ("resident", "anonymous", "in_use"):
            if not any(getattr(sample, what) for sample in kept):
                continue
            line = Line.through([(s.seconds, getattr(s, what)) for s in kept])
            first, last = (getattr(sample, what) / 1e6 for sample in (kept[0], kept[-1]))
            text = (
                f"{self.name}: {what.replace('_', ' ')} memory {first:.2f} -> {last:.2f} MB, "
                f"{line.slope / 1e6:+.3f} ± {line.error / 1e6:.3f} MB/h over "
                f"{60 * line.hours:.1f} min ({len(kept)} samples)"
            )
            verdicts.append((line.is_flat, text))
        for what in ("descriptors", "threads"):
            counts = [getattr(sample, what) for sample in kept]
            text = f"{self.name}: {what} {min(counts)} to {max(counts)}, last {counts[-1]}"
            verdicts.append((not grew(counts), text))
        if kept[-1].seconds < 60 * SHORTEST:
            # Descriptors are as many as ever after the first round.
            verdicts = [
                (is_good or "descriptors" not in text, f"{text} (too short a run to judge memory)")
                for is_good, text in verdicts
            ]
        return verdicts


class Library(Watched):
    """`library.py`."""

    def __init__(self, data: str, model: str | None) -> None:
        script = str(Path(__file__).with_name("library.py"))
        command = [sys.executable, script, data, *([model] if model else [])]
        super().__init__("library", command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.report = {"done": {}, "n_kinds": 0, "n_errors": 0, "errors": []}
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=_read, args=(self.process.stdout, self._lines), daemon=True).start()

    def tell(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()

    def rests(self, clock: Clock) -> bool:
        """Waits until nothing runs; its report is there then."""
        if not clock.wait(lambda: not self._lines.empty(), PATIENCE):
            return False
        line = self._lines.get()
        if line:
            self.report = json.loads(line)
        return bool(line)

    def end(self) -> int:
        self.tell("end")
        return self.process.wait(timeout=60)


class Server(Watched):
    """`halfbyte serve`."""

    def __init__(self, program: str, model: str | None) -> None:
        command = [program, "serve", "--port", "0", "--rate", "5000", "--timeout", "0"]
        command += ["--cache-size", CACHE, *(["-m", model] if model else [])]
        super().__init__("server", command, stderr=subprocess.PIPE)
        lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=_read, args=(self.process.stderr, lines), daemon=True).start()
        self.url = ""
        while not self.url:
            line = lines.get(timeout=120)
            assert line, "the server did not start"
            self.url = line.strip().partition(" at ")[2]
        jobs = Clients(self.url).jobs()
        # The first minute has more clients than there will be: the threads that the server starts
        # for them, and what those keep, would come later otherwise, whenever many happen to meet.
        self.crowd = Crew(jobs, 4 * N_CLIENTS)
        self.crew = Crew(jobs, N_CLIENTS)
        self.report = self.crew.report()
        self.lines = lines

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)


def _read(stream: IO[str], lines: queue.Queue[str]) -> None:
    for line in stream:
        lines.put(line)
    lines.put("")


class Soak:
    """The run."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.clock = Clock()
        self.seconds = 60 * args.minutes
        self.told: set[str] = set()
        self.library = Library(args.data, args.model)
        self.server = Server(args.server, args.model)
        self.hung = ""

    def run(self) -> None:
        """Rounds, until the time is over or something hangs."""
        # What it takes to start does not count.
        self._crowd()
        start = self.clock.seconds
        told = 0.0
        while self.clock.seconds - start < self.seconds and not self.hung:
            self._round()
            for process in (self.library, self.server):
                if process.process.poll() is not None:
                    self.hung = f"{process.name} ended with {process.process.returncode}"
                    return
                process.sample(self.clock.seconds - start)
            self.tell_errors()
            if self.clock.seconds >= told:
                told = self.clock.seconds + 60
                self._tell(self.clock.seconds - start)

    def _crowd(self) -> None:
        crowd = self.server.crowd
        crowd.go()
        self.clock.wait(lambda: False, CROWDED)
        crowd.stop()
        if not self.clock.wait(lambda: crowd.rests, PATIENCE):
            self.hung = "server: a crowd of clients did not come to rest"
        for error in crowd.report()["errors"]:
            self.hung = self.hung or error

    def _round(self) -> None:
        self.server.crew.go()
        self.library.tell("go")
        self.clock.wait(lambda: False, ROUND)
        self.server.crew.stop()
        self.library.tell("stop")
        if not self.library.rests(self.clock):
            self.hung = "library: did not come to rest"
            self.library.process.send_signal(signal.SIGUSR1)
        elif not self.clock.wait(lambda: self.server.crew.rests, PATIENCE):
            self.hung = "server: its clients did not come to rest"
        # Connections that clients cut off are noticed in a moment.
        self.clock.wait(lambda: False, 0.5)
        self.server.report = self.server.crew.report()

    def _tell(self, seconds: float) -> None:
        n = [sum(process.report["done"].values()) for process in (self.library, self.server)]
        print(
            f"{seconds / 60:6.1f} min: {n[0]} + {n[1]} jobs, {self.n_errors()} errors; "
            f"{self.library.state()}; {self.server.state()}",
            flush=True,
        )

    def tell_errors(self) -> None:
        """Shows what went wrong since it was last asked."""
        for error in self.library.report["errors"] + self.server.report["errors"]:
            if error not in self.told:
                self.told.add(error)
                print(error, flush=True)
        # What the server wrote since it started: warnings.
        for _ in range(self.server.lines.qsize()):
            print(self.server.lines.get(), end="", flush=True)

    def n_errors(self) -> int:
        return sum(process.report["n_errors"] for process in (self.library, self.server))

    def verdicts(self) -> list[tuple[bool, str]]:
        """All that was found."""
        after = min(self.seconds * WARM_UP, LONGEST_WARM_UP)
        found = [(not self.hung, self.hung or "nothing hung or ended early")]
        for process in (self.library, self.server):
            report = process.report
            done, n_errors = report["done"], report["n_errors"]
            text = (
                f"{process.name}: {sum(done.values())} jobs done, {len(done)} of "
                f"{report['n_kinds']} kinds, {n_errors} errors"
            )
            found.append((n_errors == 0 and len(done) > 0, text))
        if not self.hung:
            found += self.library.verdicts(after) + self.server.verdicts(after)
            for process in (self.library, self.server):
                status = process.end()
                found.append((status == 0, f"{process.name}: ended with {status}"))
        return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--server", required=True, help="the halfbyte command")
    parser.add_argument("--data", required=True, help="the folder of small models")
    parser.add_argument("--model", help="the model to work with; the embedded one by default")
    parser.add_argument("--samples", help="where to write all samples, as JSON")
    args = parser.parse_args()
    soak = Soak(args)
    try:
        soak.run()
        verdicts = soak.verdicts()
    finally:
        for process in (soak.library, soak.server):
            process.process.kill()
    if args.samples:
        samples = {p.name: [vars(s) for s in p.samples] for p in (soak.library, soak.server)}
        Path(args.samples).write_text(json.dumps(samples))
    soak.tell_errors()
    if soak.clock.n_stops:
        print(f"all was stopped {soak.clock.n_stops} times; that time does not count")
    for is_good, text in verdicts:
        print(f"{'ok    ' if is_good else 'FAILED'} {text}")
    n_failed = sum(not is_good for is_good, _ in verdicts)
    print(
        f"soak: {len(verdicts) - n_failed} passed, {n_failed} failed "
        f"({soak.clock.seconds / 60:.1f} min, limit {MOST_AN_HOUR / 1e6:g} MB/h)"
    )
    sys.exit(n_failed > 0)


main()
