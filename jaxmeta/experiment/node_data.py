"""Data of nodes: persons who each do the same things, or classes of which each asks whether it is
the one.

`N` nodes, `n` examples of one, padded to the same number; `d` features.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxmeta import hierarchy as jh
from jaxmeta.data import Dataset
from jaxmeta.experiment import concepts

_TESTED = 20  # most test examples of a class at a node


class Part(NamedTuple):
    """x `[N, n, d]`, y `[N, n]`, and weight `[N, n]`, 0 where there is none."""

    x: Float[np.ndarray, "N n d"]
    y: Int[np.ndarray, "N n"]
    weight: Float[np.ndarray, "N n"]


class NodeData(NamedTuple):
    """What the nodes learn from, are chosen by and are tested on.

    Args:
      names: Of the nodes.
      outputs: How many classes a node tells apart.
      own: Names of leaves that are every node's own whatever the scheme, since outputs mean
        something else at every node.
      accuracy: `(logits [N, n, outputs], part) -> scalar`.
      tree: Over the nodes, from the training examples.
    """

    names: list[str]
    outputs: int
    own: tuple[str, ...]
    train: Part
    validation: Part
    test: Part
    accuracy: Callable[[Array, Part], Array]
    tree: jh.Tree


def node_data(dataset: Dataset, x: Float[np.ndarray, "n d"], shots: int, seed: int) -> NodeData:
    """Nodes are persons where a set tells persons, else classes.

    Args:
      dataset: Whose labels and groups.
      x: Its features.
      shots: Examples of a class, fewer where there are fewer. Persons have as many to train, and as
        many to validate; where nodes are classes a third of them, rounded up, validates.
      seed: Of the draw.

    Raises:
      ValueError: Where nodes are classes and shots is 1, which leaves nothing to train on.
    """
    return (_persons if dataset.by == "group" else _classes)(dataset, x, shots, seed)


def _persons(dataset, x, shots, seed):
    """The earlier half of a person's examples of each class is for training and validation, the
    later for the test."""
    rng, rows = np.random.default_rng(seed), {"train": [], "validation": [], "test": []}
    for group in range(len(dataset.group_names)):
        of = {name: [] for name in rows}
        for label in range(len(dataset.class_names)):
            there = np.flatnonzero((dataset.groups == group) & (dataset.labels == label))
            early, late = _halves(there, dataset.apart)
            for name, part, most in zip(
                rows, (*_halves(early, dataset.bouts), late), (shots, shots, _TESTED)
            ):
                of[name].extend(rng.permutation(part)[:most])
        for name in rows:
            rows[name].append(np.array(of[name], int))
    y, known = dataset.labels, np.concatenate(rows["train"])
    x = (x - x[known].mean(0)) / (x[known].std(0) + 1e-6)

    def part(of) -> Part:
        made = Part(
            np.zeros((len(of), size := max(map(len, of)), x.shape[1]), np.float32),
            np.zeros((len(of), size), int),
            np.zeros((len(of), size), np.float32),
        )
        for node, own in enumerate(of):
            made.x[node, : len(own)], made.y[node, : len(own)], made.weight[node, : len(own)] = (
                x[own],
                y[own],
                1,
            )
        return made

    means = np.zeros((len(rows["train"]), len(dataset.class_names), x.shape[1]))
    for node, own in enumerate(rows["train"]):
        for label in np.unique(y[own]):
            means[node, label] = x[own[y[own] == label]].mean(0)
    return NodeData(
        list(dataset.group_names),
        len(dataset.class_names),
        (),
        *map(part, rows.values()),
        _by_example,
        jh.embedding_tree(means.reshape(len(means), -1)),
    )


def _halves(rows, bouts):
    """The examples of the earlier and those of the later half of the bouts; of one bout, or where
    none is known, the earlier and the later half of the examples but for the one between, as
    neighbouring windows overlap."""
    of = np.zeros(len(rows)) if bouts is None else bouts[rows]
    own = np.unique(of)
    if len(own) > 1:
        early = of <= own[len(own) // 2 - 1]
        return rows[early], rows[~early]
    return rows[: len(rows) // 2], rows[len(rows) // 2 + 1 :]


def _classes(dataset, x, shots, seed):
    """Every node sees all examples; its own weigh as much as all others together."""
    if shots < 2:
        raise ValueError(
            "nodes that are classes need at least 2 shots, one to train and one to validate, got "
            f"{shots}; give 2 or more"
        )
    train, test = concepts.drawn(dataset, x, shots, seed)
    classes, held = len(dataset.class_names), train.fold == concepts.PARTS[-1]

    def part(examples) -> Part:
        x, y = np.asarray(examples.x, np.float32), np.arange(classes)[:, None] == examples.y
        return Part(
            np.broadcast_to(x, (classes, *x.shape)),
            y.astype(int),
            np.where(y, classes - 1, 1).astype(np.float32),
        )

    return NodeData(
        list(dataset.class_names),
        2,
        ("head",),
        part(train.examples(~held)),
        part(train.examples(held)),
        part(test),
        _by_surest,
        jh.embedding_tree(jh.class_means(train.examples(~held))),
    )


def _by_example(logits, part):
    return jnp.sum(part.weight * (logits.argmax(-1) == part.y)) / jnp.sum(part.weight)


def _by_surest(logits, part):
    """The class is that of the node which is surest."""
    return jnp.mean((logits[..., 1] - logits[..., 0]).argmax(0) == part.y.argmax(0))
