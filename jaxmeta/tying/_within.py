"""Linear tyings within a leaf: an array's entries made of fewer. Axis letters: `d` an array's size,
`m` its free entries."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxmeta import _check
from jaxmeta.tying._operator import Operator, gather, hashing
from jaxmeta.tying._tying import Tying


def inside(operator: Operator, shape: Sequence[int], start: Callable[[Array], Array]) -> Tying:
    r"""A linear tying within arrays of one shape, $vec(W) = M \phi$, on every leaf of theta.

    Args:
      operator: M, `[d, m]`, with d the product of shape.
      shape: Of the arrays.
      start: `[d] -> [m]`, from an example's entries to where phi begins.

    Returns:
      A `Tying` of single arrays, or of trees of them: place it by `applied`.
    """
    shape = tuple(shape)
    if math.prod(shape) != operator.shape[0]:
        raise ValueError(
            f"an operator within arrays of shape {shape} must have {math.prod(shape)} rows, got "
            f"{operator.shape[0]}; give the shape it was made for"
        )

    def init(key, theta):
        for leaf in jax.tree.leaves(theta):
            if jnp.shape(leaf) != shape:
                raise ValueError(
                    f"an array tied within must have shape {shape}, got {jnp.shape(leaf)}; "
                    "choose the leaves it is for by applied"
                )
        return jax.tree.map(lambda leaf: start(leaf.reshape(-1)), theta)

    return Tying(
        init, lambda phi: jax.tree.map(lambda leaf: operator.apply(leaf).reshape(shape), phi)
    )


def by_index(index) -> Tying:
    r"""Entries of a group are one, $\theta_i = \phi_{idx(i)}$; the gradient is a sum over groups.

    Args:
      index: The array's shape, labels of any kind; phi's entries are the groups in sorted order.

    Returns:
      A `Tying` of single arrays; each group begins at its first entry, which keeps the spread of
      the entries.

    Example:
      >>> import jax, jax.numpy as jnp, jaxmeta.tying as jt
      >>> tying = jt.by_index([[0, 1], [1, 0]])
      >>> tying.expand(jnp.array([5, 6])).tolist()
      [[5, 6], [6, 5]]
    """
    index = np.asarray(index)
    first = np.unique(index, return_index=True)[1]
    return inside(gather(index.reshape(-1)), index.shape, lambda leaf: leaf[first])


def hashed(key, shape: Sequence[int], buckets: int) -> Tying:
    r"""Signed hashing, $W_{i} = \xi(i)\, \phi_{h(i)}$, i over all entries.

    Args:
      key: Draws h and xi, the same at every call; they are not stored.
      shape: Of the array.
      buckets: m, the free entries.

    Returns:
      A `Tying`; phi begins at $\sum_{h(i) = k} \xi(i) W_i / \sqrt{n_k}$, which keeps the variance
      of centred entries.

    Paper: Chen et al., Compressing neural networks with the hashing trick, ICML 2015.
    """
    operator = hashing(key, math.prod(shape), _check.whole_number("buckets", buckets, least=1))

    def start(leaf):
        # A bucket's size: the transpose has the signs, so applied to its own image they cancel.
        counts = operator.transpose(operator.apply(jnp.ones(buckets, leaf.dtype)))
        return operator.transpose(leaf) / jnp.sqrt(jnp.maximum(counts, 1))

    return inside(operator, shape, start)


def orbit_labels(shape: Sequence[int], generators) -> np.ndarray:
    """The orbits of an array's entries under a permutation group, by number: connected components
    of its action.

    Args:
      shape: Of the array.
      generators: Of the group: each has one permutation for every axis, or None for an axis that
        stays.

    Raises:
      ValueError: For what is no permutation of an axis.

    Example:
      >>> turn = [1, 2, 0]  # circular shifts of inputs and outputs together: a circular convolution
      >>> orbit_labels((3, 3), [(turn, turn)]).tolist()
      [[0, 1, 2], [2, 0, 1], [1, 2, 0]]
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    shape, size = tuple(shape), math.prod(shape)
    flat = np.arange(size).reshape(shape)
    images = []
    for generator in generators:
        if len(generator) != len(shape):
            raise ValueError(
                f"a generator must have one permutation for each of the {len(shape)} axes, got "
                f"{len(generator)}; give None for an axis that stays"
            )
        moved = [
            np.arange(length) if perm is None else np.asarray(perm)
            for perm, length in zip(generator, shape)
        ]
        for axis, (perm, length) in enumerate(zip(moved, shape)):
            if perm.shape != (length,) or not np.array_equal(np.sort(perm), np.arange(length)):
                raise ValueError(
                    f"a generator on axis {axis} must be a permutation of 0 to {length - 1}, got "
                    f"{perm.tolist()}; name each place once"
                )
        images.append(flat[np.ix_(*moved)].reshape(-1))
    to = np.concatenate(images) if images else np.zeros(0, int)
    edges = coo_array(
        (np.ones(to.size, np.int8), (np.tile(np.arange(size), len(images)), to)), shape=(size, size)
    )
    return connected_components(edges, directed=False)[1].reshape(shape)


def orbits(shape: Sequence[int], generators) -> Tying:
    r"""One free entry for each orbit of a permutation group, $W_{ij} = \phi_{orbit(i,j)}$.

    These are all kernels `[inputs, outputs]` whose map $y = x W$ commutes with the group's action
    on inputs and outputs.

    Args:
      shape, generators: As in `orbit_labels`.

    Paper: Ravanbakhsh, Schneider and Poczos, Equivariance through parameter-sharing, ICML 2017.
    """
    return by_index(orbit_labels(shape, generators))
