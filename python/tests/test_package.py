"""The package itself: quick and silent to import, typed, documented by examples that run."""

from __future__ import annotations

import doctest
import importlib
import logging
import pkgutil
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

import halfbyte
from conftest import DATA, PROMPT, REPOSITORY

PACKAGE = Path(halfbyte.__file__).parent
#: Imports what may not be installed, and has tests of its own.
COMPATIBILITY = {"halfbyte.lm_eval"}


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)


def test_importing_is_quick_and_brings_no_numpy() -> None:
    program = (
        "import sys, time; start = time.perf_counter(); import halfbyte;"
        "print(time.perf_counter() - start);"
        "print([name for name in ('numpy', 'asyncio', 'IPython') if name in sys.modules])"
    )
    runs = [python(program).stdout.split("\n") for _ in range(5)]
    assert all(run[1] == "[]" for run in runs), runs
    assert statistics.median(float(run[0]) for run in runs) < 0.15


def test_nothing_is_printed_and_the_logger_hears(caplog: pytest.LogCaptureFixture) -> None:
    run = python(f"import halfbyte; halfbyte.Model().generate({PROMPT!r}, max_new_tokens=3)")
    assert (run.stdout, run.stderr) == ("", "")
    with caplog.at_level(logging.DEBUG, logger="halfbyte"):
        halfbyte.Model().generate(PROMPT, max_new_tokens=3, seed=1)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2 and messages[0].startswith("loaded") and "gptj" in messages[0]
    assert messages[1].startswith("generated 3 tokens") and "seed 1" in messages[1]


def test_the_command_comes_along() -> None:
    command = [sys.executable, "-m", "halfbyte"]
    run = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == f"halfbyte {halfbyte.__version__}"
    options = ["generate", PROMPT, "-n", "8", "--seed", "1"]
    run = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
    expected = halfbyte.Model().generate(PROMPT, max_new_tokens=8, seed=1)
    assert run.stdout == f"{PROMPT}{expected}\n"
    assert subprocess.run([*command, "nothing"], capture_output=True).returncode == 2
    missing = [*command, "inspect", "nothing.gguf"]
    assert subprocess.run(missing, capture_output=True).returncode == 1


def modules() -> list[str]:
    found = [name for _, name, _ in pkgutil.iter_modules([str(PACKAGE)], "halfbyte.")]
    skipped = COMPATIBILITY | {"halfbyte._native", "halfbyte.__main__"}
    return ["halfbyte", *sorted(set(found) - skipped)]


@pytest.mark.parametrize("name", modules())
def test_examples_in_the_documentation_run(name: str) -> None:
    found = doctest.testmod(importlib.import_module(name))
    assert found.failed == 0
    public = {"halfbyte", "halfbyte._model", "halfbyte._chat", "halfbyte._stream"}
    assert name not in public or found.attempted > 0


def test_every_public_thing_is_documented() -> None:
    assert sorted(halfbyte.__all__) == halfbyte.__all__
    for name in halfbyte.__all__:
        thing = getattr(halfbyte, name)
        if not isinstance(thing, type):
            continue
        assert thing.__doc__, name
        for method, value in vars(thing).items():
            if not method.startswith("_") and (callable(value) or isinstance(value, property)):
                assert value.__doc__, f"{name}.{method}"


def test_the_notices_are_those_of_the_embedded_model() -> None:
    source = REPOSITORY / "crates" / "halfbyte-model"
    for name in ("LICENSE-APACHE", "NOTICE", "ATTRIBUTIONS.md"):
        assert (REPOSITORY / "python" / name).read_text() == (source / name).read_text(), name


@pytest.mark.parametrize("readme", ["README.md", "python/README.md"])
def test_programs_in_the_readme_run(
    readme: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    text = (REPOSITORY / readme).read_text()
    programs = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert programs
    for program in programs:
        program = program.replace('"model.gguf"', repr(str(DATA / "llama-1k.q4_0.gguf")))
        exec(compile(program, readme, "exec"), {"__name__": "readme"})


@pytest.fixture(scope="module")
def mypy() -> None:
    pytest.importorskip("mypy", reason="mypy is not installed: pip install halfbyte[test]")


def test_a_typed_program_passes_mypy_strict(mypy: None) -> None:
    program = Path(__file__).parent / "sample_program.py"
    command = [sys.executable, "-m", "mypy", "--strict", str(program)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=PACKAGE.parent)
    assert run.returncode == 0, run.stdout
    whole = [sys.executable, "-c", program.read_text()]
    run = subprocess.run(whole, capture_output=True, text=True, cwd=PACKAGE.parent)
    assert run.returncode == 0 and "gptj" in run.stdout, run.stderr
    wrong = program.read_text().replace("max_new_tokens=8", 'max_new_tokens="8"')
    run = subprocess.run([*command[:-1], "-c", wrong], capture_output=True, text=True,
                         cwd=PACKAGE.parent)  # fmt: skip
    assert run.returncode == 1 and "max_new_tokens" in run.stdout


def test_the_stubs_are_true(mypy: None) -> None:
    command = [sys.executable, "-m", "mypy.stubtest", "halfbyte._native"]
    run = subprocess.run(command, capture_output=True, text=True, cwd=PACKAGE.parent)
    assert run.returncode == 0, run.stdout + run.stderr
