"""Conversations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal, Optional, TypedDict, Union, overload

from halfbyte import _native
from halfbyte import _options as options_of
from halfbyte._closing import Closing
from halfbyte._facts import native_model
from halfbyte._options import Options
from halfbyte._results import Completion
from halfbyte._stream import AsyncStream, Callback, Stream

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from halfbyte._model import Model


class Message(TypedDict):
    """One message: ``role`` is ``"system"``, ``"user"`` or ``"assistant"``."""

    role: str
    content: str


class Chat(Closing):
    """A conversation with a model; what was said before is not computed again.

    >>> import halfbyte
    >>> with halfbyte.Model().chat(max_new_tokens=30, seed=1) as chat:
    ...     answer = chat.say("Write a story about a dog.")
    >>> [message["role"] for message in chat.messages], chat.messages[1]["content"] == answer
    (['user', 'assistant'], True)

    ``system`` is what the model is told before the conversation; ``template`` a built-in template's
    name or a Jinja source, the model's own by default; ``messages`` an earlier conversation to
    continue; the options are those of :meth:`Model.generate`, for every answer.

    When a conversation outgrows the context its oldest turns are left out of what the model reads
    (``context_policy="error"`` refuses instead); :attr:`messages` still has them.
    """

    #: The conversation so far, which may be edited between two answers.
    messages: list[Message]

    def __init__(
        self,
        model: Model,
        *,
        system: Optional[str] = None,
        template: Optional[str] = None,
        messages: Optional[Iterable[Message]] = None,
        **options: Unpack[Options],
    ) -> None:
        given, _ = options_of.native(options)
        self._native = _native.Chat(native_model(model), template, given)
        self._options = options
        self.messages = [] if messages is None else [_copied(message) for message in messages]
        if system is not None and options_of.text("system", system):
            self.messages.insert(0, {"role": "system", "content": str.__str__(system)})

    @overload
    def say(
        self,
        text: str,
        *,
        stream: Literal[False] = False,
        callback: Optional[Callback] = None,
        **options: Unpack[Options],
    ) -> Completion: ...

    @overload
    def say(
        self,
        text: str,
        *,
        stream: Literal[True],
        callback: Optional[Callback] = None,
        **options: Unpack[Options],
    ) -> Stream: ...

    @overload
    def say(
        self,
        text: str,
        *,
        stream: bool,
        callback: Optional[Callback] = None,
        **options: Unpack[Options],
    ) -> Union[Completion, Stream]: ...

    def say(
        self,
        text: str,
        *,
        stream: bool = False,
        callback: Optional[Callback] = None,
        **options: Unpack[Options],
    ) -> Union[Completion, Stream]:
        """Says ``text`` to the model and returns its answer, or with ``stream=True`` its pieces.

        The answer becomes the last message as it is generated. A refused message is taken back.
        """
        running = self._start(text, callback, options)
        return running if stream else running.result()

    def asay(
        self, text: str, *, callback: Optional[Callback] = None, **options: Unpack[Options]
    ) -> AsyncStream:
        """As :meth:`say`, for asyncio; see :meth:`Model.agenerate`."""
        return AsyncStream(lambda: self._start(text, callback, options))

    def _start(self, text: str, callback: Optional[Callback], options: Options) -> Stream:
        given, processor = options_of.native({**self._options, **options})
        options_of.function("callback", callback)
        asked: Message = {"role": "user", "content": options_of.text("the text", text)}
        native = self._native.answer(pairs([*self.messages, asked]), given, processor)
        answer: Message = {"role": "assistant", "content": ""}
        self.messages += [asked, answer]

        def grow(content: str) -> None:
            answer["content"] = content

        return Stream(native, callback, grow)

    @property
    def n_dropped(self) -> int:
        """Messages that the context had no room for in the last answer."""
        return self._native.n_dropped()

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self._native.closed

    def clear(self) -> None:
        """Forgets all messages but the system message."""
        del self.messages[int(bool(self.messages) and self.messages[0]["role"] == "system") :]

    def close(self) -> None:
        """Lets go of the memory; the messages stay."""
        self._native.close()

    def __repr__(self) -> str:
        return f"<halfbyte.Chat, {len(self.messages)} messages{', closed' * self.closed}>"


def pairs(messages: Iterable[Message]) -> list[tuple[str, str]]:
    """Messages as the native half takes them."""
    return [(message["role"], message["content"]) for message in map(_copied, messages)]


def _copied(message: Message) -> Message:
    """A message of its own, if it is one."""
    if not isinstance(message, Mapping) or not {"role", "content"} <= message.keys():
        raise TypeError(f"a message is a dictionary with 'role' and 'content', not {message!r}")
    role, content = message["role"], message["content"]
    if not isinstance(role, str) or not isinstance(content, str):
        raise TypeError(f"the role and content of a message are texts, not {message!r}")
    return {"role": role, "content": str.__str__(content)}
