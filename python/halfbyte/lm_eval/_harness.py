"""What is used of lm-eval, typed: the package has no types, and may not be there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from typing_extensions import Self

    Window = tuple[list[int], list[int]]
    Class = TypeVar("Class", bound=type)

    class Instance(Protocol):
        """A request: its arguments depend on its kind."""

        @property
        def args(self) -> tuple[Any, ...]: ...

    class CacheHook(Protocol):
        """Where answers are kept as they come, so that an interrupted run can go on."""

        def add_partial(self, attr: str, req: Any, res: Any) -> None: ...

    class TemplateLM:
        """The base class of models that score tokens."""

        cache_hook: CacheHook
        backend: str

        def loglikelihood(
            self, requests: list[Instance], disable_tqdm: bool = False
        ) -> list[tuple[float, bool]]: ...

    class Bar:
        """A progress bar."""

        n: int

        def __init__(self, *, total: int, desc: str, disable: bool) -> None: ...
        def update(self, n: int) -> object: ...
        def __enter__(self) -> Self: ...
        def __exit__(
            self,
            kind: type[BaseException] | None,
            value: BaseException | None,
            traceback: TracebackType | None,
        ) -> None: ...

    def register_model(*names: str) -> Callable[[Class], Class]: ...
    def get_rolling_token_windows(
        token_list: list[int], prefix_token: int, max_seq_len: int, context_len: int
    ) -> Iterable[Window]: ...
    def make_disjoint_window(pair: Window) -> Window: ...
    def cli_evaluate() -> None: ...

else:
    try:
        from lm_eval.__main__ import cli_evaluate
        from lm_eval.api.model import TemplateLM
        from lm_eval.api.registry import register_model
        from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
        from tqdm import tqdm as Bar
    except ImportError as error:
        raise ImportError(
            f"halfbyte.lm_eval needs lm-evaluation-harness: pip install lm-eval ({error})"
        ) from error

__all__ = [
    "Bar",
    "TemplateLM",
    "cli_evaluate",
    "get_rolling_token_windows",
    "make_disjoint_window",
    "register_model",
]
