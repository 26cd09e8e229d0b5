"""Embeddings with the API of the package gpt4all."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Callable, Literal, Optional, TypedDict, Union, overload

from halfbyte.errors import Cancelled, ConfigError, FileMissingError

if TYPE_CHECKING:
    from types import TracebackType

    import numpy as np
    import numpy.typing as npt
    from typing_extensions import Self

    from halfbyte._model import Model

logger = logging.getLogger("halfbyte")

#: Hears the tokens of each part and the backend's name before a text is read; true cancels.
CancelCallback = Callable[[list[int], str], bool]

#: What the package gpt4all embeds with by default: a BERT, which halfbyte does not run.
DEFAULT_MODEL = "all-MiniLM-L6-v2.gguf2.f16.gguf"

#: Tokens of a text that the Atlas API takes.
ATLAS_TOKENS = 8192

LONG_TEXT_MODES = ("mean", "truncate")


class CancellationError(Cancelled):
    """The callback cancelled an embedding."""


class EmbedResult(TypedDict):
    """Embeddings and what they took."""

    #: A list of floats, or one for each text.
    embeddings: Any
    n_prompt_tokens: int


class Embed4All:
    """Embeddings of texts by the model that is given, which is any that halfbyte runs.

    These are not the numbers of the package gpt4all, whose embedding models are BERTs: halfbyte
    takes the mean of a language model's last hidden states over a text's tokens, and scales it to
    length 1. Compare only what one model made.

    The arguments are those of :class:`halfbyte.gpt4all.GPT4All`.

    >>> embedder = Embed4All("stories-q4_0.gguf")
    >>> len(embedder.embed("a cat")), len(embedder.embed(["a cat", "a dog"]))
    (384, 2)
    """

    MIN_DIMENSIONALITY = 64

    def __init__(
        self,
        model_name: Optional[str] = None,
        *,
        n_threads: Optional[int] = None,
        device: Optional[str] = None,
        **kwargs: Any,
    ) -> None:
        from halfbyte.gpt4all import GPT4All

        name = DEFAULT_MODEL if model_name is None else model_name
        try:
            self.gpt4all = GPT4All(name, n_threads=n_threads, device=device, **kwargs)
        except FileMissingError as error:
            if model_name is not None:
                raise
            raise FileMissingError(
                f"{error}; halfbyte has no embedding model of its own: name a model that it runs"
            ) from error

    @overload
    def embed(
        self,
        text: str,
        *,
        prefix: Optional[str] = ...,
        dimensionality: Optional[int] = ...,
        long_text_mode: str = ...,
        return_dict: Literal[False] = ...,
        atlas: bool = ...,
        cancel_cb: Optional[CancelCallback] = ...,
    ) -> list[float]: ...

    @overload
    def embed(
        self,
        text: list[str],
        *,
        prefix: Optional[str] = ...,
        dimensionality: Optional[int] = ...,
        long_text_mode: str = ...,
        return_dict: Literal[False] = ...,
        atlas: bool = ...,
        cancel_cb: Optional[CancelCallback] = ...,
    ) -> list[list[float]]: ...

    @overload
    def embed(
        self,
        text: Union[str, list[str]],
        *,
        prefix: Optional[str] = ...,
        dimensionality: Optional[int] = ...,
        long_text_mode: str = ...,
        return_dict: Literal[True],
        atlas: bool = ...,
        cancel_cb: Optional[CancelCallback] = ...,
    ) -> EmbedResult: ...

    @overload
    def embed(
        self,
        text: Union[str, list[str]],
        *,
        prefix: Optional[str] = ...,
        dimensionality: Optional[int] = ...,
        long_text_mode: str = ...,
        return_dict: bool = ...,
        atlas: bool = ...,
        cancel_cb: Optional[CancelCallback] = ...,
    ) -> Any: ...

    def embed(
        self,
        text: Union[str, list[str]],
        *,
        prefix: Optional[str] = None,
        dimensionality: Optional[int] = None,
        long_text_mode: str = "mean",
        return_dict: bool = False,
        atlas: bool = False,
        cancel_cb: Optional[CancelCallback] = None,
    ) -> Any:
        """The embedding of a text, or of several.

        ``prefix`` and a colon are put in front of each text if given. ``dimensionality`` keeps that
        many of the first numbers. A text that is longer than the model's context is read in parts
        (``long_text_mode="mean"``) or only its beginning (``"truncate"``); with ``atlas`` more than
        8192 tokens are refused in the first case. ``cancel_cb(tokens_of_parts, backend)`` is asked
        before each text; if it returns ``True``, a :class:`CancellationError` is raised. With
        ``return_dict`` the result also counts tokens.
        """
        if not text:
            raise ConfigError("text is empty: there is nothing to embed", "text")
        model = self.gpt4all.model
        width = self._width(dimensionality, model)
        if long_text_mode not in LONG_TEXT_MODES:
            raise ConfigError(
                f"long_text_mode is 'mean' or 'truncate', not {long_text_mode!r}", "long_text_mode"
            )
        truncate = long_text_mode == "truncate"
        rows, n_tokens = [], 0
        for one in [text] if isinstance(text, str) else text:
            ids = model.tokenize(f"{prefix}: {one}" if prefix else one)
            if atlas and not truncate and len(ids) > ATLAS_TOKENS:
                raise ConfigError(f"the Atlas API takes {ATLAS_TOKENS} tokens, not {len(ids)}")
            parts = _parts(ids, model.context_length)[: 1 if truncate else None]
            sizes = [len(part) for part in parts]
            if cancel_cb is not None and cancel_cb(sizes, self.gpt4all.backend):
                raise CancellationError("the callback cancelled the embedding")
            rows.append(_unit(_mean(model, parts)[:width]).tolist())
            n_tokens += sum(sizes)
        embeddings = rows[0] if isinstance(text, str) else rows
        result = EmbedResult(embeddings=embeddings, n_prompt_tokens=n_tokens)
        return result if return_dict else embeddings

    def _width(self, dimensionality: Optional[int], model: Model) -> int:
        if dimensionality is None:
            return model.hidden_size
        if not 0 < dimensionality <= model.hidden_size:
            raise ConfigError(
                f"dimensionality is between 1 and the model's {model.hidden_size}, "
                f"not {dimensionality}",
                "dimensionality",
            )
        if dimensionality < self.MIN_DIMENSIONALITY:
            logger.warning(
                "dimensionality %d is below %d, which blurs embeddings",
                dimensionality, self.MIN_DIMENSIONALITY,
            )  # fmt: skip
        return dimensionality

    def close(self) -> None:
        """Lets go of the model."""
        self.gpt4all.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        typ: Optional[type[BaseException]],
        value: Optional[BaseException],
        tb: Optional[TracebackType],
    ) -> None:
        self.close()


def _parts(ids: list[int], context_length: int) -> list[list[int]]:
    """``ids`` in pieces that fit."""
    return [ids[i : i + context_length] for i in range(0, len(ids), context_length)]


def _mean(model: Model, parts: list[list[int]]) -> npt.NDArray[np.float32]:
    """The mean hidden state over the tokens of all parts."""
    import numpy as np

    total = np.zeros(model.hidden_size, dtype=np.float32)
    for part in parts:
        mean = np.frombuffer(model._native.embed(part), dtype=np.float32)
        total += mean * np.float32(len(part))
    return total


def _unit(row: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """``row`` scaled to length 1."""
    import numpy as np

    length = float(np.linalg.norm(row))
    return row / np.float32(length) if length > 0 else row
