"""Sessions: one text in the making."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal, Optional, Union, overload

from halfbyte import _native
from halfbyte import _options as options_of
from halfbyte._adapter import Lora, natives
from halfbyte._closing import Closing
from halfbyte._facts import native_model
from halfbyte._files import Path
from halfbyte._options import Options, Prompt
from halfbyte._results import Completion
from halfbyte._stream import Callback, Stream
from halfbyte.errors import BusyError

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from halfbyte._model import Model


class Session(Closing):
    """One text in the making, and the keys and values of its tokens, kept between calls.

    >>> import halfbyte
    >>> session = halfbyte.Model().session()
    >>> session.append("Once upon a time")
    >>> branch = session.fork()                      # cheap: the past is shared
    >>> text = session.generate(max_new_tokens=5, seed=1)
    >>> len(session) - len(branch), session.text == branch.text + text
    (5, True)

    One stream at a time: a second one raises :class:`BusyError` until the first has ended.
    """

    def __init__(self, model: Model, *, lora: Lora = None) -> None:
        self._model = model
        self._native: _native.Session = native_model(model).session()
        if lora is not None:
            self.set_lora(lora)

    @overload
    def generate(
        self,
        prompt: Optional[Prompt] = None,
        *,
        stream: Literal[False] = False,
        callback: Optional[Callback] = None,
        **options: Unpack[Options],
    ) -> Completion: ...

    @overload
    def generate(
        self,
        prompt: Optional[Prompt] = None,
        *,
        stream: Literal[True],
        callback: Optional[Callback] = None,
        **options: Unpack[Options],
    ) -> Stream: ...

    @overload
    def generate(
        self,
        prompt: Optional[Prompt] = None,
        *,
        stream: bool,
        callback: Optional[Callback] = None,
        **options: Unpack[Options],
    ) -> Union[Completion, Stream]: ...

    def generate(
        self,
        prompt: Optional[Prompt] = None,
        *,
        stream: bool = False,
        callback: Optional[Callback] = None,
        **options: Unpack[Options],
    ) -> Union[Completion, Stream]:
        """As :meth:`Model.generate`; without a prompt, on from what the session holds.

        A prompt is the whole text: it replaces what the session held, but what is common with that
        is not computed again, and the result is the same bit for bit.
        """
        given, processor = options_of.native(options)
        options_of.function("callback", callback)
        whole = None if prompt is None else options_of.prompt(prompt)
        running = Stream(self._native.generate(whole, given, processor), callback)
        return running if stream else running.result()

    def append(self, prompt: Prompt) -> None:
        """Appends a text or token ids and computes their keys and values."""
        added = options_of.prompt(prompt)
        if isinstance(added, str):
            self._native.append(added)
        else:
            self._native.append_tokens(added)

    def set_lora(self, lora: Lora) -> None:
        """Reads tokens with these LoRA adapters, in place of those that it had; ``None`` for none.

        ``lora`` is a path or an :class:`Adapter`, one of them with a scale, ``("poet/", 0.8)``, or
        several. The weights stay where they are: with open adapters this takes microseconds. The
        tokens stay; what was computed of them is computed anew when it is next needed.
        """
        self._native.set_adapters(natives(native_model(self._model), lora))

    def truncate(self, n_tokens: int) -> None:
        """Forgets all tokens from ``n_tokens`` on."""
        self._native.truncate(n_tokens)

    def reset(self) -> None:
        """Forgets everything."""
        self._native.truncate(0)

    def fork(self) -> Session:
        """An independent copy that goes on from here. Cheap: the past is shared, not copied."""
        copy = Session.__new__(type(self))
        copy._model = self._model
        copy._native = self._native.fork()
        return copy

    def save(self, path: Path) -> None:
        """Writes tokens, keys and values to a file."""
        self._native.save(os.fsdecode(path))

    def load(self, path: Path) -> None:
        """Goes on from a file that :meth:`save` wrote with the same model and adapters."""
        self._native.load(os.fsdecode(path))

    @property
    def model(self) -> Model:
        """The model."""
        return self._model

    @property
    def tokens(self) -> list[int]:
        """The token ids so far: prompts and generated ones."""
        return self._native.tokens()

    @property
    def text(self) -> str:
        """The text so far."""
        return self._native.text()

    @property
    def cache_bytes(self) -> int:
        """Bytes of keys and values in memory."""
        return self._native.cache_bytes()

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self._native.closed

    def close(self) -> None:
        """Lets go of the memory."""
        self._native.close()

    def __len__(self) -> int:
        return len(self.tokens)

    def __bool__(self) -> bool:
        # An empty session is one nevertheless.
        return True

    def __repr__(self) -> str:
        if self.closed:
            return "<halfbyte.Session, closed>"
        try:
            held = str(len(self))
        except BusyError:
            held = "busy, …"
        return f"<halfbyte.Session, {held} of {self._model.context_length} tokens>"
