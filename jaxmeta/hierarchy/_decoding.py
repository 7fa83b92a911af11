"""From the nodes' probabilities to a leaf. `C` concepts, `I` inner nodes, `A` children at most, `n`
examples, `W` width."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxmeta import _check
from jaxmeta.hierarchy._classifier import layout
from jaxmeta.hierarchy._dag import Dag
from jaxmeta.hierarchy._leaf_probabilities import leaf_log_probabilities
from jaxmeta.hierarchy._tree import Tree

LogProbabilities = Float[Array, "n I A"]
"""`log P(child | node, x)`, as a `Classifier` gives it. Where it is NaN on an example's way down,
the decoded leaf is -1."""


def path_product(hierarchy: Tree | Dag, log_probabilities: LogProbabilities) -> Float[Array, "n C"]:
    r"""The log-probability of every leaf, a product down its path, in a DAG summed over paths.

    $$ \log P(c \mid x) = \sum_{t \to u \text{ on the path to } c} \log P(u \mid t, x) $$

    >>> half = jnp.log(jnp.array([[[0.5, 0.5], [0.2, 0.8]]]))
    >>> found = jnp.exp(path_product(Tree.from_nested((0, (1, 2))), half))
    >>> [f"{probability:.2f}" for probability in found[0]]
    ['0.50', '0.10', '0.40']
    """
    there = _children(hierarchy, log_probabilities) >= 0
    if isinstance(hierarchy, Dag):
        return leaf_log_probabilities(hierarchy, log_probabilities[:, there])
    least = jnp.finfo(
        log_probabilities.dtype
    ).min  # for -inf: times 0 it would be NaN for the leaves beside it
    known = jnp.where(there[None], jnp.maximum(log_probabilities, least), 0.0)
    paths = layout(
        hierarchy, arity=there.shape[1]
    ).shares  # 1 where the way to a leaf goes by a child
    summed = jnp.einsum("nia,ica->nc", known, jnp.asarray(paths, known.dtype))
    return jnp.where(summed <= least, -jnp.inf, summed)


def most_probable(hierarchy: Tree | Dag, log_probabilities: LogProbabilities) -> Int[Array, " n"]:
    """The leaf of the largest `path_product`; -1 where it is NaN."""
    return _likeliest(path_product(hierarchy, log_probabilities))


def greedy(hierarchy: Tree | Dag, log_probabilities: LogProbabilities) -> Int[Array, " n"]:
    """From the root to the likeliest child until a leaf is reached (the paper's equation 1); -1
    where a node says NaN."""
    children = _children(hierarchy, log_probabilities)
    return _walked(children, hierarchy.root, hierarchy.size, _deepest(hierarchy), log_probabilities)


@jax.jit  # of the tree it sees shapes and numbers alone: another of these shapes compiles nothing
def _walked(children, root, size, deepest, log_probabilities):
    def down(_, node):
        inner = jnp.maximum(node - size, 0)
        best = _likeliest(
            jnp.take_along_axis(log_probabilities, inner[:, None, None], axis=1)[:, 0]
        )
        return jnp.where(node < size, node, jnp.where(best < 0, -1, children[inner, best]))

    return jax.lax.fori_loop(0, deepest, down, jnp.full(log_probabilities.shape[:1], root))


def _likeliest(scores: Float[Array, "n A"]) -> Int[Array, " n"]:
    """The place of the largest; -1 where there is NaN, of which an argmax would make a plausible
    place."""
    return jnp.where(jnp.isnan(scores).any(axis=1), -1, scores.argmax(axis=1))


def beam(width: int) -> Callable[[Tree | Dag, LogProbabilities], Int[Array, " n"]]:
    """A decoding that keeps the `width` likeliest partial paths at every level and ends at the
    likeliest leaf.

    Width 1 is `greedy`; as wide as there are leaves it is `most_probable` on a tree. In a DAG it
    finds a likely path, and sums over none. -1 where a node on the way says NaN.
    """
    _check.whole_number("width", width, least=1)

    def decode(hierarchy: Tree | Dag, log_probabilities: LogProbabilities):
        children = jnp.asarray(_children(hierarchy, log_probabilities))
        examples, _, arity = log_probabilities.shape
        stay = jnp.where(jnp.arange(arity) == 0, 0.0, -jnp.inf)[None, None]

        def down(_, state):
            node, score = state  # [n, W]
            inner, leaf = jnp.maximum(node - hierarchy.size, 0), (node < hierarchy.size)[..., None]
            step = jnp.take_along_axis(log_probabilities, inner[..., None], axis=1)
            total = (score[..., None] + jnp.where(leaf, stay, step)).reshape(examples, -1)
            reached = jnp.where(leaf, node[..., None], children[inner]).reshape(examples, -1)
            score, best = jax.lax.top_k(total, width)
            return jnp.take_along_axis(reached, best, axis=1), score

        alone = jnp.where(jnp.arange(width) == 0, 0.0, -jnp.inf).astype(log_probabilities.dtype)
        start = (
            jnp.full((examples, width), hierarchy.root),
            jnp.broadcast_to(alone[None], (examples, width)),
        )
        node, score = jax.lax.fori_loop(0, _deepest(hierarchy), down, start)
        return jnp.where(jnp.isnan(score[:, 0]), -1, node[:, 0])  # NaN counts as the largest

    return decode


def _children(hierarchy: Tree | Dag, log_probabilities) -> np.ndarray:
    """`[I, A]`, the children's numbers, -1 where there is none."""
    rows, columns = len(hierarchy.inner), log_probabilities.shape[-1]
    widest = max(len(each) for each in hierarchy.children)
    if log_probabilities.ndim != 3 or log_probabilities.shape[1] != rows or columns < widest:
        raise ValueError(
            f"log_probabilities must be [n, {rows}, {widest}], a row for every inner node of the "
            f"hierarchy, got shape {log_probabilities.shape}; take a classifier of this hierarchy"
        )
    children = np.full((rows, columns), -1)
    for row, node in enumerate(hierarchy.inner):
        children[row, : len(hierarchy.children[node])] = hierarchy.children[node]
    return children


def _deepest(hierarchy: Tree | Dag) -> int:
    """Edges on the longest path from the root."""
    depth = [0] * hierarchy.nodes
    for node in hierarchy.inner:
        for child in hierarchy.children[node]:
            depth[child] = max(depth[child], depth[node] + 1)
    return max(depth)
