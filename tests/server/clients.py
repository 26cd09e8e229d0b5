"""Many clients at once: the same answers as alone, and how fast.

HALFBYTE_URL is the server's address. Prints tokens per second of one client and of all together,
and how long a short prompt's first token takes meanwhile.
"""

import argparse
import http.client
import json
import os
import threading
import time
from urllib.parse import urlsplit

ADDRESS = urlsplit(os.environ["HALFBYTE_URL"])


def connect() -> http.client.HTTPConnection:
    return http.client.HTTPConnection(ADDRESS.hostname, ADDRESS.port, timeout=600)


def post(body: dict) -> dict:
    connection = connect()
    text = json.dumps(body)
    connection.request("POST", "/v1/completions", text, {"Content-Type": "application/json"})
    response = connection.getresponse()
    answer = json.loads(response.read())
    assert response.status == 200, answer
    return answer


def first_token(prompt: str) -> float:
    """Seconds to the first token of a short prompt."""
    connection = connect()
    body = json.dumps({"prompt": prompt, "max_tokens": 2, "stream": True, "logprobs": 0})
    start = time.monotonic()
    connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    response.read(20)
    seconds = time.monotonic() - start
    response.read()
    return seconds


def requests(n: int, tokens: int) -> list[dict]:
    story = "The dog and the cat went to the river to swim. "
    return [
        {
            "prompt": f"{i}. Once upon a time" if i % 2 else story * (i % 8) + f"Then, {i}",
            "max_tokens": tokens,
            "seed": i,
            "temperature": 0.8,
            "logprobs": 1,
            "ignore_eos": True,
        }
        for i in range(n)
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--alone", type=int, default=32, help="how many are asked alone, too")
    args = parser.parse_args()
    bodies = requests(args.clients, args.tokens)
    start = time.monotonic()
    alone = [post(body)["choices"] for body in bodies[: args.alone]]
    one = len(alone) * args.tokens / (time.monotonic() - start)

    together: list = [None] * args.clients
    started, delays = threading.Barrier(args.clients + 1), []

    def ask(i: int) -> None:
        started.wait()
        together[i] = post(bodies[i])["choices"]

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(args.clients)]
    for thread in threads:
        thread.start()
    started.wait()
    start = time.monotonic()
    for thread in threads:
        thread.join()
    all_of_them = args.clients * args.tokens / (time.monotonic() - start)
    for i, choices in enumerate(alone):
        assert together[i] == choices, (i, together[i], choices)

    # Once more, while somebody with a short prompt comes every half second.
    threads = [threading.Thread(target=post, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        delays.append(first_token("Hello"))
        time.sleep(0.5)
    print(f"{len(alone)} answers are bit for bit those given alone")
    times = all_of_them / one
    print(f"one client: {one:.1f} tokens/s; {args.clients}: {all_of_them:.1f} ({times:.2f}x)")
    delays.sort()
    middle = delays[len(delays) // 2]
    print(
        f"first token of a short prompt meanwhile: median {middle:.3f} s, worst {delays[-1]:.3f} s"
    )


main()
