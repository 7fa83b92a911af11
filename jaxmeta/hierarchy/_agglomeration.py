"""Agglomeration: the two nearest clusters are joined until one is left, then levels too close to
each other are fused.

`C` concepts.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from jaxmeta import _check
from jaxmeta.hierarchy._affinity import Affinity, mean, symmetrised, to_distance
from jaxmeta.hierarchy._tree import Tree


class Scheme(NamedTuple):
    """How far a joined cluster is from the others: the coefficients of the Lance-Williams update.

    Args:
      coefficients: `(n_i, n_j, n_k) -> (alpha_i, alpha_j, beta, gamma)` of the sizes of i and j,
        which are joined, and of k.
      squared: The update is of squared distances.
      scipy: The name of `scipy.cluster.hierarchy.linkage`, where it has the scheme.
    """

    coefficients: Callable
    squared: bool = False
    scipy: str | None = None


def _wards(i, j, k):
    n = i + j + k
    return (i + k) / n, (j + k) / n, -k / n, 0.0


def _centroids(i, j, k):
    n = i + j
    return i / n, j / n, -i * j / n**2, 0.0


single = Scheme(lambda i, j, k: (0.5, 0.5, 0.0, -0.5), scipy="single")
"""The nearest pair."""
complete = Scheme(lambda i, j, k: (0.5, 0.5, 0.0, 0.5), scipy="complete")
"""The farthest pair."""
average = Scheme(lambda i, j, k: (i / (i + j), j / (i + j), 0.0, 0.0), scipy="average")
"""The mean over pairs (UPGMA)."""
weighted = Scheme(lambda i, j, k: (0.5, 0.5, 0.0, 0.0), scipy="weighted")
"""The mean of the two, whatever their sizes (WPGMA)."""
ward = Scheme(_wards, squared=True, scipy="ward")
"""The growth of the variance within clusters, where distances are Euclidean."""
centroid = Scheme(_centroids, squared=True, scipy="centroid")
"""Between centroids, where distances are Euclidean."""
median = Scheme(lambda i, j, k: (0.5, 0.5, -0.25, 0.0), squared=True, scipy="median")
"""Between midpoints, where distances are Euclidean."""


def flexible(beta: float = -0.25) -> Scheme:
    """Lance and Williams' flexible scheme, `d_k(ij) = (1 - beta)/2 (d_ki + d_kj) + beta d_ij`; beta
    below 1.

    >>> flexible(0.0).coefficients(1, 1, 1) == weighted.coefficients(1, 1, 1)
    True
    """
    if not beta < 1:
        raise ValueError(f"beta must be below 1, got {beta}; -0.25 is customary")
    return Scheme(lambda i, j, k: ((1 - beta) / 2, (1 - beta) / 2, beta, 0.0))


def lance_williams(
    distance: Float[np.ndarray, "C C"], scheme: Scheme
) -> Float[np.ndarray, "C-1 4"]:
    r"""Scipy's linkage matrix by the general update, in O(C^3).

    $$ d_{k(ij)} = \alpha_i d_{ki} + \alpha_j d_{kj} + \beta d_{ij} + \gamma |d_{ki} - d_{kj}| $$

    Args:
      distance: Symmetric, not negative, 0 on the diagonal.
      scheme: The coefficients.

    Raises:
      ValueError: for NaN, the wrong shape, a distance that is negative or not symmetric, naming the
        pair; for a scheme that makes NaN.

    >>> lance_williams([[0.0, 1.0, 4.0], [1.0, 0.0, 2.0], [4.0, 2.0, 0.0]], average).tolist()
    [[0.0, 1.0, 1.0, 2.0], [2.0, 3.0, 3.0, 3.0]]

    Paper: Lance and Williams, "A general theory of classificatory sorting strategies", 1967.
    """
    away = checked_distance(distance).astype(float)
    away = away**2 if scheme.squared else away.copy()
    concepts = len(away)
    np.fill_diagonal(away, np.inf)
    names, sizes, alive, rows = np.arange(concepts), np.ones(concepts), np.ones(concepts, bool), []
    for step in range(concepts - 1):
        i, j = sorted(np.unravel_index(np.argmin(away), away.shape))
        near = away[i, j]
        if not np.isfinite(near):
            raise ValueError(
                f"a scheme must give finite distances, got {near} in step {step}; look at its "
                "coefficients"
            )
        rows.append(
            (
                *sorted((names[i], names[j])),
                np.sqrt(max(near, 0)) if scheme.squared else near,
                sizes[i] + sizes[j],
            )
        )
        alive[j] = False
        others = alive.copy()
        others[i] = False
        from_i, from_j = away[i, others], away[j, others]
        alpha_i, alpha_j, beta, gamma = scheme.coefficients(sizes[i], sizes[j], sizes[others])
        away[i, others] = (
            alpha_i * from_i + alpha_j * from_j + beta * near + gamma * abs(from_i - from_j)
        )
        away[others, i] = away[i, others]
        away[j, :] = away[:, j] = np.inf
        sizes[i] += sizes[j]
        names[i] = concepts + step
    return np.array(rows, float).reshape(-1, 4)


def linkage_tree(
    distance: Float[np.ndarray, "C C"],
    scheme: Scheme = average,
    fuse: float = 0.0,
    concepts: Sequence[Hashable] | None = None,
) -> Tree:
    """The tree of a distance: scipy's linkage where it has the scheme, `lance_williams` else; then
    levels are fused.

    Args:
      distance: `[C, C]`, symmetric, not negative, 0 on the diagonal. `ward`, `centroid` and
        `median` take it for Euclidean.
      scheme: `single`, `complete`, `average`, `weighted`, `ward`, `centroid`, `median`,
        `flexible(beta)`, or your own.
      fuse: An inner node less than this below its parent goes up into it, in units of the distance.
        0 keeps the tree binary.
      concepts: Names, in the order of the rows; default `0, 1, ...`.

    Raises:
      ValueError: for NaN, the wrong shape, a distance that is negative or not symmetric, naming the
        pair.
    """
    from scipy.cluster import hierarchy
    from scipy.spatial.distance import squareform

    _check.number("fuse", fuse, least=0)
    distance = checked_distance(distance)
    if scheme.scipy:
        linkage = hierarchy.linkage(squareform(distance, checks=False), scheme.scipy)
    else:
        linkage = lance_williams(distance, scheme)
    return contract(
        Tree.from_linkage(linkage, concepts), lambda parent, child: parent - child < fuse
    )


def agglomerate(
    affinity: Affinity,
    scheme: Scheme = average,
    fuse: float = 0.0,
    how: Callable = mean,
    top: float | None = None,
    concepts: Sequence[Hashable] | None = None,
) -> Tree:
    """The tree of an affinity by agglomeration, levels nearer to each other than `fuse` being one.

    The paper says of distances "if the distance at a node is at least tau, merge", which taken
    literally merges what is far apart. Here an inner edge goes when the heights of its ends differ
    by less than `fuse`; `contract` takes other rules.

    Args:
      affinity: `[C, C]`, larger is closer.
      scheme: See `linkage_tree`.
      fuse: Least difference of heights along an inner edge, in units of the affinity.
      how: Joins the two directions: `(there, back) -> affinity`; open in the paper.
      top: The affinity of what is no distance apart; default: the largest.
      concepts: Names, in the order of the rows; default `0, 1, ...`.

    Raises:
      ValueError: for NaN or the wrong shape, naming the pair.

    Example:

    >>> affinity = [
    ...     [1.0, 0.9, 0.1, 0.2],
    ...     [0.9, 1.0, 0.2, 0.1],
    ...     [0.1, 0.2, 1.0, 0.7],
    ...     [0.2, 0.1, 0.7, 1.0],
    ... ]
    >>> agglomerate(affinity).nested()
    ((0, 1), (2, 3))
    >>> agglomerate(affinity, fuse=0.6).nested()
    ((0, 1), 2, 3)

    Paper: Osmani, Hamidi and Alizadeh, "Hierarchical learning of dependent concepts for human
    activity recognition", 2021.
    """
    return linkage_tree(to_distance(symmetrised(affinity, how), top), scheme, fuse, concepts)


def contract(tree: Tree, where: Callable[[float, float], bool]) -> Tree:
    """The tree without the inner nodes below the root of which
    `where(height of the parent, own height)` holds; their children go up.

    >>> contract(Tree.from_nested((0, (1, (2, 3)))), lambda parent, child: child == 2).nested()
    (0, 1, (2, 3))
    """
    keep = [
        node
        for node in range(tree.nodes)
        if node < tree.size
        or tree.parents[node] < 0
        or not where(tree.heights[tree.parents[node]], tree.heights[node])
    ]
    place, above = {node: number for number, node in enumerate(keep)}, {tree.root: -1}
    for node in (*tree.inner[1:], *range(tree.size)):  # the nearest node above that is kept
        if node != tree.root:
            parent = tree.parents[node]
            above[node] = place.get(parent, above[parent])
    return Tree(
        tuple(above[node] for node in keep),
        tree.concepts,
        tuple(tree.heights[node] for node in keep),
    )


def checked_distance(distance) -> np.ndarray:
    """The distance as an array; refuses NaN, the wrong shape, what is negative or not symmetric,
    naming the pair."""
    distance = np.asarray(distance, float)
    if distance.ndim != 2 or distance.shape[0] != distance.shape[1] or len(distance) < 2:
        raise ValueError(
            f"a distance must be [C, C] over two concepts or more, got shape {distance.shape}; "
            "give one row and one column a concept"
        )
    finite = np.where(np.isfinite(distance), distance, 0.0)
    slack = 1e-6 * abs(finite).max()
    faults = {
        "finite": ~np.isfinite(distance),
        "at least 0": distance < 0,
        "symmetric": abs(finite - finite.T) > slack,
        "0 on the diagonal": np.eye(len(distance), dtype=bool) & (abs(distance) > slack),
    }
    for expected, wrong in faults.items():
        if wrong.any():
            i, j = np.argwhere(wrong)[0]
            raise ValueError(
                f"a distance must be {expected}, got {distance[i, j]} between concepts {i} and "
                f"{j}; see symmetrised and to_distance"
            )
    return distance
