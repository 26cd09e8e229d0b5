"""What drivers share: their options, the tokens, and how they say what they found.

A driver prints one JSON object in the end: version, prompt_tok_s, decode_tok_s and perhaps a
note; or error. Loading is outside of what it times, and so is a short pass that warms it up.
"""

import argparse
import json
import os
import random
import sys
from importlib import metadata
from time import perf_counter


def drive(package, measure):
    """Calls measure(arguments), which returns the speeds by name."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--prompt-tokens", type=int, required=True)
    parser.add_argument("--new-tokens", type=int, required=True)
    parser.add_argument("--scratch", required=True)
    try:
        found = measure(parser.parse_args())
        found["version"] = metadata.version(package)
    except Exception as error:
        found = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
    # A line of its own, whatever the library wrote before.
    print("\n" + json.dumps(found), flush=True)
    # Without the library's destructors, some of which crash.
    sys.stderr.flush()
    os._exit(1 if "error" in found else 0)


def tokens(n_vocab, n):
    """The same `n` ids in every program: random, above the bytes and control tokens."""
    numbers = random.Random(1)
    return [numbers.randrange(min(300, n_vocab // 2), n_vocab - 1) for _ in range(n)]


def speeds(feed, n_vocab, arguments):
    """Times feed(ids, first), a pass over ids; `first` says that a new sequence begins."""
    ids = tokens(n_vocab, max(arguments.prompt_tokens, arguments.new_tokens + 1))
    feed(ids[:16], True)
    feed(ids[:1], False)
    start = perf_counter()
    feed(ids[:arguments.prompt_tokens], True)
    prompt = perf_counter() - start
    feed(ids[:1], True)
    start = perf_counter()
    for token in ids[1:arguments.new_tokens + 1]:
        feed([token], False)
    decode = perf_counter() - start
    return {
        "prompt_tok_s": arguments.prompt_tokens / prompt,
        "decode_tok_s": arguments.new_tokens / decode,
    }
