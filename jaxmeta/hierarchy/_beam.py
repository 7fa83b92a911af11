"""Beam search for hierarchies of more classes than the exact optimum takes, with a bound on what it
may have missed.

`C` classes, `k` of a subset, `P` partitions, `B = 2^k` blocks.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta import _check
from jaxmeta.hierarchy._nodes import NodeLearner
from jaxmeta.hierarchy._partitions import (
    Family,
    as_masks,
    as_members,
    binary_partitions,
    blocks_at,
    summed,
)
from jaxmeta.hierarchy._scores import clipped, fitted_to, scored, solved
from jaxmeta.hierarchy._tables import tables
from jaxmeta.hierarchy._tree import Tree


class Beam(NamedTuple):
    """What a beam search found.

    Args:
      tree: The best tree of those whose nodes were all scored.
      score: Its log-score per example.
      bound: No tree of the family scores higher. `bound - score` bounds the regret; 0 where nothing
        was left out.
      nodes: How many nodes were scored.
    """

    tree: Tree
    score: float
    bound: float
    nodes: int


def beam_search(
    learner: NodeLearner,
    train,
    validation,
    width: int = 16,
    family: Family = binary_partitions,
    concepts=None,
    memory: int = 2**28,
    most: int = 3_000_000,
) -> Beam:
    r"""Searches hierarchies from the root down, scoring all nodes of the subsets that it visits.

    Of every visited subset the `width` most promising partitions name subsets to visit; of those of
    one size the `width` reached with the least loss are visited, and in any case the blocks of the
    most promising partition of a visited one. Promise is a partition's log-score and what the
    subset's own flat model gives below its blocks. The bound (ours) follows from log-scores being
    at most 0:

    $$ U(S) = \max_\pi \Big( \text{score}(S, \pi)
       + \sum_{B \in \pi} U(B) \Big) \text{ if visited, else } 0 $$

    It is loose for a narrow beam, always valid, and meets the score where all subsets are visited.

    Args:
      learner: `ridge()` or `lda()`.
      train: `(features [n, d], labels [n])`.
      validation: The same, other examples.
      width: Of the beam, at least 1.
      family: `binary_partitions` or `all_partitions`; every visited subset costs all its
        partitions.
      concepts: The classes expected; default those of `train`.
      memory: Bytes that the temporaries of a program should not exceed.
      most: Partitions of all classes beyond which it refuses.

    Returns:
      A `Beam`.

    Raises:
      ValueError: as `node_scores`.

    Example:
      >>> import numpy as np
      >>> from jaxmeta.hierarchy._nodes import lda
      >>> labels = np.arange(80) % 4
      >>> features = np.array([0.0, 2.0, 20.0, 22.0])[labels, None] + np.random.default_rng(
      ...     0
      ... ).normal(size=(80, 1))
      >>> found = beam_search(
      ...     lda(), (features[:40], labels[:40]), (features[40:], labels[40:]), width=1
      ... )
      >>> found.tree.nested(), found.score <= found.bound <= 0
      (((0, 1), (2, 3)), True)
    """
    _check.whole_number("width", width, least=1)
    fit_on, x, weight, names = tables(train, validation, concepts)
    size = len(names)
    if family.count(size) > most:
        raise ValueError(
            f"a beam takes at most {most} partitions of all classes, got {size} classes with "
            f"{family.count(size)}; use binary_partitions, derive the tree by clustering, or give "
            "a larger most"
        )
    reached = {
        k: {} for k in range(1, size + 1)
    }  # mask -> the log-score above it at best; infinite where it must be visited
    reached[size][2**size - 1] = np.inf
    visited, nodes = [], 0
    for k in range(size, 1, -1):
        chosen = sorted(reached[k], key=lambda mask: (-reached[k][mask], mask))
        chosen = [
            mask for place, mask in enumerate(chosen) if place < width or reached[k][mask] == np.inf
        ]
        if not chosen:
            continue
        members = np.array([np.flatnonzero(as_members(mask, size)) for mask in chosen], np.int32)
        values, below = _visit(learner, fit_on, members, x, weight, family, memory)
        solved(values, members, names)
        nodes += values.size
        groups, masks = family.partitions(k), as_masks(members)
        visited.append((masks, groups, values))
        for row, mask in enumerate(chosen):
            hint = values[row] + summed(below[row], groups)
            above = 0.0 if reached[k][mask] == np.inf else reached[k][mask]
            for rank, column in enumerate(np.argsort(-hint, kind="stable")[:width]):
                for block in masks[row][blocks_at(groups, column)]:
                    into = reached[int(block).bit_count()]
                    into[int(block)] = max(
                        into.get(int(block), -np.inf),
                        np.inf if rank == 0 else above + values[row, column],
                    )
    return _collect(visited, names, int(weight.sum()), nodes)


def _collect(visited, names, examples, nodes) -> Beam:
    size = len(names)
    singles = 1 << np.arange(size)
    lower, upper, choice = np.full(2**size, -np.inf), np.zeros(2**size), {}
    lower[singles] = 0
    for masks, groups, values in reversed(visited):
        for row, mask in enumerate(masks[:, -1]):
            least = values[row] + summed(lower[masks[row]], groups)
            column = int(least.argmax())
            lower[mask] = least[column]
            upper[mask] = (values[row] + summed(upper[masks[row]], groups)).max()
            choice[int(mask)] = masks[row][blocks_at(groups, column)]

    def nested(mask):
        return (
            names[mask.bit_length() - 1]
            if mask & (mask - 1) == 0
            else tuple(nested(int(block)) for block in choice[mask])
        )

    return Beam(
        Tree.from_nested(nested(2**size - 1)),
        float(lower[-1] / examples),
        float(upper[-1] / examples),
        nodes,
    )


def _visit(learner, fit_on, members, x, weight, family, memory):
    """Log-scores of all nodes of subsets, and what their flat models give below each block."""
    count = len(members)
    padded = members[np.arange(2 ** (count - 1).bit_length()) % count]  # few shapes, few programs
    fitted = fitted_to(learner, fit_on, padded, memory)
    values, _ = scored(learner, fitted, padded, x, weight, family, memory)
    return values[:count], np.asarray(_below(learner, fitted, padded, x, weight))[:count]


@functools.partial(jax.jit, static_argnums=0)
def _below(learner, fitted, members, x, weight):
    """Summed log-probabilities of the classes given each block, by the subset's flat model:
    `[subsets, B]`."""
    k = members.shape[1]
    held = jnp.asarray(as_members(np.arange(2**k), k), x.dtype)

    def of_class(subset, place):
        fitted, member = subset

        def of_tile(total, tile):
            x, weight = tile
            single = clipped(learner, fitted, x, jnp.eye(k, dtype=x.dtype), k)
            block = jnp.log(jnp.maximum(held @ jnp.exp(single), jnp.finfo(x.dtype).tiny))
            return total + (single[place][None] - block) @ weight, None

        total, _ = jax.lax.scan(
            of_tile, jnp.zeros(2**k, x.dtype), (x[member[place]], weight[member[place]])
        )
        return total * held[:, place]

    return jax.lax.map(
        lambda subset: jax.lax.map(lambda place: of_class(subset, place), jnp.arange(k)).sum(
            axis=0
        ),
        (fitted, members),
    )
