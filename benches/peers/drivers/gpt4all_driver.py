"""gpt4all: it takes text only, so its prompt is a text; it says how many tokens that gave."""

import random
from pathlib import Path
from time import perf_counter

import gpt4all

from common import drive

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def measure(arguments):
    path = Path(arguments.model)
    program = gpt4all.GPT4All(path.name, model_path=str(path.parent), allow_download=False,
                              device="cpu", n_ctx=2048, n_threads=arguments.threads)
    run(program.model, 16, 2)
    n_prompt, prompt, _, _ = run(program.model, arguments.prompt_tokens, 1)
    _, _, n_new, decode = run(program.model, 1, arguments.new_tokens + 1)
    if n_new < arguments.new_tokens // 4:
        raise RuntimeError(f"it ended its text after {n_new} tokens")
    note = f"its prompt had {n_prompt} tokens, and it sampled the {n_new} that it decoded"
    return {"prompt_tok_s": n_prompt / prompt, "decode_tok_s": n_new / decode, "note": note}


def run(model, n_words, n_new):
    """Tokens and seconds of a prompt of letters, and of what is written after the first token."""
    numbers = random.Random(1)
    text = " ".join(numbers.choice(LETTERS) for _ in range(n_words))
    times = {"prompt": [], "new": []}

    def heard(kind):
        def callback(*_):
            times[kind].append(perf_counter())
            return True
        return callback

    model._prompt_callback = heard("prompt")
    start = perf_counter()
    model.prompt_model(text, "%1", heard("new"), n_predict=n_new, top_k=1, temp=0.0,
                       n_batch=512, repeat_penalty=1.0, reset_context=True)
    prompt, new = times["prompt"], times["new"]
    if not prompt or not new:
        raise RuntimeError("it writes nothing")
    return len(prompt), prompt[-1] - start, len(new) - 1, new[-1] - new[0]


drive("gpt4all", measure)
