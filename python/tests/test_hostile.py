"""Broken files, one after the other in one process: each raises its exception, none ends it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import halfbyte
from halfbyte import errors

#: The exception for each kind of error that the Rust tests name.
KINDS: dict[str, type[errors.Error]] = {
    "Io": errors.FileMissingError,
    "Malformed": errors.FormatError,
    "MissingTensor": errors.FormatError,
    "Shape": errors.FormatError,
    "UnsupportedFormat": errors.UnsupportedError,
    "UnsupportedEncoding": errors.UnsupportedError,
    "UnsupportedArchitecture": errors.UnsupportedError,
    "Config": errors.ConfigError,
    "Tokenizer": errors.TokenizerError,
    "Template": errors.TemplateError,
}


class Row(NamedTuple):
    opens: str
    kind: str
    path: Path
    name: str


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files, as ``tests/bin/corpus.rs`` writes them."""
    program = os.environ.get("HALFBYTE_CORPUS")
    if program is None:
        pytest.skip("HALFBYTE_CORPUS does not name the Rust program `corpus`: cargo xtask python")
    folder = tmp_path_factory.mktemp("corpus")
    subprocess.run([program, folder], check=True, stdout=subprocess.DEVNULL)
    return folder


def rows(folder: Path) -> Iterator[Row]:
    for line in (folder / "corpus.tsv").read_text(encoding="utf-8").splitlines():
        opens, kind, path, name = line.split("\t")
        yield Row(opens, kind, folder / path, name)


def opened(row: Row, base: halfbyte.Model) -> None:
    if row.opens == "adapter":
        base.with_lora(row.path)
        return
    model = halfbyte.Model(row.path, threads=1)
    if row.opens == "tokenizer":
        model.tokenize("a")
    elif row.opens == "template":
        model.apply_chat_template([{"role": "user", "content": "Hi"}])


def test_broken_files_raise_their_exceptions(folder: Path) -> None:
    base = halfbyte.Model(folder / "base.gguf")
    wrong: list[str] = []
    n_rows = 0
    for row in rows(folder):
        n_rows += 1
        try:
            opened(row, base)
        except errors.Error as error:
            if type(error) is not KINDS[row.kind]:
                wrong.append(f"{row.path} ({row.name}): {error!r} is no {KINDS[row.kind]}")
        else:
            wrong.append(f"{row.path} ({row.name}): no error")
    assert not wrong, "\n".join(wrong)
    assert n_rows > 1000
