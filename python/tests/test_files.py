"""Quantizing and inspecting files, progress bars."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

import halfbyte
from conftest import DATA
from halfbyte._progress import Bar

LLAMA = DATA / "llama-1k.q4_0.gguf"


def test_quantize_writes_a_model_and_reports(tmp_path: Path) -> None:
    heard: list[tuple[int, int]] = []
    report = halfbyte.quantize(
        LLAMA, tmp_path / "q8.gguf", type="q8_0", progress=lambda *reached: heard.append(reached)
    )
    assert heard[-1] == (report.source_bytes, report.source_bytes)
    assert report.tensors == len(halfbyte.inspect(LLAMA)["tensors"])
    assert report.bytes > report.source_bytes and 8 < report.bits_per_weight < 10
    encodings = {tensor.encoding for tensor in halfbyte.inspect(tmp_path / "q8.gguf")["tensors"]}
    assert encodings == {"Q8_0", "F32"}
    assert halfbyte.Model(tmp_path / "q8.gguf").generate([5], max_new_tokens=1).tokens
    cases: list[tuple[Any, Any, str, type[Exception], str]] = [
        (LLAMA, tmp_path / "a", "q3_x", ValueError, "q4_0, q4_1"),
        (tmp_path / "nothing", tmp_path / "a", "q4_0", FileNotFoundError, "nothing"),
        (tmp_path / "q8.gguf", tmp_path / "q8.gguf", "q4_0", ValueError, "source file"),
        (LLAMA, tmp_path / "no" / "folder", "q4_0", OSError, "folder"),
    ]
    for source, destination, kind, error, words in cases:
        with pytest.raises(error, match=words):
            halfbyte.quantize(source, destination, type=kind)
    with pytest.raises(ZeroDivisionError):
        halfbyte.quantize(LLAMA, tmp_path / "b", progress=lambda done, total: 1 // 0)


def test_inspect_knows_a_file_without_loading_it(tmp_path: Path) -> None:
    found = halfbyte.inspect(LLAMA)
    assert (found["architecture"], found["path"]) == ("llama", str(LLAMA))
    tensor = next(t for t in found["tensors"] if t.name == "token_embd.weight")
    assert tensor.shape == (found["vocab_size"], found["hidden_size"])
    assert found["tensor_bytes"] == sum(t.n_bytes for t in found["tensors"])
    assert "llama" in str(found) and "<table>" in found._repr_html_()
    with pytest.raises(FileNotFoundError):
        halfbyte.inspect(tmp_path / "nothing")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems want UTF-8 names")
def test_file_names_need_not_be_text(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/mod\xe9l.gguf"
    shutil.copy(LLAMA, os.fsdecode(path))
    command: list[Any] = [sys.executable, "-m", "halfbyte", "inspect", path]
    done = subprocess.run(command, capture_output=True)
    assert done.returncode == 0 and b"llama" in done.stdout, done.stderr
    assert halfbyte.inspect(os.fsdecode(path))["architecture"] == "llama"
    assert os.fsencode(halfbyte.Model(path).path) == path


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_is_drawn_in_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    halfbyte.Model(LLAMA, progress=True)
    drawn = terminal.getvalue()
    assert drawn.startswith("\rloading") and "100%" in drawn and drawn.endswith("\n")
    assert "KiB" in drawn or "MiB" in drawn
    plain = io.StringIO()
    monkeypatch.setattr(sys, "stderr", plain)
    halfbyte.Model(LLAMA, progress=True)
    assert plain.getvalue() == ""


def test_a_notebook_gets_one_bar_that_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []

    class ZMQInteractiveShell:
        pass

    class Handle:
        def update(self, what: Any) -> None:
            shown.append(what)

    def display(what: Any, display_id: bool) -> Handle:
        shown.append(what)
        return Handle()

    ipython = types.ModuleType("IPython")
    ipython.get_ipython = ZMQInteractiveShell  # type: ignore[attr-defined]
    pages = types.ModuleType("IPython.display")
    pages.HTML = lambda text: text  # type: ignore[attr-defined]
    pages.display = display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", pages)
    bar = Bar("scoring", "tokens")
    bar(1, 10)
    bar(2, 10)
    bar(10, 10)
    assert len(shown) == 2 and 'value="1"' in shown[0] and "10 tokens/10 tokens" in shown[1]
