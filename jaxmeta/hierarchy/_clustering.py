"""Recursive clustering: clusters that keep classes whole become groups of concepts, and each group
is clustered again.

The papers' own formulas of cohesion and dispersion are not public; these are ours.
`C` concepts, `K` clusters, `n` examples, `d` features.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Sequence

import numpy as np
from jaxtyping import Float

from jaxmeta import _check, _extras, _index
from jaxmeta._random import generator
from jaxmeta.base import Examples
from jaxmeta.hierarchy._class_data import checked
from jaxmeta.hierarchy._dag import Dag
from jaxmeta.hierarchy._tree import Tree

_ENOUGH = (
    100_000  # iterations, of which some ten are needed: a limit that is reached would go unsaid
)


def cohesion(contingency: Float[np.ndarray, "C K"]) -> Float[np.ndarray, " C"]:
    """How much of a class is in its largest cluster: `max_k P(k | c)`, from 1/K to 1.

    Args:
      contingency: Examples of class c in cluster k.

    >>> cohesion([[3, 1], [0, 5]]).tolist()
    [0.75, 1.0]
    """
    return _shares(contingency).max(axis=1)


def dispersion(contingency: Float[np.ndarray, "C K"]) -> Float[np.ndarray, " C"]:
    """How evenly a class is spread: the entropy of `P(k | c)` over log K, from 0 to 1.

    >>> dispersion([[2, 2], [0, 5]]).tolist()
    [1.0, 0.0]
    """
    from scipy.special import entr

    shares = _shares(contingency)
    return entr(shares).sum(axis=1) / np.log(max(2, shares.shape[1]))


def k_means(
    seed: int, x: Float[np.ndarray, "n d"], weights: Float[np.ndarray, " n"], clusters: int
) -> np.ndarray:
    """Scikit-learn's KMeans from one start to its end, on one thread: the cluster of every
    example."""
    with _extras.needed("clustering"):
        from sklearn.cluster import KMeans

    with _threads().limit(
        limits=1
    ):  # its threads wait for one another longer than they compute, and add in no fixed order
        return (
            KMeans(clusters, n_init=1, max_iter=_ENOUGH, random_state=seed)
            .fit(x, sample_weight=weights)
            .labels_
        )


# to look for the libraries that have threads takes longer than to cluster few examples
@functools.cache
def _threads():
    with _extras.needed("clustering"):
        from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def cluster(
    key,
    x: Float[np.ndarray, "n d"],
    y,
    *,
    most: int = 4,
    seeds: int = 5,
    spread: float = 1.0,
    threshold: float = 0.0,
    clusterer: Callable = k_means,
    concepts: int | Sequence[Hashable] | None = None,
) -> Tree:
    r"""A tree by recursive clustering, greedy from the root.

    At a node over the classes S, its examples are clustered into 2, ..., `most` clusters from
    several seeds; every class goes where most of it is, and the partition of the largest J is kept.
    The node is flat, its classes all children, where no partition exceeds the threshold or S has
    two classes.

    $$ J = \operatorname{mean}_{c \in S} \text{cohesion}(c)
       - \lambda \operatorname{mean}_{c \in S} \text{dispersion}(c) $$

    Args:
      key: Draws the seeds.
      x: Features on one scale, or an embedding.
      y: `[n]`, integers from 0 to C-1.
      most: Clusters at a node at most.
      seeds: Clusterings for each number of clusters.
      spread: lambda.
      threshold: What J must exceed to make groups. Of few, widely spread examples a class J is low
        however good the groups, 0.0 leaves large flat nodes; `-np.inf` goes on to the end.
      clusterer: `(seed, x, weights, clusters) -> labels` from 0; the weights give every class the
        same total.
      concepts: C, or the names of the classes; default: as many as labels say.

    Returns:
      A `Tree`. A partition that leaves a cluster without a class is not considered.

    Raises:
      ValueError: for an empty class, one class, NaN, naming it; for labels of a clusterer that are
        no clusters.

    Example:

    >>> import jax
    >>> x = np.array([[0.0], [0.1], [1.0], [1.1], [8.0], [8.1]])
    >>> cluster(jax.random.key(0), x, np.array([0, 0, 1, 1, 2, 2]), most=2).nested()
    ((0, 1), 2)
    """
    x, y, names = checked(Examples(x, y), concepts)
    blocks = _grown(key, x, y, len(names), most, seeds, spread, threshold, clusterer, None)
    nested = {}
    for group in sorted(blocks, key=len):  # blocks are smaller than what they are of
        nested[group] = tuple(
            nested[block] if len(block) > 1 else names[min(block)] for block in blocks[group]
        )
    return Tree.from_nested(nested[frozenset(range(len(names)))])


def cluster_overlapping(
    key,
    x: Float[np.ndarray, "n d"],
    y,
    share: float = 0.25,
    *,
    most: int = 4,
    seeds: int = 5,
    spread: float = 1.0,
    threshold: float = 0.0,
    clusterer: Callable = k_means,
    concepts: int | Sequence[Hashable] | None = None,
) -> Dag:
    """The variant with multiple inheritance: a class enters every cluster that holds at least
    `share` of it.

    Args:
      key, x, y, most, seeds, spread, threshold, clusterer, concepts: As in `cluster`.
      share: rho, above 0; above 1/2 no class is in two clusters.

    Returns:
      A `Dag`, in which a group of classes is one node however it is reached. A partition with a
      block that is the whole group is not considered.

    Raises:
      ValueError: As `cluster`, and for a share not above 0.

    Paper: the overlap is that of Yan et al., "HD-CNN", 2015.
    """
    with _extras.needed("clustering"):
        import networkx

    _check.number("share", share, above=0)
    x, y, names = checked(Examples(x, y), concepts)
    blocks = _grown(key, x, y, len(names), most, seeds, spread, threshold, clusterer, share)
    graph = networkx.DiGraph([(group, block) for group, below in blocks.items() for block in below])
    for group in graph:
        if len(group) == 1:
            graph.nodes[group]["concept"] = names[min(group)]
    return Dag.from_networkx(graph)


def _grown(
    key, x, y, concepts, most, seeds, spread, threshold, clusterer, share
) -> dict[frozenset, tuple[frozenset, ...]]:
    """Every group of several classes met on the way down, and its blocks."""
    _check.whole_number("most", most, least=2)
    _check.whole_number("seeds", seeds, least=1)
    _check.number("spread", spread, least=-np.inf)
    _check.number("threshold", threshold, least=-np.inf)
    x = x.reshape(len(x), -1)
    balanced = 1 / np.bincount(y)[y]
    random = generator(key)
    blocks, waiting = {}, [frozenset(range(concepts))]
    while waiting:
        group = waiting.pop()
        if len(group) == 1 or group in blocks:
            continue
        found, best = tuple(frozenset((each,)) for each in sorted(group)), threshold
        members = np.array(sorted(group))
        under = np.isin(y, members)
        here, classes = x[under], np.searchsorted(members, y[under])
        for clusters in range(2, min(most, len(group) - 1) + 1):
            for seed in random.integers(2**31 - 1, size=seeds):
                if len(here) < clusters:
                    continue
                labels = np.asarray(clusterer(int(seed), here, balanced[under], clusters))
                _index.checked(
                    "a clusterer's labels",
                    labels,
                    clusters,
                    "give every example one of the clusters",
                )
                table = np.zeros((len(group), clusters))
                np.add.at(table, (classes, labels), 1)
                value = cohesion(table).mean() - spread * dispersion(table).mean()
                held = _entered(table, share)
                if value > best and held.any(axis=0).all() and not held.all(axis=0).any():
                    best = value
                    found = tuple(
                        dict.fromkeys(frozenset(members[each].tolist()) for each in held.T)
                    )
        blocks[group] = found
        waiting.extend(found)
    return blocks


def _entered(table, share) -> np.ndarray:
    """`[C, K]`, bool: does the class enter the cluster?"""
    largest = np.eye(table.shape[1], dtype=bool)[table.argmax(axis=1)]
    return largest if share is None else largest | (_shares(table) >= share)


def _shares(contingency) -> np.ndarray:
    contingency = np.asarray(contingency, float)
    counts = contingency.sum(axis=-1, keepdims=True)
    if contingency.ndim != 2 or not (counts > 0).all():
        raise ValueError(
            "a contingency must be [C, K] with an example of every class, got shape "
            f"{contingency.shape}"
            + (
                f" and none of class {int(np.argmin(counts))}"
                if contingency.ndim == 2 and counts.size
                else ""
            )
        )
    return contingency / counts
