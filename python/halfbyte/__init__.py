"""4-bit GPT-J, LLaMA, GPT-NeoX and T5 models on ordinary CPUs, the same bits every time.

>>> import halfbyte
>>> model = halfbyte.Model()                         # the small model inside; or a path
>>> text = model.generate("Once upon a time", max_new_tokens=40, seed=1)
>>> for piece in model.generate("The cat", max_new_tokens=3, temperature=0, stream=True):
...     _ = print(piece, end="")
 was very happy
>>> with model.chat(max_new_tokens=20, seed=1) as chat:
...     answer = chat.say("Write a story about a cat.")

Start at :class:`Model`. Long calls let other threads run and end on Ctrl-C; errors are
:class:`Error`; messages go to the logger ``halfbyte``.
"""

from __future__ import annotations

import logging as _logging

from halfbyte._adapter import Adapter
from halfbyte._chat import Chat, Message
from halfbyte._files import Inspection, QuantizeReport, TensorInfo, inspect, quantize
from halfbyte._interpreter import refuse_subinterpreters as _refuse_subinterpreters
from halfbyte._model import Model
from halfbyte._native import __version__
from halfbyte._options import Options
from halfbyte._results import (
    Completion,
    LogLikelihood,
    LogLikelihoods,
    Perplexity,
    Piece,
    Timings,
    TokenLogprob,
    Usage,
)
from halfbyte._session import Session
from halfbyte._stream import AsyncStream, Stream
from halfbyte.errors import (
    BusyError,
    Cancelled,
    ClosedError,
    ConfigError,
    ContextFullError,
    Error,
    FileAccessError,
    FileMissingError,
    FilePermissionError,
    ForkError,
    FormatError,
    OutOfMemoryError,
    TemplateError,
    TokenizerError,
    UnsupportedError,
)

_refuse_subinterpreters()

__all__ = [
    "Adapter",
    "AsyncStream",
    "BusyError",
    "Cancelled",
    "Chat",
    "ClosedError",
    "Completion",
    "ConfigError",
    "ContextFullError",
    "Error",
    "FileAccessError",
    "FileMissingError",
    "FilePermissionError",
    "ForkError",
    "FormatError",
    "Inspection",
    "LogLikelihood",
    "LogLikelihoods",
    "Message",
    "Model",
    "Options",
    "OutOfMemoryError",
    "Perplexity",
    "Piece",
    "QuantizeReport",
    "Session",
    "Stream",
    "TemplateError",
    "TensorInfo",
    "Timings",
    "TokenLogprob",
    "TokenizerError",
    "UnsupportedError",
    "Usage",
    "__version__",
    "inspect",
    "quantize",
]

# Silent unless the program asks to hear.
_logging.getLogger("halfbyte").addHandler(_logging.NullHandler())
