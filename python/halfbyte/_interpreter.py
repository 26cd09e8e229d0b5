"""Where halfbyte can work: in the main interpreter of a process.

Exceptions and callbacks belong to one interpreter, and native threads know only the main one.
"""

from __future__ import annotations

from importlib import import_module


def refuse_subinterpreters() -> None:
    """Raises :class:`ImportError` in a subinterpreter."""
    # The second is its name before Python 3.13. Without either nobody can make a subinterpreter.
    for name in ("_interpreters", "_xxsubinterpreters"):
        try:
            interpreters = import_module(name)
        except ImportError:
            continue
        if interpreters.get_current() != interpreters.get_main():
            raise ImportError(
                "halfbyte works in the main interpreter only: use threads or processes instead"
            )
        return
