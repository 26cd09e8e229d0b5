"""Packages that only parts of halfbyte need, and the message when one is not there."""

from __future__ import annotations

import importlib
from typing import Any


class MissingExtra(ImportError):
    """A package is missing that an extra of halfbyte would have installed."""


def need(module: str, extra: str) -> Any:
    """The module ``module``, which ``pip install 'halfbyte[extra]'`` brings."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtra(
            f"halfbyte.{extra} needs {module.split('.')[0]}: "
            f"pip install 'halfbyte[{extra}]' ({error})"
        ) from error
