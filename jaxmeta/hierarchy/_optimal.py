"""The best hierarchies by a dynamic programme over subsets.

`C` classes, `k` of a subset, `P` partitions, `B = 2^k` blocks.
"""

from __future__ import annotations

import heapq
import weakref
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jaxmeta import _check
from jaxmeta.hierarchy._partitions import blocks_at, subsets, summed
from jaxmeta.hierarchy._scores import NodeScores
from jaxmeta.hierarchy._tree import Tree


class Ranked(NamedTuple):
    """A tree that was found.

    Args:
      tree: Over the classes.
      value: What was maximised, per example: by default the gain over the flat tree.
      score: Its log-score per example.
    """

    tree: Tree
    value: float
    score: float


def gain(scores: NodeScores) -> tuple[np.ndarray, ...]:
    """Nodes count by what they bring: the tree that maximises the log-score."""
    return scores.gains


def lower_bound(errors: float = 1.0) -> Callable:
    r"""Nodes count by a lower confidence bound of what they bring; ours.

    $$ \text{value} = \text{gain} - z \cdot \text{standard error of the gain} $$

    The maximum over many noisy scores is optimistic. A node that flat could replace brings 0
    without noise, so that structure stands only where it is worth z standard errors; the bound of a
    tree is below that of its summed gain. What it saves and costs on other examples is measured in
    `benchmarks/optimal_tree.py --selection`.

    Args:
      errors: z.
    """
    _check.number("errors", errors, least=0)

    def value(scores: NodeScores):
        return tuple(gain - errors * error for gain, error in zip(scores.gains, scores.errors))

    return value


def optimal(scores: NodeScores, count: int = 1, value: Callable = gain) -> list[Ranked]:
    r"""The best trees of all that the family of the scores allows, exactly.

    $$ V(S) = \max_\pi \Big( \text{value}(S, \pi) + \sum_{B \in \pi} V(B) \Big), \qquad
       V(\{c\}) = 0 $$

    Further ones come from lazy enumeration: the next best tree at S takes a next best tree below
    one block.

    Args:
      scores: From `node_scores` or `cross_fitted`.
      count: How many trees, at least 1; fewer come where there are fewer.
      value: `scores -> ` values of all nodes: `gain`, or `lower_bound(z)`.

    Returns:
      `count` trees, best first.

    Example:
      >>> import numpy as np
      >>> from jaxmeta.hierarchy._nodes import lda
      >>> from jaxmeta.hierarchy._scores import node_scores
      >>> labels = np.arange(80) % 4
      >>> features = np.array([0.0, 2.0, 20.0, 22.0])[labels, None] + np.random.default_rng(
      ...     0
      ... ).normal(size=(80, 1))
      >>> scores = node_scores(lda(), (features[:40], labels[:40]), (features[40:], labels[40:]))
      >>> len(optimal(scores, count=100))
      26

    Paper: Huang and Chiang, "Better k-best parsing", 2005 (algorithm 3, the lazy enumeration).
    """
    _check.whole_number("count", count, least=1)
    return _Chart(scores, value).best(count)


def score(tree: Tree, scores: NodeScores) -> float:
    """A tree's log-score per example.

    Raises:
      ValueError: for a tree over other classes, or with a node that the family of the scores does
        not hold.
    """
    return (scores.flat[-1] + sum(_at(scores.gains, tree, scores))) / scores.examples


def regret(tree: Tree, scores: NodeScores) -> float:
    """The best tree's log-score less this tree's, per example, never below 0; best of all that the
    family allows."""
    return _best_score(scores) - score(tree, scores)


def standard_error(tree: Tree, scores: NodeScores) -> float:
    """A bound of the standard error of a tree's gain over flat, per example: its nodes' errors
    added up; ours."""
    return sum(_at(scores.errors, tree, scores)) / scores.examples


_BEST = weakref.WeakKeyDictionary()  # the best score of each scores that are still there


def _best_score(scores: NodeScores) -> float:
    if scores not in _BEST:
        _BEST[scores] = optimal(scores)[0].score
    return _BEST[scores]


def nodes_of(tree: Tree):
    """Every inner node as `(members, blocks)`: its leaves and, for each child, its place among them
    as a mask."""
    for node in tree.inner:
        members = np.flatnonzero(tree.members[node])
        blocks = [
            int(tree.members[child][members] @ (1 << np.arange(len(members))))
            for child in tree.children[node]
        ]
        yield members, blocks


def _at(values, tree: Tree, scores: NodeScores):
    """The tables' entries at a tree's nodes."""
    for members, blocks in nodes_of(tree.over(scores.concepts)):
        k, column = len(members), 0
        row = int(np.flatnonzero((subsets(scores.size, k) == members).all(axis=1))[0])
        for group in scores.family.partitions(k):
            if group.blocks.shape[1] == len(blocks):
                hit = np.flatnonzero((group.blocks == np.array(blocks)).all(axis=1))
                if hit.size:
                    yield float(values[k - 2][row, column + hit[0]])
                    break
            column += group.blocks.shape[0]
        else:
            names = [scores.concepts[member] for member in members]
            raise ValueError(
                "every node of the tree must be in the family of the scores, got one with "
                f"{len(blocks)} children over {names}; score all_partitions"
            )


class _Chart:
    """Values of all subsets, and trees by rank."""

    def __init__(self, scores: NodeScores, value: Callable):
        self.scores, size = scores, scores.size
        self.value = np.zeros(2**size)
        self.totals, self.place = {}, {}
        self.ranked, self.queue, self.seen = {}, {}, {}
        for (k, masks, groups), nodes in zip(scores.levels(), value(scores)):
            if np.isnan(nodes).any():
                raise ValueError(
                    f"values of nodes must be numbers, got NaN among those over {k} classes; give "
                    "a node that must not be taken -inf"
                )
            self.totals[k] = nodes + summed(self.value[masks], groups)
            self.value[masks[:, -1]] = self.totals[k].max(axis=1)
            self.place |= {int(mask): (k, row) for row, mask in enumerate(masks[:, -1])}
        self.masks = {k: masks for k, masks, _ in scores.levels()}

    def best(self, count: int) -> list[Ranked]:
        scores, root = self.scores, 2**self.scores.size - 1
        self.count, found = count, []
        while len(found) < count and (entry := self._get(root, len(found))) is not None:
            tree = Tree.from_nested(self._nested(root, len(found)))
            found.append(Ranked(tree, entry[0] / scores.examples, score(tree, scores)))
        return found

    def _blocks(self, mask: int, column: int) -> list[int]:
        k, row = self.place[mask]
        return self.masks[k][row, blocks_at(self.scores.family.partitions(k), column)].tolist()

    def _get(self, mask: int, rank: int):
        """The entry `(value, column, ranks of the blocks' trees)` of a rank, or None where there
        are fewer trees."""
        if mask & (mask - 1) == 0:
            return (0.0, None, ()) if rank == 0 else None
        if mask not in self.queue:
            k, row = self.place[mask]
            totals = self.totals[k][row]
            top = np.argpartition(-totals, min(self.count, len(totals)) - 1)[: self.count]
            self.queue[mask] = [
                (-totals[column], int(column), (0,) * len(self._blocks(mask, column)))
                for column in top
            ]
            heapq.heapify(self.queue[mask])
            self.ranked[mask], self.seen[mask] = [], set()
        ranked, queue, seen = self.ranked[mask], self.queue[mask], self.seen[mask]
        while len(ranked) <= rank:
            if ranked:  # what the last one taken leads to, looked at only now
                value, column, ranks = ranked[-1]
                for place, block in enumerate(self._blocks(mask, column)):
                    further = (*ranks[:place], ranks[place] + 1, *ranks[place + 1 :])
                    if (column, further) not in seen and (
                        entry := self._get(block, further[place])
                    ) is not None:
                        seen.add((column, further))
                        less = self._get(block, ranks[place])[0] - entry[0]
                        heapq.heappush(queue, (-(value - less), column, further))
            if not queue:
                return None
            value, column, ranks = heapq.heappop(queue)
            ranked.append((-value, column, ranks))
        return ranked[rank]

    def _nested(self, mask: int, rank: int):
        if mask & (mask - 1) == 0:
            return self.scores.concepts[mask.bit_length() - 1]
        _, column, ranks = self._get(mask, rank)
        return tuple(
            self._nested(block, below) for block, below in zip(self._blocks(mask, column), ranks)
        )
