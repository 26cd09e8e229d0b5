"""Models: opening, describing, closing, pickling, forking."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import halfbyte
from conftest import DATA, PROMPT


def test_a_model_says_what_it_is(model: halfbyte.Model) -> None:
    assert (model.architecture, model.cache_type, model.closed) == ("gptj", "f16", False)
    for word in ("gptj", "threads", str(model.context_length), model.isa):
        assert word in repr(model) and word in model._repr_html_()
    path = DATA / "llama-1k.q4_0.gguf"
    for spelled in (path, str(path)):
        llama = halfbyte.Model(
            spelled, threads=1, context_length=100, cache_type="q8", progress=False
        )
        found = (llama.architecture, llama.threads, llama.context_length, llama.cache_type)
        assert found == ("llama", 1, 100, "q8")
        assert llama.path == str(path) and llama.vocab_size > 0 and llama.n_layers > 0
        assert (llama.bos, llama.eos) == (1, 2)


def test_wrong_arguments_say_what_would_be_right(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(50))
    text = tmp_path / "text.gguf"
    text.write_text("no model at all")
    whole = (DATA / "llama-1k.q4_0.gguf").read_bytes()
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(whole[: len(whole) // 2])
    cases: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"path": tmp_path / "missing.gguf"}, FileNotFoundError, "missing.gguf"),
        ({"path": broken}, ValueError, "broken.gguf"),
        ({"path": text}, halfbyte.UnsupportedError, "supported: "),
        ({"path": cut}, halfbyte.FormatError, "cut.gguf"),
        ({"path": tmp_path}, halfbyte.Error, str(tmp_path.name)),
        ({"path": 3}, TypeError, "PathLike"),
        ({"threads": 0}, ValueError, "threads"),
        ({"threads": -1}, ValueError, "threads.*-1"),
        ({"threads": "2"}, TypeError, "threads"),
        ({"context_length": 10**9}, ValueError, "context_length"),
        ({"rope_base": 0.0}, ValueError, "rope_base"),
        ({"n_gqa": 7}, ValueError, "n_gqa"),
        ({"cache_type": "q4"}, ValueError, "f16, f32, q8"),
        ({"progress": 3}, TypeError, "progress"),
    ]
    for arguments, kind, words in cases:
        with pytest.raises(kind, match=words) as caught:
            halfbyte.Model(**arguments)
        assert isinstance(caught.value, (halfbyte.Error, TypeError)), arguments
    with pytest.raises(ZeroDivisionError):
        halfbyte.Model(progress=lambda done, total: 1 // 0)
    with pytest.raises(halfbyte.FileMissingError) as missing:
        halfbyte.Model(tmp_path / "missing.gguf")
    assert missing.value.errno == 2 and str(missing.value.filename).endswith("missing.gguf")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
def test_errors_about_files_are_those_of_python(tmp_path: Path) -> None:
    with pytest.raises(halfbyte.FileMissingError) as missing:
        halfbyte.Model(tmp_path / "missing.gguf")
    assert missing.value.filename == str(tmp_path / "missing.gguf")
    with pytest.raises(halfbyte.FileAccessError) as strange:
        halfbyte.Model("/dev/null")
    words = str(strange.value)
    assert "/dev/null" in words and "Errno" not in words and "PosixPath" not in words
    for call in (halfbyte.Model, halfbyte.inspect):
        with pytest.raises(halfbyte.FileMissingError) as empty:
            call("")
        assert empty.value.filename == "", "not the folder that we are in"


def test_a_subinterpreter_is_refused() -> None:
    program = r"""
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
try:
    import halfbyte._native
except ImportError:
    raise SystemExit("the main interpreter is refused")
code = "try:\n    import halfbyte\nexcept ImportError:\n    print('refused')"
failed = interpreters.run_string(interpreters.create(), code)
assert failed is None, failed
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "refused\n"), done.stderr
    first = program.replace("import halfbyte._native", "pass")
    done = subprocess.run([sys.executable, "-c", first], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "refused\n"), done.stderr


def test_native_classes_say_where_they_are() -> None:
    for name in ("Chat", "Generation", "Model", "Session"):
        assert getattr(halfbyte._native, name).__module__ == "halfbyte._native"


def test_exceptions_of_one_family_pickle() -> None:
    for name in halfbyte.errors.__all__:
        kind = getattr(halfbyte.errors, name)
        assert issubclass(kind, halfbyte.Error)
        again = pickle.loads(pickle.dumps(kind("what")))
        assert type(again) is kind and again.args == ("what",)


def test_a_closed_model_refuses_and_running_work_ends_well() -> None:
    with halfbyte.Model() as model:
        stream = model.generate(PROMPT, max_new_tokens=5, seed=1, stream=True)
        expected = model.generate(PROMPT, max_new_tokens=5, seed=1)
        session = model.session()
    assert model.closed and "closed" in repr(model)
    model.close()
    assert stream.result() == expected, "what runs keeps what it needs"
    assert session.generate(PROMPT, max_new_tokens=5, seed=1) == expected
    calls: list[Any] = [
        lambda: model.generate(PROMPT),
        lambda: model.tokenize(PROMPT),
        lambda: model.logits([1]),
        lambda: model.session(),
        lambda: model.chat(),
    ]
    for call in calls:
        with pytest.raises(halfbyte.ClosedError, match="closed"):
            call()


def test_a_model_pickles_by_its_path(model: halfbyte.Model) -> None:
    for one in (model, halfbyte.Model(DATA / "gptj-1k.q4_0.gguf", context_length=90)):
        data = pickle.dumps(one)
        assert len(data) < 1000
        again = pickle.loads(data)
        assert (again.path, again.context_length) == (one.path, one.context_length)
        expected = one.generate(PROMPT, max_new_tokens=5, seed=1)
        assert again.generate(PROMPT, max_new_tokens=5, seed=1) == expected


def test_a_pickled_path_does_not_depend_on_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(DATA)
    data = pickle.dumps(halfbyte.Model("llama-1k.q4_0.gguf"))
    monkeypatch.chdir(tmp_path)
    assert pickle.loads(data).path == str(DATA / "llama-1k.q4_0.gguf")


def _write(model: halfbyte.Model) -> str:
    return model.generate(PROMPT, max_new_tokens=5, seed=1)


def test_spawned_workers_open_the_model_themselves(model: halfbyte.Model) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert set(pool.map(_write, [model] * 4)) == {_write(model)}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_is_told_and_can_open_its_own(model: halfbyte.Model, tmp_path: Path) -> None:
    session, stream = model.session(), model.generate(PROMPT, stream=True, seed=1)
    first = next(stream)
    halfbyte.quantize(DATA / "llama-1k.q4_0.gguf", tmp_path / "a.gguf")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            calls: list[Any] = [
                lambda: model.generate(PROMPT),
                lambda: model.session(),
                lambda: session.append("more"),
                lambda: session.generate(PROMPT),
                lambda: next(stream),
                lambda: halfbyte.quantize(DATA / "llama-1k.q4_0.gguf", tmp_path / "b.gguf"),
            ]
            for call in calls:
                with pytest.raises(halfbyte.ForkError, match="open the model in the child"):
                    call()
            assert str(halfbyte.Model().generate(PROMPT, max_new_tokens=1, seed=1)) == first
            status = 0
        except BaseException as error:
            print(f"in the child: {error!r}", file=sys.stderr)
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert next(stream) is not None, "the parent goes on"
