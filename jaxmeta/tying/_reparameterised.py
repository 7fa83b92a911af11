"""Linear tyings within a leaf whose operator is a parameter too, vec W = U v. Axis letters: `m`
free entries."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from jaxmeta import _check
from jaxmeta._kronecker import kronecker_identity, kronecker_product
from jaxmeta.tying._tying import Tying


def reparameterised(free: int, scale: float = 0.01, start: float = 0.01) -> Tying:
    r"""Linear sharing that is learned, $vec(W) = U v$: which entries are one, or none, is what U's
    rows say.

    Its column space holds what `inside` can tie by any operator: orbit indicators for U are
    `orbits`, a null space's basis `null_space`. The high level is to own U, the low level to move
    v: `jaxmeta.bias.tied`.

    Args:
      free: m, the entries of v.
      scale, start: Standard deviations of U's and of v's entries at first, above 0 (in the paper's
        experiment 0.01 and one over the outputs). W begins small: for deep nets choose them so that
        $scale \cdot start \sqrt m$ is what a layer begins at.

    Returns:
      A `Tying` of single arrays, or of trees of them, each with a U of its own; its phi is
      `{"structure": U [..., m], "free": v [m]}`. Of an example only shape and dtype are used.

    Example:
      >>> import jax.numpy as jnp, jaxmeta.tying as jt
      >>> circular = jnp.array(
      ...     [[[1, 0], [0, 1]], [[0, 1], [1, 0]]]
      ... )  # 2 x 2 kernels with 2 free entries
      >>> jt.reparameterised(2).expand({"structure": circular, "free": jnp.array([5, 6])}).tolist()
      [[5, 6], [6, 5]]

    Paper: Zhou, Knowles and Finn, Meta-learning symmetries by reparameterization, ICLR 2021.
    """
    _check.whole_number("the number of free entries", free, least=1)
    _check.number("scale", scale, above=0)
    _check.number("start", start, above=0)

    def one(key, leaf):
        key_structure, key_free = jax.random.split(key)
        return (
            scale * jax.random.normal(key_structure, (*leaf.shape, free), leaf.dtype),
            start * jax.random.normal(key_free, (free,), leaf.dtype),
        )

    return _by_leaf(one, jnp.dot)


def kronecker(noise: float = 0.0, modes: slice = slice(None)) -> Tying:
    r"""Learned linear sharing of Kronecker form: $U = A \otimes B \otimes C$,
    $W = V \times_1 A \times_2 B \times_3 C$.

    V has W's shape; its modes are filter positions, inputs and outputs, as `jaxmeta.bias.kronecker`
    has them, and each has a square matrix, the identity at first. Far fewer parameters than
    `reparameterised`, and fewer tyings: only those whose space of kernels is a product of one space
    a mode.

    Args:
      noise: Standard deviation of what is added to the matrices at first, at least 0.
      modes: Which of a leaf's modes have a matrix; `slice(-1, None)` for its outputs alone, as
        T-Nets have it.

    Returns:
      A `Tying` of single arrays, or of trees of them; its phi is
      `{"structure": (A, ...), "free": V}`, V begins at the example.

    Papers: Zhou, Knowles and Finn, ICLR 2021, section 4.1; Lee and Choi, Gradient-based
    meta-learning with learned layerwise metric and subspace, ICML 2018.
    """
    _check.number("noise", noise, least=0)

    def one(key, leaf):
        factors = kronecker_identity(leaf)[modes]
        keys = jax.random.split(key, max(1, len(factors)))
        return tuple(
            factor + noise * jax.random.normal(own, factor.shape, factor.dtype)
            for factor, own in zip(factors, keys)
        ), leaf

    return _by_leaf(one, lambda factors, leaf: kronecker_product(factors, leaf, modes))


def _by_leaf(one: Callable, combine: Callable[[PyTree, Array], Array]) -> Tying:
    """A tying of every leaf on its own, of `one: (key, leaf) -> (structure, free)` and
    `combine: (structure, free) -> leaf`."""

    def init(key, theta):
        leaves, shape = jax.tree.flatten(theta)
        pairs = [
            one(own, jnp.asarray(leaf))
            for leaf, own in zip(leaves, jax.random.split(key, max(1, len(leaves))))
        ]
        structure, free = ([pair[side] for pair in pairs] for side in (0, 1))
        return {
            "structure": jax.tree.unflatten(shape, structure),
            "free": jax.tree.unflatten(shape, free),
        }

    def expand(phi):
        return jax.tree.map(
            lambda free, structure: combine(structure, free), phi["free"], phi["structure"]
        )

    return Tying(init, expand)
