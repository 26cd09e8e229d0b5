"""
The native half of the package halfbyte; use `halfbyte` itself.
"""

from _typeshed import SupportsGetItem
from os import PathLike
from pathlib import Path
from typing import Any, Final, SupportsFloat, SupportsIndex, final

__all__ = ["__version__", "Adapter", "Chat", "Generation", "Model", "Session", "command", "inspect", "quantize"]

__version__: Final[str]
"""
The version of library and package.
"""

@final
class Adapter:
    """
    An open LoRA adapter; `halfbyte.Adapter` holds one.
    """
    def matrices(self, /) -> list[tuple[str, int, float]]:
        """
        (GGUF name, rank, scale) of each matrix that it changes.
        """
    @property
    def path(self, /) -> Path:
        """
        The file or folder.
        """

@final
class Chat:
    """
    A conversation; `halfbyte.Chat` holds one, and the messages.
    """
    def __new__(cls, /, model: Model, template_name: str | None, options: "dict[str, Any]") -> Chat:
        """
        A conversation by the model's own template, a built-in one's name, or a Jinja source. The
        options are checked and not kept: each answer brings its own.
        """
    def answer(self, /, messages: SupportsGetItem[int, tuple[str, str]], options: "dict[str, Any]", processor: Any | None) -> Generation:
        """
        Answers (role, content) messages.
        """
    def close(self, /) -> None:
        """
        Lets go of the session.
        """
    @property
    def closed(self, /) -> bool: ...
    def n_dropped(self, /) -> int:
        """
        Messages that the context had no room for in the last answer.
        """

@final
class Generation:
    """
    A running generation; `halfbyte.Stream` holds one.
    """
    def cancel(self, /) -> None:
        """
        Stops a running computation from another thread.
        """
    def close(self, /) -> None:
        """
        Ends it: the session is free again, with the tokens so far.
        """
    def finish(self, /) -> list[tuple[str, int, float | None, list[tuple[int, float]]]]:
        """
        All pieces that are left.
        """
    def next(self, /) -> tuple[str, int, float | None, list[tuple[int, float]]] | None:
        """
        The next piece, None at the end.
        """
    def report(self, /) -> tuple[str, str | None, str | None, tuple[int, int, int], tuple[float, float], int]:
        """
        What is known about it so far; while a thread computes, what was known before.
        """

@final
class Model:
    """
    A loaded model; `halfbyte.Model` holds one.
    """
    def __new__(cls, /, path: str | PathLike[str] | None, options: "dict[str, Any]") -> Model:
        """
        Opens a file or folder, or the embedded model for None.
        """
    def apply_chat_template(self, /, messages: SupportsGetItem[int, tuple[str, str]], template_name: str | None, add_generation_prompt: bool) -> str:
        """
        The prompt of (role, content) messages.
        """
    def close(self, /) -> None:
        """
        Lets go of the weights, as soon as running calls have ended.
        """
    @property
    def closed(self, /) -> bool: ...
    def detokenize(self, /, tokens: Any) -> str:
        """
        The text of token ids.
        """
    def embed(self, /, tokens: Any) -> bytearray:
        """
        The bytes of the float32 embedding (E) of token ids.
        """
    def encode_pair(self, /, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """
        The tokens of a context and of what follows it, cut as `log_likelihood` wants them.
        """
    def facts(self, /) -> "dict[str, Any]":
        """
        Facts about the model, by name.
        """
    def generate(self, /, prompt: Any, options: "dict[str, Any]", processor: Any | None) -> Generation:
        """
        A generation with a session of its own; the prompt is a text or token ids.
        """
    def generate_batch(self, /, prompts: SupportsGetItem[int, Any], options: "dict[str, Any]", processor: Any | None, progress: Any | None) -> list[tuple[list[tuple[str, int, float | None, list[tuple[int, float]]]], tuple[str, str | None, str | None, tuple[int, int, int], tuple[float, float], int]]]:
        """
        Completions of many prompts, texts or token ids, computed together.
        """
    def log_likelihood(self, /, pairs: Any, progress: Any | None) -> tuple[list[tuple[float, bool, int]], int]:
        """
        (sum, greedy, tokens) for each pair of token ids, and how many tokens were read.
        """
    def logits(self, /, tokens: Any) -> bytearray:
        """
        The bytes of the float32 logits (T, V) after each token.
        """
    def open_adapter(self, /, path: str | PathLike[str]) -> Adapter:
        """
        Opens a LoRA adapter for this model.
        """
    def perplexity(self, /, tokens: Any, window: Any, stride: Any, progress: Any | None) -> tuple[float, float, float, int]:
        """
        (value, mean, standard error, tokens) of the perplexity of token ids.
        """
    def session(self, /) -> Session:
        """
        A fresh session.
        """
    def token_bytes(self, /, token: Any) -> bytes:
        """
        The bytes that a token stands for.
        """
    def tokenize(self, /, text: str, add_bos: bool, special: bool) -> list[int]:
        """
        The token ids of a text.
        """
    def with_adapters(self, /, adapters: SupportsGetItem[int, tuple[Adapter, SupportsFloat | SupportsIndex]]) -> Model:
        """
        A model over the same weights with these adapters, each times its number.
        """

@final
class Session:
    """
    A session; `halfbyte.Session` holds one.
    """
    def append(self, /, text: str) -> None:
        """
        Appends a text and computes its keys and values.
        """
    def append_tokens(self, /, tokens: Any) -> None:
        """
        Appends token ids and computes their keys and values.
        """
    def cache_bytes(self, /) -> int:
        """
        Bytes of keys and values in memory.
        """
    def close(self, /) -> None:
        """
        Lets go of tokens, keys and values.
        """
    @property
    def closed(self, /) -> bool: ...
    def fork(self, /) -> Session:
        """
        An independent copy that goes on from here.
        """
    def generate(self, /, prompt: Any | None, options: "dict[str, Any]", processor: Any | None) -> Generation:
        """
        A generation; the prompt is the whole text, or token ids, or None to go on.
        """
    def load(self, /, path: str | PathLike[str]) -> None:
        """
        Replaces the session by one from a file.
        """
    def save(self, /, path: str | PathLike[str]) -> None:
        """
        Writes the session to a file.
        """
    def set_adapters(self, /, adapters: SupportsGetItem[int, tuple[Adapter, SupportsFloat | SupportsIndex]]) -> None:
        """
        Reads tokens with these adapters, each times its number, from here on.
        """
    def text(self, /) -> str:
        """
        The text so far; special tokens are left out.
        """
    def tokens(self, /) -> list[int]:
        """
        The token ids so far.
        """
    def truncate(self, /, n_tokens: Any) -> None:
        """
        Forgets all tokens from `n_tokens` on.
        """

def command(args: SupportsGetItem[int, str]) -> int:
    """
    Runs the `halfbyte` command and returns its exit status.
    """

def inspect(path: str | PathLike[str] | None) -> "dict[str, Any]":
    """
    What a model file holds, without loading it; the embedded model for None.
    """

def quantize(source: str | PathLike[str], destination: str | PathLike[str], kind: str, adapters: SupportsGetItem[int, tuple[str | PathLike[str], SupportsFloat | SupportsIndex]], progress: Any | None) -> tuple[int, int, int, int, list[str]]:
    """
    Writes a checkpoint as a GGUF file with its matrices in another encoding, LoRA adapters, given as
    paths with scales, added first.
    """
