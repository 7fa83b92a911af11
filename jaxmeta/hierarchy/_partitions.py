"""The nodes that hierarchies are made of: a subset of the concepts and a partition of it into at
least two blocks.

`k` concepts of a subset, numbered by their place in it; `P` partitions, `m` blocks. A block is a
bit mask, bit `i` for the subset's concept `i`.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Partitions(NamedTuple):
    """The partitions of k concepts into m blocks.

    Args:
      blocks: Their masks `[P, m]`, by their smallest concept.
      own: `[k, P]`, the mask of the block that holds a concept.
    """

    blocks: np.ndarray
    own: np.ndarray


class Family(NamedTuple):
    """Which partitions a node may make.

    Args:
      partitions: `k -> (Partitions, ...)`, one for each number of blocks, ascending; the
        singletons' among them or not.
      count: `k -> ` how many they are.
    """

    partitions: Callable
    count: Callable


@functools.lru_cache
def _all(size: int) -> tuple[Partitions, ...]:
    grown = np.zeros(
        (1, 1), np.int8
    )  # restricted growth strings: a concept joins a block there is, or opens the next
    for _ in range(1, size):
        blocks = grown.max(axis=1) + 1
        grown = np.concatenate(
            [
                np.column_stack(
                    [grown[blocks >= block], np.full((blocks >= block).sum(), block, np.int8)]
                )
                for block in range(blocks.max() + 1)
            ]
        )
    blocks = grown.max(axis=1) + 1
    return tuple(_masks(grown[blocks == m], m) for m in range(2, size + 1))


@functools.lru_cache
def _binary(size: int) -> tuple[Partitions, ...]:
    masks = np.arange(1, 2**size - 1, 2, dtype=np.int32)  # the blocks of concept 0
    held = (masks >> np.arange(size, dtype=np.int32)[:, None]) & 1
    rest = 2**size - 1 - masks
    return (
        Partitions(
            np.column_stack([masks, rest]), np.where(held == 1, masks, rest).astype(np.int32)
        ),
    )


def _masks(grown, m: int) -> Partitions:
    bits = 1 << np.arange(grown.shape[1], dtype=np.int32)
    blocks = np.stack(
        [((grown == block) * bits).sum(axis=1, dtype=np.int32) for block in range(m)], axis=1
    )
    return Partitions(blocks, np.take_along_axis(blocks, grown.astype(np.int64), axis=1).T.copy())


def summed(values, groups) -> np.ndarray:
    """Of every partition the sum of its blocks' values: from `[..., 2^k]`, by mask, `[..., P]`."""
    return np.concatenate([values[..., group.blocks].sum(axis=-1) for group in groups], axis=-1)


def blocks_at(groups, column: int) -> np.ndarray:
    """The blocks' masks of the partition that stands in a column of `summed`."""
    for group in groups:
        if column < len(group.blocks):
            return group.blocks[column]
        column -= len(group.blocks)
    raise IndexError(column)


def _bell(size: int) -> int:
    bell = [1]
    for n in range(size):
        bell.append(sum(math.comb(n, i) * bell[i] for i in range(n + 1)))
    return bell[size]


all_partitions = Family(_all, lambda size: _bell(size) - 1)
"""Every partition into at least two blocks: `Bell(k) - 1`."""

binary_partitions = Family(_binary, lambda size: 2 ** (size - 1) - 1)
"""Every split in two: `2^(k-1) - 1`."""


def count_nodes(size: int, family: Family = all_partitions) -> int:
    r"""How many nodes all hierarchies over C concepts are made of.

    $$ \sum_{k=2}^C \binom Ck |\text{family}(k)|, \quad B_{C+1} - 2^C \text{ for all}, \quad
       (3^C + 1)/2 - 2^C
    \text{ for binary ones} $$

    Args:
      size: C.
      family: `all_partitions` or `binary_partitions`.

    Returns:
      An exact integer.

    >>> count_nodes(10), count_nodes(10, binary_partitions)
    (677546, 28501)
    """
    return sum(math.comb(size, k) * family.count(k) for k in range(2, size + 1))


@functools.lru_cache
def subsets(size: int, k: int) -> np.ndarray:
    """All subsets of k of `size` concepts, `[N, k]`, in lexicographic order."""
    return np.array(list(itertools.combinations(range(size), k)), np.int32).reshape(-1, k)


def as_members(masks: np.ndarray, size: int) -> np.ndarray:
    """Masks `[...]` as 0/1 rows `[..., size]`."""
    return (np.asarray(masks)[..., None] >> np.arange(size)) & 1


def as_masks(members: np.ndarray) -> np.ndarray:
    """For subsets `[N, k]` of concepts, the masks `[N, 2^k]` over all concepts of each of their
    blocks."""
    local = as_members(np.arange(2 ** members.shape[-1]), members.shape[-1])
    return (1 << members.astype(np.int64)) @ local.T
