"""The probability of leaves of a tree or a graph, summed over paths from the root.

`C` concepts, `N` nodes, `E` edges, `L` levels below the root, `W` nodes of the widest, `P` parents
of a node at most.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmeta.hierarchy._dag import Dag
from jaxmeta.hierarchy._tree import Tree


def edges(hierarchy: Tree | Dag) -> np.ndarray:
    """`[E, 2]`, int, the edges (parent, child): inner nodes in their order, each with its children
    in theirs.

    >>> edges(Tree.from_nested((0, (1, 2)))).tolist()
    [[3, 0], [3, 4], [4, 1], [4, 2]]
    """
    pairs = [(parent, child) for parent in hierarchy.inner for child in hierarchy.children[parent]]
    return np.array(pairs, int).reshape(-1, 2)


def leaf_log_probabilities(
    hierarchy: Tree | Dag, edge_log_probabilities: Float[Array, "*batch E"]
) -> Float[Array, "*batch C"]:
    """The log-probability of every concept: products along paths from the root, summed over paths.

        P(root) = 1,   P(child) = sum over its parents of P(parent) P(child | parent)

    Args:
      hierarchy: A `Tree` or a `Dag`.
      edge_log_probabilities: `log P(child | parent)` of every edge, in the order of `edges`: what
        the nodes' classifiers say, one after the other.

    Returns:
      `[..., C]`. Level by level from the root, each level at once.

    Raises:
      ValueError: for another number of edges.

    Example: concept 1 is reached by both nodes.

    >>> dag = Dag.from_nested(((0, 1), (1, 2)))
    >>> print(
    ...     jnp.exp(
    ...         leaf_log_probabilities(dag, jnp.log(jnp.array([0.5, 0.5, 0.2, 0.8, 0.4, 0.6])))
    ...     ).round(3)
    ... )
    [0.1 0.6 0.3]
    """
    given, needed = (
        jnp.shape(edge_log_probabilities),
        sum(len(below) for below in hierarchy.children),
    )
    if given[-1:] != (needed,):
        raise ValueError(
            f"edge_log_probabilities must be [..., {needed}], one an edge in the order of "
            f"edges(hierarchy), got shape {given}; give every node's children once"
        )
    known = jnp.asarray(edge_log_probabilities)
    # Two places beyond the nodes: where padding writes, and what it reads.
    start = jnp.full((*given[:-1], hierarchy.nodes + 2), -jnp.inf, known.dtype)
    start = start.at[..., [hierarchy.root, hierarchy.nodes]].set(0)
    known = jnp.concatenate([known, jnp.zeros((*given[:-1], 1), known.dtype)], axis=-1)

    def down(reached, level):
        node, parent, edge = level
        terms = reached[..., parent] + known[..., edge]
        return reached.at[..., node].set(
            functools.reduce(jnp.logaddexp, jnp.moveaxis(terms, -1, 0))
        ), None

    return jax.lax.scan(down, start, _padded(hierarchy))[0][..., : hierarchy.size]


def _padded(hierarchy: Tree | Dag) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """By level below the root the nodes `[L, W]`, their parents `[L, W, P]` and the edges from
    these `[L, W, P]`."""
    arriving = [[] for _ in range(hierarchy.nodes)]
    for number, (parent, child) in enumerate(edges(hierarchy)):
        arriving[child].append((parent, number))
    depth = [0] * hierarchy.nodes
    for node in (*hierarchy.inner[1:], *range(hierarchy.size)):
        depth[node] = max((depth[parent] + 1 for parent, _ in arriving[node]), default=0)
    deepest = max(depth)
    width = max((depth.count(level) for level in set(depth) - {0}), default=0)
    several = max(1, *(len(each) for each in arriving))
    nodes = np.full((deepest, width), hierarchy.nodes)
    parents = np.full((deepest, width, several), hierarchy.nodes + 1)
    numbers = np.full((deepest, width, several), -1)
    parents[..., 0] = hierarchy.root  # padding stays finite, and so do its derivatives
    filled = [0] * deepest
    for node, level in enumerate(depth):
        if level:
            place = filled[level - 1]
            filled[level - 1] += 1
            nodes[level - 1, place] = node
            for column, (parent, number) in enumerate(arriving[node]):
                parents[level - 1, place, column], numbers[level - 1, place, column] = (
                    parent,
                    number,
                )
    return nodes, parents, numbers
