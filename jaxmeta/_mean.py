"""The mean by weight: of examples and of tasks."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float


def weighted_mean(values: Float[Array, " n"], weight: Float[Array, " n"] | None) -> Float[Array, ""]:
    r"""$\sum_i w_i v_i / \sum_i w_i$, 0 where all weights are 0; the plain mean without weights.

    Summed in float32 at least. What has weight 0 may be infinite or nan, and is not seen; where it is finite, the derivative
    in its weight is that of the formula.

    >>> float(weighted_mean(jnp.array([1.0, 3.0, jnp.nan]), jnp.array([1.0, 1.0, 0.0])))
    2.0
    """
    if weight is None:
        return values.mean()
    wide = jnp.promote_types(values.dtype, jnp.float32)
    weight = weight.astype(wide)
    seen = jnp.where((weight == 0) & ~jnp.isfinite(values), 0, values).astype(wide)
    total = weight.sum()
    return ((seen * weight).sum() / jnp.where(total == 0, 1, total)).astype(values.dtype)
