"""A program as users write it: checked by mypy --strict, and run by the tests."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import numpy.typing as npt

import halfbyte


def story(model: halfbyte.Model) -> str:
    done = model.generate("Once upon a time", max_new_tokens=8, seed=1, stop=["\n"])
    reason: str = done.finish_reason
    tokens: list[int] = done.tokens
    speed: float = done.tokens_per_second
    print(done.upper(), reason, len(tokens), speed)
    for piece in model.generate("Once", stream=True, max_new_tokens=3, logit_bias={5: -1.0}):
        text: str = piece
        print(text, piece.token, piece.logprob)
    return done


def processor(tokens: list[int], logits: npt.NDArray[np.float32]) -> None:
    logits[tokens[-1]] = -np.inf


async def together(model: halfbyte.Model) -> list[str]:
    async for piece in model.agenerate("Once", max_new_tokens=2):
        print(piece)
    first: halfbyte.Completion = await model.agenerate("One day", max_new_tokens=2)
    return [first, *model.generate_batch(["a", "b"], max_new_tokens=1, top_k=5)]


def main(path: Path | None = None) -> None:
    with halfbyte.Model(path, threads=2, cache_type="f16") as model:
        story(model)
        asyncio.run(together(model))
        model.generate("Once", max_new_tokens=2, logits_processor=processor)
        rows: npt.NDArray[np.float32] = model.logits(model.tokenize("Once upon"))
        score: float = model.log_likelihood("Once upon", " a time")
        print(rows.shape, score, model.perplexity("Once upon a time").n_scored)
        with model.chat(system="You are terse.", temperature=0.0) as chat:
            answer: halfbyte.Completion = chat.say("Hi", max_new_tokens=2)
            print(answer, chat.messages[0]["role"])
        session = model.session()
        session.append("Once")
        print(session.generate(max_new_tokens=1), halfbyte.inspect()["architecture"])


if __name__ == "__main__":
    main()
