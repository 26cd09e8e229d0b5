"""`halfbyte.lm_eval` against transformers: the same requests, and the same answers to them.

Needs lm-eval, transformers, torch and the shared data; HALFBYTE_EVAL_ITEMS is how many items
of each task are scored (all 200 take transformers about ten minutes for each model on two cores).
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from conftest import SHARED, skip_without

pytest.importorskip("lm_eval", reason="lm-eval is not installed: pip install lm-eval")

N_ITEMS = int(os.environ.get("HALFBYTE_EVAL_ITEMS", "6"))

#: Where lm-eval keeps its own task of that name.
THEIRS = {
    "boolq": "super_glue/boolq/default.yaml",
    "piqa": "piqa/piqa.yaml",
    "hellaswag": "hellaswag/hellaswag.yaml",
    "winogrande": "winogrande/default.yaml",
    "arc_easy": "arc/arc_easy.yaml",
    "arc_challenge": "arc/arc_challenge.yaml",
    "openbookqa": "openbookqa/openbookqa.yaml",
}

MODELS = {
    "gptj-1k": SHARED / "ggml" / "gptj-1k-hf",
    "llama-1k": SHARED / "ggml" / "llama-1k-hf",
    "stories": SHARED.parent / "demo" / "gptj-stories",
}


@pytest.fixture(autouse=True)
def quiet_and_offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    logging.getLogger("lm_eval").setLevel(logging.ERROR)


@pytest.fixture(scope="module")
def items() -> Path:
    return skip_without(SHARED / "eval")


def requests(task: Any) -> list[tuple[str, str]]:
    task.build_all_requests(limit=None, rank=0, world_size=1)
    return [instance.args for instance in task.instances]


def test_the_tasks_ask_what_those_of_the_harness_ask(items: Path, tmp_path: Path) -> None:
    import lm_eval.tasks

    from halfbyte.lm_eval import TASKS
    from halfbyte.lm_eval._command import local_tasks

    assert set(TASKS) == set(THEIRS)
    with local_tasks(items) as folder:
        ours = lm_eval.tasks.TaskManager(include_path=str(folder)).load(list(TASKS))["tasks"]
    for task, source in THEIRS.items():
        official = Path(lm_eval.tasks.__file__).parent / source
        split = "test" if ours[task].config.test_split else "validation"
        local: dict[str, Any] = {
            "dataset_path": "json",
            "dataset_name": None,
            "dataset_kwargs": {"data_files": {split: str(items / f"{task}.jsonl")}},
            "training_split": None,
            "validation_split": None,
            "test_split": None,
            f"{split}_split": split,
        }
        lines = [f"{key}: {json.dumps(value)}" for key, value in local.items()]
        (tmp_path / "task.yaml").write_text("\n".join([f"include: {official}", *lines]))
        theirs = lm_eval.tasks.TaskManager(include_path=str(tmp_path)).load([task])["tasks"][task]
        assert requests(ours[task]) == requests(theirs), task
        metrics = [[one["metric"] for one in t.config.metric_list] for t in (ours[task], theirs)]
        assert metrics[0] == metrics[1], task


def reference(path: Path) -> Any:
    """The model by transformers, in f32."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    from lm_eval.models.huggingface import HFLM

    model = transformers.AutoModelForCausalLM.from_pretrained(
        path, dtype=torch.float32, attn_implementation="eager"
    )
    if (path / "tokenizer.model").exists():
        tokenizer = transformers.LlamaTokenizer.from_pretrained(path)
    else:
        vocabulary = json.loads((path / "tokenizer.json").read_text())
        names = {token["id"]: token["content"] for token in vocabulary["added_tokens"]}
        end = names[json.loads((path / "config.json").read_text())["eos_token_id"]]
        tokenizer = transformers.PreTrainedTokenizerFast(
            tokenizer_file=str(path / "tokenizer.json"), bos_token=end, eos_token=end
        )
    return HFLM(pretrained=model.eval(), tokenizer=tokenizer, batch_size=8, device="cpu")


def evaluated(lm: Any, items: Path) -> dict[str, list[dict[str, Any]]]:
    import lm_eval
    from lm_eval.tasks import TaskManager

    from halfbyte.lm_eval import TASKS
    from halfbyte.lm_eval._command import local_tasks

    with local_tasks(items) as folder:
        found = lm_eval.simple_evaluate(
            model=lm, tasks=list(TASKS), task_manager=TaskManager(include_path=str(folder)),
            limit=N_ITEMS, log_samples=True, bootstrap_iters=0,
        )  # fmt: skip
    samples: dict[str, list[dict[str, Any]]] = found["samples"]
    return {task: sorted(samples[task], key=lambda one: one["doc_id"]) for task in samples}


@pytest.mark.parametrize("name", MODELS)
def test_scores_are_those_of_transformers(name: str, items: Path) -> None:
    path = skip_without(MODELS[name])
    theirs = evaluated(reference(path), items)

    from halfbyte.lm_eval import HalfbyteLM

    ours = evaluated(HalfbyteLM(str(path), cache_type="f32"), items)
    assert ours.keys() == theirs.keys()
    for task, expected in theirs.items():
        assert [one["doc_id"] for one in ours[task]] == [one["doc_id"] for one in expected]
        for mine, one in zip(ours[task], expected):
            a, b = ([float(answer[0][0]) for answer in s["resps"]] for s in (mine, one))
            assert a == pytest.approx(b, abs=1e-3, rel=0), (task, one["doc_id"])
            ordered = sorted(b)
            if ordered[-1] - ordered[-2] >= 2e-3:
                assert mine["acc"] == one["acc"], (task, one["doc_id"])
