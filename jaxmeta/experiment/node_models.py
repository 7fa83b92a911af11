"""Node models by name, fitted to a draw of few examples.

`n` examples, `d` features, `C` classes, `I` inner nodes, `A` children of a node at most.
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxmeta import hierarchy as jh
from jaxmeta.experiment.concepts import PARTS, Folded

HIDDEN, PENALTIES = 64, (1e-2, 1e-1, 1.0)


def held_out_classes(learner: jh.NodeLearner | None, train: Folded) -> Int[np.ndarray, " n"]:
    """Every training example's class as the flat tree of node models that did not see its fold has
    it; by default of ridge with the `chosen_penalty`."""
    learner = or_ridge(learner, train)
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


def or_ridge(learner: jh.NodeLearner | None, train: Folded) -> jh.NodeLearner:
    """The node learner, by default ridge with the `chosen_penalty`."""
    return jh.ridge(chosen_penalty(train)) if learner is None else learner


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
