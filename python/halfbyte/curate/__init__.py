"""Cleans prompts and responses as the GPT4All report does, before a model learns from them.

    python -m halfbyte.curate data.jsonl --out clean.jsonl --map map.html --plot map.png

Rows without a prompt or a response go, then refusals, exact copies, and rows whose prompt says what
an earlier one said; what is left is drawn as a map of topics. It needs scikit-learn, and matplotlib
for pictures: ``pip install 'halfbyte[curate]'``. `docs/curate.md` says how well each step works.
"""

from __future__ import annotations

from halfbyte.curate._clean import REFUSALS, Removed, clean, is_refusal
from halfbyte.curate._command import main
from halfbyte.curate._near import Duplicate, near_duplicates
from halfbyte.curate._rows import Row, read_rows
from halfbyte.curate._spaces import ModelSpace, Space, TfidfSpace
from halfbyte.curate._topics import Topics, topics

__all__ = [
    "REFUSALS",
    "Duplicate",
    "ModelSpace",
    "Removed",
    "Row",
    "Space",
    "TfidfSpace",
    "Topics",
    "clean",
    "is_refusal",
    "main",
    "near_duplicates",
    "read_rows",
    "topics",
]
