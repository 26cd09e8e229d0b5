"""The same models by transformers, in f32: what halfbyte is compared with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from halfbyte._extras import need
from halfbyte.errors import UnsupportedError


def reference_model(path: str) -> Any:
    """A Hugging Face folder as a model of transformers, f32 and eager attention."""
    if not Path(path, "config.json").exists():
        raise UnsupportedError(
            f"{path} is no Hugging Face folder: transformers can score nothing else, "
            "so --reference wants models that are"
        )
    torch, transformers = need("torch", "eval"), need("transformers", "eval")
    model = transformers.AutoModelForCausalLM.from_pretrained(
        path, dtype=torch.float32, attn_implementation="eager"
    )
    return model.eval()


def reference_tokenizer(path: str) -> Any:
    """The tokenizer of a Hugging Face folder, with or without a description of it."""
    transformers = need("transformers", "eval")
    folder = Path(path)
    if (folder / "tokenizer_config.json").exists():
        return transformers.AutoTokenizer.from_pretrained(path)
    if (folder / "tokenizer.model").exists():
        return transformers.LlamaTokenizer.from_pretrained(path)
    vocabulary = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    names = {token["id"]: token["content"] for token in vocabulary["added_tokens"]}
    end = names[json.loads((folder / "config.json").read_text())["eos_token_id"]]
    return transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), bos_token=end, eos_token=end
    )


def reference_lm(path: str) -> Any:
    """A Hugging Face folder in lm-evaluation-harness's own backend for transformers."""
    model, tokenizer = reference_model(path), reference_tokenizer(path)
    backend = need("lm_eval.models.huggingface", "eval")
    return backend.HFLM(pretrained=model, tokenizer=tokenizer, batch_size=8, device="cpu")
