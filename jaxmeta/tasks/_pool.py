"""Examples on the device, and which of them each class of each group has.

Axis letters: `n` examples, `G` groups (alphabets, persons), `C` classes, `M` examples of the
largest class in a group, `B` bouts of the class that has most.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int


class Bouts(NamedTuple):
    """Which bouts the examples of a `Table` are of.

    Args:
      of: `[G, C, M]`, the number of each member's bout among those of its class.
      sizes: `[G, C, B]`, how many members each bout has.
    """

    of: Int[Array, "G C M"]
    sizes: Int[Array, "G C B"]


class Table(NamedTuple):
    """Which examples each class of each group has.

    Args:
      members: `[G, C, M]`, positions of the examples; what lies beyond the counts is not used.
      counts: `[G, C]`.
      bouts: None where the examples have none.
    """

    members: Int[Array, "G C M"]
    counts: Int[Array, "G C"]
    bouts: Bouts | None = None


class Pool(NamedTuple):
    """Examples on the device, to draw episodes from: what one split holds and nothing else.

    Args:
      inputs: `[n, ...]`; uint8 inputs are bytes from 0 to 255, which episodes turn into floats from
        0 to 1.
      table: Where each class's examples are.
    """

    inputs: Array
    table: Table


def index(labels, groups=None, bouts=None) -> Table:
    """The table of examples by group and class.

    Args:
      labels: `[n]` integers, the classes.
      groups: `[n]` integers, whose episodes are kept apart (all from one person, or one alphabet);
        None for one group.
      bouts: `[n]` integers, as in `pool`.

    Raises:
      ValueError: If labels, groups or bouts are not n non-negative integers.
    """
    labels = _whole("labels", labels)
    groups = np.zeros_like(labels) if groups is None else _whole("groups", groups)
    bouts = None if bouts is None else _whole("bouts", bouts)
    for name, ids in {"groups": groups, "bouts": labels if bouts is None else bouts}.items():
        if labels.shape != ids.shape or labels.size == 0:
            raise ValueError(
                f"labels and {name} must have one entry an example and at least one example, got "
                f"shapes {labels.shape} and {ids.shape}"
            )
    shape = (groups.max() + 1, labels.max() + 1)
    counts = np.zeros(shape, np.int32)
    np.add.at(counts, (groups, labels), 1)
    members = np.zeros((*shape, counts.max()), np.int32)
    order = np.lexsort((labels, groups))
    cells = groups[order] * shape[1] + labels[order]
    starts = np.searchsorted(cells, cells)
    places = (groups[order], labels[order], np.arange(cells.size) - starts)
    members[places] = order
    return Table(
        jnp.asarray(members),
        jnp.asarray(counts),
        None if bouts is None else _bouts(bouts[order], cells, *places),
    )


def _bouts(bouts, cells, groups, labels, places) -> Bouts:
    """Of examples in the order of their cells."""
    (first, _), number = np.unique(np.stack([cells, bouts]), axis=1, return_inverse=True)
    number = number.ravel() - np.searchsorted(first, cells)
    shape = groups.max() + 1, labels.max() + 1
    of, sizes = (
        np.zeros((*shape, places.max() + 1), np.int32),
        np.zeros((*shape, number.max() + 1), np.int32),
    )
    of[groups, labels, places] = number
    np.add.at(sizes, (groups, labels, number), 1)
    return Bouts(jnp.asarray(of), jnp.asarray(sizes))


def pool(inputs, labels, groups=None, bouts=None) -> Pool:
    """Puts examples on the device, to draw episodes from.

    Args:
      inputs: `[n, ...]`, bytes or finite floats.
      labels: `[n]` integers, the classes.
      groups: `[n]` integers; with groups an episode draws its classes from one group, whose number
        is the task's node.
      bouts: `[n]` integers; with bouts support and query of a class come from different ones. For
        windows that overlap: the stretch that each was cut from, or the recording
        (`jaxmeta.data.Dataset.apart`).

    Raises:
      ValueError: If the inputs hold NaN or infinity, labels are not integers, or the lengths
        differ.
    """
    inputs = np.asarray(inputs)
    table = index(labels, groups, bouts)
    if len(inputs) != len(labels):
        raise ValueError(
            f"inputs and labels must have one entry an example, got {len(inputs)} and {len(labels)}"
        )
    if np.issubdtype(inputs.dtype, np.floating) and not np.isfinite(inputs).all():
        bad = int(np.argwhere(~np.isfinite(inputs.reshape(len(inputs), -1)).all(1))[0, 0])
        raise ValueError(
            f"inputs must be finite, got NaN or infinity in example {bad}; repair or drop such "
            "examples"
        )
    return Pool(jnp.asarray(inputs), table)


def _whole(name: str, values) -> np.ndarray:
    values = np.asarray(values)
    if (
        values.ndim != 1
        or not np.issubdtype(values.dtype, np.integer)
        or (values.size and values.min() < 0)
    ):
        raise ValueError(
            f"{name} must be a vector of integers from 0 up, got shape {values.shape} and dtype "
            f"{values.dtype}; number them, for example with np.unique(..., return_inverse=True)[1]"
        )
    return values.astype(np.int64)
