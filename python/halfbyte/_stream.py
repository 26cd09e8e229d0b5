"""Generations that run while they are read: in a ``for`` loop, or in an asyncio task."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Coroutine, Generator, Iterator
from typing import TYPE_CHECKING, Any, Callable, Optional, TypeVar

from halfbyte._closing import Closing
from halfbyte._options import heard
from halfbyte._results import Completion, NativePiece, Piece, Timings, Usage, piece
from halfbyte.errors import BusyError

if TYPE_CHECKING:
    from types import TracebackType

    from halfbyte import _native

logger = logging.getLogger("halfbyte")

T = TypeVar("T")
#: Hears each piece; ``False`` ends the generation.
Callback = Callable[[Piece], Optional[bool]]


class Stream(Iterator[Piece], Closing):
    """A running generation: an iterator over :class:`Piece`, each a ``str``.

    Nothing is computed before the first piece is asked for. A stream that is dropped or closed ends
    there; its session keeps the tokens so far.

    >>> import halfbyte
    >>> with halfbyte.Model().generate("Once upon a time", stream=True, seed=1) as stream:
    ...     pieces = [next(stream), next(stream)]
    >>> "".join(pieces) == stream.text, stream.finish_reason
    (True, 'cancelled')
    """

    def __init__(
        self,
        native: _native.Generation,
        callback: Optional[Callback] = None,
        on_text: Optional[Callable[[str], None]] = None,
    ) -> None:
        self._native = native
        self._callback = callback
        self._on_text = on_text
        self._pieces: list[NativePiece] = []
        self._ended = False

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Piece:
        if self._ended:
            raise StopIteration
        try:
            native = self._native.next()
        except BusyError:
            # Another thread is reading; it goes on.
            raise
        except BaseException:
            self._end()
            raise
        if native is None:
            self._end()
            raise StopIteration
        self._pieces.append(native)
        if self._on_text is not None:
            self._on_text(self._native.report()[0])
        new = piece(native)
        callback = self._callback
        if callback is not None:
            try:
                go_on = heard("callback", lambda: callback(new))
            except BaseException:
                self.close()
                raise
            if go_on is False:
                self.close()
        return new

    def result(self) -> Completion:
        """Runs to the end and returns the whole text, whatever was read before."""
        if self._callback is not None:
            for _ in self:
                pass
        elif not self._ended:
            try:
                self._pieces += self._native.finish()
            except BusyError:
                raise
            except BaseException:
                self._end()
                raise
            self._end()
        report = self._native.report()
        return Completion(report[0], self._pieces, report)

    def cancel(self) -> None:
        """Stops the computation from another thread; the reader sees the end."""
        self._native.cancel()

    def close(self) -> None:
        """Ends the generation here; its session is free again."""
        self._native.close()
        self._end()

    def _end(self) -> None:
        """What is to be done once, however it ended."""
        if self._ended:
            return
        self._ended = True
        self._native.close()
        text, reason, _, usage, timings, seed = self._native.report()
        if self._on_text is not None:
            self._on_text(text)
        logger.debug(
            "generated %d tokens after %d in %.3f s (prompt %.3f s), ended by %s, seed %d",
            usage[2], usage[0], sum(timings), timings[0], reason or "cancelled", seed,
        )  # fmt: skip

    @property
    def text(self) -> str:
        """The text so far."""
        return self._native.report()[0]

    @property
    def tokens(self) -> list[int]:
        """The new tokens so far."""
        return [token for _, token, _, _ in self._pieces]

    @property
    def finish_reason(self) -> Optional[str]:
        """``"stop"``, ``"length"`` or ``"cancelled"``; ``None`` while it runs."""
        reason = self._native.report()[1]
        return "cancelled" if reason is None and self._ended else reason

    @property
    def usage(self) -> Usage:
        """Tokens so far."""
        return Usage(*self._native.report()[3])

    @property
    def timings(self) -> Timings:
        """Seconds so far."""
        return Timings(*self._native.report()[4])

    @property
    def seed(self) -> int:
        """The seed in use, whether given or fresh."""
        return self._native.report()[5]

    def __repr__(self) -> str:
        state = self.finish_reason if self._ended else "running"
        return f"<halfbyte.Stream {state}, {len(self._pieces)} tokens>"


class AsyncStream(AsyncIterator[Piece], Coroutine[Any, Any, Completion]):
    """A generation for asyncio: ``await`` it for the whole text, or ``async for`` its pieces.

    The computation runs in a thread, so the event loop keeps turning. A task that is cancelled
    stops the computation, too. ``asyncio.create_task`` and ``gather`` take it like a coroutine.

    >>> import asyncio, halfbyte
    >>> async def main():
    ...     stream = halfbyte.Model().agenerate("Once upon a time", max_new_tokens=3, seed=1)
    ...     pieces = [piece async for piece in stream]
    ...     return len(pieces), "".join(pieces) == await stream
    >>> asyncio.run(main())
    (3, True)
    """

    def __init__(self, start: Callable[[], Stream]) -> None:
        self._start = start
        self._stream: Optional[Stream] = None
        self._running: Optional[Coroutine[Any, Any, Completion]] = None

    def __aiter__(self) -> AsyncStream:
        return self

    async def __anext__(self) -> Piece:
        stream = await self._started()
        # StopIteration cannot pass through a future.
        new = await _in_thread(lambda: next(stream, None), stream.cancel)
        if new is None:
            raise StopAsyncIteration
        return new

    def __await__(self) -> Generator[Any, None, Completion]:
        return self._complete().__await__()

    # What makes it a coroutine, for those who look, as `asyncio.create_task` does.

    def send(self, value: Any) -> Any:
        """Goes on with the whole text; event loops call it."""
        return self._coroutine().send(value)

    def throw(self, *error: Any) -> Any:
        """Raises ``error`` where it waits; event loops call it."""
        return self._coroutine().throw(*error)

    def close(self) -> None:
        """Ends the wait that :meth:`send` began. The generation ends by :meth:`aclose`."""
        if self._running is not None:
            self._running.close()

    def _coroutine(self) -> Coroutine[Any, Any, Completion]:
        if self._running is None:
            self._running = self._complete()
        return self._running

    async def _complete(self) -> Completion:
        stream = await self._started()
        return await _in_thread(stream.result, stream.cancel)

    async def _started(self) -> Stream:
        # Even tokenizing a long prompt would hold up the event loop.
        if self._stream is None:
            self._stream = await _in_thread(self._start, lambda: None)
        return self._stream

    async def aclose(self) -> None:
        """Ends the generation here."""
        if self._stream is not None:
            self._stream.cancel()
            await _in_thread(self._stream.close, lambda: None)

    async def __aenter__(self) -> AsyncStream:
        return self

    async def __aexit__(
        self,
        kind: Optional[type[BaseException]],
        value: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        await self.aclose()

    @property
    def stream(self) -> Optional[Stream]:
        """The stream below, once it has begun: its text, usage and timings."""
        return self._stream

    def __repr__(self) -> str:
        return f"<halfbyte.AsyncStream, {self._stream or 'not started'}>"


async def _in_thread(call: Callable[[], T], cancel: Callable[[], None]) -> T:
    """``call()`` in a thread; a cancelled task pulls ``cancel`` and waits for the thread.

    If no thread is free yet there is nothing to wait for.
    """
    import asyncio

    from halfbyte._executor import executor

    # A future never resolves when it is to raise StopIteration.
    job = executor().submit(heard, "a function of the caller", call)
    future = asyncio.wrap_future(job)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        # Nobody will ask for the result, which asyncio would print if it is an error.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        if not job.cancel():
            cancel()
            await asyncio.wait([future])
        raise
