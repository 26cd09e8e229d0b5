"""Where the models of the tests are, and what is shared between tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import halfbyte

REPOSITORY = Path(__file__).resolve().parents[2]
#: Small models of the repository, with golden outputs by transformers.
DATA = REPOSITORY / "tests" / "data"
#: Larger test data beside the checkout.
SHARED = Path(os.environ.get("HALFBYTE_SHARED", REPOSITORY.parent / "shared")) / "data"

PROMPT = "Once upon a time"


@pytest.fixture(scope="session")
def model() -> halfbyte.Model:
    """The embedded model."""
    return halfbyte.Model()


@pytest.fixture(scope="session")
def llama() -> halfbyte.Model:
    """A tiny LLaMA with random weights and a SentencePiece vocabulary."""
    return halfbyte.Model(DATA / "llama-1k.q4_0.gguf")


def golden_models() -> list[Path]:
    """The model files of the repository and, where they are, the larger ones."""
    files = sorted(DATA.glob("*.gguf"))
    assert files, DATA
    return files + sorted((SHARED / "ggml").glob("*.gguf"))


def skip_without(path: Path) -> Path:
    """``path``, or a skipped test that says what is missing."""
    if not path.exists():
        pytest.skip(f"no {path}: put the shared data beside the checkout or set HALFBYTE_SHARED")
    return path
