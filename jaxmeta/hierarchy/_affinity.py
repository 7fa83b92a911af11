"""What is done with an affinity whatever it measures: made symmetric, turned into a distance. `C`
concepts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from jaxmeta._sums import summing_dtype

Affinity = Float[np.ndarray, "C C"]
"""`[source, target]`; larger is closer."""


def checked_affinity(affinity, concepts: int | None = None) -> np.ndarray:
    """The affinity as an array of floats, of float32 at least.

    Raises:
      ValueError: for an array that is not `[C, C]` with C of two or more, NaN or infinity, naming
        the first pair.
    """
    array = np.asarray(affinity)
    array = array.astype(
        summing_dtype(array.dtype) if np.issubdtype(array.dtype, np.floating) else float, copy=False
    )
    size = array.shape[0] if concepts is None and array.ndim else concepts
    if array.shape != (size, size) or array.shape[0] < 2:
        expected = (
            "[C, C] over two concepts or more" if concepts is None else f"[{concepts}, {concepts}]"
        )
        raise ValueError(
            f"an affinity must be {expected}, got shape {array.shape}; give one row and one column "
            "a concept"
        )
    if not np.isfinite(array).all():
        source, target = np.argwhere(~np.isfinite(array))[0]
        raise ValueError(
            f"an affinity must be finite, got {array[source, target]} from concept {source} to "
            f"concept {target}; look at how that pair was measured"
        )
    return array


def mean(there, back):
    """`(a_ij + a_ji) / 2`, how `symmetrised` joins the two directions unless told otherwise."""
    return (there + back) / 2


def symmetrised(affinity: Affinity, how: Callable = mean) -> Affinity:
    r"""One affinity for a pair: `how(a_ij, a_ji)`, with `how` the mean, `np.minimum`, `np.maximum`
    (open in the paper).

    Raises:
      ValueError: for NaN or the wrong shape.

    >>> symmetrised([[1.0, 0.2], [0.6, 1.0]], np.minimum).tolist()
    [[1.0, 0.2], [0.2, 1.0]]
    """
    affinity = checked_affinity(affinity)
    return how(affinity, affinity.T)


def to_distance(affinity: Affinity, top: float | None = None) -> Affinity:
    r"""The distance that clustering takes: `d_ij = top - a_ij` off the diagonal, 0 on it.

    Args:
      affinity: `[C, C]`, symmetric; larger is closer.
      top: The affinity of what is no distance apart, 1 for shares; default: the largest entry.

    Raises:
      ValueError: for NaN, the wrong shape, an affinity that is not symmetric, or entries above top.

    >>> to_distance([[1.0, 0.25], [0.25, 0.5]]).tolist()
    [[0.0, 0.75], [0.75, 0.0]]
    """
    affinity = checked_affinity(affinity)
    if not np.allclose(affinity, affinity.T, rtol=1e-5, atol=1e-6 * np.ptp(affinity)):
        source, target = np.unravel_index(np.argmax(abs(affinity - affinity.T)), affinity.shape)
        raise ValueError(
            f"a distance needs a symmetric affinity, got {affinity[source, target]} from concept "
            f"{source} to {target} and {affinity[target, source]} back; give symmetrised(affinity)"
        )
    away = ~np.eye(len(affinity), dtype=bool)
    if top is None:
        top = affinity.max()
    elif affinity[away].max() > top:
        raise ValueError(
            f"top must be at least the largest affinity, {affinity[away].max()}, got {top}; leave "
            "it out"
        )
    return np.where(away, top - (affinity + affinity.T) / 2, 0.0).clip(0.0)
