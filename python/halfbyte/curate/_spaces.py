"""Texts as vectors in which near means alike, by words or by a model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from halfbyte._extras import need
from halfbyte._progress import Progress, reporter

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from halfbyte._model import Model

    Floats = npt.NDArray[np.float32]
    Ints = npt.NDArray[np.int64]

#: Dimensions of the singular value decomposition of word counts.
SVD_DIMENSIONS = 128

#: Dimensions of a model's states that are kept.
MODEL_DIMENSIONS = 256

#: Dimensions in which their neighbours are looked for: a random projection, which keeps cosines
#: within about a tenth, while those of texts that have nothing in common are about 0.
SEARCH_DIMENSIONS = 96

#: Words that are told apart: the most frequent ones.
MAX_WORDS = 100_000


class Space(Protocol):
    """Vectors of texts."""

    #: From where on two texts say the same.
    threshold: float
    #: Vectors of length 1 in which neighbours are looked for, (n, d).
    search: Floats
    #: Seconds that making them took.
    seconds: float

    def similarity(self, left: Ints, right: Ints) -> Floats:
        """The cosine of each pair of texts."""

    def matrix(self, texts: Ints) -> Floats:
        """The cosine of each of ``texts`` with each, (n, n)."""


class TfidfSpace:
    """Words that are rare elsewhere count more; neighbours are looked for after an SVD."""

    threshold = 0.7

    def __init__(self, texts: Sequence[str], dimensions: int = SVD_DIMENSIONS) -> None:
        import numpy as np

        decomposition = need("sklearn.decomposition", "curate")
        feature = need("sklearn.feature_extraction.text", "curate")
        start = time.perf_counter()
        words = feature.TfidfVectorizer(
            sublinear_tf=True, dtype=np.float32, max_features=MAX_WORDS,
            token_pattern=r"(?u)\b\w+\b",
        )  # fmt: skip
        try:
            self.rows: Any = words.fit_transform(texts)
        except ValueError:
            # Not one word in all of them: their signs.
            words.set_params(token_pattern=r"(?u)\S")
            self.rows = words.fit_transform(texts)
        dimensions = min(dimensions, self.rows.shape[1] - 1, len(texts) - 1)
        if dimensions >= 2:
            svd = decomposition.TruncatedSVD(dimensions, n_iter=2, random_state=0)
            self.search = unit(svd.fit_transform(self.rows))
        else:
            self.search = unit(self.rows.toarray())
        self.seconds = time.perf_counter() - start

    def similarity(self, left: Ints, right: Ints) -> Floats:
        """The cosine of each pair of texts in all words."""
        import numpy as np

        products = self.rows[left].multiply(self.rows[right])
        return np.asarray(products.sum(axis=1), dtype=np.float32).ravel()

    def matrix(self, texts: Ints) -> Floats:
        """The cosine of each of ``texts`` with each in all words."""
        rows = self.rows[texts]
        found: Floats = (rows @ rows.T).toarray()
        return found


class ModelSpace:
    """The means of a model's last hidden states, whitened."""

    threshold = 0.64

    def __init__(
        self, texts: Sequence[str], model: Model, *, progress: Progress = None
    ) -> None:  # fmt: skip
        import numpy as np

        start = time.perf_counter()
        rows = embed(texts, model, progress)
        self.seconds = time.perf_counter() - start
        self.vectors = whitened(rows)
        self.search = self.vectors
        if self.vectors.shape[1] > SEARCH_DIMENSIONS:
            draw = np.random.default_rng(0).normal(size=(self.vectors.shape[1], SEARCH_DIMENSIONS))
            self.search = unit(self.vectors @ draw.astype(np.float32))

    def similarity(self, left: Ints, right: Ints) -> Floats:
        """The cosine of each pair of texts."""
        import numpy as np

        found: Floats = np.einsum("ij,ij->i", self.vectors[left], self.vectors[right])
        return found

    def matrix(self, texts: Ints) -> Floats:
        """The cosine of each of ``texts`` with each."""
        rows = self.vectors[texts]
        found: Floats = rows @ rows.T
        return found


def embed(texts: Sequence[str], model: Model, progress: Progress = None) -> Floats:
    """The model's embeddings, (n, E), of as much of each text as fits in its context."""
    import numpy as np

    heard = reporter(progress, "embedding", "texts")
    rows = np.empty((len(texts), model.hidden_size), dtype=np.float32)
    for i, text in enumerate(texts):
        rows[i] = model.embed(model.tokenize(text)[: model.context_length])
        if heard is not None:
            heard(i + 1, len(texts))
    return rows


def whitened(rows: Floats) -> Floats:
    """``rows`` less their mean, stretched alike in their `MODEL_DIMENSIONS` widest directions.

    The states of all texts point almost the same way, and what tells two texts apart is small:
    without this the ROC's area on the planted set of `docs/curate.md` is below one half.

    Source: Su et al., "Whitening Sentence Representations for Better Semantics", 2021.
    """
    import numpy as np

    rows = rows - rows.mean(axis=0)
    spread, axes = np.linalg.eigh(rows.T @ rows / max(len(rows), 1))
    widest = slice(None, -MODEL_DIMENSIONS - 1, -1)
    # Directions in which few texts differ by little would be all noise.
    scale = np.sqrt(np.maximum(spread[widest], 0) + 1e-6 * max(float(spread[-1]), 1e-30))
    return unit(rows @ axes[:, widest] / scale)


def unit(rows: Any) -> Floats:
    """``rows`` of length 1, zeros as they are."""
    import numpy as np

    rows = np.ascontiguousarray(rows, dtype=np.float32)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    found: Floats = rows / np.maximum(lengths, np.float32(1e-12))
    return found
