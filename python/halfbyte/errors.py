"""What can go wrong, one class for each thing that a caller can act on.

All of them are :class:`Error`. Where Python has a word of its own (``FileNotFoundError``,
``ValueError``, ``MemoryError``), they are that, too.
"""

from __future__ import annotations

__all__ = [
    "BusyError",
    "Cancelled",
    "ClosedError",
    "ConfigError",
    "ContextFullError",
    "Error",
    "FileAccessError",
    "FileMissingError",
    "FilePermissionError",
    "ForkError",
    "FormatError",
    "OutOfMemoryError",
    "TemplateError",
    "TokenizerError",
    "UnsupportedError",
]


class Error(Exception):
    """Anything that goes wrong in halfbyte."""


class FileAccessError(Error, OSError):
    """The operating system refused to read or write a file."""


class FileMissingError(FileAccessError, FileNotFoundError):
    """There is no such file."""


class FilePermissionError(FileAccessError, PermissionError):
    """The file may not be read or written."""


class FormatError(Error, ValueError):
    """A file does not follow its format; the message says where and how."""


class UnsupportedError(Error, ValueError):
    """A file's format, encoding or architecture is not supported; the message lists what is."""


class ConfigError(Error, ValueError):
    """An option is out of its range."""

    #: The option's name.
    field: str

    def __init__(self, message: str = "", field: str = "") -> None:
        super().__init__(message)
        self.field = field


class ContextFullError(Error, ValueError):
    """The tokens do not fit in the model's context."""

    #: Tokens that the request needs.
    needed: int
    #: Tokens that the context holds.
    context_length: int

    def __init__(self, message: str = "", needed: int = 0, context_length: int = 0) -> None:
        super().__init__(message)
        self.needed = needed
        self.context_length = context_length


class TokenizerError(Error, ValueError):
    """The model's tokenizer is missing or broken, or cannot encode a text."""


class TemplateError(Error, ValueError):
    """A chat template is missing, is broken, or refuses the messages."""


class Cancelled(Error):
    """The call was cancelled from another thread."""


class OutOfMemoryError(Error, MemoryError):
    """Memory could not be allocated."""


class ClosedError(Error, ValueError):
    """The model, session or chat was closed."""


class BusyError(Error, RuntimeError):
    """A stream on this session or chat is not finished, or another thread is using it."""


class ForkError(Error, RuntimeError):
    """The model was loaded before this process was forked, and its threads are not here."""
