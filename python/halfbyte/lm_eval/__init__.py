"""lm-evaluation-harness over halfbyte.

In a shell, where the options are lm-eval's own and ``--model halfbyte`` goes without saying::

    python -m halfbyte.lm_eval --tasks piqa,arc_easy --model_args path=model.gguf,cache_type=f32

In a program, importing this module registers the model::

    import lm_eval
    import halfbyte.lm_eval

    lm_eval.simple_evaluate(model="halfbyte", model_args="path=model.gguf", tasks=["piqa"])

It needs the package ``lm-eval`` (0.4.13 is tested). `docs/lm_eval.md` has the details.
"""

from __future__ import annotations

from halfbyte.eval._published import TASKS
from halfbyte.lm_eval._command import main
from halfbyte.lm_eval._model import HalfbyteLM

__all__ = ["TASKS", "HalfbyteLM", "main"]
