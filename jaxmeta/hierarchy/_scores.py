"""The log-scores of all nodes, on examples that their models were not trained on.

`C` classes, `k` of a subset, `n` examples a class and tile, `d` features, `B = 2^k` blocks, `P`
partitions of one subset.
"""

from __future__ import annotations

import functools
from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta.hierarchy._nodes import Moments, NodeLearner
from jaxmeta.hierarchy._partitions import (
    Family,
    all_partitions,
    as_masks,
    as_members,
    count_nodes,
    subsets,
    summed,
)
from jaxmeta.hierarchy._tables import tables

_CLIP = (
    40.0  # of log-potentials: exponentials stay in float32, and one example costs a node 80 at most
)
_SECOND = 3_000_000  # nodes that are scored and searched in tens of seconds


@dataclass(frozen=True, eq=False)
class NodeScores:
    r"""The log-scores of every node (subset S, partition) that a hierarchy over the classes may
    hold.

    $$ \log P_\text{tree}
       = \sum_\text{nodes} \sum_{i: y_i \in S} \log P(\text{block of } y_i \mid x_i, S)
       = \log P_\text{flat} + \sum_\text{nodes} \text{gain}, \qquad
       \text{gain}_i = \log P(\text{block}) + \log P_\text{flat}(y_i \mid \text{block})
       - \log P_\text{flat}(y_i \mid S) $$

    A node's gain is what it brings over deciding among the classes of S at once; gains add up to
    the tree's gain over the flat tree, and their noise is known from the same examples (ours).

    Args:
      concepts: The classes.
      family: The partitions.
      examples: How many were scored.
      flat: `[2^C]`, by the mask of S the summed log-score of the flat node over S, 0 for fewer than
        two classes.
      gains: For k = 2 .. C the summed gains `[subsets, P]`.
      squares: The same of the examples' squared gains.
    """

    concepts: tuple[Hashable, ...]
    family: Family
    examples: int
    flat: np.ndarray
    gains: tuple[np.ndarray, ...]
    squares: tuple[np.ndarray, ...]

    @property
    def size(self) -> int:
        """C, the number of classes."""
        return len(self.concepts)

    def levels(self):
        """`(k, masks [subsets, 2^k], Partitions)`, small subsets first."""
        for k in range(2, self.size + 1):
            yield k, as_masks(subsets(self.size, k)), self.family.partitions(k)

    @cached_property
    def log_scores(self) -> tuple[np.ndarray, ...]:
        """For k = 2 .. C the summed log-scores of the nodes `[subsets, P]`."""
        found = []
        for gain, (_, masks, groups) in zip(self.gains, self.levels()):
            found.append(gain + self.flat[masks[:, -1:]] - summed(self.flat[masks], groups))
        return tuple(found)

    @cached_property
    def errors(self) -> tuple[np.ndarray, ...]:
        """The standard errors of the summed gains, over all examples."""
        return tuple(
            np.sqrt(np.maximum(square - gain**2 / self.examples, 0))
            for gain, square in zip(self.gains, self.squares)
        )


def node_scores(
    learner: NodeLearner,
    train,
    validation,
    family: Family = all_partitions,
    concepts=None,
    memory: int = 2**28,
    most: int = _SECOND,
) -> NodeScores:
    """Trains a model for every node on some examples and scores it on others.

    A subset's model is solved once; its blocks' potentials on an example are tabulated, and each
    partition costs m sums and a logarithm. One program for each size of subset, in tiles of
    examples.

    Args:
      learner: `ridge()` or `lda()`.
      train: `(features [n, d], labels [n])`.
      validation: The same, other examples of the same classes.
      family: `all_partitions` or `binary_partitions`.
      concepts: The classes expected; default those of `train`.
      memory: Bytes that the temporaries of a program should not exceed.
      most: Nodes beyond which it refuses.

    Returns:
      The `NodeScores`, in float64 from sums in the features' precision.

    Raises:
      ValueError: for too many classes or one, an empty class, a class of one set that the other
        lacks, features that are not finite or not `[n, d]`, a subset without a solution.

    Example:
      >>> import numpy as np
      >>> from jaxmeta.hierarchy._nodes import ridge
      >>> labels = np.arange(60) % 3
      >>> features = np.eye(3)[labels] + np.random.default_rng(0).normal(size=(60, 3))
      >>> scores = node_scores(ridge(), (features[:30], labels[:30]), (features[30:], labels[30:]))
      >>> scores.examples, [gain.shape for gain in scores.gains]
      (30, [(3, 1), (1, 4)])
    """
    fit_on, x, weight, names = tables(train, validation, concepts)
    size = len(names)
    nodes = count_nodes(size, family)
    if nodes > most:
        raise ValueError(
            f"the exact optimum takes at most {most} nodes, got {size} classes with {nodes}; use "
            "beam_search, which scores the nodes that it visits, binary_partitions, or a larger "
            "most"
        )
    flats = np.zeros((size, x.shape[1], 2**size, x.shape[2]), x.dtype)
    gains, squares = [], []
    for k in range(2, size + 1):
        members = subsets(size, k)
        masks = as_masks(members)
        fitted = fitted_to(learner, fit_on, members, memory)
        flat = np.asarray(_flat(learner, fitted, members, x, weight))
        solved(flat, members, names)
        flats[members, :, masks[:, -1:]] = flat
        gain, square = scored(learner, fitted, members, x, weight, family, memory, flats)
        gains.append(gain)
        squares.append(square)
    sums = flats.sum(axis=(0, 1, 3), dtype=np.float64)
    return NodeScores(names, family, int(weight.sum()), sums, tuple(gains), tuple(squares))


def pooled(parts) -> NodeScores:
    """Scores on several sets of examples as scores on all of them."""
    first = parts[0]
    return NodeScores(
        first.concepts,
        first.family,
        sum(part.examples for part in parts),
        sum(part.flat for part in parts),
        *(
            tuple(map(sum, zip(*(getattr(part, what) for part in parts))))
            for what in ("gains", "squares")
        ),
    )


def scored(learner, fitted, members, x, weight, family, memory, flats=None):
    """Sums and sums of squares `[subsets, P]`, over examples, of the log-scores of the subsets'
    nodes; of their gains where the examples' flat log-scores `[C, tiles, 2^C, n]` are given."""
    groups = family.partitions(members.shape[1])
    each = 8 * sum(group.blocks.shape[0] for group in groups)
    found = [
        jax.device_get(
            _scored(
                learner,
                jax.tree.map(lambda a: a[part], fitted),
                members[part],
                as_masks(members[part]),
                x,
                weight,
                groups,
                flats,
            )
        )
        for part in _parts(len(members), memory // each)
    ]
    return tuple(np.concatenate(parts).astype(np.float64) for parts in zip(*found))


@functools.partial(jax.jit, static_argnums=0)
def _scored(learner: NodeLearner, fitted, members, masks, x, weight, groups, flats):
    k = members.shape[1]
    blocks = as_members(np.arange(2**k), k).astype(x.dtype)
    ones = jnp.ones((x.shape[2], 1), x.dtype)

    def of_subset(subset):
        fitted, member, mask = subset

        def of_tile(sums, tile):
            x, weight, own, flat = tile
            # What an example is worth below each block, less what it is worth at the subset; no
            # node reads the rows of blocks that its class is not in.
            below = 0.0 if flat is None else _rows(flat, mask) - _rows(flat, mask[-1:])
            gains = []
            for group, mine in zip(groups, own):
                potential = clipped(learner, fitted, x, blocks, group.blocks.shape[1])
                # Tables first, then rows of them: XLA would fuse them and work out every entry anew
                # at each place it is read.
                worth, exponential = jax.lax.optimization_barrier(
                    (potential + below, jnp.exp(potential))
                )
                total = sum(_rows(exponential, block) for block in group.blocks.T)
                gains.append((_rows(worth, mine) - jnp.log(total)) * weight[None])
            # A product with ones, for XLA would fuse a sum with all before it into one scalar loop.
            done = [
                jnp.concatenate([power(gain) @ ones for gain in gains])[:, 0]
                for power in (lambda g: g, jnp.square)
            ]
            return [a + b for a, b in zip(sums, done)], None

        def of_class(sums, one):
            class_, own = one
            tiles = x[class_], weight[class_], None if flats is None else flats[class_]
            return jax.lax.scan(
                lambda sums, tile: of_tile(sums, (*tile[:2], own, tile[2])), sums, tiles
            )

        start = [jnp.zeros(sum(group.blocks.shape[0] for group in groups), x.dtype)] * 2
        sums, _ = jax.lax.scan(of_class, start, (member, [group.own for group in groups]))
        return sums

    return jax.lax.map(of_subset, (fitted, members, masks))


def _rows(table, rows):
    return jnp.take(table, rows, axis=0, mode="clip")


def clipped(learner, fitted, x, blocks, m):
    return jnp.clip(learner.potentials(fitted, x, blocks, m), -_CLIP, _CLIP)


def flat_log_probabilities(learner, fitted, x, k: int):
    """`[k, n]`, of the node that decides among all classes of a subset at once."""
    return jax.nn.log_softmax(clipped(learner, fitted, x, jnp.eye(k, dtype=x.dtype), k), axis=0)


@functools.partial(jax.jit, static_argnums=0)
def _flat(learner, fitted, members, x, weight):
    """The flat log-scores of the examples of a subset's classes, `[subsets, k, tiles, n]`."""
    k = members.shape[1]

    def of_subset(subset):
        fitted, member = subset
        tiled = jax.vmap(jax.vmap(lambda x: flat_log_probabilities(learner, fitted, x, k)))(
            x[member]
        )  # [k, tiles, k, n]
        return jnp.einsum("ctcn->ctn", tiled) * weight[member]

    return jax.lax.map(of_subset, (fitted, members))


def fitted_to(learner, fit_on: Moments, members, memory=2**28):
    """The models of subsets, as many solved at a time as the memory holds."""
    each = 4 * fit_on.covariances[0].nbytes * (members.shape[1] + 4)
    found = [
        jax.device_get(_solve(learner, fit_on, members[part]))
        for part in _parts(len(members), memory // each)
    ]
    return jax.tree.map(lambda *parts: np.concatenate(parts), *found)


@functools.partial(jax.jit, static_argnums=0)
def _solve(learner, fit_on, members):
    return jax.vmap(lambda member: learner.fit(jax.tree.map(lambda a: a[member], fit_on)))(members)


def _parts(count, most):
    """Slices of at most so many, as equal as can be: few shapes, few programs."""
    pieces = -(-count // max(1, most))
    chunk = -(-count // pieces)
    return [slice(start, start + chunk) for start in range(0, count, chunk)]


def solved(values, members, names) -> None:
    """Refuses, naming it, a subset whose values `[subsets, ...]` are not all finite."""
    bad = np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(axis=1))
    if bad.size:
        culprit = [names[place] for place in members[bad[0]]]
        raise ValueError(
            f"every subset of the classes must have a solution, got none for {culprit}; raise the "
            "learner's penalty or shrinkage, or leave out constant features"
        )
