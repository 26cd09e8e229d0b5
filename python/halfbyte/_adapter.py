"""LoRA adapters."""

from __future__ import annotations

import numbers
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Union

from halfbyte import _native
from halfbyte._facts import native_model
from halfbyte._files import Path

if TYPE_CHECKING:
    from halfbyte._model import Model


class Adapter:
    """A LoRA adapter for the models of one shape, open and ready: using it costs nothing more.

    ``path`` is a PEFT folder (``adapter_config.json``, and ``adapter_model.safetensors`` or
    ``.bin``), a GGUF adapter, or a ``ggla`` file of 2023. It goes wherever a ``lora`` is asked for:

    ``session.set_lora([(halfbyte.Adapter(model, "poet/"), 0.8)])``
    """

    def __init__(self, model: Model, path: Path) -> None:
        self._native = native_model(model).open_adapter(os.fsdecode(path))

    @property
    def path(self) -> str:
        """The file or folder."""
        return str(self._native.path)

    @property
    def matrices(self) -> list[tuple[str, int, float]]:
        """(GGUF name, rank, scale) of each matrix that it changes."""
        return self._native.matrices()

    def __repr__(self) -> str:
        return f"<halfbyte.Adapter {self.path!r}, {len(self.matrices)} matrices>"


#: An adapter, by path or open, alone or with what it is multiplied by.
One = Union[Path, Adapter, tuple[Union[Path, Adapter], float]]
#: Adapters that work together; ``None`` for none.
Lora = Union[None, One, Sequence[One]]


def natives(model: _native.Model, lora: Lora) -> list[tuple[_native.Adapter, float]]:
    """The open adapters of ``lora`` with their scales; paths are opened for ``model``."""
    found = []
    for adapter, scale in scaled(lora):
        if not isinstance(adapter, Adapter):
            opened = model.open_adapter(os.fsdecode(adapter))
        else:
            opened = adapter._native
        found.append((opened, scale))
    return found


def paths(lora: Lora) -> list[tuple[str, float]]:
    """The paths of ``lora`` with their scales."""
    return [
        (adapter.path if isinstance(adapter, Adapter) else os.fsdecode(adapter), scale)
        for adapter, scale in scaled(lora)
    ]


def scaled(lora: Lora) -> list[tuple[Union[Path, Adapter], float]]:
    """``lora`` as a list of adapters with scales."""
    if lora is None:
        return []
    if isinstance(lora, (str, bytes, os.PathLike, Adapter)) or _is_pair(lora):
        return [_pair(lora)]
    if not isinstance(lora, Sequence):
        kind = type(lora).__name__
        raise TypeError(
            f"lora must be a path, an Adapter, a pair with a scale, or a list, not {kind}"
        )
    return [_pair(one) for one in lora]


def _is_pair(one: object) -> bool:
    return (
        isinstance(one, tuple)
        and len(one) == 2
        and isinstance(one[1], numbers.Real)
        and not isinstance(one[1], bool)
    )


def _pair(one: object) -> tuple[Union[Path, Adapter], float]:
    adapter, scale = one if _is_pair(one) else (one, 1.0)  # type: ignore[misc]
    if not isinstance(adapter, (str, bytes, os.PathLike, Adapter)):
        raise TypeError(f"an adapter is a path or an Adapter, not {type(adapter).__name__}")
    return adapter, float(scale)
