"""Requests to the server, good and bad ones, as jobs of a crew."""

from __future__ import annotations

import functools
import http.client
import json
import socket
import struct
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from crew import Answers, Job

#: Long enough that a stop of the whole machine for minutes is not taken for the server's fault.
TIMEOUT = 900

STORY = "The dog and the cat went to the river to swim. "
PROMPTS = ["Once upon a time", STORY * 6 + "Then", STORY * 3 + "A bird", "Hello"]
MESSAGES = [{"role": "user", "content": "Tell me a story about a cat."}]
PET = {
    "type": "object",
    "properties": {"animal": {"enum": ["cat", "dog"]}, "age": {"type": "integer"}},
    "required": ["animal", "age"],
    "additionalProperties": False,
}

#: Path, body. The answer must always be the same, its names and times aside.
GOOD: dict[str, tuple[str, dict[str, Any]]] = {
    "greedy": ("/v1/completions", {"prompt": "A", "temperature": 0, "max_tokens": 12}),
    "two and two": (
        "/v1/completions",
        {"prompt": PROMPTS[:2], "n": 2, "seed": 5, "max_tokens": 12, "logprobs": 1},
    ),
    "stop": (
        "/v1/completions",
        {"prompt": PROMPTS[0], "seed": 1, "stop": [".", " the"], "max_tokens": 60},
    ),
    "echo": (
        "/v1/completions",
        {"prompt": PROMPTS, "echo": True, "logprobs": 3, "max_tokens": 0, "temperature": 0},
    ),
    "echo and write": (
        "/v1/completions",
        {"prompt": PROMPTS[1], "echo": True, "logprobs": 2, "max_tokens": 4, "seed": 1},
    ),
    "grammar": (
        "/v1/completions",
        {"prompt": "Say", "grammar": 'start: "yes" | "no" | /[a-c]{1,20}/', "seed": 1},
    ),
    "chat": ("/v1/chat/completions", {"messages": MESSAGES, "seed": 3, "max_tokens": 24}),
    "chat with scores": (
        "/v1/chat/completions",
        {"messages": MESSAGES, "seed": 3, "max_tokens": 8, "logprobs": True, "top_logprobs": 2},
    ),
    "schema": (
        "/v1/chat/completions",
        {
            "messages": MESSAGES,
            "seed": 3,
            "max_tokens": 48,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "pet", "schema": PET},
            },
        },
    ),
    "responses": ("/v1/responses", {"input": "Hi", "temperature": 0, "max_output_tokens": 16}),
    "embeddings": ("/v1/embeddings", {"input": PROMPTS}),
    "coded embeddings": ("/v1/embeddings", {"input": "A cat", "encoding_format": "base64"}),
    "tokenize": ("/tokenize", {"prompt": PROMPTS[1], "return_token_strs": True}),
    "detokenize": ("/detokenize", {"tokens": [5, 6, 7]}),
    "template": ("/apply-template", {"messages": MESSAGES}),
}

#: Path, body. Each must be refused, always in the same words.
BAD: dict[str, tuple[str, bytes]] = {
    "negative": ("/v1/completions", b'{"prompt":"A","temperature":-1}'),
    "huge": ("/v1/completions", b'{"prompt":"A","max_tokens":18446744073709551616}'),
    "unknown": ("/v1/completions", b'{"prompt":"A","frobnicate":1}'),
    "cut": ("/v1/completions", b'{"prompt":"A","max_tok'),
    "no text": ("/v1/completions", b'{"prompt":"\xff\xfe"}'),
    "deep": ("/v1/completions", b'{"prompt":' + b"[" * 50_000 + b"]" * 50_000 + b"}"),
    "long": ("/v1/completions", json.dumps({"prompt": "word " * 30_000}).encode()),
    "ids": ("/v1/completions", b'{"prompt":[99999999]}'),
    "no grammar": ("/v1/completions", b'{"prompt":"A","grammar":"start: ((("}'),
    "deep grammar": (
        "/v1/completions",
        json.dumps({"prompt": "A", "grammar": f'start: {"(" * 9000}"a"{")" * 9000}'}).encode(),
    ),
    "empty": ("/v1/chat/completions", b""),
    "no messages": ("/v1/chat/completions", b'{"messages":[]}'),
    "role": ("/v1/chat/completions", b'{"messages":[{"role":"king","content":"A"}]}'),
    "schema": (
        "/v1/chat/completions",
        b'{"messages":[{"role":"user","content":"A"}],"response_format":{"type":"json_schema",'
        b'"json_schema":{"name":"a","schema":{"type":3}}}}',
    ),
    "embed": ("/v1/embeddings", b'{"input":{"a":1}}'),
}

#: What is refused when it has taken too long: how it is said depends on the machine.
TIMED = ["deep grammar"]

#: Bytes that are no request; the connection ends, with or without an answer.
NOISE = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET\r\n\r\n",
    b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 3000 + b"\r\n",
]

#: What every answer names anew.
FRESH = ("id", "created", "created_at", "usage", "item_id", "completed_at")


class Clients:
    """The jobs against the server at one address."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self.place = (address.hostname or "", address.port or 0)

    def jobs(self) -> dict[str, Job]:
        """The table."""
        jobs: dict[str, Job] = {}
        for name in GOOD:
            jobs[f"good {name}"] = functools.partial(self.good, name)
        for name in BAD:
            jobs[f"bad {name}"] = functools.partial(self.bad, name)
        for i in range(len(PROMPTS)):
            for seed in range(4):
                for work in (self.whole, self.stream, self.cut):
                    jobs[f"{work.__name__} {i}.{seed}"] = functools.partial(work, i, seed)
        for i in range(len(NOISE)):
            jobs[f"noise {i}"] = functools.partial(self.noise, i)
        for once in (self.chat_stream, self.half, self.several, self.pages):
            jobs[once.__name__] = once
        return jobs

    def ask(self, path: str, body: bytes | None, keep: Any = None) -> tuple[int, bytes]:
        """Status and body of an answer; over the connection `keep`, or one of its own."""
        connection = keep or http.client.HTTPConnection(*self.place, timeout=TIMEOUT)
        try:
            method = "GET" if body is None else "POST"
            connection.request(method, path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            if keep is None:
                connection.close()

    def good(self, name: str, keep: Any = None) -> Answers:
        path, body = GOOD[name]
        status, text = self.ask(path, json.dumps(body).encode(), keep)
        assert status == 200, text
        yield f"good {name}", _lasting(json.loads(text))

    def bad(self, name: str, keep: Any = None) -> Answers:
        status, text = self.ask(*BAD[name], keep)
        assert 400 <= status < 500, (status, text)
        message = json.loads(text)["error"]["message"]
        if name not in TIMED:
            yield f"bad {name}", (status, message)

    # The same text whole, streamed, and its beginning.

    @staticmethod
    def _body(i: int, seed: int, **more: Any) -> bytes:
        body = {"prompt": PROMPTS[i], "seed": seed, "max_tokens": 24, "temperature": 0.8}
        return json.dumps({**body, **more}).encode()

    def whole(self, i: int, seed: int) -> Answers:
        status, text = self.ask("/v1/completions", self._body(i, seed))
        assert status == 200, text
        yield f"text {i}.{seed}", json.loads(text)["choices"][0]["text"]

    def stream(self, i: int, seed: int) -> Answers:
        body = self._body(i, seed, stream=True)
        events = list(self._events("/v1/completions", body))
        text = "".join(choice["text"] for event in events for choice in event["choices"])
        yield f"text {i}.{seed}", text

    def cut(self, i: int, seed: int) -> Answers:
        body = self._body(i, seed, stream=True, max_tokens=400, ignore_eos=True)
        head = f"POST /v1/completions HTTP/1.1\r\nHost: {self.place[0]}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        with socket.create_connection(self.place, timeout=TIMEOUT) as connection:
            connection.sendall(head.encode() + body)
            # The first token at least, but in one case of four nothing at all.
            if seed:
                assert connection.recv(1000 * seed).startswith(b"HTTP/1.1 200"), "no stream"
            if seed % 2:
                # Ended by a reset, not in order.
                linger = struct.pack("ii", 1, 0)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        return ()

    def _events(self, path: str, body: bytes) -> Iterator[dict[str, Any]]:
        connection = http.client.HTTPConnection(*self.place, timeout=TIMEOUT)
        try:
            connection.request("POST", path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            assert response.status == 200, response.read()
            # Lines that begin with a colon say only that the server is still there.
            lines = response.read().decode().split("\n\n")
            lines = [line for line in lines if line and not line.startswith(":")]
            assert lines[-1] == "data: [DONE]", lines[-1]
            for line in lines[:-1]:
                yield json.loads(line.removeprefix("data: "))
        finally:
            connection.close()

    # One each.

    def chat_stream(self) -> Answers:
        _, body = GOOD["chat"]
        events = self._events("/v1/chat/completions", json.dumps({**body, "stream": True}).encode())
        deltas = (choice["delta"] for event in events for choice in event["choices"])
        yield "streamed chat", "".join(delta.get("content") or "" for delta in deltas)

    def half(self) -> Answers:
        with socket.create_connection(self.place, timeout=TIMEOUT) as connection:
            connection.sendall(b"POST /v1/completions HTTP/1.1\r\nContent-Length: 50\r\n\r\n{")
        return ()

    def several(self) -> Answers:
        # One connection for many requests, good and bad ones.
        keep = http.client.HTTPConnection(*self.place, timeout=TIMEOUT)
        try:
            for name in ("tokenize", "greedy", "chat"):
                yield from self.good(name, keep)
                yield from self.bad("negative", keep)
        finally:
            keep.close()

    def pages(self) -> Answers:
        for path in ("/", "/health", "/v1/models", "/openapi.json", "/tokenizer_info"):
            status, text = self.ask(path, None)
            assert status == 200, text
            if path not in ("/health", "/v1/models"):
                yield path, text
        assert self.ask("/metrics", None)[0] == 200
        assert self.ask("/nowhere", None)[0] == 404

    def noise(self, i: int) -> Answers:
        with socket.create_connection(self.place, timeout=TIMEOUT) as connection:
            try:
                connection.sendall(NOISE[i])
                answer = connection.recv(100)
            except OSError:
                answer = b""
        assert not answer.startswith(b"HTTP/1.1 2"), answer
        return ()


def _lasting(answer: Any) -> Any:
    """What is the same in every answer to one request."""
    if isinstance(answer, dict):
        return {key: _lasting(value) for key, value in answer.items() if key not in FRESH}
    if isinstance(answer, list):
        return [_lasting(value) for value in answer]
    return answer
