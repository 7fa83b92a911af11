"""Refinement: which encoder serves a node, and the tree derived again from what its classifier got
wrong.

`C` concepts, `I` inner nodes, `n` examples.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Int, PyTree

from jaxmeta import _check, _index
from jaxmeta.hierarchy._affinity import Affinity, checked_affinity
from jaxmeta.hierarchy._autoencoder import Autoencoder
from jaxmeta.hierarchy._classifier import Encoding, checked_examples
from jaxmeta.hierarchy._dag import Dag
from jaxmeta.hierarchy._derivation import number_of
from jaxmeta.hierarchy._tree import Tree


def first_order(hierarchy: Tree | Dag, affinity: Affinity) -> Int[np.ndarray, " I"]:
    """For every inner node the concept under it whose encoder serves the others under it best, by
    mean affinity to them.

    The paper takes "the encoder from step 1" where all children are leaves and leaves open which;
    this rule is ours, and used at every node.

    Args:
      hierarchy: Over the C concepts.
      affinity: `[source, target]`.

    >>> first_order(
    ...     Tree.from_nested((0, (1, 2))), [[1, 0.1, 0.1], [0.2, 1, 0.9], [0.1, 0.3, 1]]
    ... ).tolist()
    [1, 1]
    """
    affinity = checked_affinity(affinity, hierarchy.size)
    others = np.where(np.eye(hierarchy.size, dtype=bool), 0.0, affinity)
    under = hierarchy.members[list(hierarchy.inner)]
    sums = np.where(under, under.astype(float) @ others.T, -np.inf)
    return sums.argmax(axis=1)


def node_encoding(apply: Callable, encoders: PyTree, chosen: Int[np.ndarray, " I"]) -> Encoding:
    """Every node's own frozen encoder for `classifier`, taken from those of the concepts.

    Args:
      apply: `(params, x) -> z`.
      encoders: The concepts' parameters, `[C, ...]` at each leaf.
      chosen: A concept for every inner node, such as `first_order` gives.

    Raises:
      ValueError: for a concept that has no encoder.
    """
    concepts = len(jax.tree.leaves(encoders)[0])
    chosen = np.asarray(
        _index.checked(
            "chosen", np.asarray(chosen), concepts, "name a concept for every inner node"
        )
    )
    return Encoding(apply, jax.tree.map(lambda leaf: jnp.asarray(leaf)[chosen], encoders))


def higher_order(
    key,
    hierarchy: Tree | Dag,
    autoencoder: Autoencoder,
    encoding: Encoding,
    x,
    y,
    update: optax.GradientTransformation,
    steps: int,
) -> Encoding:
    r"""Every node's encoder fine-tuned, with a fresh decoder, on all concepts under the node
    jointly, in equal shares.

    $$ Z_t = \arg\min_{f, g}\ \operatorname{mean}_{c \text{ under } t} E_{x|c} |g(f(x))
       - x|^2, \quad f \text{ from the node's
       first-order encoder} $$

    Args:
      key: Draws the decoders.
      hierarchy: Over the C concepts.
      autoencoder: Whose encoder `encoding` holds parameters of.
      encoding: Where fine-tuning starts; see `node_encoding`.
      x, y: Examples, `[n, ...]` and leaves `[n]`.
      update: Any optax optimiser.
      steps: Updates on all examples under the node.

    Returns:
      The `Encoding` of all nodes, trained in one program.

    Raises:
      ValueError: for an empty class, labels out of range, NaN, naming it.
    """
    _check.whole_number("steps", steps, least=1)
    x, y = checked_examples(x, y, hierarchy)
    counts = np.bincount(y, minlength=hierarchy.size)
    weights = (hierarchy.members[list(hierarchy.inner)] / counts)[:, np.asarray(y)]
    weights = weights / weights.sum(axis=1, keepdims=True)

    def one(key, start, weights, x):
        decoder = autoencoder.decoder.init(key, autoencoder.encoder.apply(start, x[:1]))

        def loss(params):
            again = autoencoder.decoder.apply(params[1], autoencoder.encoder.apply(params[0], x))
            return weights @ ((again - x.reshape(again.shape)) ** 2).mean(axis=1)

        def step(carry, _):
            params, state = carry
            change, state = update.update(jax.grad(loss)(params), state, params)
            return (optax.apply_updates(params, change), state), None

        params = start, decoder
        return jax.lax.scan(step, (params, update.init(params)), length=steps)[0][0][0]

    train = jax.jit(jax.vmap(one, in_axes=(0, 0, 0, None)))
    params = train(
        jax.random.split(key, len(weights)), encoding.params, jnp.asarray(weights, x.dtype), x
    )
    return encoding._replace(params=params)


class Alternation(NamedTuple):
    """What `alternate` went through.

    Args:
      tree: The fixed point, or else the best-scored tree visited.
      trees: All trees visited, in order, each once.
      scores: Theirs.
      period: 1 where the last tree derives itself, k where the last k go round in a cycle, 0 where
        rounds ran out.
    """

    tree: Tree
    trees: tuple[Tree, ...]
    scores: tuple[float, ...]
    period: int


def alternate(key, tree: Tree, train: Callable, derive: Callable, rounds: int = 10) -> Alternation:
    """Trains on the tree, derives a tree anew from what held-out examples showed, until it stays or
    comes again.

    Args:
      key: Given to `train` unchanged in every round, so that a tree that comes again is trained the
        same again.
      tree: Where to begin.
      train: `(key, tree) -> (evidence, score)`: the held-out confusion of a classifier trained on
        the tree, say, and its held-out accuracy; larger is better. Score a failed training `-inf`.
      derive: `evidence -> Tree`, such as `confusion_tree`.
      rounds: Trees trained at most.

    Raises:
      ValueError: for a derived tree over other concepts, naming them; for a score that is NaN,
        naming the tree.

    Example: two trees that derive each other.

    >>> a, b = Tree.from_nested((0, (1, 2))), Tree.from_nested(((0, 1), 2))
    >>> found = alternate(
    ...     jax.random.key(0),
    ...     a,
    ...     lambda key, tree: (tree, float(tree == b)),
    ...     lambda was: b if was == a else a,
    ... )
    >>> found.period, found.tree == b
    (2, True)
    """
    _check.whole_number("rounds", rounds, least=1)
    trees, scores = [], []
    while tree not in trees and len(trees) < rounds:
        evidence, score = train(key, tree)
        trees.append(tree)
        scores.append(number_of(score, tree))
        tree = derive(evidence).over(tree.concepts)
    period = len(trees) - trees.index(tree) if tree in trees else 0
    best = trees[-1] if period == 1 else trees[int(np.argmax(scores))]
    return Alternation(best, tuple(trees), tuple(scores), period)
