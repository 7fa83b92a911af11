"""Indices that there are not: refused where their values are known, NaN where they are traced; they
never take another's place."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array


def checked(name: str, index, count: int, cure: str):
    """Returns an index, or an array of them; refuses what is no whole number, and values that are
    known and not 0 to count - 1."""
    if isinstance(index, bool) or not jnp.issubdtype(jnp.result_type(index), jnp.integer):
        raise ValueError(
            f"{name} must be whole numbers from 0 to {count - 1}, got {jnp.result_type(index)}; "
            f"{cure}"
        )
    if not _traced(index):
        known = np.asarray(index)
        wrong = known[(known < 0) | (known >= count)]
        if wrong.size:
            raise ValueError(f"{name} must be from 0 to {count - 1}, got {wrong.flat[0]}; {cure}")
    return index


def or_nan(value: Array, index, count: int) -> Array:
    """What was taken by an index, `[*index, ...]`: floats, and their derivatives, are NaN where it
    is traced and not from 0 to count - 1; where it is known, that is refused."""
    if not _traced(index):
        checked("an index", index, count, "number from 0")
        return value
    if not jnp.issubdtype(value.dtype, jnp.inexact):
        return value
    there = (index >= 0) & (index < count)
    there = there.reshape(*there.shape, *[1] * (value.ndim - there.ndim))
    # The selection makes the value NaN (XLA reads a product with what was a boolean as a selection,
    # of 0), the product its derivative, which a selection alone would let be 0.
    return jnp.where(there, value * jnp.where(there, 1, jnp.nan).astype(value.dtype), jnp.nan)


def taken(values: Array, index) -> Array:
    """`values[index]`, with `or_nan`."""
    return or_nan(values[index], index, len(values))


def _traced(index) -> bool:
    # Parts of an array that other processes hold cannot be looked at.
    return isinstance(index, jax.core.Tracer) or (
        isinstance(index, jax.Array) and not index.is_fully_addressable
    )
