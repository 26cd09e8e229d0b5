"""Batch inference over a cluster with Ray Data: one model for each worker, mapped from disk.

    pip install halfbyte "ray[data]"
    python examples/ray_batch.py prompts.jsonl answers --model MODEL.gguf --workers 2

`prompts.jsonl` holds one {"prompt": …} a line; `answers/` gets the same lines with "text". Each
worker maps the model's file, whose path must be the same on every machine, and holds the weights in
memory once: one worker with many threads for each machine takes the least. With a seed the texts do
not depend on the number of workers, threads or machines.
"""

from __future__ import annotations

import argparse
import os
from typing import Any, Optional

import halfbyte
import ray
import ray.data


class Writer:
    """A worker: opens the model once, then answers batch after batch."""

    def __init__(self, path: Optional[str], threads: int, options: dict[str, Any]) -> None:
        self.model = halfbyte.Model(path, threads=threads)
        self.options = options

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        prompts = [str(prompt) for prompt in batch["prompt"]]
        done = self.model.generate_batch(prompts, **self.options)
        batch["text"] = [one.text for one in done]
        batch["finish_reason"] = [one.finish_reason for one in done]
        return batch


def main() -> None:
    """Answers a file of prompts."""
    parser = argparse.ArgumentParser(description="Answers a file of prompts with Ray Data.")
    parser.add_argument("prompts", help="a file of JSON lines with the key 'prompt'")
    parser.add_argument("answers", help="the folder to write JSON lines to")
    parser.add_argument("--model", help="a model that every machine can read (default: the inner)")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="of each worker")
    parser.add_argument("--batch-size", type=int, default=64, help="prompts computed together")
    parser.add_argument("--max-new-tokens", type=int, default=128)
    parser.add_argument("--seed", type=int)
    given = parser.parse_args()
    options = {"max_new_tokens": given.max_new_tokens, "seed": given.seed}

    # Joins the cluster that RAY_ADDRESS names, or starts one on this machine. Reading and writing
    # need a place beside the workers, or these would wait for prompts for ever.
    joins = "RAY_ADDRESS" in os.environ
    ray.init(num_cpus=None if joins else given.workers * given.threads + 1)
    answers = ray.data.read_json(given.prompts, lines=True).map_batches(
        Writer,
        fn_constructor_args=(given.model, given.threads, options),
        batch_size=given.batch_size,
        num_cpus=given.threads,
        concurrency=given.workers,
    )
    answers.write_json(given.answers)


if __name__ == "__main__":
    main()
