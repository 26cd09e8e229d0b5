"""`halfbyte.gpt4all`: the signatures and the documented behaviour of the package gpt4all 2.8.2."""

from __future__ import annotations

import doctest
import inspect
import logging
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import halfbyte
import halfbyte.gpt4all
from conftest import DATA, PROMPT
from halfbyte import _gpt4all_embed, _gpt4all_files
from halfbyte.gpt4all import DEFAULT_PROMPT_TEMPLATE, CancellationError, Embed4All, GPT4All

#: Names and defaults of gpt4all 2.8.2, as `inspect.signature` shows them. REQUIRED has no default,
#: VARIABLE is `**kwargs`, and everything after a star is keyword-only.
REQUIRED, VARIABLE, STAR = "(required)", "(variable)", "*"
SIGNATURES: dict[str, dict[str, Any]] = {
    "GPT4All.__init__": {
        "self": REQUIRED, "model_name": REQUIRED, STAR: None, "model_path": None,
        "model_type": None, "allow_download": True, "n_threads": None, "device": None,
        "n_ctx": 2048, "ngl": 100, "verbose": False,
    },
    "GPT4All.retrieve_model": {
        "model_name": REQUIRED, "model_path": None, "allow_download": True, "verbose": False,
    },
    "GPT4All.download_model": {
        "model_filename": REQUIRED, "model_path": REQUIRED, "verbose": True, "url": None,
        "expected_size": None, "expected_md5": None,
    },
    "GPT4All.list_models": {},
    "GPT4All.list_gpus": {},
    "GPT4All.close": {"self": REQUIRED},
    "GPT4All.generate": {
        "self": REQUIRED, "prompt": REQUIRED, STAR: None, "max_tokens": 200, "temp": 0.7,
        "top_k": 40, "top_p": 0.4, "min_p": 0.0, "repeat_penalty": 1.18, "repeat_last_n": 64,
        "n_batch": 8, "n_predict": None, "streaming": False, "callback": "empty_response_callback",
    },
    "GPT4All.chat_session": {"self": REQUIRED, "system_prompt": None, "prompt_template": None},
    "Embed4All.__init__": {
        "self": REQUIRED, "model_name": None, STAR: None, "n_threads": None, "device": None,
        "kwargs": VARIABLE,
    },
    "Embed4All.embed": {
        "self": REQUIRED, "text": REQUIRED, STAR: None, "prefix": None, "dimensionality": None,
        "long_text_mode": "mean", "return_dict": False, "atlas": False, "cancel_cb": None,
    },
    "Embed4All.close": {"self": REQUIRED},
    "empty_response_callback": {"token_id": REQUIRED, "response": REQUIRED},
}  # fmt: skip
#: Names of the package's third version, which are taken besides.
NEWER = {"GPT4All.chat_session": ["system_message", "chat_template"]}


def described(parameters: list[inspect.Parameter]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY:
            found.setdefault(STAR, None)
        default = parameter.default
        if parameter.kind is parameter.VAR_KEYWORD:
            default = VARIABLE
        elif default is parameter.empty:
            default = REQUIRED
        found[parameter.name] = default.__name__ if callable(default) else default
    return found


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures_are_those_of_the_package(name: str) -> None:
    thing: Any = halfbyte.gpt4all
    for part in name.split("."):
        thing = getattr(thing, part)
    parameters = list(inspect.signature(thing).parameters.values())
    newer = NEWER.get(name, [])
    assert [p.name for p in parameters if p.name in newer] == newer
    found = described([p for p in parameters if p.name not in newer])
    assert list(found.items()) == list(SIGNATURES[name].items())


@pytest.fixture
def model() -> Iterator[GPT4All]:
    with GPT4All("stories-q4_0") as model:
        yield model


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A default directory of its own, with one model."""
    monkeypatch.setattr(_gpt4all_files, "DEFAULT_MODEL_DIRECTORY", tmp_path)
    shutil.copy(DATA / "llama-1k.q4_0.gguf", tmp_path / "small.gguf")
    return tmp_path


def test_names_are_files_of_a_directory(folder: Path) -> None:
    for name, path in (("small", None), ("small.gguf", None), ("small", folder)):
        with GPT4All(name, model_path=path, model_type="llama", allow_download=False) as model:
            assert model.config == {"filename": "small.gguf", "path": str(folder / "small.gguf")}
            assert model.model.architecture == "llama" and model.model_type == "llama"
            assert (model.backend, model.device, model.list_gpus()) == ("cpu", None, [])
    names = [known["filename"] for known in GPT4All.list_models()]
    assert names == ["small.gguf", "stories-q4_0.gguf"]
    # Files of 2023 had another extension.
    (folder / "groovy.bin").write_bytes((folder / "small.gguf").read_bytes())
    assert GPT4All.retrieve_model("groovy")["path"] == str(folder / "groovy.bin")
    assert GPT4All.retrieve_model("small")["path"] == str(folder / "small.gguf")


def test_a_file_wins_over_the_model_inside(folder: Path) -> None:
    assert GPT4All("stories-q4_0").model.architecture == "gptj"
    (folder / "small.gguf").rename(folder / "stories-q4_0.gguf")
    assert GPT4All("stories-q4_0").model.architecture == "llama"


@pytest.mark.parametrize("allow_download", [True, False])
def test_a_missing_file_is_named_and_never_fetched(folder: Path, allow_download: bool) -> None:
    with pytest.raises(FileNotFoundError) as raised:
        GPT4All("ggml-gpt4all-j-v1.3-groovy.bin", allow_download=allow_download)
    message = str(raised.value)
    assert "ggml-gpt4all-j-v1.3-groovy.bin" in message and str(folder) in message
    assert ("never downloads" in message) == allow_download
    assert isinstance(raised.value, halfbyte.Error)
    with pytest.raises(FileNotFoundError, match="mistral.gguf"):
        GPT4All("mistral", allow_download=allow_download)
    with pytest.raises(FileNotFoundError, match="directory .*nowhere"):
        GPT4All("small", model_path=folder / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"never downloads.*x\.gguf"):
        GPT4All.download_model("x.gguf", folder)
    with pytest.raises(FileNotFoundError, match="MiniLM.*name a model"):
        Embed4All()


def test_devices_and_contexts_are_checked(caplog: pytest.LogCaptureFixture) -> None:
    for device in ("gpu", "cuda:0", "amd"):
        with pytest.raises(ValueError, match=f"CPU.*{device}"):
            GPT4All("stories-q4_0", device=device)
    assert GPT4All("stories-q4_0", device="cpu", n_ctx=64).model.context_length == 64
    assert GPT4All("stories-q4_0", n_threads=1).model.threads == 1
    with caplog.at_level(logging.INFO, logger="halfbyte"):
        assert GPT4All("stories-q4_0", verbose=True).model.context_length == 512
    heard = " ".join(record.getMessage() for record in caplog.records)
    assert "found stories-q4_0.gguf" in heard and "trained for 512 tokens, not 2048" in heard
    with pytest.raises(ValueError, match="context_length"):
        GPT4All("stories-q4_0", n_ctx=0)


def test_generating_without_a_session_goes_on_from_the_prompt(model: GPT4All) -> None:
    greedy = model.model.generate(PROMPT, max_new_tokens=12, temperature=0, repetition_penalty=1.18)
    assert model.generate(PROMPT, max_tokens=12, temp=0) == greedy
    assert model.generate(PROMPT, max_tokens=99, n_predict=12, temp=0) == greedy
    assert "".join(model.generate(PROMPT, max_tokens=12, temp=0, streaming=True)) == greedy
    assert model.current_chat_session is None
    assert model.generate(PROMPT, max_tokens=0) == ""
    with pytest.raises(ValueError, match="max_new_tokens"):
        model.generate(PROMPT, max_tokens=-2)
    with pytest.raises(ValueError, match="top_p"):
        model.generate(PROMPT, top_p=7)
    longer = model.generate(PROMPT, max_tokens=600, temp=0.9, top_p=1.0)
    assert isinstance(longer, str) and longer


def test_callbacks_hear_tokens_and_end_the_generation(model: GPT4All) -> None:
    heard: list[tuple[int, str]] = []

    def three(token_id: int, text: str) -> bool:
        heard.append((token_id, text))
        return len(heard) < 3

    text = model.generate(PROMPT, temp=0, callback=three)
    assert len(heard) == 3 and text == "".join(text for _, text in heard)
    assert [token for token, _ in heard] == model.model.tokenize(PROMPT + text)[-3:]
    heard.clear()
    pieces = list(model.generate(PROMPT, temp=0, streaming=True, callback=three))
    assert pieces == [text for _, text in heard[:2]]

    def broken(token_id: int, text: str) -> bool:
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        model.generate(PROMPT, callback=broken)
    assert model.generate(PROMPT, max_tokens=3)


def test_a_session_remembers(model: GPT4All) -> None:
    template = "USER: {0}\nBOT: {1}\n"
    with model.chat_session("Be kind.", template) as same:
        assert same is model
        assert model.current_chat_session == [{"role": "system", "content": "Be kind."}]
        first = model.generate("Hello", max_tokens=8, temp=0)
        second = model.generate("And then?", max_tokens=8, temp=0)
        assert [(m["role"], m["content"]) for m in model.current_chat_session or []] == [
            ("system", "Be kind."),
            ("user", "Hello"),
            ("assistant", first),
            ("user", "And then?"),
            ("assistant", second),
        ]
    assert model.current_chat_session is None
    history = f"Be kind.USER: Hello\nBOT: {first}\nUSER: And then?\nBOT: "
    assert model.generate(history, max_tokens=8, temp=0) == second
    with model.chat_session():
        assert model.current_chat_session == [{"role": "system", "content": ""}]


def test_a_stream_in_a_session_grows_its_message(model: GPT4All) -> None:
    # After a comma the model goes on; after the end of a line it may end at once.
    with model.chat_session(prompt_template="{0},"):
        stream = iter(model.generate(PROMPT, max_tokens=10, temp=0, streaming=True))
        session = model.current_chat_session
        assert session is not None and session[-1] == {"role": "assistant", "content": ""}
        text = next(stream) + next(stream)
        assert session[-1]["content"] == text
        # An answer that nobody reads to its end does not stand in the way of the next one.
        model.generate("Next", max_tokens=4)
        assert list(stream) == [] and len(model.current_chat_session or []) == 5


def test_threads_do_not_cut_each_other_off(model: GPT4All) -> None:
    alone = model.generate(PROMPT, max_tokens=150, temp=0)
    with ThreadPoolExecutor(4) as pool:
        tasks = [pool.submit(model.generate, PROMPT, max_tokens=150, temp=0) for _ in range(8)]
        assert [task.result() for task in tasks] == [alone] * 8
    message: halfbyte.Message = {"role": "user", "content": "Hi"}
    with model.chat_session(), ThreadPoolExecutor(1) as pool:
        stream = iter(model.generate("Hello", streaming=True))
        next(stream)
        with pytest.raises(halfbyte.BusyError, match="another thread"):
            pool.submit(model.generate, "Hello").result()
        pool.submit(model.chat_completion, [message], verbose=False, streaming=False).result()
        assert list(stream) and len(model.current_chat_session or []) == 3
        assert pool.submit(model.generate, "And then?", max_tokens=3).result()


def test_a_file_is_opened_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []
    native = halfbyte._native.Model

    def count(path: Any, options: Any) -> Any:
        opened.append(path)
        return native(path, options)

    monkeypatch.setattr(halfbyte._native, "Model", count)
    monkeypatch.setattr(halfbyte._native, "inspect", lambda path: opened.append(path))
    with GPT4All("small", n_ctx=32) as small:
        assert small.model.context_length == 32
    assert opened == [str(folder / "small.gguf")]


def test_templates(model: GPT4All, caplog: pytest.LogCaptureFixture) -> None:
    def asked(**template: Any) -> int:
        with model.chat_session(**template):
            model.generate("Hi", max_tokens=1)
            assert model._asked is not None
            return model._asked.stream.usage.prompt_tokens

    def n_tokens(text: str) -> int:
        return len(model.model.tokenize(text))

    assert asked() == n_tokens(model.model.apply_chat_template([{"role": "user", "content": "Hi"}]))
    assert asked(prompt_template="a {{b}} {0} c") == n_tokens("a {b} Hi c")
    named = asked(system_message="Be kind.", chat_template="gpt4all-2023-06")
    assert named == n_tokens("Be kind.\n### Human:\nHi\n### Assistant:\n")
    for wrong in ("%1", "no placeholder", "{0} {0}", "{1} {0}", "{2}", "{name}", "{"):
        with pytest.raises(ValueError, match="template"), model.chat_session("", wrong):
            pass
    with pytest.raises(TypeError, match="not both"):
        asked(prompt_template="{0}", chat_template="alpaca")
    with caplog.at_level(logging.WARNING, logger="halfbyte"):
        bare = GPT4All("llama-1k.q4_0", model_path=DATA)
        with bare.chat_session("S"):
            bare.generate("Hi", max_tokens=1)
        assert bare._asked is None and "no chat template" in caplog.text
        ids = bare.model.tokenize("S" + DEFAULT_PROMPT_TEMPLATE.format("Hi"))
        with bare.chat_session("S"):
            bare.generate("Hi", max_tokens=1)
            assert bare._asked is not None
            assert bare._asked.stream.usage.prompt_tokens == len(ids)


def test_an_answer_ends_where_the_user_would_speak(model: GPT4All) -> None:
    target = model.model.tokenize("Yes.\n### Human: me")
    place = iter(range(len(target)))

    class Scripted(halfbyte.Model):
        def generate(self, prompt: Any, **options: Any) -> Any:
            def follow(tokens: list[int], logits: Any) -> None:
                logits[target[next(place)]] = 1e4

            return super().generate(prompt, logits_processor=follow, **options)

    model.model = Scripted()
    assert model.generate(PROMPT) == "Yes.\n"


def test_version_0_2_completes_chats(model: GPT4All, capsys: pytest.CaptureFixture[str]) -> None:
    messages: list[halfbyte.Message] = [
        {"role": "user", "content": "Hi"},
        {"role": "system", "content": "Be kind."},
    ]
    done = model.chat_completion(messages, n_predict=5, temp=0, n_ctx=512)
    printed = capsys.readouterr()
    content = done["choices"][0]["message"]["content"]
    assert done["model"] == "stories-q4_0.gguf" and content
    assert done["choices"][0]["message"]["role"] == "assistant"
    assert printed.err == "" and printed.out.endswith(f"\n### Response:\n{content}")
    assert printed.out.startswith("Be kind.\n### Instruction:")
    prompt = printed.out[: -len(content) - 1]
    usage = done["usage"]
    assert usage["prompt_tokens"] == len(model.model.tokenize(prompt))
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    model.chat_completion(messages, False, False, streaming=False, n_predict=2, temp=0)
    bare = capsys.readouterr().out
    assert bare.startswith("Be kind.\n") and "Instruction" not in bare and "Response" not in bare
    model.chat_completion(messages, verbose=False, streaming=False, n_predict=2)
    assert capsys.readouterr() == ("", "")
    with pytest.raises(TypeError, match="nonsense"):
        model.chat_completion(messages, nonsense=1)
    capsys.readouterr()
    with pytest.raises(ValueError, match="user"):
        model.chat_completion([])


def test_a_closed_model_says_so() -> None:
    model = GPT4All("stories-q4_0")
    model.close()
    model.close()
    with pytest.raises(ValueError, match="closed"):
        model.generate(PROMPT)


def test_embeddings_are_means_of_length_one() -> None:
    with Embed4All("stories-q4_0", n_threads=1) as embedder:
        model = embedder.gpt4all.model
        assert model.threads == 1 and embedder.MIN_DIMENSIONALITY == 64
        one = embedder.embed("a cat")
        expected = model.embed("a cat")
        assert np.allclose(one, expected / np.linalg.norm(expected), atol=1e-6)
        assert isinstance(one, list) and isinstance(one[0], float)
        rows = embedder.embed(["a cat", "a dog"])
        assert rows[0] == one and rows[1] != one
        assert embedder.embed("a cat", prefix="note") == embedder.embed("note: a cat")
        short = embedder.embed("a cat", dimensionality=100)
        assert len(short) == 100 and abs(np.linalg.norm(short) - 1) < 1e-6
        counted = embedder.embed(["a cat", "a dog"], return_dict=True)
        assert counted["embeddings"] == rows
        assert counted["n_prompt_tokens"] == 2 * len(model.tokenize("a cat"))


def test_long_texts_are_read_in_parts_or_cut() -> None:
    with Embed4All("stories-q4_0", n_ctx=32) as embedder:
        model = embedder.gpt4all.model
        text = "The little dog went to the park and played with a red ball. " * 5
        ids = model.tokenize(text)
        assert len(ids) > 64
        heard: list[tuple[list[int], str]] = []

        def hear(sizes: list[int], backend: str) -> bool:
            heard.append((sizes, backend))
            return False

        whole = embedder.embed(text, return_dict=True, cancel_cb=hear)
        assert whole["n_prompt_tokens"] == len(ids) == sum(heard[0][0])
        assert heard[0][1] == "cpu" and max(heard[0][0]) == 32
        cut = embedder.embed(text, long_text_mode="truncate", return_dict=True)
        assert cut["n_prompt_tokens"] == 32 and cut["embeddings"] != whole["embeddings"]
        with pytest.raises(ValueError, match="8192"):
            embedder.embed("dog " * 9000, atlas=True)


def test_embedding_refuses_what_it_must(caplog: pytest.LogCaptureFixture) -> None:
    with Embed4All("stories-q4_0") as embedder:
        wrong: list[dict[str, Any]] = [
            {"text": ""}, {"text": []}, {"text": "a", "dimensionality": 0},
            {"text": "a", "dimensionality": 10**6}, {"text": "a", "long_text_mode": "half"},
        ]  # fmt: skip
        for arguments in wrong:
            with pytest.raises(ValueError, match="text|dimensionality|long_text_mode"):
                embedder.embed(**arguments)
        with pytest.raises(CancellationError):
            embedder.embed("a", cancel_cb=lambda sizes, backend: True)
        with caplog.at_level(logging.WARNING, logger="halfbyte"):
            assert len(embedder.embed("a", dimensionality=8)) == 8
        assert "below 64" in caplog.text


@pytest.mark.parametrize("module", [halfbyte.gpt4all, _gpt4all_embed])
def test_examples_run(module: Any) -> None:
    found = doctest.testmod(module)
    assert found.failed == 0 and found.attempted > 0
