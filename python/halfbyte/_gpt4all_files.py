"""Where `halfbyte.gpt4all` finds model files. Nothing here asks a network."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Optional, Union

from halfbyte._files import inspect
from halfbyte.errors import FileMissingError

#: Where the package gpt4all keeps its downloads, and where names are looked up by default.
DEFAULT_MODEL_DIRECTORY = Path.home() / ".cache" / "gpt4all"

#: The name of the model that halfbyte carries.
EMBEDDED = "stories-q4_0.gguf"

EXTENSIONS = (".gguf", ".bin")


def filename_of(model_name: str) -> str:
    """The file that a model's name means."""
    return model_name if model_name.endswith(EXTENSIONS) else f"{model_name}.gguf"


def find(
    model_name: str, model_path: Optional[Union[str, os.PathLike[str]]], allow_download: bool
) -> dict[str, Any]:
    """What is known about the model of that name, its path above all.

    A Hugging Face folder is found by its plain name.
    """
    filename = filename_of(model_name)
    folder = DEFAULT_MODEL_DIRECTORY if model_path is None else Path(model_path)
    if model_path is not None and not folder.is_dir():
        raise FileMissingError(f"the model directory {str(folder)!r} does not exist")
    for path in (folder / model_name, folder / filename, folder / f"{model_name}.bin"):
        # A name without an extension may also be that of a stray file; only folders may lack one.
        if path.is_dir() or (path.name.endswith(EXTENSIONS) and path.exists()):
            return {"filename": path.name, "path": str(path)}
    if filename == EMBEDDED:
        return embedded()
    never = ", and halfbyte never downloads: put it there" if allow_download else ""
    raise FileMissingError(f"there is no model file {filename!r} in {str(folder)!r}{never}")


def embedded() -> dict[str, Any]:
    """What is known about the model inside the package."""
    return {"filename": EMBEDDED, "path": _embedded_path()}


@lru_cache(maxsize=1)
def _embedded_path() -> str:
    return str(inspect()["path"])


def is_embedded(config: dict[str, Any]) -> bool:
    """Whether `config` means the model inside the package."""
    return config == embedded()


def on_disk() -> Iterator[dict[str, Any]]:
    """The model files of the default directory."""
    if not DEFAULT_MODEL_DIRECTORY.is_dir():
        return
    for path in sorted(DEFAULT_MODEL_DIRECTORY.iterdir()):
        if path.name.endswith(EXTENSIONS) and path.is_file():
            yield {
                "name": path.stem,
                "filename": path.name,
                # A text, as in the list that the package gpt4all fetches.
                "filesize": str(path.stat().st_size),
                "path": str(path),
            }
