"""Texts that say what an earlier one said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Optional

from halfbyte._extras import need
from halfbyte._progress import Progress, reporter
from halfbyte.curate._spaces import Space

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

#: Neighbours of each text whose similarity is computed exactly.
CANDIDATES = 10

#: Texts that are looked up together: each is compared with all that stayed before and with all of
#: the block, so that memory grows with the number of texts and not with its square.
BLOCK = 2048


class Duplicate(NamedTuple):
    """A text that repeats an earlier one."""

    text: int
    #: The earlier text, which stays.
    repeats: int
    similarity: float


def near_duplicates(
    space: Space, threshold: Optional[float] = None, *, progress: Progress = None
) -> list[Duplicate]:
    """The texts whose similarity to an earlier one that stays is at least ``threshold``.

    Nobody goes because of a text that went itself, so there are no chains from one meaning to
    another. Deterministic.
    """
    import numpy as np

    threshold = space.threshold if threshold is None else threshold
    heard = reporter(progress, "comparing", "texts")
    n = len(space.search)
    kept = np.empty(0, dtype=np.int64)
    found: list[Duplicate] = []
    for start in range(0, n, BLOCK):
        block = np.arange(start, min(start + BLOCK, n))
        before = _nearest(space, block, kept)
        fresh = [i for i, best in zip(block, before) if best is None or best[1] < threshold]
        found += [
            Duplicate(int(i), *best)
            for i, best in zip(block, before)
            if best is not None and best[1] >= threshold
        ]
        stay = _among(space, np.array(fresh, dtype=np.int64), threshold, found)
        kept = np.concatenate([kept, stay])
        if heard is not None:
            heard(int(block[-1]) + 1, n)
    return sorted(found)


def _nearest(
    space: Space, texts: npt.NDArray[np.int64], others: npt.NDArray[np.int64]
) -> list[Optional[tuple[int, float]]]:
    """The most similar of ``others`` for each of ``texts``, and how similar."""
    if not len(others) or not len(texts):
        return [None] * len(texts)
    candidates = others[_neighbours(space, texts, others)]
    scores = _scores(space, texts, candidates)
    best = scores.argmax(axis=1)
    return [(int(candidates[i, b]), float(scores[i, b])) for i, b in enumerate(best)]


def _among(
    space: Space, texts: npt.NDArray[np.int64], threshold: float, found: list[Duplicate]
) -> npt.NDArray[np.int64]:
    """Those of ``texts`` that repeat none before them; the others are added to ``found``."""
    import numpy as np

    cosines = space.matrix(texts)
    stay = np.zeros(len(texts), dtype=bool)
    for i, text in enumerate(texts.tolist()):
        row = np.where(stay[:i], cosines[i, :i], -1)
        best = int(row.argmax()) if i else 0
        if i and row[best] >= threshold:
            found.append(Duplicate(text, int(texts[best]), float(row[best])))
        else:
            stay[i] = True
    return texts[stay]


def _neighbours(
    space: Space, texts: npt.NDArray[np.int64], others: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Places in ``others`` of the candidates for each of ``texts``."""
    neighbours: Any = need("sklearn.neighbors", "curate")
    # Of vectors of length 1 those at the smallest distance have the largest cosine.
    index = neighbours.NearestNeighbors(n_neighbors=min(CANDIDATES, len(others)), algorithm="brute")
    index.fit(space.search[others])
    found: npt.NDArray[np.int64] = index.kneighbors(space.search[texts], return_distance=False)
    return found


def _scores(
    space: Space, texts: npt.NDArray[np.int64], candidates: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    import numpy as np

    left = np.repeat(texts, candidates.shape[1])
    return space.similarity(left, candidates.ravel()).reshape(candidates.shape)
