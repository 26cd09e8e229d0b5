"""Whether something else uses the CPU, where /proc/stat tells (Linux)."""

import os
import time
from pathlib import Path

STAT = Path("/proc/stat")
# What others may take of the CPU in a machine that counts as quiet.
QUIET = 0.03


class Watch:
    """What others took of the CPU since this was made."""

    def __init__(self):
        self.start = time.monotonic(), busy(), children()

    def others(self):
        """Their share of all cores; 0 where that can't be known."""
        wall, all_of_it, ours = (now - then for now, then in zip(
            (time.monotonic(), busy(), children()), self.start))
        return max(0.0, (all_of_it - ours) / (wall * (os.cpu_count() or 1)))

    @staticmethod
    def wait_for_quiet(seconds):
        """Returns when others were quiet for two seconds, at the latest after `seconds`."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            watch = Watch()
            time.sleep(2)
            if watch.others() < QUIET:
                return


def busy():
    """Seconds that all cores have worked."""
    if not STAT.exists():
        return 0.0
    user, nice, system = (int(text) for text in STAT.read_text().split()[1:4])
    return (user + nice + system) / os.sysconf("SC_CLK_TCK")


def children():
    """Seconds that processes which ended here have worked."""
    times = os.times()
    return times.children_user + times.children_system
