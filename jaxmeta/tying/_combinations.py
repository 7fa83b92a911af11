"""Tyings that are bilinear in phi. Axis letters: `N` nodes, `r` rank, `t` templates."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmeta import _check, _index
from jaxmeta._pytree import leaves_dtype, merge
from jaxmeta.tying._nodes import free
from jaxmeta.tying._operator import checked_nodes, product
from jaxmeta.tying._tying import Tying, nodewise


def low_rank(nodes: int, rank: int) -> Tying:
    r"""Low-rank differences from what is shared, $W_c = W_0 + A_c B_c$.

    Args:
      nodes: N.
      rank: r. A leaf of more than two axes is taken as a matrix of its last one; leaves of fewer
        than two are shared, as LoRA's biases are: claim them by `applied` for other.

    Returns:
      A `Tying` whose phi is `{"base", "left": [N, rows, r], "right": [N, r, columns]}`; A begins
      Gaussian of variance 1/rows and B at 0, so that every node begins at theta.

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
        left, right = (
            jax.tree.unflatten(structure, [pair[side] for pair in pairs]) for side in (0, 1)
        )
        return {"base": theta, "left": left, "right": right}

    def one(base, left, right):
        stack = (nodes, *base.shape)
        base = jnp.broadcast_to(base, stack)
        return base if left is None else base + (left @ right).reshape(stack)

    def at(phi):
        def own(base, left, right, node):
            return (
                base
                if left is None
                else base + (_index.taken(left, node) @ right[node]).reshape(base.shape)
            )

        return lambda node: jax.tree.map(
            lambda *parts: own(*parts, node), phi["base"], phi["left"], phi["right"]
        )

    return Tying(init, lambda phi: jax.tree.map(one, phi["base"], phi["left"], phi["right"]), at=at)


def unit_rows(key, shape: tuple[int, int]) -> Float[Array, "N t"]:
    """Orthogonal coefficients whose rows have norm 1, so that what they combine keeps its spread
    however many rows there are."""
    drawn = jax.nn.initializers.orthogonal()(key, shape)
    return drawn / jnp.linalg.norm(drawn, axis=1, keepdims=True)


def templates(
    nodes: int, count: int, coefficients: Callable = unit_rows, rest: Callable[[int], Tying] = free
) -> Tying:
    r"""A bank of templates, $W_c = \sum_t a_{ct} B_t$, with the coefficients of a node the same for
    all leaves.

    Args:
      nodes: N, nodes or layers.
      count: t, the templates.
      coefficients: `(key, (N, t)) -> a`, where they begin. Those of the paper,
        `jax.nn.initializers.orthogonal()`, have for N > t columns of norm 1 and rows of about
        sqrt(t / N), which the normalisation after each of its convolutions undoes. Here nothing
        need follow, so that rows are scaled to 1 (ours).
      rest: `N -> Tying` of the leaves of fewer than two axes, offsets and a normalisation's scales,
        which are not combined; by default every node has its own, as in the paper.

    Returns:
      A `Tying` whose phi is `{"coefficients": [N, t], "bank": [t, ...], "rest"}`. The first
      template is theta, the others its entries shuffled within each leaf, which keeps their spread
      (ours; the paper draws each as a layer).

    Raises:
      ValueError: At init, for a theta of vectors alone.

    Paper: Savarese and Maire, Learning implicitly recurrent CNNs through parameter sharing, ICLR
    2019.
    """
    others = rest(checked_nodes(nodes))
    _check.whole_number("the number of templates", count, least=1)

    def init(key, theta):
        matrices = jax.tree.map(lambda leaf: leaf if jnp.ndim(leaf) > 1 else None, theta)
        vectors = jax.tree.map(lambda leaf: None if jnp.ndim(leaf) > 1 else leaf, theta)
        leaves, structure = jax.tree.flatten(matrices)
        if not leaves:
            raise ValueError(
                "templates combine leaves of at least two axes, got none; give vectors as [1, d]"
            )
        key, key_rest, *keys = jax.random.split(key, len(leaves) + 2)
        bank = [
            jnp.stack(
                [
                    leaf,
                    *(
                        jax.random.permutation(own, leaf.reshape(-1)).reshape(leaf.shape)
                        for own in jax.random.split(key_leaf, count)[1:]
                    ),
                ]
            )
            for leaf, key_leaf in zip(leaves, keys)
        ]
        return {
            "coefficients": jnp.asarray(coefficients(key, (nodes, count)), leaves_dtype(theta)),
            "bank": jax.tree.unflatten(structure, bank),
            "rest": others.init(key_rest, vectors),
        }

    def combined(coefficients, bank, vectors):
        return merge(jax.tree.map(lambda leaf: product(coefficients, leaf), bank), vectors)

    def at(phi):
        own = nodewise(others, phi["rest"])
        return lambda node: combined(
            _index.taken(phi["coefficients"], node), phi["bank"], own(node)
        )

    return Tying(
        init,
        lambda phi: combined(phi["coefficients"], phi["bank"], others.expand(phi["rest"])),
        lambda phi: others.penalty(phi["rest"]),
        at,
    )
