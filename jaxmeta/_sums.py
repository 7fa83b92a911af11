"""Sums in enough bits, and means by weight: in bfloat16, 256 + 1 is 256, so that running totals of
many small parts stand still."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree


def summing_dtype(dtype):
    """What numbers of a dtype are added up in: floats in float32 at least, whole numbers and
    booleans as `jax.numpy.sum` does.

    >>> import jax.numpy as jnp
    >>> [str(summing_dtype(dtype)) for dtype in ("bfloat16", "float32", "float64", "complex64")]
    ['float32', 'float32', 'float64', 'complex64']
    """
    dtype = jnp.dtype(dtype)
    if jnp.issubdtype(dtype, jnp.complexfloating):
        return dtype
    if jnp.issubdtype(dtype, jnp.floating):
        return jnp.dtype(jnp.float32) if jnp.finfo(dtype).bits < 32 else dtype
    return jax.eval_shape(jnp.sum, jax.ShapeDtypeStruct((), dtype)).dtype


def widened(tree: PyTree) -> PyTree:
    """The tree with floats of fewer bits than float32 in float32; all other leaves are handed over
    as they are."""

    def one(leaf):
        dtype = jnp.result_type(leaf)
        wide = summing_dtype(dtype) if jnp.issubdtype(dtype, jnp.floating) else dtype
        return leaf if wide == dtype else jnp.asarray(leaf, wide)

    return jax.tree.map(one, tree)


def narrowed(tree: PyTree, like: PyTree) -> PyTree:
    """The leaves in the dtypes of another tree's, once all is added up."""
    return jax.tree.map(
        lambda leaf, own: leaf if leaf.dtype == own.dtype else leaf.astype(own.dtype), tree, like
    )


def weighted_mean(
    values: Float[Array, " n"], weight: Float[Array, " n"] | None
) -> Float[Array, ""]:
    r"""$\sum_i w_i v_i / \sum_i w_i$, 0 where all weights are 0; the plain mean without weights.

    Summed in float32 at least. What has weight 0 may be infinite or nan, and is not seen; where it
    is finite, the derivative in its weight is that of the formula.

    >>> import jax.numpy as jnp
    >>> float(weighted_mean(jnp.array([1.0, 3.0, jnp.nan]), jnp.array([1.0, 1.0, 0.0])))
    2.0
    """
    if weight is None:
        return values.mean()
    if jnp.shape(weight) != values.shape:
        raise ValueError(
            f"weights must be one number for each of the {len(values)}, got shape "
            f"{jnp.shape(weight)}; give [{len(values)}] of them"
        )
    wide = summing_dtype(values.dtype)
    weight = jnp.asarray(weight, wide)
    seen = jnp.where((weight == 0) & ~jnp.isfinite(values), 0, values).astype(wide)
    total = weight.sum()
    return ((seen * weight).sum() / jnp.where(total == 0, 1, total)).astype(values.dtype)
