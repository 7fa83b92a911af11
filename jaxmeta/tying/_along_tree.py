"""Sums of differences along the paths of a tree, and their priors by depth.

Axis letters: `N` nodes, `D` depths.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxmeta import _check
from jaxmeta.tying._nodes import across
from jaxmeta.tying._operator import path_sums, rows
from jaxmeta.tying._tying import Tying, total


def along_tree(tree, scales=1.0, nodes=None) -> Tying:
    r"""Partial pooling: sums along the path from the root.

    $$ \theta_c = \sum_{n \in path(c)} \delta_n, \qquad
       p = \sum_{n \ne root} \frac{|\delta_n|^2}{2 s_{depth(n)}^2} $$

    It is the prior $\theta_{child} \sim N(\theta_{parent}, s^2)$ with a flat one on the root: s to
    0 is `shared`, s to infinity leaves nodes independent.

    Args:
      tree: A `jaxmeta.hierarchy.Tree`.
      scales: s, above 0, one for all depths or `[D]` for depths 1 to D; `inf` prefers nothing.
      nodes: The numbers of the nodes whose theta is given; default all. `range(tree.size)` are the
        concepts.

    Returns:
      A `Tying` whose phi is delta, `[tree.nodes, ...]`; it begins with theta at the root and no
      deltas.

    Example:
      >>> import jax.numpy as jnp, jaxmeta.tying as jt
      >>> from jaxmeta.hierarchy import Tree
      >>> jt.along_tree(Tree.from_nested((0, (1, 2)))).expand(jnp.array([1, 2, 3, 10, 20])).tolist()
      [11, 32, 33, 10, 30]

    Papers: Gelman and Hill, Data analysis using regression and multilevel models, 2007; Gopal and
    Yang, Recursive regularization, KDD 2013.
    """
    operator = path_sums(tree.parents)
    start = np.arange(tree.nodes) == tree.root
    return across(
        operator if nodes is None else rows(operator, nodes),
        start,
        depth_prior(tree.depths, scales),
    )


def depth_prior(depths, scales) -> Callable[[PyTree], jax.Array]:
    """The penalty of differences whose leaves are `[nodes, ...]`,
    $\\sum_n |\\delta_n|^2 / 2 s_{depth(n)}^2$, 0 at depth 0.

    Args:
      depths: Of every node, from 0 on.
      scales: s, above 0, one for all depths or `[D]` for depths 1 to D.
    """
    scales, depths = checked_scales(max(depths), scales), np.asarray(depths)
    weights = np.where(depths > 0, 1 / (2 * np.append(np.inf, scales)[depths] ** 2), 0)

    def penalty(delta):
        squares = total(_square_by_row(leaf) for leaf in jax.tree.leaves(delta))
        return jnp.sum(weights.astype(squares.dtype) * squares)

    return penalty


def along_tree_learned(tree, scales=1.0, nodes=None, strength: float = 1.0) -> Tying:
    r"""`along_tree` with scales by depth that are learned: phi is `{"delta", "log_scale": [D]}`.

    $$ p = \sum_d \Big( \frac{\sum_{n: depth\,d} |\delta_n|^2 + k s_{0,d}^2}{2 s_d^2} + (m_d
       + k) \log s_d \Big) $$

    with $m_d$ the number of entries of delta at depth d. With k = 0 it falls without bound as s and
    delta go to 0, so k imagined entries of the first scale's size keep it from there (ours).

    Args:
      tree, scales, nodes: As in `along_tree`; scales are what log_scale begins at.
      strength: k, above 0.
    """
    _check.number("strength", strength, above=0)
    first = checked_scales(max(tree.depths), scales)
    if not np.isfinite(first).all():
        raise ValueError(
            f"scales to begin with must be finite, got {first.tolist()}; give for example 1.0"
        )
    depths = np.array(tree.depths)
    plain = along_tree(tree, first, nodes)

    def init(key, theta):
        kind = jnp.result_type(*jax.tree.leaves(theta))
        return {"delta": plain.init(key, theta), "log_scale": jnp.asarray(np.log(first), kind)}

    def penalty(phi):
        leaves, log_scale = jax.tree.leaves(phi["delta"]), phi["log_scale"]
        squares = total(_square_by_row(leaf) for leaf in leaves)
        squares = jax.ops.segment_sum(squares, depths, len(first) + 1)[1:]
        counts = np.bincount(depths)[1:] * sum(leaf[0].size for leaf in leaves)
        imagined = (strength * first**2).astype(squares.dtype)
        return jnp.sum(
            (squares + imagined) / (2 * jnp.exp(2 * log_scale))
            + (counts + strength).astype(squares.dtype) * log_scale
        )

    return Tying(
        init, lambda phi: plain.expand(phi["delta"]), penalty, lambda phi: plain.at(phi["delta"])
    )


def checked_scales(depth: int, scales) -> np.ndarray:
    """`[depth]`, a scale above 0 for every depth below the root."""
    scales = np.asarray(scales, float)
    if scales.shape not in ((), (depth,)) or not (scales > 0).all():
        raise ValueError(
            f"scales must be one number above 0 or one for each of the {depth} depths below the "
            f"root, got {scales.tolist()}; use a small one to tie and jax.numpy.inf to prefer "
            "nothing"
        )
    return np.broadcast_to(scales, (depth,))


def _square_by_row(leaf):
    return jnp.sum(leaf.reshape(leaf.shape[0], -1) ** 2, axis=1)
