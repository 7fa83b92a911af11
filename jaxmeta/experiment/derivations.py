"""Affinities, and ways to a tree of the classes, by name. `C` classes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from jaxmeta import hierarchy as jh
from jaxmeta._registry import chosen
from jaxmeta.experiment.concepts import PARTS
from jaxmeta.experiment.node_models import HIDDEN, held_out_classes

TRIALS = 100


def _transfer(key, train, learner):
    inside = train.fold != PARTS[-1]
    return jh.transfer_affinity(
        key,
        train.examples(inside),
        train.examples(~inside),
        budget=max(1, int(np.bincount(train.y[inside]).max())),
    )


def _linear(key, train, learner):
    inside = train.fold != PARTS[-1]
    return jh.linear_transfer_affinity(
        key, train.examples(inside), train.examples(~inside), min(8, train.x.shape[1] - 1)
    )


def _body():
    from jaxmeta.models import mlp

    return mlp((HIDDEN,), None)


AFFINITIES: dict[str, Callable] = {
    "transfer": _transfer,
    "confusion": lambda key, train, learner: jh.confusion_affinity(
        key, train.examples(), held_out_classes(learner, train)
    ),
    "means": lambda key, train, learner: jh.embedding_affinity(
        key, jh.class_means(train.examples())
    ),
    "lookahead": lambda key, train, learner: jh.lookahead_affinity(key, train.examples(), _body()),
    "task2vec": lambda key, train, learner: jh.task2vec_affinity(key, train.examples(), _body()),
    "linear": _linear,
}
"""`(key, train, node learner) -> [C, C]` by name; a learner of None is ridge with the
`chosen_penalty`."""

SCHEMES: dict[str, jh.Scheme] = {
    "average": jh.average,
    "ward": jh.ward,
    "single": jh.single,
    "complete": jh.complete,
    "weighted": jh.weighted,
    "centroid": jh.centroid,
    "median": jh.median,
}
"""Agglomeration of an affinity, by name."""


def _nbdt(key, train, learner, scores):
    x, y, _ = train
    weights = np.linalg.solve(
        x.T @ x + 0.1 * len(x) * np.eye(x.shape[1]), x.T @ np.eye(int(y.max()) + 1)[y]
    )
    return jh.nbdt_tree(weights.T)


def _best_of(key, train, learner, scores):
    known = scores()
    sample = jh.sample if known.family is jh.all_partitions else jh.sample_binary
    return jh.best_of(key, known.size, TRIALS, lambda tree: jh.score(tree, known), sample).tree


TREES: dict[str, Callable] = {
    "flat": lambda key, train, learner, scores: jh.Tree.star(int(train.y.max()) + 1),
    "random": lambda key, train, learner, scores: jh.sample(key, int(train.y.max()) + 1),
    "clustering": lambda key, train, learner, scores: jh.cluster(key, train.x, train.y),
    "confusion": lambda key, train, learner, scores: jh.agglomerate(
        AFFINITIES["confusion"](key, train, learner)
    ),
    "means": lambda key, train, learner, scores: jh.embedding_tree(
        jh.class_means(train.examples())
    ),
    "nbdt": _nbdt,
    "best-of": _best_of,
    "optimal": lambda key, train, learner, scores: jh.optimal(scores())[0].tree,
    "lower-bound": lambda key, train, learner, scores: (
        jh.optimal(scores(), value=jh.lower_bound(1.0))[0].tree
    ),
}
"""`(key, train, node learner, () -> NodeScores) -> Tree` by name, over the classes' numbers."""


def derivation(method: str, affinity: str | None = None, fuse: float | None = None) -> Callable:
    """A way to a tree as `TREES` has them; of `SCHEMES` it is agglomeration, by default of the
    transfer affinity.

    Raises:
      ValueError: for a name that is not there, or affinity and fuse where nothing is agglomerated.
    """
    chosen("derivation", method, [*SCHEMES, *TREES])
    if method in TREES:
        if affinity is not None or fuse is not None:
            raise ValueError(
                f"an affinity and levels to fuse are for agglomeration ({', '.join(SCHEMES)}), got "
                f"method '{method}'; leave them out"
            )
        return TREES[method]
    measure = AFFINITIES[
        chosen("affinity", "transfer" if affinity is None else affinity, AFFINITIES)
    ]
    return lambda key, train, learner, scores: jh.agglomerate(
        measure(key, train, learner), SCHEMES[method], fuse or 0.0
    )
