"""The Python API of GPT4All (the package gpt4all, 2.8.2) over halfbyte.

A script changes its import and stays as it is::

    from halfbyte.gpt4all import GPT4All

    model = GPT4All("gpt4all-j.gguf", model_path="models")
    with model.chat_session():
        print(model.generate("What is a cat?", max_tokens=100))

What is different: nothing is ever downloaded, all is computed on the CPU, and a chat without a
template uses the one that halfbyte knows for the model. `docs/gpt4all.md` has the details.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Optional, Union, overload

from halfbyte import _gpt4all_files as files
from halfbyte._chat import Chat, Message
from halfbyte._gpt4all_answers import Asked, ResponseCallback, pieces, printed
from halfbyte._gpt4all_embed import CancellationError, Embed4All, EmbedResult
from halfbyte._gpt4all_files import DEFAULT_MODEL_DIRECTORY
from halfbyte._gpt4all_prompts import DEFAULT_PROMPT_TEMPLATE, STOPS, completion_prompt, jinja
from halfbyte._model import Model
from halfbyte._options import Options
from halfbyte._stream import Stream
from halfbyte.errors import ConfigError, FileMissingError, TemplateError

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

__all__ = [
    "DEFAULT_MODEL_DIRECTORY",
    "DEFAULT_PROMPT_TEMPLATE",
    "CancellationError",
    "Embed4All",
    "EmbedResult",
    "GPT4All",
    "empty_response_callback",
]

logger = logging.getLogger("halfbyte")

#: What the first versions of the package took and halfbyte has no use for.
WITHOUT_MEANING = {"logits_size", "tokens_size", "n_past", "n_ctx", "context_erase"}


def empty_response_callback(token_id: int, response: str) -> bool:
    """Goes on."""
    return True


class GPT4All:
    """A model of the package gpt4all's kind.

    ``model_name`` is a file in ``model_path`` (default: ``~/.cache/gpt4all``); the extension
    ``.gguf`` or ``.bin`` may be left out. The folder of a Hugging Face model works, too, and
    ``"stories-q4_0.gguf"`` is the small model inside halfbyte. A missing file is a
    ``FileNotFoundError`` that names it, whatever ``allow_download`` says.

    ``n_ctx`` is an upper bound: a model is never asked for more than it was trained for. ``device``
    is ``None`` or ``"cpu"``; ``model_type``, ``ngl`` and ``n_batch`` are accepted and change
    nothing; with ``verbose`` the logger ``halfbyte`` says where the file was found.

    >>> model = GPT4All("stories-q4_0.gguf")
    >>> with model.chat_session():
    ...     answer = model.generate("Write a story about a cat.", max_tokens=20)
    ...     [message["role"] for message in model.current_chat_session]
    ['system', 'user', 'assistant']
    """

    #: The name of the file, its path, and whatever else is known.
    config: dict[str, Any]
    #: The model itself.
    model: Model

    def __init__(
        self,
        model_name: str,
        *,
        model_path: Optional[Union[str, os.PathLike[str]]] = None,
        model_type: Optional[str] = None,
        allow_download: bool = True,
        n_threads: Optional[int] = None,
        device: Optional[str] = None,
        n_ctx: int = 2048,
        ngl: int = 100,
        verbose: bool = False,
    ) -> None:
        if device not in (None, "cpu"):
            raise ConfigError(
                f"halfbyte computes on the CPU: device is None or 'cpu', not {device!r}", "device"
            )
        self.model_type = model_type
        self.config = self.retrieve_model(
            model_name, model_path=model_path, allow_download=allow_download, verbose=verbose
        )
        path = None if files.is_embedded(self.config) else str(self.config["path"])
        try:
            self.model = Model(path, threads=n_threads, context_length=n_ctx)
        except ConfigError as error:
            # Refused before anything was loaded.
            if error.field != "context_length" or n_ctx < 1:
                raise
            self.model = Model(path, threads=n_threads)
            trained = self.model.context_length
            logger.info("n_ctx: the model was trained for %d tokens, not %d", trained, n_ctx)
        self._chat: Optional[Chat] = None
        self._system = ""
        self._asked: Optional[Asked] = None

    # Files.

    @staticmethod
    def list_models() -> list[dict[str, Any]]:
        """The models that can be opened by name: the default directory's, and the one inside.

        The package gpt4all fetches a list of what could be downloaded instead.
        """
        return [*files.on_disk(), files.embedded()]

    @classmethod
    def retrieve_model(
        cls,
        model_name: str,
        model_path: Optional[Union[str, os.PathLike[str]]] = None,
        allow_download: bool = True,
        verbose: bool = False,
    ) -> dict[str, Any]:
        """Finds a model's file: a dictionary with its ``path``."""
        config = files.find(model_name, model_path, allow_download)
        logger.log(logging.INFO if verbose else logging.DEBUG, "found %s", config["path"])
        return config

    @staticmethod
    def download_model(
        model_filename: str,
        model_path: Union[str, os.PathLike[str]],
        verbose: bool = True,
        url: Optional[str] = None,
        expected_size: Optional[int] = None,
        expected_md5: Optional[str] = None,
    ) -> NoReturn:
        """Raises a ``FileNotFoundError`` that names the file: halfbyte never downloads."""
        wanted = str(Path(model_path) / model_filename)
        raise FileMissingError(f"halfbyte never downloads: put the file to {wanted!r} yourself")

    # Text.

    @overload
    def generate(
        self,
        prompt: str,
        *,
        max_tokens: int = ...,
        temp: float = ...,
        top_k: int = ...,
        top_p: float = ...,
        min_p: float = ...,
        repeat_penalty: float = ...,
        repeat_last_n: int = ...,
        n_batch: int = ...,
        n_predict: Optional[int] = ...,
        streaming: Literal[False] = ...,
        callback: ResponseCallback = ...,
    ) -> str: ...

    @overload
    def generate(
        self,
        prompt: str,
        *,
        max_tokens: int = ...,
        temp: float = ...,
        top_k: int = ...,
        top_p: float = ...,
        min_p: float = ...,
        repeat_penalty: float = ...,
        repeat_last_n: int = ...,
        n_batch: int = ...,
        n_predict: Optional[int] = ...,
        streaming: Literal[True],
        callback: ResponseCallback = ...,
    ) -> Iterable[str]: ...

    @overload
    def generate(
        self,
        prompt: str,
        *,
        max_tokens: int = ...,
        temp: float = ...,
        top_k: int = ...,
        top_p: float = ...,
        min_p: float = ...,
        repeat_penalty: float = ...,
        repeat_last_n: int = ...,
        n_batch: int = ...,
        n_predict: Optional[int] = ...,
        streaming: bool,
        callback: ResponseCallback = ...,
    ) -> Any: ...

    def generate(
        self,
        prompt: str,
        *,
        max_tokens: int = 200,
        temp: float = 0.7,
        top_k: int = 40,
        top_p: float = 0.4,
        min_p: float = 0.0,
        repeat_penalty: float = 1.18,
        repeat_last_n: int = 64,
        n_batch: int = 8,
        n_predict: Optional[int] = None,
        streaming: bool = False,
        callback: ResponseCallback = empty_response_callback,
    ) -> Any:
        """Goes on from ``prompt``, or inside :meth:`chat_session` answers it.

        With ``streaming`` the result is an iterator over pieces of text. ``callback(token_id,
        text)`` hears each piece and ends the generation by returning ``False``; that piece still
        belongs to the text, but is not handed out by the iterator. ``n_predict`` is an older name
        of ``max_tokens``. ``temp`` 0 takes the most probable token every time, ``top_k`` 0 looks
        at all. An answer also ends where the model begins to speak for the user (``### Human`` …).
        """
        options = Options(
            max_new_tokens=max_tokens if n_predict is None else n_predict,
            temperature=temp,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            repetition_penalty=repeat_penalty,
            repeat_last_n=repeat_last_n,
            stop=STOPS,
        )
        stream = self._answer(self._chat, prompt, options)
        if streaming:
            return pieces(stream, callback)
        if callback is not empty_response_callback:
            for _ in pieces(stream, callback):
                pass
        return stream.result()

    def _answer(self, chat: Optional[Chat], prompt: str, options: Options) -> Stream:
        if chat is None:
            options["context_policy"] = "shift"
            return self.model.generate(prompt, stream=True, **options)
        if self._asked is not None:
            self._asked.make_way()
        stream = chat.say(prompt, stream=True, **options)
        self._asked = Asked(stream)
        return stream

    @contextmanager
    def chat_session(
        self,
        system_prompt: Optional[str] = None,
        prompt_template: Optional[str] = None,
        *,
        system_message: Optional[str] = None,
        chat_template: Optional[str] = None,
    ) -> Iterator[Self]:
        """A conversation: inside, :meth:`generate` answers and remembers what was said.

        ``prompt_template`` holds ``{0}`` where the user's message belongs, and may hold ``{1}`` for
        the answer. ``system_message`` and ``chat_template`` are the names of the package's third
        version; the latter is a Jinja source or the name of one of halfbyte's templates. Without a
        template it is the one that halfbyte knows for the model, else ``DEFAULT_PROMPT_TEMPLATE``.
        """
        if None not in (prompt_template, chat_template):
            raise TypeError("chat_session takes prompt_template or chat_template, not both")
        self._system = system_prompt or system_message or ""
        template = chat_template if prompt_template is None else jinja(prompt_template)
        self._chat = self._conversation(template)
        try:
            yield self
        finally:
            if self._asked is not None:
                self._asked.stream.close()
            self._chat = self._asked = None

    def _conversation(self, template: Optional[str]) -> Chat:
        try:
            return self.model.chat(system=self._system, template=template)
        except TemplateError:
            if template is not None:
                raise
            logger.warning("no chat template for %s: using ### Human", self.config["filename"])
            return self.model.chat(system=self._system, template=jinja(DEFAULT_PROMPT_TEMPLATE))

    @property
    def current_chat_session(self) -> Optional[list[Message]]:
        """The messages so far, the system message first; ``None`` outside of a session."""
        if self._chat is None:
            return None
        system: list[Message] = [] if self._system else [{"role": "system", "content": ""}]
        return system + self._chat.messages

    def chat_completion(
        self,
        messages: Sequence[Message],
        default_prompt_header: bool = True,
        default_prompt_footer: bool = True,
        verbose: bool = True,
        streaming: bool = True,
        **generate_kwargs: Any,
    ) -> dict[str, Any]:
        """Answers ``messages`` as version 0.2 of the package did, prompt and defaults included.

        ``verbose`` prints the prompt and ``streaming`` the answer as it comes, both to standard
        output. The result has ``model``, ``usage`` (in tokens) and ``choices``.
        """
        prompt = completion_prompt(
            self.model, messages, default_prompt_header, default_prompt_footer
        )
        defaults = {"n_predict": 128, "top_k": 40, "top_p": 0.9, "temp": 0.1}
        penalties = {"repeat_penalty": 1.2, "repeat_last_n": 10}
        given = {k: v for k, v in generate_kwargs.items() if k not in WITHOUT_MEANING}
        callback: ResponseCallback = printed if streaming else empty_response_callback
        # Outside of a chat session, whatever other threads do.
        alone = copy(self)
        alone._chat = None
        if verbose:
            sys.stdout.write(f"{prompt}\n")
        answer = alone.generate(prompt, **{"callback": callback, **defaults, **penalties, **given})
        if verbose and not streaming:
            sys.stdout.write(f"{answer}\n")
        asked, told = answer.usage.prompt_tokens, answer.usage.new_tokens
        return {
            "model": self.config["filename"],
            "usage": {
                "prompt_tokens": asked,
                "completion_tokens": told,
                "total_tokens": asked + told,
            },
            "choices": [{"message": {"role": "assistant", "content": str(answer)}}],
        }

    # What computes.

    @staticmethod
    def list_gpus() -> list[str]:
        """No GPU: halfbyte computes on the CPU."""
        return []

    @property
    def backend(self) -> Literal["cpu"]:
        """What computes."""
        return "cpu"

    @property
    def device(self) -> None:
        """No GPU."""
        return None

    # Life.

    def close(self) -> None:
        """Lets go of the model."""
        if self._asked is not None:
            self._asked.stream.close()
        self.model.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        typ: Optional[type[BaseException]],
        value: Optional[BaseException],
        tb: Optional[TracebackType],
    ) -> None:
        self.close()
