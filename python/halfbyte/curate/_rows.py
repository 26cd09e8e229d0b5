"""Prompts and responses in a file of JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Optional

from halfbyte.errors import ConfigError, FileMissingError

#: Names of fields: those that make up the prompt, and the response.
LAYOUTS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("prompt",), "response"),
    (("instruction", "input"), "output"),
    (("question",), "answer"),
)


class Row(NamedTuple):
    """A line of the file."""

    #: Counted from 1.
    number: int
    #: The line as it was, without its end.
    line: str
    prompt: str
    response: str
    #: Why it cannot be read as a prompt and a response, if so.
    broken: Optional[str] = None


def read_rows(
    path: str, prompt: Sequence[str] = (), response: Optional[str] = None
) -> Iterator[Row]:
    """The rows of a file; broken ones say so instead of ending it.

    ``prompt`` and ``response`` name the fields, several ones of a prompt being joined by line ends;
    otherwise they are those of the first layout of `LAYOUTS` that a row fits.
    """
    if bool(prompt) != (response is not None):
        raise ConfigError("name the fields of prompt and response both, or none", "prompt")
    layouts = LAYOUTS if response is None else ((tuple(prompt), response),)
    if not Path(path).is_file():
        raise FileMissingError(f"there is no file {path}")
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield _row(number, line.rstrip(b"\r\n"), layouts)


def _row(
    number: int, raw: bytes, layouts: Sequence[tuple[tuple[str, ...], str]]
) -> Row:  # fmt: skip
    line = raw.decode("utf-8", errors="replace")
    try:
        fields = json.loads(raw)
    except (ValueError, RecursionError) as error:
        return Row(number, line, "", "", f"no JSON: {error}")
    if not isinstance(fields, dict):
        return Row(number, line, "", "", "no JSON object")
    for names, response in layouts:
        if names[0] in fields and response in fields:
            texts = [fields.get(name) or "" for name in (*names, response)]
            if not all(isinstance(text, str) for text in texts):
                return Row(number, line, "", "", "its fields are not texts")
            joined = "\n".join(text for text in texts[:-1] if text.strip())
            return Row(number, line, joined, texts[-1])
    known = " or ".join(f"{', '.join(names)} and {response}" for names, response in layouts)
    return Row(number, line, "", "", f"no fields {known}")
