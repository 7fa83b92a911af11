"""How near two trees over the same concepts are, and how well a tree fits similarities.

Axis letters: `C` concepts. Matrices over concepts are in the order of the tree's leaves.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from jaxmeta.hierarchy._tree import Tree


def robinson_foulds(a: Tree, b: Tree) -> float:
    """The share of clades that only one of two trees has: 0 where they are equal, 1 where they
    share none.

        |A xor B| / (|A| + |B|)

    A and B are the sets of concepts under the inner nodes below the root. Coarse: one concept moved
    may change all.

    >>> robinson_foulds(Tree.from_nested((0, (1, (2, 3)))), Tree.from_nested((0, (1, 2, 3))))
    0.3333333333333333

    Raises:
      ValueError: for trees over other concepts; naming these.

    Reference: Robinson and Foulds, Mathematical Biosciences 1981; rooted and normalised.
    """
    b.over(a.concepts)
    all_of_them = {frozenset(a.concepts)}
    ours, theirs = a.clades - all_of_them, b.clades - all_of_them
    return len(ours ^ theirs) / max(1, len(ours) + len(theirs))


def triplet_agreement(a: Tree, b: Tree) -> float:
    """The share of concept triples that two trees resolve alike: ij|k, ik|j, jk|i, or not at all.

    >>> triplet_agreement(Tree.from_nested((0, (1, (2, 3)))), Tree.from_nested((0, (1, 2, 3))))
    0.75

    Raises:
      ValueError: for trees over other concepts, or over fewer than three.
    """
    table = triplet_table(a, b)
    return float(np.trace(table) / table.sum())


def triplet_kappa(a: Tree, b: Tree) -> float:
    """Cohen's kappa of two trees that rate concept triples: agreement beyond what their marginals
    give by chance.

        (p_observed - p_chance) / (1 - p_chance)

    1 where the trees are equal, about 0 where they have nothing to do with each other. The papers
    compare trees by kappa and do not say what is rated; triples are ours.
    """
    table = triplet_table(a, b)
    triples = int(table.sum())
    # Of whole numbers, so that equal trees give exactly 1.
    agreed, chance = int(np.trace(table)) * triples, int(table.sum(0) @ table.sum(1))
    return 1.0 if chance == triples**2 else (agreed - chance) / (triples**2 - chance)


def triplet_table(a: Tree, b: Tree) -> np.ndarray:
    """`[4, 4]`, the number of concept triples i < j < k by how a and b resolve them: not at all,
    ij|k, ik|j, jk|i."""
    b.over(a.concepts)
    if a.size < 3:
        raise ValueError(
            f"trees must have at least three concepts to be compared by triples, got {a.size}"
        )
    depths = [np.array(tree.depths)[tree.ancestors] for tree in (a, b)]
    table = np.zeros(16, int)
    for first in range(
        a.size - 2
    ):  # one concept at a time: all triples at once would not fit for a thousand
        rest = a.size - 1 - first
        later, latest = np.triu_indices(rest, 1)
        ours, theirs = (
            _resolution(depth[first, first + 1 :], depth[first + 1 :, first + 1 :], later, latest)
            for depth in depths
        )
        table += np.bincount(4 * ours + theirs, minlength=16)
    return table.reshape(4, 4)


def _resolution(with_first, among, later, latest):
    """Of the three LCAs the deepest is the pair's that stands apart; the other two are one."""
    ij, ik, jk = with_first[later], with_first[latest], among[later, latest]
    return np.where(ij > ik, 1, np.where(ik > ij, 2, np.where(jk > ij, 3, 0)))


def cophenetic_correlation(tree: Tree, other: Tree | Float[np.ndarray, "C C"]) -> float:
    """Pearson's correlation of the heights at which two concepts meet, with another tree's heights
    or with distances.

    Args:
      tree: Its `heights` count.
      other: A tree over the same concepts, or symmetric distances.

    Returns:
      -1 to 1; nan where one side is constant, as in the flat tree.

    Reference: Sokal and Rohlf, Taxon 1962.
    """
    ours = np.array(tree.heights)[tree.ancestors]
    if isinstance(other, Tree):
        other.over(tree.concepts)
        theirs = np.array(other.heights)[other.ancestors]
    else:
        theirs = _symmetric("other", other, tree.size)
    pairs = np.triu_indices(tree.size, 1)
    ours, theirs = (
        side[pairs] - side[pairs].mean() if tree.size > 1 else np.zeros(1)
        for side in (ours, theirs)
    )
    size = np.sqrt((ours @ ours) * (theirs @ theirs))
    return float(np.clip(ours @ theirs / size, -1, 1)) if size else float("nan")


def dasgupta_cost(tree: Tree, similarity: Float[np.ndarray, "C C"]) -> float:
    """What it costs to part similar concepts high in the tree; lower is better.

        sum over pairs i < j of w_ij |leaves under the LCA of i and j|

    Args:
      similarity: `[C, C]`, symmetric; the diagonal does not count.

    >>> dasgupta_cost(Tree.from_nested((0, (1, 2))), np.ones((3, 3)))
    8.0

    Reference: Dasgupta, STOC 2016.
    """
    similarity = _symmetric("similarity", similarity, tree.size)
    leaves = tree.members.sum(1)[tree.ancestors]
    pairs = np.triu_indices(tree.size, 1)
    return float(similarity[pairs] @ leaves[pairs])


def _symmetric(name: str, matrix, size: int) -> Float[np.ndarray, "C C"]:
    matrix = np.asarray(matrix, float)
    if matrix.shape != (size, size):
        raise ValueError(
            f"{name} must be [{size}, {size}], in the order of the tree's leaves, got shape "
            f"{matrix.shape}"
        )
    if not np.isfinite(matrix).all():
        row, column = np.argwhere(~np.isfinite(matrix))[0]
        raise ValueError(
            f"{name} must be finite, got {matrix[row, column]} at [{row}, {column}]; repair or "
            "drop that concept"
        )
    if not np.allclose(matrix, matrix.T):
        row, column = np.argwhere(~np.isclose(matrix, matrix.T))[0]
        raise ValueError(
            f"{name} must be symmetric, got {matrix[row, column]} and {matrix[column, row]} at "
            f"[{row}, {column}]; take its mean with its transpose"
        )
    return matrix
