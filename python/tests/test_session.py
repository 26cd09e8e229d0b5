"""Sessions and conversations."""

from __future__ import annotations

import contextlib
import gc
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import pytest

import halfbyte
from conftest import DATA, PROMPT

QUESTION = "Write a story about a dog named Max."


def test_a_session_goes_on_and_reuses_what_is_common(model: halfbyte.Model) -> None:
    session = model.session()
    text = session.generate(PROMPT, max_new_tokens=10, seed=1)
    assert text == model.generate(PROMPT, max_new_tokens=10, seed=1)
    assert session.tokens == model.tokenize(PROMPT) + text.tokens
    assert session.text == PROMPT + text and len(session) == len(session.tokens)
    whole = model.generate(session.tokens, max_new_tokens=10, seed=2)
    branch = session.fork()
    assert session.generate(max_new_tokens=10, seed=2) == whole
    again = branch.generate(PROMPT + text, max_new_tokens=10, seed=2)
    assert again == whole and again.usage.reused_tokens > 5
    session.truncate(3)
    assert session.tokens == model.tokenize(PROMPT)[:3] and session.cache_bytes > 0
    session.reset()
    session.append(PROMPT)
    session.append(text.tokens)
    assert session.text == PROMPT + text and "14 of" in repr(session)
    for wrong in ("more " * 10_000, [5] * 10_000):
        with pytest.raises(halfbyte.ContextFullError):
            session.append(wrong)
    with pytest.raises(ValueError, match="n_tokens"):
        session.truncate(-1)


def test_a_session_survives_on_disk(model: halfbyte.Model, tmp_path: Path) -> None:
    session = model.session()
    session.append(PROMPT)
    session.save(tmp_path / "session")
    expected = session.generate(max_new_tokens=8, seed=3)
    loaded = model.session()
    loaded.load(tmp_path / "session")
    done = loaded.generate(max_new_tokens=8, seed=3)
    assert done == expected and done.usage.reused_tokens == done.usage.prompt_tokens - 1
    other = halfbyte.Model(DATA / "llama-1k.q4_0.gguf").session()
    with pytest.raises(halfbyte.ConfigError, match="another model"):
        other.load(tmp_path / "session")
    with pytest.raises(FileNotFoundError):
        session.load(tmp_path / "nothing")
    with pytest.raises(halfbyte.FileAccessError):
        session.save(tmp_path)
    (tmp_path / "damaged").write_bytes((tmp_path / "session").read_bytes()[:-40])
    with pytest.raises(halfbyte.FormatError):
        session.load(tmp_path / "damaged")
    assert session.text == PROMPT + expected, "a failed load leaves the session as it was"


def test_one_stream_at_a_time(model: halfbyte.Model) -> None:
    session = model.session()
    assert session and len(session) == 0
    stream = session.generate(PROMPT, seed=1, stream=True)
    next(stream)
    assert "busy" in repr(session)
    uses: list[Any] = [
        lambda: session.generate(PROMPT),
        lambda: session.append("more"),
        lambda: session.tokens,
        lambda: session.fork(),
    ]
    for use in uses:
        with pytest.raises(halfbyte.BusyError, match="close the stream"):
            use()
    del stream
    assert len(session) == len(model.tokenize(PROMPT)) + 1, "a dropped stream gives it back"
    with pytest.raises(ValueError, match="temperature"):
        session.generate(PROMPT, temperature=-1)
    with session:
        assert session.generate(max_new_tokens=3)
    for use in uses:
        with pytest.raises(halfbyte.ClosedError):
            use()


def test_a_session_lets_go_of_a_processor(model: halfbyte.Model) -> None:
    class Processor:
        def __call__(self, tokens: list[int], logits: Any) -> None:
            logits[0] = 0

    session, processor = model.session(), Processor()
    session.generate(PROMPT, max_new_tokens=2, logits_processor=processor)
    heard = weakref.ref(processor)
    del processor
    gc.collect()
    assert heard() is None and len(session) > 0


def test_a_refused_answer_lets_go_of_its_processor(model: halfbyte.Model) -> None:
    class Processor:
        def __call__(self, tokens: list[int], logits: Any) -> None:
            pass

    chat, processor = model.chat(), Processor()
    with pytest.raises(halfbyte.ContextFullError):
        chat.say("word " * 3000, logits_processor=processor)
    heard = weakref.ref(processor)
    del processor
    gc.collect()
    assert heard() is None


def test_a_failing_processor_draws_no_token(model: halfbyte.Model) -> None:
    calls = []

    def fail(tokens: list[int], logits: Any) -> None:
        calls.append(tokens)
        if len(calls) > 2:
            raise KeyError("mine")

    session = model.session()
    with pytest.raises(KeyError, match="mine"):
        session.generate(PROMPT, logits_processor=fail)
    assert session.tokens == calls[-1] and len(session) == len(model.tokenize(PROMPT)) + 2
    calls.clear()
    chat = model.chat()
    stream = chat.say(QUESTION, stream=True, logits_processor=fail)
    with pytest.raises(KeyError, match="mine"):
        list(stream)
    assert len(stream.tokens) == stream.usage.new_tokens == 2
    assert chat.messages[-1]["content"] == stream.text


def test_a_chat_checks_its_options_when_it_is_made(model: halfbyte.Model) -> None:
    with pytest.raises(TypeError, match="there is no option foo"):
        model.chat(foo=3)  # type: ignore[call-arg]
    for options in ({"temperature": -1}, {"stop": [""]}, {"context_policy": "forget"}):
        with pytest.raises(halfbyte.ConfigError, match=next(iter(options))):
            model.chat(**options)


def test_a_session_outlives_its_model() -> None:
    with halfbyte.Model() as model:
        session = model.session()
        text = session.generate(PROMPT, max_new_tokens=3, seed=1)
    assert session.text == PROMPT + text and "of 512 tokens" in repr(session)


def test_a_closed_stream_gives_its_session_back_at_once(model: halfbyte.Model) -> None:
    for i in range(200):
        session = model.session()
        stream = session.generate("a", stream=True, ignore_eos=True)
        reading = threading.Thread(target=_read, args=(stream,))
        reading.start()
        time.sleep(0.0005 * (i % 5))
        stream.close()
        reading.join()
        assert len(session) > 0


def _read(stream: halfbyte.Stream) -> None:
    with contextlib.suppress(halfbyte.BusyError):
        for _ in stream:
            pass


def test_a_chat_remembers(model: halfbyte.Model) -> None:
    with model.chat(max_new_tokens=25, seed=1) as chat:
        first = chat.say(QUESTION)
        pieces = chat.say("And then?", stream=True)
        seen = []
        for piece in pieces:
            seen.append(piece)
            assert chat.messages[-1]["content"] == "".join(seen)
        roles = [message["role"] for message in chat.messages]
        assert roles == ["user", "assistant", "user", "assistant"]
        assert chat.messages[1]["content"] == first and pieces.usage.reused_tokens > 20
        assert "4 messages" in repr(chat)
        messages = chat.messages
    with pytest.raises(halfbyte.ClosedError):
        chat.say("Hello?")
    assert chat.messages == messages, "a refused message is taken back"

    again = model.chat(messages=messages[:2], max_new_tokens=25, seed=1)
    assert again.say("And then?") == "".join(seen)
    again.messages[2]["content"] = "What did he eat?"
    del again.messages[3:]
    last = again.messages.pop()
    assert again.say(last["content"]) != "".join(seen)
    again.clear()
    assert again.messages == [] and again.say(QUESTION) == first


def test_a_chat_has_a_system_message_and_a_template(llama: halfbyte.Model) -> None:
    chat = llama.chat(system="Be terse.", template="alpaca", max_new_tokens=4)
    chat.say("Hi", temperature=0)
    assert chat.messages[0] == {"role": "system", "content": "Be terse."}
    chat.clear()
    assert [message["role"] for message in chat.messages] == ["system"]
    messages: list[halfbyte.Message] = [{"role": "user", "content": "Hi"}]
    jinja = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    assert llama.apply_chat_template(messages, template=jinja) == "<user>Hi"
    assert "### Instruction:\nHi" in llama.apply_chat_template(messages, template="alpaca")
    cases: list[tuple[Any, Any, type[Exception], str]] = [
        (messages, "nothing", halfbyte.TemplateError, "alpaca"),
        (messages, "{{ raise_exception('no') }}", halfbyte.TemplateError, "no"),
        (messages, "{% for", ValueError, "template"),
        ([{"role": "cat", "content": ""}], "alpaca", ValueError, "system, user, assistant"),
        ([{"role": "user"}], "alpaca", TypeError, "content"),
        (["Hi"], "alpaca", TypeError, "dictionary"),
        ([{"role": "user", "content": 3}], "alpaca", TypeError, "texts"),
    ]
    for wrong, template, kind, words in cases:
        with pytest.raises(kind, match=words):
            llama.apply_chat_template(wrong, template=template)
    with pytest.raises(TypeError, match="wrong"):
        llama.chat(template="alpaca", wrong=1)  # type: ignore[call-arg]


def test_answers_in_the_making_keep_others_out(model: halfbyte.Model) -> None:
    chat = model.chat(seed=1)
    stream = chat.say(QUESTION, stream=True)
    first = next(stream)
    with pytest.raises(halfbyte.BusyError):
        chat.say("Never mind")
    assert len(chat.messages) == 2
    stream.close()
    assert chat.messages[1]["content"] == first, "a closed stream leaves what was said"
    assert chat.say("Go on", max_new_tokens=4).finish_reason == "length"

    def fail(piece: str) -> None:
        raise KeyError(piece)

    with pytest.raises(KeyError):
        chat.say("And on", callback=fail)
    assert chat.messages[-1]["role"] == "assistant" and chat.messages[-1]["content"]


def test_a_long_chat_leaves_out_its_oldest_turns() -> None:
    model = halfbyte.Model(context_length=120)
    chat = model.chat(max_new_tokens=20, seed=1, ignore_eos=True)
    for turn in range(6):
        chat.say(f"Write a story about animal number {turn}.")
    assert len(chat.messages) == 12 and chat.n_dropped > 0
    refused = model.chat(max_new_tokens=20, context_policy="error")
    with pytest.raises(halfbyte.ContextFullError):
        refused.say("word " * 200)
    assert refused.messages == []
