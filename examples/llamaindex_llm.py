"""halfbyte in LlamaIndex: an LLM and an embedding model, here over three documents.

    pip install halfbyte llama-index-core
    python examples/llamaindex_llm.py [MODEL.gguf]

Copy the two classes into your project: indices and query engines take them as any others.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Optional, Union

import halfbyte
from llama_index.core import Document, VectorStoreIndex
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.base.llms.types import (
    ChatMessage,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    LLMMetadata,
)
from llama_index.core.llms.callbacks import llm_completion_callback
from llama_index.core.llms.custom import CustomLLM
from pydantic import Field


class HalfbyteLLM(CustomLLM):
    """A :class:`halfbyte.Model`; ``options`` are those of its ``generate``, for every call.

    Chats use the model's own template.
    """

    model: halfbyte.Model = Field(exclude=True)
    options: dict[str, Any] = Field(default_factory=dict)

    def __init__(
        self, model: halfbyte.Model, options: Optional[dict[str, Any]] = None, **kwargs: Any
    ) -> None:
        kwargs.setdefault("messages_to_prompt", lambda messages: _chat_prompt(model, messages))
        super().__init__(model=model, options=options or {}, **kwargs)

    @property
    def metadata(self) -> LLMMetadata:
        """What LlamaIndex sizes its prompts by."""
        return LLMMetadata(
            context_window=self.model.context_length,
            num_output=self.options.get("max_new_tokens", 256),
            model_name=self.model.path,
        )

    def _prompt(self, prompt: str, formatted: bool) -> Union[str, list[int]]:
        # Only a template's own text may spell special tokens.
        return self.model.tokenize(prompt, special=True) if formatted else prompt

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """The whole answer."""
        done = self.model.generate(self._prompt(prompt, formatted), **{**self.options, **kwargs})
        return _response(done)

    @llm_completion_callback()
    async def acomplete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponse:
        """As `complete`, while the event loop keeps turning."""
        given = {**self.options, **kwargs}
        return _response(await self.model.agenerate(self._prompt(prompt, formatted), **given))

    @llm_completion_callback()
    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseGen:
        """The answer piece by piece."""
        given = {**self.options, **kwargs}
        stream = self.model.generate(self._prompt(prompt, formatted), stream=True, **given)

        def pieces() -> CompletionResponseGen:
            with stream:
                for piece in stream:
                    yield CompletionResponse(text=stream.text, delta=str(piece))

        return pieces()

    @llm_completion_callback()
    async def astream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseAsyncGen:
        """As `stream_complete`, while the event loop keeps turning."""
        given = {**self.options, **kwargs}
        stream = self.model.agenerate(self._prompt(prompt, formatted), **given)

        async def pieces() -> CompletionResponseAsyncGen:
            text = ""
            async with stream:
                async for piece in stream:
                    text += piece
                    yield CompletionResponse(text=text, delta=str(piece))

        return pieces()


class HalfbyteEmbedding(BaseEmbedding):
    """The mean of a :class:`halfbyte.Model`'s last hidden states."""

    model: halfbyte.Model = Field(exclude=True)

    def _get_text_embedding(self, text: str) -> list[float]:
        return [float(x) for x in self.model.embed(text)]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return [[float(x) for x in row] for row in self.model.embed(texts)]

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)


def _response(done: halfbyte.Completion) -> CompletionResponse:
    facts = {"finish_reason": done.finish_reason, "seed": done.seed, **done.usage._asdict()}
    return CompletionResponse(text=done.text, additional_kwargs=facts)


def _chat_prompt(model: halfbyte.Model, messages: Sequence[ChatMessage]) -> str:
    return model.apply_chat_template(
        [{"role": message.role.value, "content": message.content or ""} for message in messages]
    )


def main() -> None:
    """A chat, and the document that is nearest to a question."""
    model = halfbyte.Model(sys.argv[1] if len(sys.argv) > 1 else None)
    llm = HalfbyteLLM(model, {"max_new_tokens": 60, "seed": 1})
    question = ChatMessage(role="user", content="Write a story about a dog named Max.")
    for response in llm.stream_chat([question]):
        print(response.delta, end="", flush=True)
    print("\n")
    stories = ["The dog ran after the red ball.", "Mom made a cake.", "It rained all night."]
    index = VectorStoreIndex.from_documents(
        [Document(text=story) for story in stories], embed_model=HalfbyteEmbedding(model=model)
    )
    for found in index.as_retriever(similarity_top_k=1).retrieve("A dog plays with a ball."):
        print(f"{found.score:.3f} {found.text}")


if __name__ == "__main__":
    main()
