"""Trees from what a flat classifier knows, and the baseline that every derivation must beat.

`C` concepts, `n` examples, `d` features, `R` trials.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from jaxmeta import _check
from jaxmeta.hierarchy._agglomeration import Scheme, agglomerate, average, linkage_tree, ward
from jaxmeta.hierarchy._count import sample as uniform_sample
from jaxmeta.hierarchy._tree import Tree


def confusion_tree(
    confusion: Float[np.ndarray, "C C"],
    scheme: Scheme = average,
    fuse: float = 0.0,
    concepts: Sequence[Hashable] | None = None,
) -> Tree:
    """What is confused stands together: agglomeration on `1 - (F + F')/2`, F the confusion with
    rows summing to 1.

    Args:
      confusion: Row: true, column: predicted; counts or shares, of examples held out from training.
      scheme: See `linkage_tree`.
      fuse: Least difference of heights along an inner edge, a share.
      concepts: Names, in the order of the rows; default `0, 1, ...`.

    Raises:
      ValueError: for NaN, the wrong shape, a negative entry, a class of which nothing was held out.

    Example:

    >>> confusion_tree([[8, 2, 0], [3, 7, 0], [0, 1, 9]]).nested()
    ((0, 1), 2)

    Paper: Yan et al., "HD-CNN", 2015, with agglomeration in place of spectral clustering.
    """
    confusion = np.asarray(confusion, float)
    if confusion.ndim == 2 and (confusion < 0).any():
        row, column = np.argwhere(confusion < 0)[0]
        raise ValueError(
            f"a confusion must count, got {confusion[row, column]} in row {row}, column {column}; "
            "give counts or shares"
        )
    counts = confusion.sum(-1, keepdims=True)
    if confusion.ndim == 2 and (counts == 0).any():
        row = int(np.argmin(counts))
        name = row if concepts is None or len(concepts) != len(counts) else concepts[row]
        raise ValueError(
            f"every class must have been held out, got no example of {name!r}; split by class"
        )
    return agglomerate(confusion / counts, scheme, fuse, top=1.0, concepts=concepts)


def embedding_tree(
    vectors: Float[np.ndarray, "C d"],
    scheme: Scheme = ward,
    fuse: float = 0.0,
    concepts: Sequence[Hashable] | None = None,
) -> Tree:
    """Agglomeration on the Euclidean distances between one vector a class, such as the class means
    of features.

    Raises:
      ValueError: for NaN, naming the concept, or the wrong shape.

    >>> embedding_tree([[0.0], [5.0], [0.5], [5.4]]).nested()
    ((0, 2), (1, 3))
    """
    from scipy.spatial.distance import pdist, squareform

    vectors = np.asarray(vectors, float)
    if vectors.ndim != 2 or len(vectors) < 2:
        raise ValueError(
            f"vectors must be [C, d], one a concept and at least two, got shape {vectors.shape}; "
            "transpose a kernel [d, C]"
        )
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if bad.size:
        raise ValueError(
            "vectors must be finite, got NaN or infinity for concept "
            f"{int(bad[0]) if concepts is None else concepts[bad[0]]!r}; look at how it was "
            "embedded"
        )
    return linkage_tree(squareform(pdist(vectors)), scheme, fuse, concepts)


def nbdt_tree(
    weights: Float[np.ndarray, "C d"], concepts: Sequence[Hashable] | None = None
) -> Tree:
    """The induced hierarchy of neural-backed decision trees: Ward's linkage of a flat classifier's
    last layer.

    Args:
      weights: One row a class: a kernel `[d, C]` transposed. They are clustered as they are, as in
        the authors' code; the paper's text has rows of norm 1: give `weights / norms` for it.
      concepts: Names, in the order of the rows; default `0, 1, ...`.

    >>> nbdt_tree([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]).nested()
    ((0, 1), 2)

    Paper: Wan et al., "NBDT: neural-backed decision trees", 2021.
    """
    return embedding_tree(weights, ward, 0.0, concepts)


class Trials(NamedTuple):
    """What `best_of` found: the best tree, its score, and the scores of all R trials."""

    tree: Tree
    score: float
    scores: Float[np.ndarray, " R"]


def best_of(
    key,
    concepts: int | Sequence[Hashable],
    trials: int,
    score: Callable[[Tree], float],
    sample: Callable = uniform_sample,
) -> Trials:
    """The best of R random trees: the control at equal search cost of any method that scores R
    trees.

    Args:
      key: Draws the trees.
      concepts: How many, or their names.
      trials: R, the scores that may be taken.
      score: Of a tree, larger is better, on data held out from the final test.
      sample: `(key, concepts) -> Tree`; default: uniform over all trees.

    Raises:
      ValueError: for no trial, or a score that is NaN, naming the tree.

    >>> best_of(jax.random.key(0), 4, 200, lambda tree: tree.nodes - tree.depths[0]).tree.nested()
    (0, ((1, 2), 3))

    Paper: Melnikov and Huellermeier, "On the effectiveness of heuristics for learning nested
    dichotomies", 2018.
    """
    _check.whole_number("trials", trials, least=1)
    trees = [sample(each, concepts) for each in jax.random.split(key, trials)]
    scores = np.array([number_of(score(tree), tree) for tree in trees])
    best = int(np.argmax(scores))
    return Trials(trees[best], scores[best], scores)


def number_of(score, tree: Tree) -> float:
    """A tree's score; refuses NaN, naming the tree."""
    if np.isnan(score := float(score)):
        raise ValueError(
            f"a score must be a number, got NaN for the tree {tree.nested()}; score a failed "
            "training -inf"
        )
    return score
