"""A halfbyte model as lm-evaluation-harness wants one."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Optional

from halfbyte._chat import Message
from halfbyte._model import Model
from halfbyte._options import Options
from halfbyte._results import Completion
from halfbyte.errors import ConfigError, ContextFullError
from halfbyte.lm_eval._harness import (
    Bar,
    TemplateLM,
    get_rolling_token_windows,
    make_disjoint_window,
    register_model,
)

if TYPE_CHECKING:
    from halfbyte.lm_eval._harness import Instance

    #: The two texts (which only the cache wants), and the tokens of both.
    Request = tuple[Optional[tuple[str, str]], list[int], list[int]]

logger = logging.getLogger("halfbyte")

#: Requests that are computed in one call; between two, their answers go to the cache.
SLICE = 256

#: New tokens if a task does not say.
MAX_GEN_TOKS = 256

#: The names under which tasks say how many new tokens they want, the strongest first.
LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")

#: What tasks may say about sampling, and its value where they say nothing, as in transformers.
SAMPLING = {
    "temperature": 1.0,
    "top_k": 50,
    "top_p": 1.0,
    "min_p": 0.0,
    "typical_p": 1.0,
    "repetition_penalty": 1.0,
}


@register_model("halfbyte")
class HalfbyteLM(TemplateLM):
    """A model for lm-evaluation-harness, registered as ``halfbyte``.

    ``path``, ``threads``, ``context_length`` and ``cache_type`` are those of
    :class:`halfbyte.Model`; ``cache_type="f32"`` is the most exact. ``seed`` is for tasks that
    sample. ``chat_template`` names a template other than the model's own. Requests are computed
    many at a time anyway, so ``batch_size`` and ``max_batch_size`` change nothing, and neither does
    ``device``: it is the CPU.
    """

    def __init__(
        self,
        path: Optional[str] = None,
        *,
        threads: Optional[int] = None,
        context_length: Optional[int] = None,
        cache_type: str = "f16",
        seed: int = 1234,
        chat_template: Optional[str] = None,
        batch_size: object = None,
        max_batch_size: object = None,
        device: object = None,
    ) -> None:
        super().__init__()
        self.model = Model(
            path, threads=threads, context_length=context_length, cache_type=cache_type
        )
        self.seed = seed
        # The harness then cuts prompt and answer apart: T5's prompt ends with a token of its own.
        self.backend = "seq2seq" if self.model.architecture == "t5" else "causal"
        self.template = chat_template

    # Tokens.

    @property
    def eot_token_id(self) -> int:
        """The token that ends a text, or one that can stand for it."""
        token = self.model.bos if self.model.eos is None else self.model.eos
        if token is None:
            raise ConfigError("the model has neither a start nor an end token", "path")
        return token

    @property
    def prefix_token_id(self) -> int:
        """What stands in front of a text without a context."""
        return self.eot_token_id if self.model.bos is None else self.model.bos

    @property
    def max_length(self) -> int:
        """Tokens that the model reads at once."""
        return self.model.context_length

    @property
    def max_gen_toks(self) -> int:
        """New tokens if a task does not say."""
        return MAX_GEN_TOKS

    def tok_encode(
        self, string: str, add_special_tokens: Optional[bool] = None, **kwargs: Any
    ) -> list[int]:
        """The tokens of a text, special ones included; a text may spell its own start token."""
        ids = self.model.tokenize(string, add_bos=False, special=True)
        if add_special_tokens is False or ids[:1] == [self.model.bos]:
            return ids
        return self.model.tokenize(string, special=True)

    # Scores.

    def _loglikelihood_tokens(
        self, requests: list[Request], disable_tqdm: bool = False, **kwargs: Any
    ) -> list[tuple[float, bool]]:
        """The log-probability of each continuation, and whether greedy decoding would find it."""
        pairs = [self._fitted(context, continuation) for _, context, continuation in requests]
        answers: list[tuple[float, bool]] = []
        with _bar(len(pairs), "loglikelihood", disable_tqdm) as bar:
            for start in range(0, len(pairs), SLICE):

                def heard(done: int, total: int, start: int = start) -> None:
                    bar.update(start + done - bar.n)

                scores = self.model.log_likelihood_batch(
                    pairs[start : start + SLICE], progress=heard
                )
                for (texts, _, _), score in zip(requests[start:], scores):
                    answers.append((float(score), score.is_greedy))
                    if texts is not None:
                        self.cache_hook.add_partial("loglikelihood", texts, answers[-1])
        return answers

    def _fitted(self, context: list[int], continuation: list[int]) -> tuple[list[int], list[int]]:
        """The pair without the beginning of a context that is too long."""
        if len(continuation) > self.max_length:
            raise ContextFullError(
                f"a continuation of {len(continuation)} tokens cannot be scored in a context of "
                f"{self.max_length}",
                len(continuation),
                self.max_length,
            )
        # The last token is only predicted, never read.
        excess = len(context) + len(continuation) - 1 - self.max_length
        if excess > 0:
            logger.warning(
                "left out the first %d tokens of a request: %d fit", excess, self.max_length
            )
            context = context[excess:]
        return context, continuation

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """The log-probability of whole texts, in windows that overlap by one token."""
        windows: list[Request] = []
        lengths = []
        for request in requests:
            (text,) = request.args
            found = get_rolling_token_windows(
                token_list=self.tok_encode(text),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length,
                context_len=1,
            )
            before = len(windows)
            windows += [(None, *make_disjoint_window(window)) for window in found]
            lengths.append(len(windows) - before)
        scores = iter(self._loglikelihood_tokens(windows, disable_tqdm))
        sums = [sum(next(scores)[0] for _ in range(length)) for length in lengths]
        for request, total in zip(requests, sums):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return sums

    # Text.

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Continuations up to each task's stop texts: greedy ones unless it wants to sample."""
        groups: dict[str, list[int]] = {}
        for i, request in enumerate(requests):
            groups.setdefault(json.dumps(request.args[1], sort_keys=True), []).append(i)
        answers = [""] * len(requests)
        with _bar(len(requests), "generate_until", disable_tqdm) as bar:
            for members in groups.values():
                options = self._options(requests[members[0]].args[1])
                for start in range(0, len(members), SLICE):
                    part = members[start : start + SLICE]
                    found = self._generate([requests[i].args[0] for i in part], options, bar)
                    for i, text in zip(part, found):
                        answers[i] = str(text)
                        self.cache_hook.add_partial("generate_until", requests[i].args, str(text))
        return answers

    def _generate(self, contexts: list[str], options: Options, bar: Bar) -> list[Completion]:
        """Continuations of ``contexts``, from which beginnings that have no room are left out."""
        wanted = options["max_new_tokens"]
        room = self.max_length - (0 if wanted is None else wanted)
        if room <= 0:
            raise ConfigError(
                f"{wanted} new tokens leave no room for a prompt in a context of "
                f"{self.max_length}: ask for fewer",
                "max_gen_toks",
            )
        found: dict[int, Completion] = {}
        for i, context in enumerate(contexts):
            ids = self.tok_encode(context)
            # Batches take texts. What is cut or spells special tokens is read as tokens instead.
            if len(ids) > room or ids != self.model.tokenize(context):
                found[i] = self.model.generate(ids[-room:], **options)
                bar.update(1)
        rest = [i for i in range(len(contexts)) if i not in found]
        batch = [contexts[i] for i in rest]
        start = bar.n
        done = self.model.generate_batch(
            batch, progress=lambda done, _: bar.update(start + done - bar.n), **options
        )
        found.update(zip(rest, done))
        return [found[i] for i in range(len(contexts))]

    def _options(self, wanted: Mapping[str, Any]) -> Options:
        """What a task's keywords mean here."""
        left = dict(wanted)
        lengths = [left.pop(name) for name in LENGTHS if name in left]
        until = left.pop("until", None)
        stops = [until] if isinstance(until, str) else list(until or [])
        sample = bool(left.pop("do_sample", False))
        sampling = {name: left.pop(name, default) for name, default in SAMPLING.items()}
        if left:
            known = ", ".join(["until", "do_sample", *LENGTHS, *SAMPLING])
            raise ConfigError(f"unknown generation options {sorted(left)}: there are {known}")
        if not sample:
            sampling["temperature"] = 0.0
        return Options(
            max_new_tokens=int(lengths[0]) if lengths else MAX_GEN_TOKS,
            temperature=float(sampling["temperature"]),
            top_k=int(sampling["top_k"]),
            top_p=float(sampling["top_p"]),
            min_p=float(sampling["min_p"]),
            typical_p=float(sampling["typical_p"]),
            repetition_penalty=float(sampling["repetition_penalty"]),
            seed=self.seed,
            stop=[stop for stop in stops if stop],
        )

    # Chats.

    def apply_chat_template(
        self, chat_history: list[Message], add_generation_prompt: bool = True
    ) -> str:
        """The prompt of a conversation."""
        return self.model.apply_chat_template(
            chat_history, template=self.template, add_generation_prompt=add_generation_prompt
        )

    def chat_template(self, chat_template: object = False) -> str:
        """What names the template in lm-eval's records."""
        return (self.template or self.model.path) if chat_template else ""

    @property
    def tokenizer_name(self) -> str:
        """What tells caches of requests apart."""
        return self.model.path


def _bar(total: int, what: str, disable: bool) -> Bar:
    return Bar(total=total, desc=f"Running {what} requests", disable=disable)
