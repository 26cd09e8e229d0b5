"""LoRA adapters."""

from __future__ import annotations

import json
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import halfbyte
from conftest import DATA, PROMPT

OPTIONS: dict[str, Any] = {"max_new_tokens": 12, "temperature": 0.0}


def write(folder: Path, model: halfbyte.Model, seed: int, **config: Any) -> Path:
    """A PEFT folder that changes the queries of the embedded model."""
    rank, width = 4, model.hidden_size
    random = np.random.default_rng(seed)
    header: dict[str, Any] = {}
    data = b""
    for block in range(model.n_layers):
        for side, shape in (("A", (rank, width)), ("B", (width, rank))):
            name = f"base_model.model.transformer.h.{block}.attn.q_proj.lora_{side}.weight"
            raw = random.normal(0, 0.3, shape).astype("<f4").tobytes()
            offsets = [len(data), len(data) + len(raw)]
            header[name] = {"dtype": "F32", "shape": shape, "data_offsets": offsets}
            data += raw
    folder.mkdir()
    text = json.dumps(header).encode()
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    fields = {"peft_type": "LORA", "r": rank, "lora_alpha": 8, "bias": "none", **config}
    (folder / "adapter_config.json").write_text(json.dumps(fields))
    return folder


def test_every_way_to_use_an_adapter_gives_the_same(model: halfbyte.Model, tmp_path: Path) -> None:
    path = write(tmp_path / "one", model, 1)
    adapter = halfbyte.Adapter(model, path)
    assert len(adapter.matrices) == model.n_layers and adapter.matrices[0][1:] == (4, 2.0)
    assert adapter.path == str(path) and "matrices" in repr(adapter)
    plain = model.generate(PROMPT, **OPTIONS)
    text = model.generate(PROMPT, lora=path, **OPTIONS)
    assert text != plain
    with halfbyte.Model(lora=path) as other:
        assert other.generate(PROMPT, **OPTIONS) == text and other.lora == [(str(path), 1.0)]
        assert pickle.loads(pickle.dumps(other)).generate(PROMPT, **OPTIONS) == text
        assert other.with_lora(None).generate(PROMPT, **OPTIONS) == plain
    for lora in (str(path), adapter, (adapter, 1), [path], [(path, 1.0)], [(adapter, 0.5)] * 2):
        with_lora = model.with_lora(lora)
        assert with_lora.session().generate(PROMPT, **OPTIONS) == text, lora
    session = model.session(lora=adapter)
    assert session.generate(PROMPT, **OPTIONS) == text
    for lora, expected in ((None, plain), (adapter, text), ([], plain), (path, text)):
        session.set_lora(lora)
        done = session.generate(PROMPT, **OPTIONS)
        assert done == expected and done.usage.reused_tokens == 0
    ids = model.tokenize(PROMPT)
    with_lora = model.with_lora((adapter, 0.5))
    assert not np.array_equal(with_lora.logits(ids), model.logits(ids))
    assert with_lora.generate_batch([PROMPT], **OPTIONS) == [with_lora.generate(PROMPT, **OPTIONS)]
    with with_lora.chat(**OPTIONS) as chat, model.chat(**OPTIONS) as plain_chat:
        assert chat.say("Hi") != plain_chat.say("Hi")


def test_a_merged_file_needs_the_adapter_no_more(tmp_path: Path) -> None:
    source = DATA / "gptj-1k.q4_0.gguf"
    halfbyte.quantize(source, tmp_path / "plain.gguf", "f32")
    plain = halfbyte.Model(tmp_path / "plain.gguf", cache_type="f32")
    lora = [(write(tmp_path / "one", plain, 1), 0.5), (write(tmp_path / "two", plain, 2), 1.0)]
    halfbyte.quantize(source, tmp_path / "merged.gguf", "f32", lora=lora)
    ids = plain.tokenize(PROMPT)
    merged = halfbyte.Model(tmp_path / "merged.gguf", cache_type="f32").logits(ids)
    assert np.abs(merged - plain.with_lora(lora).logits(ids)).max() < 1e-4
    assert np.abs(merged - plain.logits(ids)).max() > 0.01


def test_a_saved_session_wants_its_adapters(model: halfbyte.Model, tmp_path: Path) -> None:
    adapter = halfbyte.Adapter(model, write(tmp_path / "one", model, 1))
    session = model.session(lora=adapter)
    session.append(PROMPT)
    session.save(tmp_path / "session")
    with pytest.raises(halfbyte.ConfigError, match="other adapters"):
        model.session().load(tmp_path / "session")
    loaded = model.session(lora=adapter)
    loaded.load(tmp_path / "session")
    done = loaded.generate(**OPTIONS)
    assert done == model.generate(PROMPT, lora=adapter, **OPTIONS)
    assert done.usage.reused_tokens == done.usage.prompt_tokens - 1


def test_wrong_adapters_are_refused(model: halfbyte.Model, tmp_path: Path) -> None:
    path = write(tmp_path / "one", model, 1)
    with pytest.raises(halfbyte.ConfigError, match="DoRA"):
        halfbyte.Adapter(model, write(tmp_path / "dora", model, 1, use_dora=True))
    with pytest.raises(halfbyte.ConfigError, match="not finite"):
        model.with_lora((path, float("nan")))
    with pytest.raises(FileNotFoundError):
        model.generate(PROMPT, lora=tmp_path / "nothing")
    with pytest.raises(halfbyte.UnsupportedError, match="adapter_config"):
        model.session(lora=tmp_path)
    wrong: Any
    for wrong in (3, [3], (3, 1.0), [(path, "1")], {path}):
        with pytest.raises(TypeError, match=r"lora must be|an adapter is"):
            model.session().set_lora(wrong)
