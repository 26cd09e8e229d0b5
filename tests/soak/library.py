"""The Python package under load: four threads on shared models, at rest between rounds.

Started by `soak.py`, which writes `go`, `stop` and `end` to its standard input and gets a line of
JSON for each `stop`, once nothing runs any more.
"""

from __future__ import annotations

import asyncio
import ctypes
import faulthandler
import functools
import gc
import json
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import halfbyte
from crew import Answers, Crew, Job

N_THREADS = 4
#: Threads that compute for an event loop.
N_LOOP = 2
#: As many as ever are there at a time, and some.
N_CROWD = N_THREADS + 2 * N_LOOP
PROMPTS = [
    "Once upon a time",
    "The dog and the cat went to the river to swim. " * 6 + "Then",
    "### Instruction:\nWrite a story about a bird.\n\n### Response:\n",
]
SEEDS = range(4)
#: Ids that every vocabulary has.
IDS = [5, 6, 7, 8, 9, 10, 11]
HALF_A_TEMPLATE = "{% for message in messages %}"


class Library:
    """The jobs, and what they share."""

    def __init__(self, model: str | None, data: Path, folder: Path) -> None:
        self.data = data
        self.folder = folder
        self.model = halfbyte.Model(model)
        self.llama = halfbyte.Model(data / "llama-1k.q4_0.gguf", cache_type="q8")
        self.t5 = halfbyte.Model(data / "t5-micro" / "q8_0.gguf")
        self.text = (data / "heldout.txt").read_text(encoding="utf-8")
        whole = (data / "llama-1k.q4_0.gguf").read_bytes()
        self.alone = threading.Lock()
        self.crowd()
        self.broken = folder / "broken.gguf"
        self.broken.write_bytes(whole[: len(whole) // 2])

    def jobs(self) -> dict[str, Job]:
        """The table."""
        jobs: dict[str, Job] = {}
        for i, prompt in enumerate(PROMPTS):
            for seed in SEEDS:
                for work in (self.whole, self.stream, self.abandon, self.cancel, self.in_session):
                    jobs[f"{work.__name__} {i}.{seed}"] = functools.partial(work, i, prompt, seed)
        texts = [self.stop_text, self.batch, self.forks, self.chat, self.callbacks, self.event_loop]
        for once in [*texts, self.embed, self.tokens, self.scores, self.others, self.files]:
            jobs[once.__name__] = once
        jobs.update((f"refused {what}", functools.partial(self.refused, what)) for what in REFUSED)
        models = [*self.data.glob("*.gguf"), *(self.data / "packed").glob("*/")]
        for path in sorted(models):
            jobs[f"open {path.name}"] = functools.partial(self.opened, path)
        return jobs

    def crowd(self) -> None:
        """Lets as many threads as there ever are at a time use each model at once.

        What a model keeps for each of them, such as the buffers of the largest pass, is there
        afterwards: else it would come when the threads happen to meet, perhaps after an hour.
        """
        together = threading.Barrier(N_CROWD)

        def use() -> None:
            for model in (self.model, self.llama, self.t5):
                ids = model.tokenize(self.text)[: model.context_length - 24]
                together.wait()
                model.generate(ids, max_new_tokens=24, logprobs=2)
                together.wait()
                if model is not self.t5:
                    model.logits(ids)

        with ThreadPoolExecutor(N_CROWD) as pool:
            for done in [pool.submit(use) for _ in range(N_CROWD)]:
                done.result()

        async def loop() -> None:
            ids = self.model.tokenize(self.text)[: self.model.context_length - 24]
            texts = (self.model.agenerate(ids, max_new_tokens=24) for _ in range(N_CROWD))
            await asyncio.gather(*texts)

        # The threads of event loops stay, too.
        asyncio.run(loop())

    # The same text in five ways; they share their answers' names.

    def whole(self, i: int, prompt: str, seed: int) -> Answers:
        done = self.model.generate(prompt, max_new_tokens=24, seed=seed, logprobs=2)
        yield f"text {i}.{seed}", (done.text, done.tokens, done.finish_reason)
        yield f"logprobs {i}.{seed}", done.logprobs

    def stream(self, i: int, prompt: str, seed: int) -> Answers:
        stream = self.model.generate(prompt, max_new_tokens=24, seed=seed, stream=True)
        text = "".join(stream)
        yield f"text {i}.{seed}", (text, stream.tokens, stream.finish_reason)

    def abandon(self, i: int, prompt: str, seed: int) -> Answers:
        stream = self.model.generate(prompt, max_new_tokens=400, seed=seed, stream=True)
        for _ in range(3 + seed):
            next(stream)
        yield f"first {i}.{seed}", (stream.text, stream.tokens)
        if seed % 2:
            stream.close()

    def cancel(self, i: int, prompt: str, seed: int) -> Answers:
        session = self.model.session()
        stream = session.generate(
            prompt, max_new_tokens=10**6, ignore_eos=True, context_policy="shift", stream=True
        )
        timer = threading.Timer(0.02 * (1 + seed), stream.cancel)
        timer.start()
        assert stream.result().finish_reason == "cancelled"
        timer.join()
        # What comes next is as if nothing had been.
        done = session.generate(prompt, max_new_tokens=24, seed=seed)
        yield f"text {i}.{seed}", (done.text, done.tokens, done.finish_reason)

    def in_session(self, i: int, prompt: str, seed: int) -> Answers:
        ids = self.model.tokenize(prompt)
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            file = Path(folder) / "session"
            with self.model.session() as session:
                session.append(ids[: len(ids) // 2])
                session.save(file)
            with self.model.session() as session:
                session.load(file)
                done = session.generate(ids, max_new_tokens=24, seed=seed)
        yield f"text {i}.{seed}", (done.text, done.tokens, done.finish_reason)

    # One each.

    def stop_text(self) -> Answers:
        for model in (self.model, self.llama):
            done = model.generate(PROMPTS[0], seed=1, stop=[".", " and", "zzz"], max_new_tokens=60)
            yield f"stop {model.architecture}", (done.text, done.stop, done.tokens)

    def batch(self) -> Answers:
        done = self.model.generate_batch(PROMPTS, max_new_tokens=24, seed=2)
        for i, one in enumerate(done):
            yield f"text {i}.2", (one.text, one.tokens, one.finish_reason)

    def embed(self) -> Answers:
        for model in (self.model, self.llama):
            yield f"embed {model.architecture}", model.embed(PROMPTS).tobytes()

    def tokens(self) -> Answers:
        for start in range(0, len(self.text), 500):
            part = self.text[start : start + 500]
            for model in (self.model, self.llama):
                ids = model.tokenize(part)
                yield f"ids {start} {model.architecture}", (ids, model.detokenize(ids))

    def scores(self) -> Answers:
        part = self.text[:600]
        yield "perplexity", float(self.model.perplexity(part, window=64))
        yield "logits", self.model.logits(IDS * 5).tobytes()
        pairs = [(part[:n], part[n : n + 20]) for n in (0, 90, 200)]
        yield "likelihoods", [float(x) for x in self.model.log_likelihood_batch(pairs)]

    def forks(self) -> Answers:
        with self.model.session() as session:
            session.append(PROMPTS[1])
            branches = [session.fork() for _ in range(3)]
            yield "forks", [b.generate(max_new_tokens=8, seed=1).text for b in branches]
            session.truncate(5)
            yield "truncated", session.generate(max_new_tokens=8, seed=1).text

    def chat(self) -> Answers:
        with self.model.chat(system="Be kind.", max_new_tokens=16, seed=1) as chat:
            yield "chat", [chat.say(what).text for what in ("Hello.", "Tell me a story.")]

    def callbacks(self) -> Answers:
        def forbid(tokens: list[int], logits: Any) -> None:
            logits[: len(logits) // 2] = float("-inf")

        done = self.model.generate(PROMPTS[0], max_new_tokens=8, seed=1, logits_processor=forbid)
        yield "processor", done.tokens
        try:
            self.model.generate(PROMPTS[0], seed=1, callback=lambda piece: bool(1 // 0))
        except ZeroDivisionError as error:
            yield "callback", str(error)

    def event_loop(self) -> Answers:
        async def main() -> list[str]:
            seeds = range(N_LOOP)
            answers = (self.model.agenerate(PROMPTS[0], max_new_tokens=8, seed=s) for s in seeds)
            return [done.text for done in await asyncio.gather(*answers)]

        # One at a time, or its threads would be as many as ever met.
        with self.alone:
            yield "asyncio", asyncio.run(main())

    def others(self) -> Answers:
        done = self.t5.generate("translate English to German: a house", max_new_tokens=8, seed=1)
        yield "t5", (done.text, done.tokens)
        # Past the end of the context, where the oldest half is dropped.
        many = IDS * 12
        done = self.llama.generate(
            many, max_new_tokens=80, seed=1, context_policy="shift", ignore_eos=True
        )
        yield "shift", done.tokens

    def files(self) -> Answers:
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            file = Path(folder) / "other.gguf"
            halfbyte.quantize(self.data / "llama-1k.q4_0.gguf", file, "q8_0")
            yield "inspect", len(halfbyte.inspect(file)["tensors"])
            with halfbyte.Model(file) as model:
                yield "quantized", model.generate(IDS, max_new_tokens=4, seed=1).tokens

    def opened(self, path: Path) -> Answers:
        with halfbyte.Model(path, threads=2) as model:
            yield f"opened {path.name}", model.generate(IDS, max_new_tokens=4, seed=1).tokens

    def refused(self, what: str) -> Answers:
        kind, call = REFUSED[what]
        try:
            call(self)
        except kind as error:
            yield f"refused {what}", str(error)
        else:
            raise AssertionError(f"{what} was taken")


#: What must be refused, and how.
REFUSED: dict[str, tuple[type[Exception], Callable[[Library], object]]] = {
    "temperature": (halfbyte.ConfigError, lambda s: s.model.generate("A", temperature=-1)),
    "top_p": (halfbyte.ConfigError, lambda s: s.model.generate("A", top_p=7)),
    "bias": (halfbyte.Error, lambda s: s.model.generate("A", logit_bias={10**8: 1.0})),
    "long prompt": (halfbyte.ContextFullError, lambda s: s.llama.generate("word " * 30_000)),
    "ids": (halfbyte.Error, lambda s: s.model.generate([10**8])),
    "no file": (halfbyte.FileMissingError, lambda s: halfbyte.Model(s.folder / "no.gguf")),
    "no model": (halfbyte.Error, lambda s: halfbyte.Model(s.data / "README.md")),
    "half a model": (halfbyte.FormatError, lambda s: halfbyte.Model(s.broken)),
    "no session": (halfbyte.Error, lambda s: s.model.session().load(s.data / "README.md")),
    "template": (
        halfbyte.TemplateError,
        lambda s: s.model.apply_chat_template([{"role": "user", "content": "A"}],
                                              template=HALF_A_TEMPLATE),
    ),
    "closed": (halfbyte.ClosedError, lambda s: _closed(s.model.session())),
}  # fmt: skip


class Heap:
    """glibc's heap, where there is one."""

    class Counts(ctypes.Structure):
        """`struct mallinfo2`."""

        names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
        _fields_ = [(name, ctypes.c_size_t) for name in names.split()]

    def __init__(self) -> None:
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        self._counts = getattr(ctypes.CDLL(None), "mallinfo2", None)
        if self._counts is not None:
            self._counts.restype = self.Counts

    def in_use(self) -> int:
        """Gives back to the system what is free, and says how many bytes are not."""
        gc.collect()
        if self._trim is None or self._counts is None:
            return 0
        self._trim(0)
        counts = self._counts()
        return int(counts.uordblks + counts.hblkhd)


def _closed(session: halfbyte.Session) -> object:
    session.close()
    return session.generate("A", max_new_tokens=1)


def main() -> None:
    # `soak.py` asks where it hangs, if it does.
    faulthandler.register(signal.SIGUSR1)
    heap = Heap()
    data, model = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None
    with tempfile.TemporaryDirectory() as folder:
        crew = Crew(Library(model, data, Path(folder)).jobs(), N_THREADS)
        crew.wait()
        for line in sys.stdin:
            if line == "go\n":
                crew.go()
            elif line == "stop\n":
                crew.stop()
                crew.wait()
                print(json.dumps({**crew.report(), "in_use": heap.in_use()}), flush=True)
            else:
                break


main()
