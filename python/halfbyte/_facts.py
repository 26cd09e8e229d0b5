"""What a model says about itself."""

from __future__ import annotations

import html
from typing import Any, Optional

from halfbyte import _native


class Facts:
    """The numbers of a loaded model; :class:`halfbyte.Model` is one."""

    _facts: dict[str, Any]
    _native: _native.Model

    @property
    def path(self) -> str:
        """The file or folder; a name in its place for the embedded model."""
        return str(self._facts["path"])

    @property
    def name(self) -> Optional[str]:
        """The name in the model's file."""
        name = self._facts["name"]
        return None if name is None else str(name)

    @property
    def architecture(self) -> str:
        """Such as ``"gptj"`` or ``"llama"``."""
        return str(self._facts["architecture"])

    @property
    def n_layers(self) -> int:
        """Blocks of the model."""
        return int(self._facts["n_layers"])

    @property
    def hidden_size(self) -> int:
        """Width of the residual stream, E, and so of embeddings."""
        return int(self._facts["hidden_size"])

    @property
    def vocab_size(self) -> int:
        """Width of the logits, V."""
        return int(self._facts["vocab_size"])

    @property
    def context_length(self) -> int:
        """Tokens that a session may hold."""
        return int(self._facts["context_length"])

    @property
    def cache_type(self) -> str:
        """How sessions keep keys and values."""
        return str(self._facts["cache_type"])

    @property
    def threads(self) -> int:
        """Threads that compute."""
        return int(self._facts["threads"])

    @property
    def isa(self) -> str:
        """The instruction set that computes."""
        return str(self._facts["isa"])

    @property
    def packed_bytes(self) -> int:
        """Bytes of the weights in memory."""
        return int(self._facts["packed_bytes"])

    @property
    def bos(self) -> Optional[int]:
        """The token that starts a text."""
        bos: Optional[int] = self._facts["bos"]
        return bos

    @property
    def eos(self) -> Optional[int]:
        """The token that ends a text."""
        eos: Optional[int] = self._facts["eos"]
        return eos

    def _summary(self) -> dict[str, str]:
        return {
            "architecture": f"{self.architecture} ({self.n_layers} × {self.hidden_size})",
            "weights": f"{self.packed_bytes / 1e6:.1f} MB",
            "context": f"{self.context_length} tokens, {self.cache_type}",
            "threads": f"{self.threads} threads, {self.isa}",
        }

    def _repr_html_(self) -> str:
        facts = {"model": self.path, **self._summary()}
        rows = "".join(f"<tr><th>{k}</th><td>{html.escape(v)}</td></tr>" for k, v in facts.items())
        return f"<table>{rows}</table>"


def native_model(model: Facts) -> _native.Model:
    """The native half of ``model``, if it is one."""
    if not isinstance(model, Facts):
        raise TypeError(f"expected a halfbyte.Model, not {type(model).__name__}")
    return model._native
