"""The Python examples of the repository: each runs as a script, and does what it shows."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import halfbyte
from conftest import PROMPT, REPOSITORY

EXAMPLES = REPOSITORY / "examples"
OPTIONS: dict[str, Any] = {"max_new_tokens": 8, "seed": 1}


def needs(package: str, wheel: str) -> None:
    pytest.importorskip(package, reason=f"{wheel} is not installed: pip install {wheel}")


def loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Classes with annotations as texts look for their module here.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def script(name: str, *arguments: str, timeout: int = 300) -> str:
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *arguments]
    run = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    assert run.returncode == 0, run.stderr[-2000:]
    return run.stdout


def test_every_example_is_tested() -> None:
    tested = {"gpt4all_chat", "langchain_llm", "llamaindex_llm", "ray_batch"}
    assert {path.stem for path in EXAMPLES.glob("*.py")} == tested


def test_gpt4all_chat() -> None:
    roles = script("gpt4all_chat").splitlines()[-1]
    assert roles == str(["system", "user", "assistant", "user", "assistant"])


def test_langchain(model: halfbyte.Model) -> None:
    needs("langchain_core", "langchain-core")
    llm = loaded("langchain_llm").HalfbyteLLM(model=model, options=OPTIONS)
    expected = model.generate(PROMPT, **OPTIONS)
    other = model.generate("The cat", **OPTIONS)
    assert llm.invoke(PROMPT) == expected
    assert "".join(llm.stream(PROMPT)) == expected
    assert llm.batch([PROMPT, "The cat"]) == [expected, other]
    (generated,), _ = llm.generate([PROMPT, "The cat"]).generations
    assert generated.generation_info["finish_reason"] == "length"
    stop = expected.text[3:6]
    assert llm.invoke(PROMPT, stop=[stop]) == expected.text.split(stop)[0]
    assert llm.invoke(PROMPT, max_new_tokens=2) == model.generate(PROMPT, max_new_tokens=2, seed=1)

    async def both() -> tuple[str, str]:
        pieces = [piece async for piece in llm.astream(PROMPT)]
        return await llm.ainvoke(PROMPT), "".join(pieces)

    assert asyncio.run(both()) == (expected, expected)
    assert "Once upon a time" in script("langchain_llm")


def test_llamaindex(model: halfbyte.Model) -> None:
    needs("llama_index.core", "llama-index-core")
    from llama_index.core.base.llms.types import ChatMessage

    module = loaded("llamaindex_llm")
    llm = module.HalfbyteLLM(model, OPTIONS)
    expected = model.generate(PROMPT, **OPTIONS)
    done = llm.complete(PROMPT)
    assert done.text == expected and done.additional_kwargs["new_tokens"] == 8
    pieces = list(llm.stream_complete(PROMPT))
    assert pieces[-1].text == "".join(piece.delta for piece in pieces) == expected
    assert llm.metadata.context_window == model.context_length and llm.metadata.num_output == 8
    question = {"role": "user", "content": "Write a story."}
    with model.chat(**OPTIONS) as chat:
        answer = chat.say(question["content"])
    assert llm.chat([ChatMessage(**question)]).message.content == answer

    async def both() -> tuple[str, str]:
        stream = await llm.astream_complete(PROMPT)
        pieces = [piece.delta async for piece in stream]
        return (await llm.acomplete(PROMPT)).text, "".join(pieces)

    assert asyncio.run(both()) == (expected, expected)
    embedding = module.HalfbyteEmbedding(model=model)
    row = [float(x) for x in model.embed("a cat")]
    assert embedding.get_text_embedding("a cat") == embedding.get_query_embedding("a cat") == row
    assert embedding.get_text_embedding_batch(["a cat", "a dog"])[0] == row
    assert "The dog ran after the red ball." in script("llamaindex_llm").splitlines()[-1]


def test_ray(model: halfbyte.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs("ray.data", "ray[data]")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    # A test reports to nobody.
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    prompts = [{"id": i, "prompt": f"{PROMPT} number {i}"} for i in range(12)]
    source = tmp_path / "prompts.jsonl"
    source.write_text("".join(json.dumps(prompt) + "\n" for prompt in prompts))
    options = ["--workers", "2", "--batch-size", "4", "--max-new-tokens", "8", "--seed", "1"]
    script("ray_batch", str(source), str(tmp_path / "answers"), *options, timeout=500)
    files = sorted((tmp_path / "answers").glob("*.json"))
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    assert len(lines) == len(prompts)
    for line in lines:
        expected = model.generate(line["prompt"], **OPTIONS)
        assert prompts[line["id"]]["prompt"] == line["prompt"]
        assert (line["text"], line["finish_reason"]) == (expected, expected.finish_reason)
