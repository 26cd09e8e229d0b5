"""The threads that compute for asyncio; apart, so that ``import halfbyte`` needs no asyncio."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Optional

#: Generations that compute at a time; further ones wait. The event loop's own pool has a handful of
#: threads, which long generations would take away from everyone else.
MAX_WORKERS = 64

_executor: Optional[ThreadPoolExecutor] = None
_process = 0


def executor() -> ThreadPoolExecutor:
    """The threads of this process; a forked child has none of its parent's."""
    global _executor, _process
    if _executor is None or _process != os.getpid():
        _executor = ThreadPoolExecutor(MAX_WORKERS, thread_name_prefix="halfbyte")
        _process = os.getpid()
    return _executor
