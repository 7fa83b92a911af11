"""Classes planted in a known tree: what a structuring method should find again.

Axis letters: `C` concepts, `N` nodes, `d` features, `n` examples a class, `S` shots, `Q` queries a
class.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmeta import _check
from jaxmeta._pickle import Function
from jaxmeta.base import Examples, Task

if TYPE_CHECKING:
    from jaxmeta.hierarchy import Tree


def planted_means(
    key, tree: Tree, dimension: int = 32, scales: float | Sequence[float] = 1.0
) -> Float[Array, "C d"]:
    """Class means that walk down the tree: every edge adds an independent normal vector.

        mean(root) = 0,   mean(node) ~ N(mean(parent), scale(depth of node)^2 I)

    So a feature's covariance between two classes is the sum of `scale^2` over the edges that their
    paths share.

    Args:
      tree: Over C concepts.
      dimension: d, at least 1. The more features, the nearer distances are to their expectation.
      scales: Of the edges down to depth 1, 2, ..., at least 0; one number for all of them, or one a
        depth.

    Raises:
      ValueError: for scales that are negative or not as many as the tree is deep.
    """
    _check.whole_number("dimension", dimension, least=1)
    steps = jax.random.normal(key, (tree.nodes, dimension)) * _edge_scales(tree, scales)[:, None]
    return jnp.asarray(tree.paths, steps.dtype) @ steps


def planted_examples(
    key,
    tree: Tree,
    count: int,
    dimension: int = 32,
    scales: float | Sequence[float] = 1.0,
    noise: float = 0.3,
) -> Examples:
    """Examples of every concept of a tree, normal around `planted_means`.

    Args:
      tree: Over C concepts.
      count: n, examples a class, at least 1.
      dimension: d, features.
      scales: Of the walk's steps, by depth.
      noise: Standard deviation of an example's every feature within its class, at least 0.

    Returns:
      `Examples` with x `[C n, d]` and y `[C n]`, the leaves' numbers, class by class.

    >>> from jaxmeta.hierarchy import Tree
    >>> x, y, *_ = planted_examples(
    ...     jax.random.key(0), Tree.from_nested((0, (1, 2))), count=2, dimension=5
    ... )
    >>> x.shape, y.tolist()
    ((6, 5), [0, 0, 1, 1, 2, 2])
    """
    _check.whole_number("count", count, least=1)
    _check.number("noise", noise, least=0)
    key_means, key_noise = jax.random.split(key)
    x = _around(key_noise, planted_means(key_means, tree, dimension, scales), count, noise)
    return _examples(x)


def planted(
    tree: Tree,
    shots: int = 5,
    queries: int = 15,
    dimension: int = 32,
    scales: float | Sequence[float] = 1.0,
    noise: float = 0.3,
):
    """The sampler of C-way tasks whose classes are planted in one tree: every task walks down it
    anew.

    The tree is all that tasks have in common, and all that a bias can learn of them.

    Args:
      tree: Over C concepts.
      shots: S, support examples a class, at least 1.
      queries: Q, query examples a class, at least 1.
      dimension: d, features.
      scales: Of the walk's steps, by depth.
      noise: Standard deviation of an example's every feature within its class, at least 0.

    Returns:
      `key -> Task` with x `[C S, d]` and `[C Q, d]`, and y the leaves' numbers, class by class.
    """
    for name, value in {"shots": shots, "queries": queries, "dimension": dimension}.items():
        _check.whole_number(name, value, least=1)
    _check.number("noise", noise, least=0)
    _edge_scales(tree, scales)

    @Function
    def sample(key):
        key_means, key_noise = jax.random.split(key)
        x = _around(
            key_noise, planted_means(key_means, tree, dimension, scales), shots + queries, noise
        )
        return Task(_examples(x[:, :shots]), _examples(x[:, shots:]))

    return sample


def _around(key, means, count: int, noise: float) -> Float[Array, "C n d"]:
    classes, dimension = means.shape
    return means[:, None, :] + noise * jax.random.normal(
        key, (classes, count, dimension), means.dtype
    )


def _examples(x) -> Examples:
    classes, count, dimension = x.shape
    return Examples(x.reshape(-1, dimension), jnp.repeat(jnp.arange(classes), count))


def _edge_scales(tree: Tree, scales) -> np.ndarray:
    """`[N]`, the scale of every node's edge from its parent; 0 at the root."""
    deepest = max(tree.depths)
    given = np.full(deepest, scales, float) if np.ndim(scales) == 0 else np.asarray(scales, float)
    if given.shape != (deepest,) or not (given >= 0).all():
        raise ValueError(
            f"scales must be a number, or one for each of the tree's {deepest} depths, and at "
            f"least 0, got {scales}"
        )
    return np.concatenate([[0.0], given])[list(tree.depths)]
