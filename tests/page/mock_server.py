"""A server that speaks as halfbyte-server does, and does on command what the real one does not.

It fails, stalls and answers with hostile text. A question chooses the answer: `ANSWERS` names them.
`python mock_server.py [PORT]` lets a person look at the page without a model.
"""

import json
import pathlib
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGE = pathlib.Path(__file__).resolve().parents[2] / "crates" / "halfbyte-server" / "page"
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
# As strict as the page allows: no markup from text, nothing from elsewhere.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'"
)
CONTEXT = 512

HOSTILE = """Hello <img src=x onerror="window.hacked=1"> and <script>window.hacked=2</script>

[click me](javascript:window.hacked=3) [also](  JaVaScRiPt:window.hacked=4 )
[data](data:text/html,<script>window.hacked=5</script>)
![image](http://elsewhere.example/track.png) ![x](x" onerror="window.hacked=6)

<iframe src="http://elsewhere.example/"></iframe> <svg onload=window.hacked=7>
<a href="javascript:window.hacked=8">x</a>
<javascript:window.hacked=9> [vb](vbscript:x) [file](file:///etc/passwd) [rel](/v1/models)
[tab](java\tscript:window.hacked=10)

```html"><img src=x onerror=window.hacked=11>
</code></pre><script>window.hacked=12</script>
```

| <b onmouseover=window.hacked=13>a</b> | [c](javascript:window.hacked=14) |
|---|---|
| <style>*{display:none}</style> | `<script>` |

A good one: [halfbyte](https://example.org/a_(b)?q=1 "title") and https://example.org/plain.
"""

MARKDOWN = """# A recipe for *good* code

Write **small** functions, and name them in `plain_words`. See https://example.org.

1. Read the data
   - once
   - and only ~~twice~~ once
2. Compute
3. Say what came out

```rust
fn main() {
    println!("half a byte is {} bits", 4);
}
```

> Simple things should be simple.

| bits | values |
|:-----|-------:|
| 4 | 16 |
| 8 | 256 |
"""

STORY = (
    "Once upon a time there was a little boat that lived on a quiet river. Every morning it "
    'listened to the gulls, who told of the wide and shining sea.\n\n"One day I will see it," said '
    "the boat. And so, when the rain had filled the river to its brim, it let go of the old wooden "
    "pier and went."
)

ANSWERS = {
    "hostile": HOSTILE,
    "markdown": MARKDOWN,
    "huge": "word *and* `code` " * 60_000,
    "stars": "*a **b _c [d](" * 72_000,
    "unbroken": "x" * 1_000_000,
    "list": "- a\n" * 250_000,
    "code": "```\n" + "    let mut value = table[index] + 1;\n" * 27_000,
    "rows": "| a | b |\n|---|---|\n" * 50_000,
}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        name = self.path.split("?")[0].lstrip("/") or "index.html"
        if name == "v1/models":
            if self.allowed():
                self.json(
                    200,
                    {
                        "object": "list",
                        "data": [
                            {"id": model, "object": "model", "context_length": CONTEXT}
                            for model in self.server.models
                        ],
                    },
                )
        elif name == "health":
            self.json(200, {"status": "ok"})
        elif (PAGE / name).is_file() and "/" not in name:
            body = (PAGE / name).read_bytes()
            self.send_response(200)
            self.send_header("Content-Type", f"{TYPES[PAGE.joinpath(name).suffix]}; charset=utf-8")
            self.send_header("Content-Security-Policy", POLICY)
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("Cache-Control", "no-store")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        else:
            self.json(404, {"error": {"message": "no such page"}})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, body))
        if not self.allowed():
            return
        if self.path == "/tokenize":
            self.json(200, {"tokens": list(range(len(body["content"]) // 4 + 1))})
        elif self.path == "/v1/chat/completions":
            self.chat(body)
        else:
            self.json(404, {"error": {"message": "no such page"}})

    def allowed(self):
        if self.server.key and self.headers.get("Authorization") != f"Bearer {self.server.key}":
            self.json(
                401,
                {
                    "error": {
                        "message": "the API key is missing or wrong",
                        "code": "invalid_api_key",
                    }
                },
            )
            return False
        return True

    def json(self, status, value, headers=()):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, text in headers:
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(body)

    def chat(self, body):
        last = body["messages"][-1]["content"]
        word = last.split()[0] if last.split() else ""
        failures = self.server.failures
        if failures and (status := failures.pop(0)) is not None:
            code = "context_length_exceeded" if status == 400 else None
            headers = [("Retry-After", "3")] if status == 429 else []
            self.json(
                status,
                {"error": {"message": f"asked to fail with {status}", "code": code}},
                headers,
            )
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        try:
            self.stream(word, ANSWERS.get(word) or STORY, len(json.dumps(body["messages"])) // 4)
        except OSError:
            self.server.gone += 1  # the client stopped listening

    def stream(self, word, text, prompt):
        size = 5000 if len(text) > 10_000 else 6
        pieces = [text[at : at + size] for at in range(0, len(text), size)]
        if word == "wait":
            time.sleep(3.5)
        for at, piece in enumerate(pieces):
            if word == "break" and at == 5:
                return  # without [DONE]
            if word == "garble" and at == 5:
                self.event("{this is no JSON")
                return
            if word == "die" and at == 5:
                self.event(
                    json.dumps({"error": {"message": "the model failed", "type": "server_error"}})
                )
                return
            self.event(
                json.dumps(
                    {"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]}
                )
            )
            if word == "slow":
                time.sleep(0.15)
            elif size == 6:
                time.sleep(self.server.pause)
        reason = "length" if word == "limit" else "stop"
        self.event(json.dumps({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}))
        usage = {
            "prompt_tokens": prompt,
            "completion_tokens": len(pieces),
            "total_tokens": prompt + len(pieces),
        }
        self.event(json.dumps({"choices": [], "usage": usage}))
        self.event("[DONE]")

    def event(self, data):
        self.wfile.write(f"data: {data}\n\n".encode())
        self.wfile.flush()


class MockServer(ThreadingHTTPServer):
    """Listens on 127.0.0.1.

    `failures` are statuses that the next chat requests get; None lets one pass.
    """

    daemon_threads = True

    def __init__(self, port=0):
        super().__init__(("127.0.0.1", port), Handler)
        self.address = f"http://127.0.0.1:{self.server_address[1]}/"
        self.reset()

    def reset(self):
        self.requests, self.failures, self.key, self.gone = [], [], None, 0
        self.models, self.pause = ["stories-q4_0"], 0.004

    def chats(self):
        return [body for path, body in self.requests if path == "/v1/chat/completions"]

    def start(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self


if __name__ == "__main__":
    server = MockServer(int(sys.argv[1]) if len(sys.argv) > 1 else 8123)
    print(server.address)
    server.pause = 0.03
    server.serve_forever()
