"""Functions on model files."""

from __future__ import annotations

import html
import os
from typing import TYPE_CHECKING, Any, NamedTuple, Optional, Union

from halfbyte import _native
from halfbyte._progress import Progress, reporter

if TYPE_CHECKING:
    from halfbyte._adapter import Lora

Path = Union[str, bytes, "os.PathLike[str]"]


class QuantizeReport(NamedTuple):
    """What :func:`quantize` did."""

    #: Bytes of the source's tensors.
    source_bytes: int
    #: Bytes of the written tensors.
    bytes: int
    #: Weights of all tensors.
    weights: int
    #: Tensors written.
    tensors: int
    #: One line for each tensor whose width did not fit its encoding's blocks.
    fallbacks: list[str]

    @property
    def bits_per_weight(self) -> float:
        """Bits per weight of the written tensors."""
        return 8 * self.bytes / max(self.weights, 1)


class TensorInfo(NamedTuple):
    """A tensor of a model file."""

    name: str
    encoding: str
    #: (out, in).
    shape: tuple[int, ...]
    n_bytes: int


class Inspection(dict[str, Any]):
    """What a model file holds, by name; prints as a table."""

    def _rows(self) -> dict[str, str]:
        rows = {name: str(value) for name, value in self.items() if name != "tensors"}
        return {**rows, "tensors": str(len(self["tensors"]))}

    def __str__(self) -> str:
        return "\n".join(f"{name:<24} {value}" for name, value in self._rows().items())

    def _repr_html_(self) -> str:
        cells = self._rows().items()
        rows = "".join(f"<tr><th>{k}</th><td>{html.escape(v)}</td></tr>" for k, v in cells)
        return f"<table>{rows}</table>"


def quantize(
    src: Path,
    dst: Path,
    type: str = "q4_0",
    progress: Progress = None,
    *,
    lora: Lora = None,
) -> QuantizeReport:
    """Writes ``src``, in any form that models open from, as a GGUF file in another encoding.

    ``type`` is such as ``"q4_0"``, ``"q8_0"`` or ``"q4_k_m"``; a wrong one lists them all. ``dst``
    appears only when it is complete, and replaces what was there. ``progress`` counts bytes.
    ``lora`` is a LoRA adapter's path, (path, scale), or several of them, added to the weights
    first.
    """
    from halfbyte._adapter import paths

    heard = reporter(progress, "quantizing", "B")
    places = os.fsdecode(src), os.fsdecode(dst)
    return QuantizeReport(*_native.quantize(*places, type, paths(lora), heard))


def inspect(path: Optional[Path] = None) -> Inspection:
    """What a model file holds, without loading it; without a path, the embedded model.

    >>> import halfbyte
    >>> found = halfbyte.inspect()
    >>> found["architecture"], found["tensors"][0].encoding
    ('gptj', 'Q4_0')
    """
    found = Inspection(_native.inspect(None if path is None else os.fsdecode(path)))
    found["path"] = str(found["path"])
    tensors = [TensorInfo(n, e, tuple(shape), size) for n, e, shape, size in found["tensors"]]
    found["tensors"] = tensors
    found["tensor_bytes"] = sum(tensor.n_bytes for tensor in tensors)
    return found
