"""10,000 malformed requests: each gets a 4xx (or its connection ended), and a good one is answered.

HALFBYTE_URL is the server's address; the first argument is the number of requests.
"""

import http.client
import json
import os
import random
import socket
import sys
import time
from urllib.parse import urlsplit

ADDRESS = urlsplit(os.environ["HALFBYTE_URL"])
HOST, PORT = ADDRESS.hostname, ADDRESS.port
N = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000

MESSAGES = [{"role": "user", "content": "Hi"}]
GOOD = {
    "/v1/completions": {"prompt": "A", "max_tokens": 1},
    "/v1/chat/completions": {"messages": MESSAGES, "max_tokens": 1},
    "/v1/responses": {"input": "A", "max_output_tokens": 16},
    "/v1/embeddings": {"input": "A"},
    "/tokenize": {"prompt": "A"},
    "/detokenize": {"tokens": [1]},
    "/apply-template": {"messages": MESSAGES},
}
# Texts of values that no field takes, or hardly any.
VALUES = [
    *("-1", "-9223372036854775809", "18446744073709551616", "1e400", "-0.5", "1e39", "99999999999"),
    *('{"x":1}', '{"x":{"y":[]}}', "[[[]]]", "[-1]", "[1e9]", "[[1,-1]]", '["a",1]', "[null]"),
    *('"\\ud800"', "nonsense", "NaN", "Infinity", "'a'", "tru", '"unended', "[1,", "{", "{]"),
]


def fields() -> dict[str, list[str]]:
    connection = http.client.HTTPConnection(HOST, PORT, timeout=30)
    connection.request("GET", "/openapi.json")
    document = json.loads(connection.getresponse().read())
    found = {}
    for path in GOOD:
        if path in document["paths"]:
            body = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
            name = body["schema"]["$ref"].rsplit("/", 1)[1]
            found[path] = list(document["components"]["schemas"][name]["properties"])
    return found


class Client:
    """A connection that is opened again when the server ended it."""

    def __init__(self) -> None:
        self.connection = None

    def post(self, path: str, body: bytes, kind: str = "application/json") -> int | None:
        for _ in range(2):
            if self.connection is None:
                self.connection = http.client.HTTPConnection(HOST, PORT, timeout=60)
            try:
                self.connection.request("POST", path, body, {"Content-Type": kind})
                response = self.connection.getresponse()
                text = response.read()
                if response.status >= 400:
                    assert json.loads(text)["error"]["message"], text
                return response.status
            except (http.client.HTTPException, OSError):
                self.connection.close()
                self.connection = None
        return None


def raw(data: bytes, wait: float = 10.0) -> int | None:
    """The status that raw bytes get; none if the connection was only ended."""
    with socket.create_connection((HOST, PORT), timeout=wait) as connection:
        try:
            connection.sendall(data)
            answer = connection.recv(64)
        except OSError:
            return None
    return int(answer.split(b" ")[1]) if answer.startswith(b"HTTP/1.1 ") else None


def wrong_json(random: random.Random, known: dict[str, list[str]]) -> tuple[str, bytes]:
    path = random.choice(list(known))
    body = dict(GOOD[path])
    match random.randrange(6):
        case 0:  # a field that nobody knows
            body["".join(random.choices("abcdefgh", k=9))] = 1
        case 1:  # cut off
            text = json.dumps(body)
            return path, text[: random.randrange(len(text))].encode()
        case 2:  # a byte that is no text
            text = bytearray(json.dumps(body).encode())
            text[random.randrange(len(text))] = random.choice([0x80, 0xFF, 0xC0])
            return path, bytes(text)
        case 3:  # without what must be there
            body.pop(next(iter(body)))
        case 4:  # a value that the field does not take
            field = random.choice(known[path])
            body.pop(field, None)
            rest = json.dumps(body)[1:]
            comma = "," if body else ""
            return path, f'{{"{field}":{random.choice(VALUES)}{comma}{rest}'.encode()
        case 5:  # something else altogether
            return path, random.choice([b"", b"[]", b"1", b"null", b'"a"', b"\x00", b"{}{}"])
    return path, json.dumps(body).encode()


def monsters() -> list[tuple[str, bytes]]:
    deep = b"[" * 100_000 + b"]" * 100_000
    grammar = "start: " + "(" * 60_000 + '"a"' + ")" * 60_000
    endless = {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}
    pattern = {"type": "string", "pattern": "(((a{1,99}){1,99}){1,99}){1,99}"}
    found = [("/v1/completions", b'{"prompt":' + deep + b"}")]
    found.append(("/v1/completions", json.dumps({"prompt": "A", "grammar": grammar}).encode()))
    for schema in (endless, pattern, {"anyOf": [{"pattern": ".*" * 5000}]}, {"type": 3}):
        format = {"type": "json_schema", "json_schema": {"schema": schema}}
        body = {"messages": MESSAGES, "response_format": format, "max_tokens": 1}
        found.append(("/v1/chat/completions", json.dumps(body).encode()))
    return found


def huge(n_bytes: int) -> int | None:
    """The status of a body of spaces that is far too large."""
    with socket.create_connection((HOST, PORT), timeout=60) as connection:
        head = f"POST /tokenize HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: {n_bytes}\r\n\r\n".encode())
        block = b" " * (1 << 20)
        for _ in range(n_bytes >> 20):
            try:
                connection.sendall(block)
            except OSError:
                break
        try:
            return int(connection.recv(64).split(b" ")[1])
        except (OSError, IndexError):
            return None


def main() -> None:
    known, client, rng = fields(), Client(), random.Random(8)
    counts: dict[int | None, int] = {}

    def count(status: int | None, what: object) -> None:
        counts[status] = counts.get(status, 0) + 1
        assert status is None or 200 <= status < 500, (status, what)

    # Clients that never come to an end: they are there while all others ask.
    slow = [socket.create_connection((HOST, PORT)) for _ in range(50)]
    for connection in slow:
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nContent-Le")
    start, good_before = time.monotonic(), client.post("/tokenize", b'{"prompt":"A"}')
    assert good_before == 200
    for path, body in monsters():
        count(client.post(path, body), (path, body[:200]))
    count(huge(1 << 30), "1 GiB")
    for i in range(N):
        if i % 20 == 7:
            noise = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 200)))
            count(
                raw(
                    rng.choice([noise, b"GET " + noise, b"POST / HTTP/1.1\r\n" + noise])
                    + b"\r\n\r\n"
                ),
                noise,
            )
        else:
            path, body = wrong_json(rng, known)
            kind = "application/json" if i % 50 else "text/plain"
            count(client.post(path, body, kind), (path, body[:300]))
    asked = time.monotonic()
    assert client.post("/v1/completions", json.dumps(GOOD["/v1/completions"]).encode()) == 200
    print(f"{N} requests in {asked - start:.1f} s: {counts}")
    print(f"a good one then took {1000 * (time.monotonic() - asked):.0f} ms")
    wrong = sum(n for status, n in counts.items() if status is None or status >= 400)
    # A few values happen to be good, such as null in an optional field.
    assert wrong > 0.9 * N, counts
    for connection in slow:
        connection.close()


main()
