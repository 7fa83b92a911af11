"""Scores on examples held out in turn, and choices between trees that allow for their noise.

`C` classes, `n` examples, `d` features.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxmeta import _extras
from jaxmeta.hierarchy._nodes import NodeLearner
from jaxmeta.hierarchy._optimal import nodes_of
from jaxmeta.hierarchy._partitions import Family, all_partitions
from jaxmeta.hierarchy._scores import NodeScores, clipped, fitted_to, node_scores, pooled, solved
from jaxmeta.hierarchy._tables import checked, class_moments
from jaxmeta.hierarchy._tree import Tree


def stratified_folds(labels, folds: int = 5, seed: int = 0) -> Int[np.ndarray, " n"]:
    """The fold of every example: as many of a class in each as can be, drawn at random
    (scikit-learn's `StratifiedKFold`)."""
    with _extras.needed("cross-fitting"):
        from sklearn.model_selection import StratifiedKFold

    labels = np.asarray(labels)
    fold = np.zeros(len(labels), int)
    for number, (_, held_out) in enumerate(
        StratifiedKFold(folds, shuffle=True, random_state=seed).split(labels, labels)
    ):
        fold[held_out] = number
    return fold


def cross_fitted(
    learner: NodeLearner, features, labels, folds, family: Family = all_partitions, **settings
) -> NodeScores:
    """Node scores on all training examples, each from models that did not see its fold.

    Args:
      learner: `ridge()` or `lda()`.
      features: `[n, d]`.
      labels: `[n]`.
      folds: `[n]`, the fold of every example: from `stratified_folds`, or the person where examples
        of one must stay together.
      family: `all_partitions` or `binary_partitions`.
      settings: Of `node_scores`: `concepts`, `memory`, `most`.

    Returns:
      The `NodeScores` of all folds pooled.

    Raises:
      ValueError: as `node_scores`; also for a class that all but one fold lack.
    """
    return pooled(
        [
            node_scores(learner, train, held_out, family, **settings)
            for train, held_out, _ in _splits(features, labels, folds)
        ]
    )


def path_log_probabilities(learner: NodeLearner, tree: Tree, train, x) -> Float[Array, "n C"]:
    r"""A tree of node models as a classifier: the path probabilities of all classes.

    $$ \log P(c \mid x) = \sum_{\text{nodes above } c} \log P(\text{block of } c \mid x, S, \pi) $$

    Args:
      learner: `ridge()` or `lda()`.
      tree: Over the classes of `train`.
      train: `(features [n, d], labels [n])`.
      x: Features `[n, d]` of the examples to be told apart.

    Returns:
      Log-probabilities, the classes as in `tree.concepts`; exponentials sum to one.

    Raises:
      ValueError: for a tree over other classes, features that are not finite, a node without a
        solution.
    """
    fit_on, names = class_moments(train)
    tree.over(names)
    x = jnp.asarray(checked("x", x, np.zeros(len(x)))[0])
    total = np.zeros((len(x), tree.size), x.dtype)
    for members, blocks in nodes_of(tree):
        fitted = jax.tree.map(lambda a: a[0], fitted_to(learner, fit_on, members[None]))
        places = (np.array(blocks)[:, None] >> np.arange(len(members))) & 1
        below = np.asarray(_node(learner, fitted, x, places.astype(x.dtype)))
        solved(below[None], members[None], names)
        total[:, members] += (places.T @ below).T
    return total


@functools.partial(jax.jit, static_argnums=0)
def _node(learner, fitted, x, places):
    return jax.nn.log_softmax(clipped(learner, fitted, x, places, places.shape[0]), axis=0)


class HeldOut(NamedTuple):
    """What came of one way to choose a tree.

    Args:
      log_scores: `[n]`, of every example by models that did not see it, nor did the choice.
      hits: `[n]`, was its class the likeliest?
      trees: The tree of each fold.
    """

    log_scores: np.ndarray
    hits: np.ndarray
    trees: list[Tree]


def nested(
    learner: NodeLearner,
    features,
    labels,
    choices: Mapping[str, Callable],
    folds,
    inner: Callable = stratified_folds,
    family: Family = all_partitions,
) -> dict[str, HeldOut]:
    """Nested cross-validation of ways to choose a tree: what they bring on examples that played no
    part in the choice.

    Outside a fold, node scores are cross-fitted on inner folds and a tree is chosen of them; its
    models are then trained on all examples outside and judged on the fold.

    Args:
      learner: `ridge()` or `lda()`.
      features: `[n, d]`.
      labels: `[n]`.
      choices: By name, `NodeScores -> Tree`, for example `lambda scores: optimal(scores)[0].tree`.
      folds: `[n]`, the outer fold of every example.
      inner: `labels -> folds` for the cross-fit outside a fold.
      family: `all_partitions` or `binary_partitions`.

    Returns:
      For every choice its `HeldOut`.
    """
    labels = np.asarray(labels)
    found = {
        name: HeldOut(np.zeros(len(labels)), np.zeros(len(labels), bool), []) for name in choices
    }
    for train, (x, y), held_out in _splits(features, labels, folds):
        scores = cross_fitted(learner, *train, inner(train[1]), family)
        for name, choose in choices.items():
            tree = choose(scores)
            logs, hits = _judged(learner, tree, train, x, y)
            found[name].log_scores[held_out], found[name].hits[held_out] = logs, hits
            found[name].trees.append(tree)
    return found


def one_standard_error(
    learner: NodeLearner, trees: Sequence[Tree], features, labels, folds
) -> Tree:
    """The tree of fewest inner nodes that is no more than one standard error worse than the best of
    some.

    The error is that of the difference to the best, example by example, each from models that did
    not see its fold: the rule of Breiman et al. (1984) for pruning, on paired differences (ours).

    Args:
      learner: `ridge()` or `lda()`.
      trees: The candidates, the flat tree among them where it may be chosen; of several with as few
        nodes the best is taken.
      features: `[n, d]`.
      labels: `[n]`.
      folds: `[n]`, the fold of every example.
    """
    logs = np.zeros((len(trees), len(np.asarray(labels))))
    for train, (x, y), held_out in _splits(features, labels, folds):
        for place, tree in enumerate(trees):
            logs[place, held_out] = _judged(learner, tree, train, x, y)[0]
    behind = logs[logs.mean(axis=1).argmax()] - logs
    near = behind.mean(axis=1) <= behind.std(axis=1, ddof=1) / np.sqrt(logs.shape[1])
    _, _, chosen = min(
        (len(tree.inner), short, place)
        for place, (tree, short) in enumerate(zip(trees, behind.mean(axis=1)))
        if near[place]
    )
    return trees[chosen]


def _judged(learner, tree, train, x, y):
    """Of every example its class's log-probability, and whether it is the likeliest."""
    logs = np.asarray(path_log_probabilities(learner, tree, train, x))
    if foreign := set(np.asarray(y).tolist()) - set(tree.concepts):
        raise ValueError(
            f"examples held out must be of the classes trained on, {list(tree.concepts)}, got "
            f"{sorted(foreign)}; take folds that leave examples of every class to train on"
        )
    true = np.array([tree.concepts.index(label) for label in np.asarray(y).tolist()])
    return logs[np.arange(len(true)), true], logs.argmax(axis=1) == true


def _splits(features, labels, folds):
    """For every fold `(train, held out, where)`."""
    features, labels, folds = np.asarray(features), np.asarray(labels), np.asarray(folds)
    if folds.shape != labels.shape or len(np.unique(folds)) < 2:
        raise ValueError(
            f"folds must name a fold for each of the {len(labels)} examples, two at least, got "
            f"shape {folds.shape} and {len(np.unique(folds))} folds; take stratified_folds(labels)"
        )
    for fold in np.unique(folds):
        held_out = folds == fold
        yield (
            (features[~held_out], labels[~held_out]),
            (features[held_out], labels[held_out]),
            held_out,
        )
