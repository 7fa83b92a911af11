"""The concepts of a data set: features, draws of few examples, and by name affinities, trees and
node models.

What `jaxmeta hierarchy` and `benchmarks/hierarchies.py` share. `n` examples, `d` features, `C`
classes.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxmeta import hierarchy as jh
from jaxmeta.base import Examples
from jaxmeta.data import Dataset
from jaxmeta.data import folds as people_folds
from jaxmeta.experiment._configuration import chosen

PARTS, TEST = (1, 2, 3), 1200  # folds of the training examples; most examples of a test
TRIALS, HIDDEN, PENALTIES = 100, 64, (1e-2, 1e-1, 1.0)


class Folded(NamedTuple):
    """Training examples, scaled: x `[n, d]`, y `[n]` from 0 to C-1, fold `[n]` in 1, 2, 3 of the
    inner cross-validation."""

    x: Float[np.ndarray, "n d"]
    y: Int[np.ndarray, " n"]
    fold: Int[np.ndarray, " n"]

    def examples(self, where=slice(None)) -> Examples:
        """Those of some rows, or all."""
        return Examples(self.x[where], self.y[where])


def only(dataset: Dataset, names: Sequence[str]) -> Dataset:
    """A data set of some of its classes, in the order in which it has them.

    Raises:
      ValueError: for a name that is no class.
    """
    for name in names:
        if name not in dataset.class_names:
            close = difflib.get_close_matches(name, dataset.class_names, 1)
            meant = (
                f"; did you mean {close[0]!r}?"
                if close
                else f"; it has {', '.join(dataset.class_names[:20])}"
            )
            raise ValueError(f"'{dataset.name}' has no class {name!r}{meant}")
    kept = np.flatnonzero(np.isin(dataset.class_names, list(names)))
    rows = np.flatnonzero(np.isin(dataset.labels, kept))
    splits = (
        dataset.splits if dataset.by == "group" else {"all": np.arange(len(kept), dtype=np.int32)}
    )
    return dataset.taken(
        rows,
        labels=np.searchsorted(kept, dataset.labels[rows]).astype(np.int32),
        splits=splits,
        class_names=tuple(dataset.class_names[each] for each in kept),
    )


def features(dataset: Dataset) -> Float[np.ndarray, "n d"]:
    """Of a window each channel's mean, deviation, least, greatest, mean change and log energy in 8
    bands; of an image its pixels, of more than 10,000 images 50 principal components of the pixels
    (of all images, without labels)."""
    x = dataset.inputs.astype(np.float32)
    if dataset.inputs.dtype == np.uint8:
        x = x.reshape(len(x), -1) / 255
        if dataset.name == "digits":  # as scikit-learn has them, 8x8
            x = (
                x.reshape(-1, 28, 28)[:, 2:26, 2:26]
                .reshape(-1, 8, 3, 8, 3)
                .mean((2, 4))
                .reshape(len(x), -1)
            )
        if len(x) > 10_000:
            _, vectors = np.linalg.eigh(np.cov(x, rowvar=False))
            x = x @ vectors[:, -50:].astype(np.float32)
        return x
    spectrum = np.abs(np.fft.rfft(x - x.mean(1, keepdims=True), axis=1))[:, 1:] ** 2
    spectrum = spectrum[:, : spectrum.shape[1] // 8 * 8]
    bands = np.log(spectrum.reshape(len(x), 8, -1, x.shape[2]).mean(2) + 1e-3).reshape(len(x), -1)
    return np.concatenate(
        [x.mean(1), x.std(1), x.min(1), x.max(1), np.abs(np.diff(x, axis=1)).mean(1), bands], 1
    )


def drawn(
    dataset: Dataset, x: Float[np.ndarray, "n d"], shots: int, seed: int
) -> tuple[Folded, Examples]:
    """Training examples of three folds, and test examples, scaled by the training examples.

    Where a split separates people, parts are people: one part in four is the test, the others the
    folds.

    Args:
      dataset: Whose labels and groups.
      x: Its features.
      shots: Training examples of each class, a third from each fold; fewer where there are fewer.
      seed: Of `numpy.random.default_rng`.
    """
    rng, y = np.random.default_rng(seed), dataset.labels
    if dataset.by == "group":
        parts = np.zeros(len(y), int)
        for part, fold in enumerate(people_folds(dataset.groups, 4, seed, y)):
            parts[fold.test] = part
    else:
        parts = rng.integers(0, 4, len(y))
        if len(np.unique(parts * len(dataset.class_names) + y)) < 4 * len(
            dataset.class_names
        ):  # some class lacks a part
            parts = jh.stratified_folds(y, 4, seed)
    rows = []
    for part in PARTS:
        for label in range(len(dataset.class_names)):
            there = rng.permutation(np.flatnonzero((parts == part) & (y == label)))
            rows.append(there[: (shots + part - 1) // 3])
    rows = np.concatenate(rows)
    test = rng.permutation(np.flatnonzero(parts == 0))[:TEST]
    mean, deviation = x[rows].mean(0), x[rows].std(0) + 1e-6
    return (
        Folded((x[rows] - mean) / deviation, y[rows], parts[rows]),
        Examples((x[test] - mean) / deviation, y[test]),
    )


def held_out_classes(learner: jh.NodeLearner | None, train: Folded) -> Int[np.ndarray, " n"]:
    """Every training example's class as the flat tree of node models that did not see its fold has
    it; by default of ridge with the `chosen_penalty`."""
    learner = _or_ridge(learner, train)
    x, y, fold = train
    flat, predicted = jh.Tree.star(int(y.max()) + 1), np.zeros(len(y), int)
    for part in PARTS:
        out = fold == part
        predicted[out] = jh.path_log_probabilities(
            learner, flat, (x[~out], y[~out]), x[out]
        ).argmax(1)
    return predicted


def chosen_penalty(train: Folded) -> float:
    """The penalty of ridge, of 0.01, 0.1 and 1, whose flat tree predicts held-out folds best."""
    hits = {
        penalty: (held_out_classes(jh.ridge(penalty), train) == train.y).sum()
        for penalty in PENALTIES
    }
    return max(hits, key=hits.get)


def _or_ridge(learner, train):
    return jh.ridge(chosen_penalty(train)) if learner is None else learner


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
        return jh.cross_fitted(_or_ridge(learner, train), train.x, train.y, train.fold, allowed)

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


HEADS: dict[str, Callable[[float], jh.Head]] = {
    "weak": jh.ridge_head,
    "strong": lambda penalty: jh.network_head((HIDDEN,), steps=300, batch=64),
}
"""`penalty of ridge -> Head` by name: ridge in closed form, or a net of 64 hidden units of its own
at every node."""


def fitted_log_probabilities(
    key, tree: jh.Tree, head: jh.Head, train: Folded, x, shots: int
) -> Float[Array, "n I A"]:
    """Of test examples what the tree's nodes, fitted to the training examples, say: see
    `jaxmeta.hierarchy.path_product`.

    Examples are padded to the most that `shots` allow, and up to 64 classes nodes and children to
    the most that C allows, so that seeds and trees share one program.
    """
    rows = tree.size * shots + 3 * tree.size
    padded = np.zeros((rows, train.x.shape[1]), np.float32)
    labels, weights = np.zeros(rows, int), np.zeros(rows, np.float32)
    padded[: len(train.y)], labels[: len(train.y)], weights[: len(train.y)] = train.x, train.y, 1
    alone = len(tree.inner) == 1 or tree.size > 64
    layout = jh.layout(tree) if alone else jh.layout(tree, nodes=tree.size - 1, arity=tree.size - 1)
    params = jh.fit_nodes(
        key, jnp.asarray(padded), jnp.asarray(labels), jnp.asarray(weights), layout, head=head
    )
    return jh.node_log_probabilities(params, jnp.asarray(x, jnp.float32), layout.mask, head=head)[
        :, : len(tree.inner)
    ]


def t_interval(values) -> tuple[float, float]:
    """Mean and half a 95 % interval by Student's t, for a handful of values; NaN for one."""
    from scipy import stats

    values = np.asarray(values)
    half = (
        stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
        if len(values) > 1
        else np.nan
    )
    return values.mean(), half
