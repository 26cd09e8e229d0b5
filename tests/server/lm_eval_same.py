"""lm-eval's `local-completions` against a server: the log-likelihoods of `HalfbyteLM`.

HALFBYTE_URL is the address of a server over the model that is the first argument; the second one is
the folder with the tasks' items, the third one how many of each are asked. With a fourth one, a
Hugging Face tokenizer's folder, the tokens are made by that, with BOS, instead of by the server.
"""

import logging
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
URL = os.environ["HALFBYTE_URL"]

import lm_eval  # noqa: E402
from halfbyte.lm_eval import TASKS, HalfbyteLM  # noqa: E402
from halfbyte.lm_eval._command import local_tasks  # noqa: E402
from lm_eval.models.openai_completions import LocalCompletionsAPI  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402

MODEL, ITEMS, N = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
TOKENIZER = sys.argv[4] if len(sys.argv) > 4 else None


def evaluated(lm: object) -> dict[str, list[dict]]:
    with local_tasks(ITEMS) as folder:
        found = lm_eval.simple_evaluate(
            model=lm,
            tasks=list(TASKS),
            task_manager=TaskManager(include_path=str(folder)),
            limit=N,
            log_samples=True,
            bootstrap_iters=0,
        )
    samples = found["samples"]
    return {task: sorted(samples[task], key=lambda one: one["doc_id"]) for task in samples}


def main() -> None:
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    own = HalfbyteLM(MODEL)
    if TOKENIZER is None:
        backend = {"tokenizer_backend": "remote"}
    else:
        backend = {
            "tokenizer_backend": "huggingface",
            "tokenizer": TOKENIZER,
            "add_bos_token": True,
        }
    theirs = LocalCompletionsAPI(
        model="any",
        base_url=f"{URL}/v1/completions",
        max_length=own.max_length,
        batch_size=8,
        num_concurrent=1,
        **backend,
    )
    ours, others = evaluated(own), evaluated(theirs)
    n, worst, cut = 0, 0.0, 0
    for task, samples in ours.items():
        assert len(samples) == len(others[task]) >= min(N, 1), task
        for mine, one in zip(samples, others[task], strict=True):
            assert mine["doc_id"] == one["doc_id"]
            for (a, greedy), (b, other) in zip(
                (answer[0] for answer in mine["resps"]),
                (answer[0] for answer in one["resps"]),
                strict=True,
            ):
                difference = abs(float(a) - float(b))
                # The harness cuts what does not fit by one token more for a server.
                if difference > 1e-5 and too_long(own, mine):
                    cut += 1
                    continue
                assert difference <= 1e-5, (task, mine["doc_id"], a, b)
                assert str(greedy) == str(other), (task, mine["doc_id"], greedy, other)
                n, worst = n + 1, max(worst, difference)
    assert n > cut, (n, cut)
    print(
        f"{n} log-likelihoods of {len(ours)} tasks differ by {worst:.2e} at most ({cut} were cut)"
    )


def too_long(lm: HalfbyteLM, sample: dict) -> bool:
    texts = ["".join(argument) for argument in sample["arguments"]]
    return any(len(lm.tok_encode(text)) >= lm.max_length for text in texts)


main()
