"""Threads, asyncio and Ctrl-C."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable

import pytest

import halfbyte
from conftest import DATA, PROMPT
from halfbyte import _executor


def test_two_threads_on_one_model_both_progress(model: halfbyte.Model) -> None:
    times: dict[int, list[float]] = {0: [], 1: []}
    start = threading.Barrier(2)

    def write(which: int) -> None:
        start.wait()
        for _ in model.generate(PROMPT, max_new_tokens=150, ignore_eos=True, stream=True):
            times[which].append(time.perf_counter())

    threads = [threading.Thread(target=write, args=(which,)) for which in times]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(seen) for seen in times.values()] == [150, 150]
    first_end = min(seen[-1] for seen in times.values())
    for seen in times.values():
        assert sum(at < first_end for at in seen) > 30, "one waited for the other"


def test_many_threads_get_the_texts_of_one(model: halfbyte.Model) -> None:
    expected = [model.generate(PROMPT, max_new_tokens=20, seed=seed) for seed in range(4)]

    def write(seed: int) -> str:
        return model.generate(PROMPT, max_new_tokens=20, seed=seed)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(write, list(range(4)) * 8)) == expected * 8


def test_one_stream_is_not_for_two_threads(model: halfbyte.Model) -> None:
    computes, go_on = threading.Event(), threading.Event()

    def wait(tokens: list[int], logits: Any) -> None:
        computes.set()
        assert go_on.wait(10)

    stream = model.generate(
        PROMPT, max_new_tokens=20, ignore_eos=True, stream=True, logits_processor=wait
    )
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(list, stream)
        try:
            assert computes.wait(10)
            for use in (stream.__next__, stream.result):
                with pytest.raises(halfbyte.BusyError):
                    use()
        finally:
            go_on.set()
        # Whoever came while another computed was refused; nothing is lost, doubled or stuck.
        pieces = reading.result()
    assert len(pieces) == 20 and stream.tokens == [piece.token for piece in pieces]


def test_another_thread_may_cancel(model: halfbyte.Model) -> None:
    stream = model.generate(PROMPT, max_new_tokens=10_000, ignore_eos=True, stream=True,
                            context_policy="shift")  # fmt: skip
    threading.Timer(0.2, stream.cancel).start()
    start = time.perf_counter()
    done = stream.result()
    assert done.finish_reason == "cancelled" and len(done.tokens) > 0
    assert time.perf_counter() - start < 5


def test_another_thread_may_close_and_ask(model: halfbyte.Model) -> None:
    session = model.session()
    options: dict[str, Any] = dict(max_new_tokens=10**6, ignore_eos=True, context_policy="shift")
    stream = session.generate(PROMPT, stream=True, **options)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(stream.result)
        time.sleep(0.1)
        assert stream.usage.prompt_tokens > 0 and stream.seed >= 0, "asking never waits"
        with pytest.raises(halfbyte.BusyError):
            next(stream)
        stream.close()
        assert running.result(timeout=5).finish_reason == "cancelled"
    assert len(session) > 0


def test_the_event_loop_keeps_turning(model: halfbyte.Model) -> None:
    gaps: list[float] = []

    async def tick() -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0.01)
            now = time.perf_counter()
            gaps.append(now - last)
            last = now

    async def main() -> halfbyte.Completion:
        ticking = asyncio.create_task(tick())
        await asyncio.sleep(0)
        done = await model.agenerate(
            PROMPT, max_new_tokens=1500, ignore_eos=True, context_policy="shift", seed=1
        )
        ticking.cancel()
        return done

    done = asyncio.run(main())
    assert len(done.tokens) == 1500 and len(gaps) > 20
    assert statistics.median(gaps) < 0.02 and max(gaps) < 0.2, (statistics.median(gaps), max(gaps))


def test_asyncio_streams_and_gathers(model: halfbyte.Model) -> None:
    expected = [model.generate(PROMPT, max_new_tokens=12, seed=seed) for seed in range(3)]

    async def streamed(seed: int) -> str:
        pieces = []
        async for piece in model.agenerate(PROMPT, max_new_tokens=12, seed=seed):
            pieces.append(piece)
        return "".join(pieces)

    async def main() -> None:
        assert await asyncio.gather(*map(streamed, range(3))) == expected
        with pytest.raises(ValueError, match="temperature"):
            await model.agenerate(PROMPT, temperature=-1)
        async with model.agenerate(PROMPT) as stream:
            await stream.__anext__()
        assert stream.stream is not None and stream.stream.finish_reason == "cancelled"
        chat = model.chat(max_new_tokens=5, seed=1)
        answer = await chat.asay("Write a story.")
        assert chat.messages[-1]["content"] == answer

    asyncio.run(main())


def test_a_cancelled_task_stops_the_computation(model: halfbyte.Model) -> None:
    async def main() -> None:
        stream = model.agenerate(
            PROMPT, max_new_tokens=10**6, ignore_eos=True, context_policy="shift"
        )
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(stream, 0.2)
        assert stream.stream is not None
        n_tokens = stream.stream.usage.new_tokens
        await asyncio.sleep(0.1)
        assert stream.stream.usage.new_tokens == n_tokens

    asyncio.run(main())


def test_a_task_that_waits_for_a_thread_can_be_cancelled(
    model: halfbyte.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_executor, "MAX_WORKERS", 1)
    monkeypatch.setattr(_executor, "_executor", None)

    async def main() -> None:
        long = asyncio.create_task(
            model.agenerate(PROMPT, max_new_tokens=10**7, ignore_eos=True, context_policy="shift")
        )
        await asyncio.sleep(0.1)
        start = time.perf_counter()
        waiting = model.agenerate(PROMPT, max_new_tokens=2)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(waiting, 0.1)
        assert time.perf_counter() - start < 2 and not long.done()
        assert waiting.stream is None
        long.cancel()
        with pytest.raises(asyncio.CancelledError):
            await long
        assert (await waiting).finish_reason == "length", "it can still be started"

    asyncio.run(asyncio.wait_for(main(), 20))


def test_an_error_of_a_cancelled_task_is_not_printed(
    model: halfbyte.Model, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        task = asyncio.ensure_future(model.agenerate("word " * 20_000))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        del task
        gc.collect()

    asyncio.run(main())
    gc.collect()
    assert "never retrieved" not in caplog.text


def test_asyncio_takes_a_generation_for_a_coroutine(model: halfbyte.Model) -> None:
    expected = model.generate(PROMPT, max_new_tokens=4, seed=1)

    async def main() -> None:
        stream = model.agenerate(PROMPT, max_new_tokens=4, seed=1)
        assert "not started" in repr(stream)
        task = asyncio.create_task(stream)
        assert await task == expected and await stream == expected
        assert "length, 4 tokens" in repr(stream)
        refused = asyncio.create_task(model.agenerate(PROMPT, temperature=-1))
        with pytest.raises(ValueError, match="temperature"):
            await refused
        long = model.agenerate(
            PROMPT, max_new_tokens=10**7, ignore_eos=True, context_policy="shift"
        )
        task = asyncio.create_task(long)
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert long.stream is not None and long.stream.finish_reason == "cancelled"

    asyncio.run(asyncio.wait_for(main(), 20))


def interrupted(call: Callable[[], object]) -> float:
    """Seconds between a Ctrl-C in the middle of ``call`` and its ``KeyboardInterrupt``."""
    sent: list[float] = []

    def send() -> None:
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(0.3, send)
    # A shell that runs the tests in the background has them ignore SIGINT.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            call()
        return time.perf_counter() - sent[0]
    finally:
        timer.cancel()
        signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
def test_ctrl_c_ends_every_long_call_within_50_ms(model: halfbyte.Model, tmp_path: Path) -> None:
    def repeat(call: Callable[[], object]) -> None:
        while True:
            call()

    session = model.session()
    text = "Once upon a time there was a dog. " * 3000
    calls: dict[str, Callable[[], object]] = {
        "generate": lambda: model.generate(
            PROMPT, max_new_tokens=10**6, ignore_eos=True, context_policy="shift"
        ),
        "stream": lambda: list(
            model.generate(
                PROMPT, max_new_tokens=10**6, ignore_eos=True, context_policy="shift", stream=True
            )
        ),
        "session": lambda: session.generate(
            PROMPT, max_new_tokens=10**6, ignore_eos=True, context_policy="shift"
        ),
        "batch": lambda: model.generate_batch([PROMPT] * 500, max_new_tokens=250, ignore_eos=True),
        "perplexity": lambda: model.perplexity(text, stride=1),
        "likelihood": lambda: model.log_likelihood_batch([(text[:900], " dog")] * 5 + [
            (text[i : i + 900], " dog") for i in range(2000)
        ]),
        "embed": lambda: model.embed([text[:1500]] * 10_000),
        # None of these takes long here; a long text becomes tokens in one go.
        "tokenize": lambda: repeat(lambda: model.tokenize(text[:3000])),
        "load": lambda: repeat(halfbyte.Model),
        "quantize": lambda: repeat(
            lambda: halfbyte.quantize(DATA / "llama-1k.q4_0.gguf", tmp_path / "a.gguf", "q8_0")
        ),
    }  # fmt: skip
    expected = model.generate(PROMPT, max_new_tokens=5, seed=1)
    for name, call in calls.items():
        # A machine that others use may be late once; halfbyte itself is not.
        latency = statistics.median(interrupted(call) for _ in range(3))
        assert latency < 0.05, f"{name}: {latency:.3f} s"
        assert model.generate(PROMPT, max_new_tokens=5, seed=1) == expected
    assert session.generate(PROMPT, max_new_tokens=5, seed=1) == expected


def test_a_stream_that_was_interrupted_is_at_its_end(model: halfbyte.Model) -> None:
    chat = model.chat(max_new_tokens=10**6, ignore_eos=True, context_policy="shift")
    interrupted(lambda: chat.say("Write a story."))
    assert len(chat.messages) == 2 and chat.messages[1]["content"]
    assert chat.say("Go on.", max_new_tokens=3).finish_reason == "length"


def test_other_threads_run_while_one_computes(model: halfbyte.Model) -> None:
    counted = 0
    stop = threading.Event()

    def count() -> None:
        nonlocal counted
        while not stop.wait(0.001):
            counted += 1

    thread = threading.Thread(target=count)
    thread.start()
    text: Any = "Once upon a time there was a dog. " * 60
    start = time.perf_counter()
    model.perplexity(text, stride=8)
    spent = time.perf_counter() - start
    stop.set()
    thread.join()
    assert counted > spent * 100, f"{counted} turns in {spent:.2f} s"
