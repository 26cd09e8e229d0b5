"""Options of a generation, from Python's keywords to what the native half takes."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Optional,
    SupportsIndex,
    TypedDict,
    TypeVar,
    Union,
    cast,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    #: Changes the logits (V) that follow the tokens so far, in place or by returning others.
    LogitsProcessor = Callable[
        [list[int], npt.NDArray[np.float32]], Optional[npt.NDArray[np.float32]]
    ]

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., object])
#: Token ids: a list, a tuple, an array.
Tokens = Iterable[int]
#: A text, or the ids of its tokens.
Prompt = Union[str, Tokens]


class Options(TypedDict, total=False):
    """The keywords that shape a generation; :meth:`halfbyte.Model.generate` explains them."""

    max_new_tokens: Optional[int]
    temperature: Optional[float]
    top_k: Optional[int]
    top_p: Optional[float]
    min_p: Optional[float]
    typical_p: Optional[float]
    repetition_penalty: Optional[float]
    repeat_last_n: Optional[int]
    presence_penalty: Optional[float]
    frequency_penalty: Optional[float]
    logit_bias: Optional[Mapping[int, float]]
    seed: Optional[int]
    stop: Union[str, Sequence[str], None]
    logprobs: Optional[int]
    ignore_eos: Optional[bool]
    context_policy: Optional[str]
    logits_processor: Optional[LogitsProcessor]


NativeOptions = dict[str, Any]
NativeProcessor = Callable[[list[int], bytearray], None]


def native(options: Mapping[str, Any]) -> tuple[NativeOptions, Optional[NativeProcessor]]:
    """``options`` and the processor among them; ``None`` means the default."""
    given = {name: value for name, value in options.items() if value is not None}
    processor = given.pop("logits_processor", None)
    if "stop" in given:
        given["stop"] = [given["stop"]] if isinstance(given["stop"], str) else list(given["stop"])
    if "logit_bias" in given:
        given["logit_bias"] = list(dict(given["logit_bias"]).items())
    return given, None if processor is None else _adapted(processor)


def tokens(ids: Tokens) -> list[int]:
    """``ids`` as a list."""
    if isinstance(ids, (str, bytes)):
        raise TypeError(f"tokens must be ids, not {type(ids).__name__}: tokenize the text first")
    # Arrays hand out their numbers much faster by themselves.
    tolist = getattr(ids, "tolist", None)
    return cast("list[int]", tolist()) if tolist is not None else list(ids)


def text(what: str, value: str) -> str:
    """``value`` as a plain text; a subclass, such as a completion, becomes one."""
    if not isinstance(value, str):
        raise TypeError(f"{what} must be a text, not {type(value).__name__}")
    return str.__str__(value)


def whole(what: str, value: SupportsIndex) -> int:
    """``value`` as an integer."""
    try:
        return operator.index(value)
    except TypeError:
        kind = type(value).__name__
        raise TypeError(f"{what} must be an integer, not {kind}") from None


def function(what: str, value: Optional[F]) -> Optional[F]:
    """``value``, if it can be called or is ``None``."""
    if value is not None and not callable(value):
        raise TypeError(f"{what} must be callable, not {type(value).__name__}")
    return value


def prompt(text_or_tokens: Prompt) -> Union[str, list[int]]:
    """A text as it is, tokens as a list."""
    if isinstance(text_or_tokens, str):
        return str.__str__(text_or_tokens)
    if not isinstance(text_or_tokens, Iterable):
        kind = type(text_or_tokens).__name__
        raise TypeError(f"the prompt must be a text or token ids, not {kind}")
    return tokens(text_or_tokens)


def heard(what: str, call: Callable[[], T]) -> T:
    """``call()`` of a caller's function, whose ``StopIteration`` must not end a loop over pieces.

    It would do so unseen, and cannot pass through a future at all: PEP 479, for ``next``.
    """
    try:
        return call()
    except (StopIteration, StopAsyncIteration) as error:
        raise RuntimeError(f"{what} raised {type(error).__name__}") from error


def _adapted(processor: LogitsProcessor) -> NativeProcessor:
    """``processor`` over the bytes of the logits, which it changes in place."""
    import numpy as np

    function("logits_processor", processor)

    def process(tokens: list[int], buffer: bytearray) -> None:
        logits = np.frombuffer(buffer, dtype=np.float32)
        changed = heard("logits_processor", lambda: processor(tokens, logits))
        if changed is not None and changed is not logits:
            changed = np.asarray(changed)
            if changed.shape != logits.shape:
                raise ValueError(
                    f"logits_processor returned the shape {changed.shape}, expected {logits.shape}"
                )
            logits[:] = changed
        if np.isnan(logits).any():
            raise ValueError("logits_processor made logits NaN")

    return process
