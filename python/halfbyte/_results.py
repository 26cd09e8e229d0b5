"""What a generation gives: texts that know their tokens, and numbers that know their origin."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import NamedTuple, Optional

#: (text, token, logprob, [(token, logprob), ...]), as the native half writes a piece.
NativePiece = tuple[str, int, Optional[float], list[tuple[int, float]]]

#: (text, why it ended, stop text, tokens, seconds, seed), as the native half reports.
NativeReport = tuple[
    str, Optional[str], Optional[str], tuple[int, int, int], tuple[float, float], int
]


class Usage(NamedTuple):
    """Tokens of a generation."""

    #: Tokens of the prompt.
    prompt_tokens: int
    #: Tokens of the prompt whose keys and values the session still had.
    reused_tokens: int
    #: New tokens, the end token included.
    new_tokens: int


class Timings(NamedTuple):
    """Seconds that a generation took."""

    #: Until the first token was drawn.
    prompt: float
    #: All later tokens.
    decode: float


class TokenLogprob(NamedTuple):
    """A token and its natural-log probability under the model itself."""

    token: int
    logprob: float
    #: The most probable tokens at that place, best first, as many as ``logprobs`` asked for.
    top: list[tuple[int, float]]


class Piece(str):
    """One new token, as the text that it made certain.

    Empty while a character or a possible stop string is incomplete.
    """

    token: int
    logprob: Optional[float]
    top: list[tuple[int, float]]

    def __new__(
        cls,
        text: str = "",
        token: int = -1,
        logprob: Optional[float] = None,
        top: Optional[list[tuple[int, float]]] = None,
    ) -> Piece:
        piece = super().__new__(cls, text)
        piece.token = token
        piece.logprob = logprob
        piece.top = [] if top is None else top
        return piece


class Completion(str):
    """A finished text: a ``str`` that also knows its tokens and how it came about.

    >>> import halfbyte
    >>> done = halfbyte.Model().generate("Once upon a time", max_new_tokens=4, seed=1)
    >>> done.startswith(","), len(done.tokens), done.finish_reason, done.seed
    (True, 4, 'length', 1)
    """

    #: The new tokens, the end token included.
    tokens: list[int]
    #: ``"stop"`` (end token or stop text), ``"length"`` or ``"cancelled"``.
    finish_reason: str
    #: The stop text that ended it, if one did.
    stop: Optional[str]
    #: One entry for each token if ``logprobs`` was given, else ``None``.
    logprobs: Optional[list[TokenLogprob]]
    usage: Usage
    timings: Timings
    #: The seed that gives this text again.
    seed: int

    def __new__(
        cls,
        text: str = "",
        pieces: Optional[list[NativePiece]] = None,
        report: NativeReport = ("", None, None, (0, 0, 0), (0.0, 0.0), 0),
    ) -> Completion:
        done = super().__new__(cls, text)
        pieces = [] if pieces is None else pieces
        _, reason, done.stop, usage, timings, done.seed = report
        done.tokens = [token for _, token, _, _ in pieces]
        scored = [TokenLogprob(t, p, top) for _, t, p, top in pieces if p is not None]
        done.logprobs = scored if len(scored) == len(pieces) and scored else None
        done.finish_reason = "cancelled" if reason is None else reason
        done.usage, done.timings = Usage(*usage), Timings(*timings)
        return done

    @property
    def text(self) -> str:
        """The text as a plain ``str``."""
        return str.__str__(self)

    @property
    def tokens_per_second(self) -> float:
        """Speed of decoding, the first token aside; 0 if there was only one."""
        later = self.usage.new_tokens - 1
        return later / self.timings.decode if self.timings.decode > 0 and later > 0 else 0.0

    def _summary(self) -> str:
        stop = f" {self.stop!r}" if self.stop is not None else ""
        return (
            f"finish_reason={self.finish_reason!r}{stop}, {self.usage.prompt_tokens} + "
            f"{self.usage.new_tokens} tokens, {self.tokens_per_second:.1f} tokens/s, "
            f"seed={self.seed}"
        )

    def __repr__(self) -> str:
        return f"Completion({str.__repr__(self)}, {self._summary()})"

    def _repr_html_(self) -> str:
        text = html.escape(self)
        style = "white-space: pre-wrap"
        return f'<div style="{style}">{text}</div><small>{html.escape(self._summary())}</small>'


class LogLikelihood(float):
    """The sum of the natural-log probabilities of a continuation's tokens."""

    #: Whether each of its tokens was the most probable one.
    is_greedy: bool
    n_tokens: int

    def __new__(cls, value: float, is_greedy: bool = False, n_tokens: int = 0) -> LogLikelihood:
        score = super().__new__(cls, value)
        score.is_greedy = is_greedy
        score.n_tokens = n_tokens
        return score

    def __repr__(self) -> str:
        value = float.__repr__(self)
        return f"LogLikelihood({value}, is_greedy={self.is_greedy}, n_tokens={self.n_tokens})"


class LogLikelihoods(list[LogLikelihood]):
    """Likelihoods in the order of their pairs."""

    #: Tokens that the model read for them; neighbours with equal contexts read them once.
    tokens_read: int

    def __init__(
        self, scores: Iterable[tuple[float, bool, int]] = (), tokens_read: int = 0
    ) -> None:
        super().__init__(LogLikelihood(*score) for score in scores)
        self.tokens_read = tokens_read


class Perplexity(float):
    """exp of the mean negative log-probability per scored token."""

    #: Mean negative natural-log probability of a scored token.
    mean_nll: float
    #: Standard error of ``mean_nll``.
    std_error: float
    #: Tokens that were scored.
    n_scored: int

    def __new__(
        cls, value: float, mean_nll: float = 0.0, std_error: float = 0.0, n_scored: int = 0
    ) -> Perplexity:
        found = super().__new__(cls, value)
        found.mean_nll = mean_nll
        found.std_error = std_error
        found.n_scored = n_scored
        return found

    def __repr__(self) -> str:
        spread = float(self) * self.std_error
        return f"Perplexity({float.__repr__(self)} ± {spread:.4f}, n_scored={self.n_scored})"


def piece(native: NativePiece) -> Piece:
    """The piece that the native half wrote."""
    return Piece(*native)
