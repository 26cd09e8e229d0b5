"""The programs in the documentation run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"


@pytest.mark.parametrize("page", ["gpt4all.md"])
def test_programs_of_a_page_run(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    programs = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    assert programs
    for program in programs:
        exec(compile(program, page, "exec"), {"__name__": "page"})
    assert capsys.readouterr().err == ""


def test_no_page_with_programs_is_left_out() -> None:
    with_programs = {path.name for path in DOCS.glob("*.md") if "```python" in path.read_text()}
    assert with_programs == {"gpt4all.md"}
