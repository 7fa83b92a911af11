"""Tyings that are bilinear in phi. Axis letters: `N` nodes, `r` rank, `t` templates."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxmeta import _check, _index
from jaxmeta._pytree import leaves_dtype
from jaxmeta.tying._operator import checked_nodes, product
from jaxmeta.tying._tying import Tying


def low_rank(nodes: int, rank: int) -> Tying:
    r"""Low-rank differences from what is shared, $W_c = W_0 + A_c B_c$.

    Args:
      nodes: N.
      rank: r. A leaf of more than two axes is taken as a matrix of its last one; leaves of fewer than two are shared, as
        LoRA's biases are: claim them by `applied` for other.

    Returns:
      A `Tying` whose phi is `{"base", "left": [N, rows, r], "right": [N, r, columns]}`; A begins Gaussian of variance
      1/rows and B at 0, so that every node begins at theta.

    Paper: Hu et al., LoRA, ICLR 2022.
    """
    checked_nodes(nodes)
    _check.whole_number("rank", rank, least=1)

    def factors(leaf, key):
        if leaf.ndim < 2:
            return None, None
        columns = leaf.shape[-1]
        rows = leaf.size // columns
        left = jax.random.normal(key, (nodes, rows, rank), leaf.dtype) / rows**0.5
        return left, jnp.zeros((nodes, rank, columns), leaf.dtype)

    def init(key, theta):
        leaves, structure = jax.tree.flatten(theta)
        keys = jax.random.split(key, max(1, len(leaves)))
        pairs = [factors(leaf, own) for leaf, own in zip(leaves, keys)]
        left, right = (jax.tree.unflatten(structure, [pair[side] for pair in pairs]) for side in (0, 1))
        return {"base": theta, "left": left, "right": right}

    def one(base, left, right):
        stack = (nodes, *base.shape)
        base = jnp.broadcast_to(base, stack)
        return base if left is None else base + (left @ right).reshape(stack)

    def at(phi):
        def own(base, left, right, node):
            return base if left is None else base + (_index.taken(left, node) @ right[node]).reshape(base.shape)

        return lambda node: jax.tree.map(lambda *parts: own(*parts, node), phi["base"], phi["left"], phi["right"])

    return Tying(init, lambda phi: jax.tree.map(one, phi["base"], phi["left"], phi["right"]), at=at)


def templates(nodes: int, count: int, coefficients: Callable | None = None) -> Tying:
    r"""A bank of templates, $W_c = \sum_t a_{ct} B_t$, with the coefficients of a node the same for all leaves.

    Args:
      nodes: N, nodes or layers.
      count: t, the templates.
      coefficients: `(key, (N, t)) -> a`, where they begin; default `jax.nn.initializers.orthogonal()`, as in the paper.

    Returns:
      A `Tying` whose phi is `{"coefficients": [N, t], "bank": [t, ...]}`. The first template is theta, the others its
      entries shuffled within each leaf, which keeps their spread (ours; the paper draws each as a layer).

    Paper: Savarese and Maire, Learning implicitly recurrent CNNs through parameter sharing, ICLR 2019.
    """
    checked_nodes(nodes)
    _check.whole_number("the number of templates", count, least=1)
    draw = jax.nn.initializers.orthogonal() if coefficients is None else coefficients

    def init(key, theta):
        leaves, structure = jax.tree.flatten(theta)
        key, *keys = jax.random.split(key, len(leaves) + 1)
        bank = [jnp.stack([leaf, *(jax.random.permutation(own, leaf.reshape(-1)).reshape(leaf.shape)
                                   for own in jax.random.split(key_leaf, count)[1:])])
                for leaf, key_leaf in zip(leaves, keys)]
        return {"coefficients": jnp.asarray(draw(key, (nodes, count)), leaves_dtype(theta)),
                "bank": jax.tree.unflatten(structure, bank)}

    def combined(coefficients, bank):
        return jax.tree.map(lambda leaf: product(coefficients, leaf), bank)

    return Tying(init, lambda phi: combined(phi["coefficients"], phi["bank"]),
                 at=lambda phi: lambda node: combined(_index.taken(phi["coefficients"], node), phi["bank"]))
