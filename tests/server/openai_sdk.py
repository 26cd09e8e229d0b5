"""Every endpoint that OpenAI's Python SDK knows, unchanged but for its base URL.

HALFBYTE_URL is the server's address.
"""

import base64
import json
import os
import struct

import openai

URL = os.environ["HALFBYTE_URL"]
client = openai.OpenAI(base_url=f"{URL}/v1", api_key="none", max_retries=0)
STORY = [{"role": "user", "content": "Tell me a story about a cat."}]


def models() -> str:
    cards = client.models.list().data
    assert len(cards) == 1, cards
    assert client.models.retrieve(cards[0].id).id == cards[0].id
    try:
        client.models.retrieve("other")
    except openai.NotFoundError as error:
        assert error.code == "model_not_found", error
    else:
        raise AssertionError("a model that is not there was found")
    return cards[0].id


def completions(model: str) -> None:
    ask = {"model": model, "prompt": "Once upon a time", "max_tokens": 12, "seed": 3}
    whole = client.completions.create(**ask)
    assert whole.choices[0].finish_reason in ("stop", "length")
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    parts = list(
        client.completions.create(**ask, stream=True, stream_options={"include_usage": True})
    )
    assert "".join(p.choices[0].text for p in parts if p.choices) == whole.choices[0].text
    assert parts[-1].usage == whole.usage.__class__(
        **{**parts[-1].usage.model_dump(), "completion_tokens": whole.usage.completion_tokens}
    )
    many = client.completions.create(**{**ask, "prompt": ["A", "B"], "n": 2}, logprobs=3, echo=True)
    assert [choice.index for choice in many.choices] == [0, 1, 2, 3]
    scores = many.choices[0].logprobs
    assert scores.token_logprobs[0] is None and len(scores.top_logprobs) == len(scores.tokens)
    biased = client.completions.create(**ask, logit_bias={"300": 100}, temperature=0)
    assert biased.choices[0].text, biased
    stopped = client.completions.create(**{**ask, "max_tokens": 200}, stop=[".", ","])
    assert not set(".,") & set(stopped.choices[0].text), stopped


def chat(model: str) -> None:
    ask = {"model": model, "messages": STORY, "max_completion_tokens": 16, "seed": 3}
    whole = client.chat.completions.create(**ask, logprobs=True, top_logprobs=2)
    choice = whole.choices[0]
    assert choice.message.role == "assistant" and choice.message.content
    assert len(choice.logprobs.content) == whole.usage.completion_tokens
    stream = client.chat.completions.create(
        **ask, stream=True, stream_options={"include_usage": True}
    )
    parts = list(stream)
    text = "".join(p.choices[0].delta.content or "" for p in parts if p.choices)
    assert text == choice.message.content, (text, choice)
    assert parts[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert [p.choices[0].finish_reason for p in parts if p.choices][-1] == choice.finish_reason
    # Its own collector wants an answer that came to its end.
    words = {"extra_body": {"grammar": 'start: "yes" | "no"'}}
    with client.chat.completions.stream(**ask, **words) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.content in ("yes", "no"), final
    several = client.chat.completions.create(**ask, n=3)
    assert several.choices[0].message.content == choice.message.content
    assert len({c.message.content for c in several.choices}) > 1


def structure(model: str) -> None:
    schema = {
        "type": "object",
        "properties": {"animal": {"enum": ["cat", "dog"]}, "age": {"type": "integer"}},
        "required": ["animal", "age"],
        "additionalProperties": False,
    }
    format = {"type": "json_schema", "json_schema": {"name": "pet", "schema": schema}}
    ask = {"model": model, "messages": STORY, "max_completion_tokens": 64, "seed": 3}
    reply = client.chat.completions.create(**ask, response_format=format)
    if reply.choices[0].finish_reason == "stop":
        assert json.loads(reply.choices[0].message.content)["animal"] in ("cat", "dog")
    reply = client.chat.completions.create(**ask, extra_body={"grammar": 'start: "yes" | "no"'})
    assert reply.choices[0].message.content in ("yes", "no")


def embeddings(model: str) -> None:
    # The SDK asks for base64 by itself, and decodes it.
    texts = ["The cat sat.", "The dog ran."]
    vectors = [item.embedding for item in client.embeddings.create(model=model, input=texts).data]
    floats = client.embeddings.create(model=model, input=texts, encoding_format="float")
    raw = client.embeddings.create(model=model, input=texts, encoding_format="base64")
    for vector, item, coded in zip(vectors, floats.data, raw.data, strict=True):
        assert abs(sum(x * x for x in vector) - 1) < 1e-4
        assert all(abs(a - b) < 1e-6 for a, b in zip(vector, item.embedding, strict=True))
        data = base64.b64decode(coded.embedding)
        assert list(struct.unpack(f"<{len(data) // 4}f", data)) == list(vector)


def responses(model: str) -> None:
    ask = {"model": model, "input": "Tell me a story.", "max_output_tokens": 16}
    whole = client.responses.create(**ask, temperature=0)
    assert whole.output_text and whole.status in ("completed", "incomplete"), whole
    text, last = "", None
    for event in client.responses.create(**ask, temperature=0, stream=True):
        if event.type == "response.output_text.delta":
            text += event.delta
        last = event
    assert text == whole.output_text, (text, whole)
    assert last.type in ("response.completed", "response.incomplete"), last


def errors(model: str) -> None:
    ask = {"model": model, "messages": STORY}
    for more, param in [
        ({"temperature": -1}, "temperature"),
        ({"n": 100}, "n"),
        ({"extra_body": {"frobnicate": 1}}, "frobnicate"),
        ({"reasoning_effort": "high"}, "reasoning_effort"),
    ]:
        try:
            client.chat.completions.create(**ask, **more)
        except openai.BadRequestError as error:
            assert error.param == param, (error.param, param)
        else:
            raise AssertionError(f"{more} was taken")


def main() -> None:
    model = models()
    for step in (completions, chat, structure, embeddings, responses, errors):
        step(model)
        print(f"{step.__name__}: as it should be")


main()
