"""A map of topics: groups of texts with names, and a place in the plane for each text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from halfbyte._extras import need
from halfbyte.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

#: How places in the plane are found.
LAYOUTS = ("tsne", "umap")

#: Texts whose places are found together, which takes time of more than their number; others are
#: laid among those that are nearest to them.
ANCHORS = 2000

#: Topics, and the words that name each.
TOPICS = 20
WORDS = 3


class Topics(NamedTuple):
    """Where each text lies, and what it is about."""

    #: (n, 2).
    places: Floats
    #: A topic's number for each text.
    topic: npt.NDArray[np.int64]
    #: The words that tell a topic from the others.
    names: list[str]


def topics(
    vectors: Floats, texts: Sequence[str], *, layout: str = "tsne", anchors: int = ANCHORS
) -> Topics:
    """Groups ``texts`` by their ``vectors``, (n, d) of length 1, and draws them into a plane."""
    import numpy as np

    if layout not in LAYOUTS:
        raise ConfigError(f"unknown layout {layout!r}: there are {', '.join(LAYOUTS)}", "layout")
    n = len(vectors)
    if n == 0:
        return Topics(np.zeros((0, 2), np.float32), np.zeros(0, np.int64), [])
    topic = _groups(vectors)
    chosen = np.random.default_rng(0).permutation(n)[:anchors]
    places = np.zeros((n, 2), dtype=np.float32)
    places[chosen] = _plane(vectors[chosen], layout)
    rest = np.setdiff1d(np.arange(n), chosen)
    if len(rest):
        places[rest] = _between(vectors[rest], vectors[chosen], places[chosen])
    return Topics(places, topic, _names(texts, topic))


def _groups(vectors: Floats) -> npt.NDArray[np.int64]:
    import numpy as np

    clusters: Any = need("sklearn.cluster", "curate")
    k = max(1, min(TOPICS, len(vectors) // 5))
    groups = clusters.MiniBatchKMeans(k, random_state=0, n_init=1, batch_size=2048, max_iter=20)
    some = np.random.default_rng(0).permutation(len(vectors))[:10_000]
    found = groups.fit(vectors[some]).predict(vectors)
    # The largest topic first; no number without a text.
    _, found, counts = np.unique(found, return_inverse=True, return_counts=True)
    rank = np.argsort(np.argsort(-counts, kind="stable"))
    numbers: npt.NDArray[np.int64] = rank[found]
    return numbers


def _plane(vectors: Floats, layout: str) -> Floats:
    """Places of a few thousand vectors, about 0 and of size about 1."""
    import numpy as np

    n = len(vectors)
    if n < 5:
        return np.array([[i, 0] for i in range(n)], dtype=np.float32)
    if layout == "umap":
        found = need("umap", "curate").UMAP(random_state=0, n_jobs=1).fit_transform(vectors)
    else:
        decomposition: Any = need("sklearn.decomposition", "curate")
        manifold: Any = need("sklearn.manifold", "curate")
        dimensions = min(50, *vectors.shape)
        narrow = decomposition.PCA(dimensions, random_state=0).fit_transform(vectors)
        perplexity = min(30.0, (n - 1) / 3)
        plane = manifold.TSNE(perplexity=perplexity, init="pca", random_state=0, max_iter=400)
        found = plane.fit_transform(narrow)
    found = found - np.median(found, axis=0)
    size = max(float(np.abs(found).max()), 1e-12)
    places: Floats = (found / size).astype(np.float32)
    return places


def _between(vectors: Floats, anchors: Floats, places: Floats) -> Floats:
    """The middle of the nearest three anchors, the nearest one counting most."""
    import numpy as np

    neighbours: Any = need("sklearn.neighbors", "curate")
    index = neighbours.NearestNeighbors(n_neighbors=min(3, len(anchors)), algorithm="brute")
    distances, nearest = index.fit(anchors).kneighbors(vectors)
    weights = 1 / (distances**2 + 1e-3)
    weights /= weights.sum(axis=1, keepdims=True)
    middle: Floats = np.einsum("ij,ijk->ik", weights, places[nearest]).astype(np.float32)
    return middle


def _names(texts: Sequence[str], topic: npt.NDArray[np.int64]) -> list[str]:
    """For each topic the words that are frequent in it and rare elsewhere."""
    import numpy as np

    feature: Any = need("sklearn.feature_extraction.text", "curate")
    k = int(topic.max()) + 1
    words = feature.CountVectorizer(binary=True, stop_words="english", max_features=20_000,
                                    token_pattern=r"(?u)\b[^\W\d_]{3,}\b")  # fmt: skip
    try:
        counts = words.fit_transform(texts)
    except ValueError:
        return [f"topic {i + 1}" for i in range(k)]
    spelled = words.get_feature_names_out()
    overall = np.asarray(counts.mean(axis=0)).ravel()
    names = []
    for i in range(k):
        share = np.asarray(counts[topic == i].mean(axis=0)).ravel()
        # How much more frequent, weighted by how frequent, of which the former counts more.
        score = np.sqrt(share) * np.log((share + 1e-9) / (overall + 1e-4))
        best = [j for j in np.argsort(-score, kind="stable")[:WORDS] if score[j] > 0]
        names.append(", ".join(spelled[j] for j in best) or f"topic {i + 1}")
    return names
