"""The GPT4All report's measures, on models of any encoding.

``python -m halfbyte.eval table1 MODEL...``
    The seven accuracies of the report's table and their average, beside the published rows.
``python -m halfbyte.eval self-instruct MODEL... --data user_oriented_instructions.jsonl``
    The perplexity of the responses that people wrote to 252 instructions.
``python -m halfbyte.eval sharing MODEL --data FOLDER``
    How much reading is saved because answers to one question share it.

Tables need lm-evaluation-harness and plots need matplotlib: ``pip install 'halfbyte[eval]'``.
`docs/eval.md` says what is measured and how exact it is.
"""

from __future__ import annotations

from halfbyte.eval._command import main
from halfbyte.eval._published import PUBLISHED, TASKS
from halfbyte.eval._self_instruct import MODES, Item, ItemScore, read_items, self_instruct
from halfbyte.eval._table1 import Row, table1

__all__ = [
    "MODES",
    "PUBLISHED",
    "TASKS",
    "Item",
    "ItemScore",
    "Row",
    "main",
    "read_items",
    "self_instruct",
    "table1",
]
