"""How `halfbyte.gpt4all` hands out answers, and who may ask for the next one."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from typing import Callable

from halfbyte._stream import Stream
from halfbyte.errors import BusyError

#: Hears a token's id and its text; goes on while it returns true.
ResponseCallback = Callable[[int, str], bool]


class Asked:
    """The last answer of a chat session, which must end before the next one begins."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._thread = threading.current_thread()

    def make_way(self) -> None:
        """Ends the answer, unless another thread may still be reading it."""
        if self.stream.finish_reason is not None:
            return
        if self._thread is not threading.current_thread() and self._thread.is_alive():
            raise BusyError(
                "another thread is being answered in this chat session: wait for it, or give each "
                "thread a GPT4All of its own"
            )
        self.stream.close()


def pieces(stream: Stream, callback: ResponseCallback) -> Iterator[str]:
    """The texts of a generation, as long as the callback agrees."""
    with stream:
        for piece in stream:
            text = str.__str__(piece)
            if not text:
                continue
            if not callback(piece.token, text):
                return
            yield text


def printed(token_id: int, response: str) -> bool:
    """Writes a text to standard output and goes on."""
    sys.stdout.write(response)
    sys.stdout.flush()
    return True
