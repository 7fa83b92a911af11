"""Examples sorted by concept, in one padded array. Axis letters: `C` concepts, `n` examples, `m`
examples of a concept."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxmeta._sums import summing_dtype
from jaxmeta.base import Examples


class ByClass(NamedTuple):
    """The examples of every concept, padded with zeros to the most that one has; made by
    `by_class`.

    Args:
      x: `[C, m, ...]`, a concept's examples first, then zeros.
      counts: `[C]`, how many of the m are examples.
    """

    x: Float[Array, "C m *features"]
    counts: Int[Array, " C"]

    @property
    def mask(self) -> Bool[Array, "C m"]:
        """Is it an example (or padding)?"""
        return np.arange(self.x.shape[1])[None] < self.counts[:, None]


def by_class(examples: Examples, concepts: int | Sequence[Hashable] | None = None) -> ByClass:
    """Groups examples by concept, in the order in which they stand.

    Args:
      examples: x `[n, ...]`, y `[n]` integers from 0 to C-1. Those of weight 0 are left out.
      concepts: C, or the C names that a refusal uses; default: as many as the largest label says.

    Raises:
      ValueError: for fewer than two concepts, a concept without examples, labels that are no
        integers or out of range, x and y of unlike lengths, NaN or infinity, weights other than 0
        and 1.

    Example:

    >>> import numpy as np
    >>> data = by_class(Examples(np.array([[1.0], [2.0], [3.0]]), np.array([1, 0, 1])))
    >>> data.x[:, :, 0].tolist(), data.counts.tolist()
    ([[2.0, 0.0], [1.0, 3.0]], [1, 2])
    """
    x, y, names = checked(examples, concepts)
    counts = np.bincount(y, minlength=len(names)).astype(np.int32)
    order = np.argsort(y, kind="stable")
    place = np.arange(len(y)) - (np.cumsum(counts) - counts)[y[order]]
    padded = np.zeros((len(names), counts.max(), *x.shape[1:]), x.dtype)
    padded[y[order], place] = x[order]
    return ByClass(padded, counts)


def checked(examples: Examples, concepts=None) -> tuple[np.ndarray, np.ndarray, list]:
    """x, in float32 at least, and y of the examples that count, and the names of the concepts, as
    numpy sees them; refuses what `by_class` refuses."""
    x, y = np.asarray(examples.x), np.asarray(examples.y)
    if not np.issubdtype(y.dtype, np.integer) or y.ndim != 1:
        raise ValueError(
            f"labels must be integers [n], got dtype {y.dtype} and shape {y.shape}; number the "
            "concepts from 0"
        )
    if len(x) != len(y):
        raise ValueError(
            f"x and y must have one length, got {len(x)} examples and {len(y)} labels; give one "
            "label an example"
        )
    if (counting := examples.counting) is not None:
        counting = np.asarray(counting)
        if not np.isin(counting, (0, 1)).all():
            raise ValueError(
                "examples sorted by concept count alike, of weight 1, or not at all, of weight 0, "
                f"got {counting[~np.isin(counting, (0, 1))][0]}; leave weights out, or draw "
                "examples by them"
            )
        x, y = x[counting == 1], y[counting == 1]
    if concepts is None:
        concepts = int(y.max(initial=-1)) + 1
    names = list(range(concepts)) if isinstance(concepts, int) else list(concepts)
    if len(names) < 2:
        raise ValueError(
            f"there must be at least two concepts, got {len(names)}; give examples of more classes"
        )
    if y.min(initial=0) < 0 or y.max(initial=0) >= len(names):
        wrong = int(np.argmax((y < 0) | (y >= len(names))))
        raise ValueError(
            f"labels must be from 0 to {len(names) - 1}, got {y[wrong]} at example {wrong}; number "
            "the concepts from 0"
        )
    empty = [
        names[concept] for concept in np.flatnonzero(np.bincount(y, minlength=len(names)) == 0)
    ]
    if empty:
        raise ValueError(
            f"every concept must have an example, got none for {', '.join(map(repr, empty))}; "
            "leave them out, or give examples"
        )
    x = x.astype(
        summing_dtype(x.dtype) if np.issubdtype(x.dtype, np.floating) else np.float32, copy=False
    )
    good = np.isfinite(x.reshape(len(x), -1)).all(1)
    if not good.all():
        wrong = int(np.argmin(good))
        raise ValueError(
            f"x must be finite, got NaN or infinity in example {wrong} of concept "
            f"{names[y[wrong]]!r}; clean the data"
        )
    return x, y, names
