"""Decoding from Python against the `halfbyte` command of the same wheel, in turns.

    python benches/python.py MODEL.gguf [PAIRS]

Each turn is a process of its own that loads the model and generates; both report the time that the
library took, Python also the time that the caller saw, streaming piece by piece.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

PROMPT = "Once upon a time"
NEW_TOKENS = 64

PROGRAM = """
import json, sys, time, halfbyte
model = halfbyte.Model(sys.argv[1], threads=2)
options = dict(max_new_tokens=int(sys.argv[3]), seed=1, ignore_eos=True)
start = time.perf_counter()
done = model.generate(sys.argv[2], **options)
whole = time.perf_counter() - start - done.timings.prompt
stream = model.generate(sys.argv[2], stream=True, **options)
next(stream)
start = time.perf_counter()
for piece in stream:
    pass
print(json.dumps({"decode_s": whole, "stream_s": time.perf_counter() - start}))
"""


def rates(model: str) -> tuple[float, float, float]:
    """Tokens per second of the command, of Python, and of Python streaming."""
    options = ["-n", str(NEW_TOKENS), "--seed", "1", "--ignore-eos", "--threads", "2", "--json"]
    command = [sys.executable, "-m", "halfbyte", "generate", PROMPT, "-m", model, *options]
    program = [sys.executable, "-c", PROGRAM, model, PROMPT, str(NEW_TOKENS)]
    by_command = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    by_python = json.loads(subprocess.run(program, capture_output=True, check=True).stdout)
    seconds = by_command["decode_s"], by_python["decode_s"], by_python["stream_s"]
    command_rate, python_rate, stream_rate = ((NEW_TOKENS - 1) / s for s in seconds)
    return command_rate, python_rate, stream_rate


def main() -> None:
    """Prints each pair and the medians of the ratios."""
    model, pairs = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 15
    whole, streamed = [], []
    for pair in range(pairs):
        command, python, stream = rates(model)
        whole.append(python / command)
        streamed.append(stream / command)
        print(f"{pair + 1:3}: command {command:.2f}, Python {python:.2f}, stream {stream:.2f} tok/s")
    print(f"Python / command, median of {pairs}: {statistics.median(whole):.3f}")
    print(f"stream / command, median of {pairs}: {statistics.median(streamed):.3f}")


if __name__ == "__main__":
    main()
