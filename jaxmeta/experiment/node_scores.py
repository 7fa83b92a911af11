"""The scores of all nodes that hierarchies over few classes may have, and what trees miss of the
best."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

from jaxmeta import hierarchy as jh
from jaxmeta.experiment.concepts import Folded
from jaxmeta.experiment.node_models import or_ridge


def family(classes: int):
    """Of the hierarchies, those whose exact optimum is within reach: all up to 10 classes, binary
    ones beyond."""
    return jh.all_partitions if classes <= 10 else jh.binary_partitions


def within_reach(classes: int, allowed) -> None:
    """Refuses, by ValueError, more classes than the exact optimum takes."""
    if classes > (14 if allowed is jh.binary_partitions else 10):
        raise ValueError(
            "the exact optimum takes at most 10 classes, or 14 where trees are binary, got "
            f"{classes}; take some of the classes, or a tree by agglomeration or clustering"
        )


def node_scores_of(
    learner: jh.NodeLearner | None, train: Folded, allowed=None
) -> Callable[[], jh.NodeScores]:
    """The node scores cross-fitted over the folds, computed at the first call; of `family(C)`
    unless told otherwise.

    Raises:
      ValueError: on the call, for more classes than the exact optimum takes.
    """
    classes = int(train.y.max()) + 1
    allowed = family(classes) if allowed is None else allowed

    @functools.cache
    def scores():
        within_reach(classes, allowed)
        return jh.cross_fitted(or_ridge(learner, train), train.x, train.y, train.fold, allowed)

    return scores


def regrets(trees: Mapping[str, jh.Tree], known: jh.NodeScores) -> dict[str, float | None]:
    """By name what trees miss of the best, in nats an example; None for one that the family of the
    scores does not hold."""
    binary = known.family is jh.binary_partitions
    return {
        name: None
        if binary and any(len(below) > 2 for below in tree.children)
        else jh.regret(tree, known)
        for name, tree in trees.items()
    }
