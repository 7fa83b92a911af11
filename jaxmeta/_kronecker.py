"""Arrays multiplied by a matrix for each of their modes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float


def kronecker_identity(x) -> tuple[Array, ...]:
    """The identity of every mode of an array's shape:
    `kronecker_product(kronecker_identity(x), x) = x`."""
    return tuple(jnp.eye(size, dtype=x.dtype) for size in _modes(x.shape))


def kronecker_product(
    factors: Sequence[Float[Array, "n n"]], x: Array, modes: slice = slice(None)
) -> Array:
    """An array with every one of these modes multiplied by its matrix."""
    tensor = x.reshape(_modes(x.shape))
    for axis, factor in zip(range(tensor.ndim)[modes], factors):
        tensor = jnp.moveaxis(jnp.tensordot(factor, tensor, axes=(1, axis)), 0, axis)
    return tensor.reshape(x.shape)


def _modes(shape) -> tuple[int, ...]:
    """The axes that get a matrix each: a convolution's filter positions are one, then inputs, then
    outputs."""
    return shape if len(shape) < 3 else (math.prod(shape[:-2]), *shape[-2:])
