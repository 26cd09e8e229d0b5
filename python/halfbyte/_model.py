"""The model: what most programs need, and nothing that they must clean up."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Optional, Union, cast, overload

from halfbyte import _native
from halfbyte import _options as options_of
from halfbyte._adapter import Lora, natives, paths
from halfbyte._chat import Chat, Message, pairs
from halfbyte._closing import Closing
from halfbyte._facts import Facts
from halfbyte._files import Path
from halfbyte._options import Options, Prompt, Tokens
from halfbyte._progress import Progress, reporter
from halfbyte._results import Completion, LogLikelihood, LogLikelihoods, Perplexity
from halfbyte._session import Session
from halfbyte._stream import AsyncStream, Callback, Stream

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from typing_extensions import Unpack

logger = logging.getLogger("halfbyte")


class Model(Facts, Closing):
    """A loaded model: immutable, shared by threads and sessions.

    >>> import halfbyte
    >>> model = halfbyte.Model()                     # the small model inside the package
    >>> text = model.generate("Once upon a time", max_new_tokens=20, seed=1)
    >>> text == model.generate("Once upon a time", max_new_tokens=20, seed=1)
    True

    ``path`` is a GGUF file, a ggml file of 2023 or a Hugging Face folder; without it, the small
    story-writing model that the package carries is opened. ``threads`` defaults to the physical
    cores that this process may use, ``context_length`` to the model's own; ``cache_type`` is how
    sessions keep keys and values (``"f16"``, ``"f32"`` or ``"q8"``); ``progress`` is ``True`` for a
    bar, or a function that hears (done, total) in bytes. ``rms_eps``, ``n_gqa`` and ``rope_base``
    replace what a file says, or what is assumed where files of 2023 are silent: the epsilon of RMS
    norms, query heads for each key/value head, the base of the rotary frequencies. ``lora`` is as
    for :meth:`with_lora`.

    A model pickles by its path: a worker process maps the file itself. It does not survive a fork.
    """

    def __init__(
        self,
        path: Optional[Path] = None,
        *,
        threads: Optional[int] = None,
        context_length: Optional[int] = None,
        cache_type: str = "f16",
        progress: Progress = None,
        rms_eps: Optional[float] = None,
        n_gqa: Optional[int] = None,
        rope_base: Optional[float] = None,
        lora: Lora = None,
    ) -> None:
        given_path = None if path is None else os.fsdecode(path)
        # Whoever unpickles it may work in another folder.
        self._path = None if given_path is None else os.path.abspath(given_path)
        given = {
            "threads": threads,
            "context_length": context_length,
            "cache_type": cache_type,
            "rms_eps": rms_eps,
            "n_gqa": n_gqa,
            "rope_base": rope_base,
        }
        self._options = {name: value for name, value in given.items() if value is not None}
        heard = reporter(progress, "loading", "B")
        extra: dict[str, Any] = {} if heard is None else {"progress": heard}
        start = time.perf_counter()
        self._native = _native.Model(given_path, {**self._options, **extra})
        self._facts = self._native.facts()
        if lora is not None:
            self._adapt(lora)
        logger.info(
            "loaded %s in %.2f s: %s, %.1f MB packed, %d threads, %s",
            self.path, time.perf_counter() - start, self.architecture, self.packed_bytes / 1e6,
            self.threads, self.isa,
        )  # fmt: skip

    # Text.

    @overload
    def generate(
        self,
        prompt: Prompt,
        *,
        stream: Literal[False] = False,
        callback: Optional[Callback] = None,
        lora: Lora = None,
        **options: Unpack[Options],
    ) -> Completion: ...

    @overload
    def generate(
        self,
        prompt: Prompt,
        *,
        stream: Literal[True],
        callback: Optional[Callback] = None,
        lora: Lora = None,
        **options: Unpack[Options],
    ) -> Stream: ...

    @overload
    def generate(
        self,
        prompt: Prompt,
        *,
        stream: bool,
        callback: Optional[Callback] = None,
        lora: Lora = None,
        **options: Unpack[Options],
    ) -> Union[Completion, Stream]: ...

    def generate(
        self,
        prompt: Prompt,
        *,
        max_new_tokens: Optional[int] = 256,
        temperature: Optional[float] = 0.7,
        top_k: Optional[int] = 40,
        top_p: Optional[float] = 0.95,
        min_p: Optional[float] = 0.0,
        typical_p: Optional[float] = 1.0,
        repetition_penalty: Optional[float] = 1.1,
        repeat_last_n: Optional[int] = 64,
        presence_penalty: Optional[float] = 0.0,
        frequency_penalty: Optional[float] = 0.0,
        logit_bias: Optional[Mapping[int, float]] = None,
        seed: Optional[int] = None,
        stop: Union[str, Sequence[str], None] = None,
        stream: bool = False,
        logprobs: Optional[int] = None,
        ignore_eos: Optional[bool] = False,
        context_policy: Optional[str] = None,
        logits_processor: Optional[options_of.LogitsProcessor] = None,
        callback: Optional[Callback] = None,
        lora: Lora = None,
    ) -> Union[Completion, Stream]:
        """Goes on from ``prompt``, a text or token ids; returns the new text only.

        The result is a ``str`` with ``tokens``, ``finish_reason``, ``logprobs``, ``usage``,
        ``timings`` and ``seed``; with ``stream=True`` it is an iterator over pieces of text.

        ``temperature`` 0 takes the most probable token every time. ``top_k`` (0: all), ``top_p``,
        ``min_p`` and ``typical_p`` say which tokens are drawn from. The penalties look at the last
        ``repeat_last_n`` tokens, but not at a prompt that an encoder reads. ``logit_bias`` is added
        to the logits of tokens; ``-inf`` forbids one. The same ``seed`` gives the same text;
        without one a fresh one is drawn and reported. ``stop`` is a text, or several, that end the
        generation and are left out. ``logprobs=n`` reports each token's log-probability under the
        model itself, and the ``n`` best ones'. ``context_policy`` is ``"error"`` or ``"shift"``,
        which drops the oldest half when full.

        ``logits_processor(tokens, logits)`` changes the float32 ``logits`` before a token is drawn,
        in place or by returning others. ``callback(piece)`` hears each piece; ``False`` from it
        ends the generation, and an exception ends it and comes through. ``lora`` is as for
        :meth:`with_lora`, for this one text.

        >>> import halfbyte
        >>> model = halfbyte.Model()
        >>> for piece in model.generate("The cat", max_new_tokens=3, temperature=0, stream=True):
        ...     _ = print(piece, end="|")
         was| very| happy|
        """
        # Every option is a parameter here, so that editors and `help` show its default.
        given = {
            name: value for name, value in locals().items() if name in Options.__optional_keys__
        }
        model = self if lora is None else self.with_lora(lora)
        running = model._start(prompt, callback, given)
        return running if stream else running.result()

    def agenerate(
        self,
        prompt: Prompt,
        *,
        callback: Optional[Callback] = None,
        **options: Unpack[Options],
    ) -> AsyncStream:
        """As :meth:`generate`, for asyncio: ``await`` it, or ``async for`` its pieces.

        The event loop keeps turning. The callback is called in another thread.
        """
        return AsyncStream(lambda: self._start(prompt, callback, options))

    def generate_batch(
        self, prompts: Iterable[Prompt], *, progress: Progress = None, **options: Unpack[Options]
    ) -> list[Completion]:
        """Completions of many texts or lists of token ids: together, several times faster.

        Each is the same as alone. With a given ``seed`` every prompt uses that seed. ``progress``
        counts finished prompts.
        """
        if isinstance(prompts, str):
            raise TypeError("prompts must be several texts, not one: use generate")
        given, processor = options_of.native(options)
        texts = [options_of.prompt(prompt) for prompt in prompts]
        heard = reporter(progress, "generating", "prompts")
        done = self._native.generate_batch(texts, given, processor, heard)
        return [Completion(report[0], pieces, report) for pieces, report in done]

    def _start(
        self, prompt: Prompt, callback: Optional[Callback], options: Mapping[str, Any]
    ) -> Stream:
        given, processor = options_of.native(options)
        options_of.function("callback", callback)
        return Stream(self._native.generate(options_of.prompt(prompt), given, processor), callback)

    # LoRA adapters.

    def with_lora(self, lora: Lora) -> Model:
        """A model over the same weights that reads all with LoRA adapters; ``None``: without.

        ``lora`` is a path or an open :class:`Adapter`, one with a scale, ``("poet/", 0.8)``, or
        several, which work together. The weights are shared, so that this takes no memory to
        speak of, and with open adapters microseconds; either model may be closed first.
        """
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._adapt(lora)
        return other

    def _adapt(self, lora: Lora) -> None:
        self._native = self._native.with_adapters(natives(self._native, lora))
        # Whoever unpickles it may work in another folder.
        places = [(os.path.abspath(path), scale) for path, scale in paths(lora)]
        self._options = {**self._options, "lora": places}

    @property
    def lora(self) -> list[tuple[str, float]]:
        """The paths of the LoRA adapters, and what each is multiplied by."""
        return list(self._options.get("lora", []))

    # Conversations and sessions.

    def chat(
        self,
        *,
        system: Optional[str] = None,
        template: Optional[str] = None,
        messages: Optional[Iterable[Message]] = None,
        **options: Unpack[Options],
    ) -> Chat:
        """A conversation; see :class:`Chat`."""
        return Chat(self, system=system, template=template, messages=messages, **options)

    def session(self, *, lora: Lora = None) -> Session:
        """One text in the making, kept between calls; see :class:`Session`.

        ``lora`` is as for :meth:`with_lora`; without it the session has the model's adapters.
        """
        return Session(self, lora=lora)

    def apply_chat_template(
        self,
        messages: Iterable[Message],
        *,
        template: Optional[str] = None,
        add_generation_prompt: bool = True,
    ) -> str:
        """The prompt text of ``messages``, dictionaries with ``role`` and ``content``.

        ``template`` is a built-in one's name or a Jinja source; the model's own by default. The
        text spells special tokens: ``tokenize(text, special=True)`` reads them.

        >>> import halfbyte
        >>> halfbyte.Model().apply_chat_template([{"role": "user", "content": "Hi"}])
        '### Instruction:\\nHi\\n\\n### Response:\\n'
        """
        return self._native.apply_chat_template(pairs(messages), template, add_generation_prompt)

    # Tokens.

    def tokenize(self, text: str, *, add_bos: bool = True, special: bool = False) -> list[int]:
        """The token ids of ``text``, as a prompt is read.

        With ``add_bos`` the start token comes in front if the model's file asks for it; with
        ``special`` text that spells a special token becomes that token.
        """
        return self._native.tokenize(options_of.text("the text", text), add_bos, special)

    def detokenize(self, tokens: Tokens) -> str:
        """The text of token ids; special tokens are left out, broken UTF-8 becomes U+FFFD.

        >>> import halfbyte
        >>> model = halfbyte.Model()
        >>> model.detokenize(model.tokenize("Once upon a time"))
        'Once upon a time'
        """
        return self._native.detokenize(options_of.tokens(tokens))

    def token_bytes(self, token: int) -> bytes:
        """The bytes that a token stands for; none for special tokens."""
        return self._native.token_bytes(token)

    # Scores.

    def logits(self, tokens: Tokens) -> npt.NDArray[np.float32]:
        """The logits after each token, (T, V), in one fresh pass."""
        import numpy as np

        rows = self._native.logits(options_of.tokens(tokens))
        return np.frombuffer(rows, dtype=np.float32).reshape(-1, self.vocab_size)

    def log_likelihood(self, context: Prompt, continuation: Prompt) -> LogLikelihood:
        """How probable ``continuation`` is after ``context``: texts, or token ids both.

        The two texts are tokenized together, spaces at the end of the context counting as the
        beginning of the continuation. An empty context is the start token.

        >>> import halfbyte
        >>> model = halfbyte.Model()
        >>> time, cow = (model.log_likelihood("Once upon a", word) for word in (" time", " cow"))
        >>> time > cow
        True
        """
        return self.log_likelihood_batch([(context, continuation)])[0]

    def log_likelihood_batch(
        self, pairs: Iterable[tuple[Prompt, Prompt]], *, progress: Progress = None
    ) -> LogLikelihoods:
        """As :meth:`log_likelihood` for many (context, continuation), computed together.

        Neighbours with equal contexts read them once: keep the answers to one question together.
        The list knows as ``tokens_read`` how many tokens that took.
        """
        heard = reporter(progress, "scoring", "pairs")
        encoded = [self.encode_pair(context, continuation) for context, continuation in pairs]
        return LogLikelihoods(*self._native.log_likelihood(encoded, heard))

    def encode_pair(self, context: Prompt, continuation: Prompt) -> tuple[list[int], list[int]]:
        """The token ids of a context and of what follows it, cut as :meth:`log_likelihood` does."""
        if isinstance(context, str) and isinstance(continuation, str):
            return self._native.encode_pair(str.__str__(context), str.__str__(continuation))
        if isinstance(context, str) or isinstance(continuation, str):
            raise TypeError("context and continuation must be texts both, or token ids both")
        return options_of.tokens(context), options_of.tokens(continuation)

    def perplexity(
        self,
        text: Prompt,
        *,
        window: Optional[int] = None,
        stride: Optional[int] = None,
        progress: Progress = None,
    ) -> Perplexity:
        """The perplexity of a text or of token ids.

        Read in windows of ``window`` tokens (default: the context) that move by ``stride``
        (default: half a window); each token is scored once, after what stands before it in its
        window.
        """
        given = options_of.prompt(text)
        ids = self.tokenize(given) if isinstance(given, str) else given
        window = self.context_length if window is None else options_of.whole("window", window)
        stride = max(window // 2, 1) if stride is None else options_of.whole("stride", stride)
        heard = reporter(progress, "scoring", "tokens")
        return Perplexity(*self._native.perplexity(ids, window, stride, heard))

    def embed(
        self, text: Union[Prompt, Iterable[Prompt]], *, progress: Progress = None
    ) -> npt.NDArray[np.float32]:
        """The mean of the last hidden states of a text or token ids, (E,); of several, (n, E)."""
        import numpy as np

        if not isinstance(text, Iterable) or isinstance(text, bytes):
            kind = type(text).__name__
            raise TypeError(f"embed takes a text, token ids, or several of them, not {kind}")
        several = self.tokenize(text) if isinstance(text, str) else list(text)
        if isinstance(text, str) or (several and hasattr(several[0], "__index__")):
            return np.frombuffer(self._native.embed(several), dtype=np.float32)
        heard = reporter(progress, "embedding", "texts")
        rows = np.empty((len(several), self.hidden_size), dtype=np.float32)
        for i, one in enumerate(several):
            rows[i] = self.embed(options_of.prompt(cast("Prompt", one)))
            if heard is not None:
                heard(i + 1, len(several))
        return rows

    # Life.

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self._native.closed

    def close(self) -> None:
        """Lets go of the weights, as soon as sessions and running calls have ended."""
        self._native.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (type(self), self._path, self._options)

    def __repr__(self) -> str:
        if self.closed:
            return f"<halfbyte.Model {self.path!r}, closed>"
        return f"<halfbyte.Model {', '.join([repr(self.path), *self._summary().values()])}>"


def _reopened(kind: type[Model], path: Optional[str], options: dict[str, Any]) -> Model:
    """What unpickling a model does."""
    return kind(path, **options)
