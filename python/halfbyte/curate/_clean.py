"""The steps that look at each row by itself, or for equal ones."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import NamedTuple, Optional

from halfbyte.curate._rows import Row

#: How responses say that they are none. Those of the first kind count wherever they stand, those of
#: the second only at the beginning, where they are no quotation.
REFUSALS = (
    re.compile(
        r"\b(as|i'?m|i am|being) (just |only |merely )?an? (ai|artificial intelligence|large)?[ -]*"
        r"(language model|ai assistant|ai model|chatbot)\b"
        r"|\bas an (ai|artificial intelligence)\b[,.]?"
        r"|\bi (do not|don't) have personal (opinions|beliefs|experiences|feelings)\b"
        r"|\bmy (programming|training data) (does not|doesn't|prevents|only)\b",
        re.IGNORECASE,
    ),
    re.compile(
        r"^\W*((i'm|i am|i|my)\s+)?((very|so)\s+)?((sorry|apolog\w+|afraid|unfortunately)[\s,.]*)?"
        r"((but|that|and)\s+)?(i|we)(\s+(can't|can ?not|am unable|am not able|won't|will not)"
        r"|'m (unable|not able))\s+((be able\s+)?to\s+)?(help|assist|provide|fulfil|comply|answer|"
        r"generate|create|write|complete|do (that|this)|continue|discuss|engage|access|browse|"
        r"determine)",
        re.IGNORECASE,
    ),
)

#: The reasons for which rows go, in this order, and what each means.
REASONS = {
    "malformed": "lines that hold no prompt and response",
    "empty prompt": "prompts of nothing but spaces",
    "empty response": "responses of nothing but spaces",
    "refusal": 'responses like "as an AI language model"',
    "exact duplicate": "prompt and response equal to those of an earlier row",
    "semantic duplicate": "prompts that say what an earlier one said",
}


class Removed(NamedTuple):
    """A row that goes."""

    row: Row
    reason: str
    #: Number of the earlier row that it repeats.
    repeats: Optional[int] = None
    similarity: Optional[float] = None


def is_refusal(response: str) -> bool:
    """Whether a response declines to be one."""
    text = response.replace("\u2019", "'")
    return bool(REFUSALS[0].search(text) or REFUSALS[1].search(text[:200]))


def clean(rows: Iterable[Row]) -> tuple[list[Row], list[Removed]]:
    """The rows that stay and those that go, before any two are compared by meaning.

    Copies are equal texts, spaces aside; the first one stays.
    """
    kept: list[Row] = []
    removed: list[Removed] = []
    seen: dict[bytes, int] = {}
    for row in rows:
        reason, first = _reason(row), None
        if reason is None:
            key = _key(row)
            first = seen.setdefault(key, row.number)
            reason = "exact duplicate" if first != row.number else None
        if reason is None:
            kept.append(row)
        else:
            removed.append(Removed(row, reason, first if reason == "exact duplicate" else None))
    return kept, removed


def _reason(row: Row) -> Optional[str]:
    if row.broken is not None:
        return "malformed"
    if not row.prompt.strip():
        return "empty prompt"
    if not row.response.strip():
        return "empty response"
    return "refusal" if is_refusal(row.response) else None


def _key(row: Row) -> bytes:
    """Sixteen bytes instead of the texts, of which there may be gigabytes."""
    texts = (" ".join(text.split()).encode() for text in (row.prompt, row.response))
    return hashlib.blake2b(b"\0".join(texts), digest_size=16).digest()
