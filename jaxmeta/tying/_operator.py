"""The linear maps of which linear tyings are made. Axis letters: `m` free rows, `n` rows that are
made of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxmeta import _check, _index
from jaxmeta._sums import narrowed, widened


class Operator(NamedTuple):
    r"""A linear map of the leading axis, $\theta = M \phi$; trailing axes ride along.

    Args:
      apply: `[m, ...] -> [n, ...]`.
      transpose: `[n, ...] -> [m, ...]`, $M^\top$.
      shape: `(n, m)`.
      row: `(phi, i) -> theta[i]` without the other rows, i a whole number or a scalar array; None
        where all must be made. NaN for a traced i that there is not.
    """

    apply: Callable[[Array], Array]
    transpose: Callable[[Array], Array]
    shape: tuple[int, int]
    row: Callable[[Array, Array], Array] | None = None


def linear(
    apply: Callable[[Array], Array], shape: tuple[int, int], row: Callable | None = None
) -> Operator:
    """The operator of a linear function, its transpose derived by `jax.linear_transpose`.

    Both add up in float32 at least and keep the dtype of what they are given: a row that a thousand
    share has the sum of as many gradients.

    >>> import jax.numpy as jnp
    >>> double = linear(lambda phi: 2 * phi, (3, 3))
    >>> double.transpose(jnp.ones((3,), "float32")).tolist()
    [2.0, 2.0, 2.0]
    """

    def summed(phi):
        return narrowed(apply(widened(phi)), phi)

    def transpose(theta):
        free = jax.ShapeDtypeStruct((shape[1], *theta.shape[1:]), theta.dtype)
        return jax.linear_transpose(summed, free)(theta)[0]

    return Operator(summed, transpose, shape, row)


def repeat(rows: int) -> Operator:
    """One row n times; the transpose is a sum."""
    return linear(
        lambda phi: jnp.broadcast_to(phi, (rows, *phi.shape[1:])), (rows, 1), lambda phi, i: phi[0]
    )


def gather(groups) -> Operator:
    r"""Rows by index, $\theta_i = \phi_{g(i)}$; the transpose is a sum over groups.

    Args:
      groups: `[n]` labels of any kind; the m different ones are numbered in sorted order.
    """
    labels, index = np.unique(np.asarray(groups), return_inverse=True)
    index = index.astype(np.int32)
    return linear(
        lambda phi: phi[index],
        (len(index), len(labels)),
        lambda phi, i: _index.or_nan(phi[jnp.asarray(index)[i]], i, len(index)),
    )


def hashing(key, rows: int, buckets: int) -> Operator:
    r"""Signed hashing, $\theta_i = \xi(i) \phi_{h(i)}$. Neither h nor xi is stored: both are drawn
    anew of the key."""
    key_bucket, key_sign = jax.random.split(key)

    def apply(phi):
        bucket = jax.random.randint(key_bucket, (rows,), 0, buckets)
        sign = jax.random.rademacher(key_sign, (rows, *[1] * (phi.ndim - 1)), phi.dtype)
        return sign * phi[bucket]

    return linear(apply, (rows, buckets))


def path_sums(parents: Sequence[int]) -> Operator:
    r"""Sums along the path from the root, $\theta_c = \sum_{n \in path(c)} \phi_n$, for all nodes,
    in N additions.

    One row is the sum of as many as the tree is deep.

    Args:
      parents: For every node the number of its parent, -1 for the root, as `Tree.parents`.
    """
    parents = np.asarray(parents, np.int32)
    levels, level = [], np.flatnonzero(parents < 0)
    while len(level := np.flatnonzero(np.isin(parents, level))):
        levels.append(level)
    reached = len(np.unique(np.concatenate([np.flatnonzero(parents < 0), *levels])))
    if parents.min(initial=0) < -1 or reached < len(parents):
        raise ValueError(
            f"parents must be numbers of nodes, 0 to {len(parents) - 1}, that lead from every node "
            f"to -1, the root's, got {parents.tolist()}; give Tree.parents"
        )

    def apply(phi):
        for level in levels:
            phi = phi.at[level].add(phi[parents[level]], unique_indices=True)
        return phi

    above = [
        np.arange(len(parents))
    ]  # every node, its parent, its grandparent, ...; beyond the root -1
    while (above[-1] >= 0).any():
        above.append(np.where(above[-1] < 0, -1, parents[above[-1]]))
    above, root = np.stack(above[:-1], 1), np.argmin(parents)

    def row(phi, i):
        path = jnp.asarray(above)[i]
        # A gather and a product: for large leaves a sum of slices took half as long again.
        return product(
            _index.or_nan((path >= 0).astype(phi.dtype), i, len(above)),
            phi[jnp.where(path < 0, root, path)],
        )

    return linear(apply, (len(parents), len(parents)), row)


def matrix(dense) -> Operator:
    """A matrix `[n, m]` whose structure nobody knows."""
    dense = np.asarray(dense)
    if dense.ndim != 2:
        raise ValueError(f"a matrix must have two axes, got shape {dense.shape}; give [n, m]")
    return linear(
        lambda phi: product(dense, phi),
        dense.shape,
        lambda phi, i: product(_index.taken(jnp.asarray(dense, phi.dtype), i), phi),
    )


def rows(operator: Operator, index) -> Operator:
    """Some rows of an operator, in this order."""
    index, size = np.asarray(index), operator.shape[0]
    if index.ndim != 1 or not index.size:
        raise ValueError(
            f"nodes must be numbers from 0 to {size - 1}, at least one, got {index.tolist()}; "
            "number nodes as the tree does"
        )
    index = _index.checked("nodes", index, size, "number nodes as the tree does").astype(np.int32)
    row = (
        None
        if operator.row is None
        else (lambda phi, i: _index.or_nan(operator.row(phi, jnp.asarray(index)[i]), i, len(index)))
    )
    return linear(lambda phi: operator.apply(phi)[index], (len(index), operator.shape[1]), row)


def product(dense, phi: Array) -> Array:
    """`[..., m]` times `[m, ...]`; trailing axes are flattened for it, as `tensordot`'s transpose
    would copy what is large."""
    flat = jnp.asarray(dense, phi.dtype) @ phi.reshape(len(phi), -1)
    return flat.reshape(*flat.shape[:-1], *phi.shape[1:])


def checked_nodes(nodes: int) -> int:
    """N, refused where it is no whole number of at least 1."""
    return _check.whole_number("the number of nodes", nodes, least=1)
