"""The hierarchical classifier: a model at every inner node, which chooses among its children; all
trained in one program.

`C` concepts, `I` inner nodes, `A` children at most, `n` examples. Labels and predictions are
leaves, 0 to C-1.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from jaxmeta import _check, _index
from jaxmeta._sums import summing_dtype
from jaxmeta.base import Examples
from jaxmeta.hierarchy._class_data import checked
from jaxmeta.hierarchy._dag import Dag
from jaxmeta.hierarchy._heads import Head, masked
from jaxmeta.hierarchy._tree import Tree


class Classifier(NamedTuple):
    """What is trained on a hierarchy; see `decode` functions such as `greedy` for what is made of
    its probabilities.

    Args:
      fit: `(key, x [n, ...], y [n]) -> params`.
      log_probabilities: `(params, x) -> [n, I, A]`, `log P(child | node, x)`; -inf where there is
        no child.
    """

    fit: Callable
    log_probabilities: Callable


class Layout(NamedTuple):
    """A hierarchy as arrays, of which programs see shapes alone: another tree of these shapes
    compiles nothing.

    Args:
      shares: `[I, C, A]`: where in a node's children a class goes, one-hot in a tree; in a DAG
        equal shares of those that hold it; 0 for a class that is not under the node.
      mask: `[I, A]`, is there a child?
    """

    shares: Float[np.ndarray, "I C A"]
    mask: Bool[np.ndarray, "I A"]


class Encoding(NamedTuple):
    """Features of the input, before the heads and not trained with them.

    Args:
      apply: `(params, x) -> z`.
      params: Of every node, `[I, ...]` at each leaf; `()` where `apply` needs none, as with one
        encoder for all.
    """

    apply: Callable
    params: PyTree = ()


def _identity(params, x):
    return x


def layout(hierarchy: Tree | Dag, nodes: int | None = None, arity: int | None = None) -> Layout:
    """The arrays of a hierarchy.

    Args:
      hierarchy: Over two concepts or more.
      nodes: Pads I, so that different trees share one program; all trees over C concepts have at
        most C - 1.
      arity: Pads A.

    Raises:
      ValueError: for one concept, or padding below what the hierarchy has.

    >>> layout(Tree.from_nested((0, (1, 2)))).shares[1].tolist()
    [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]
    """
    if hierarchy.size < 2:
        raise ValueError(
            f"a classifier needs at least two classes, got {list(hierarchy.concepts)}; give more "
            "concepts"
        )
    below = [hierarchy.children[node] for node in hierarchy.inner]
    widest = max(len(each) for each in below)
    rows = _check.whole_number("nodes", len(below) if nodes is None else nodes, least=len(below))
    columns = _check.whole_number("arity", widest if arity is None else arity, least=widest)
    shares, mask = np.zeros((rows, hierarchy.size, columns)), np.zeros((rows, columns), bool)
    for row, each in enumerate(below):
        held = hierarchy.members[list(each)].T
        shares[row, :, : len(each)] = held / np.maximum(1, held.sum(axis=1, keepdims=True))
        mask[row, : len(each)] = True
    return Layout(shares, mask)


def by_example(counts, shares):
    """Examples under a node weigh the same, so that classes weigh as they occur."""
    return shares.sum(axis=1)


def by_class(counts, shares):
    """The classes under a node weigh the same."""
    return shares.sum(axis=1) / jnp.maximum(counts, 1)


def by_child(counts, shares):
    """The children of a node weigh the same, however many classes and examples they hold."""
    return (shares / jnp.maximum(counts @ shares, 1)[None]).sum(axis=1)


def fit_nodes(
    key,
    x,
    y,
    example_weights: Float[Array, " n"],
    layout: Layout,
    encoding: PyTree = (),
    *,
    head: Head,
    weighting: Callable = by_example,
    encode: Callable = _identity,
) -> PyTree:
    """The parameters of all nodes, `[I, ...]` at each leaf, in one program; under jit all are NaN
    for labels that there are not.

    Raises:
      ValueError: for labels that are known and not leaves. `classifier` checks the rest of what it
        passes here.
    """
    _index.checked("labels", y, layout.shares.shape[1], "number concepts as tree.leaf does")
    return fitted(
        key, x, y, example_weights, layout, encoding, head=head, weighting=weighting, encode=encode
    )


@functools.partial(jax.jit, static_argnames=("head", "weighting", "encode"))
def fitted(
    key,
    x,
    y,
    example_weights,
    layout: Layout,
    encoding: PyTree,
    *,
    head: Head,
    weighting: Callable,
    encode: Callable,
):
    """The program of `fit_nodes`."""
    shares = jnp.asarray(layout.shares, x.dtype)
    example_weights = _index.or_nan(example_weights, y, shares.shape[1])
    counts = jnp.zeros(shares.shape[1], summing_dtype(x.dtype)).at[y].add(example_weights)

    def one(key, shares, mask, encoding):
        weights = weighting(counts, shares)[y] * example_weights
        under = ((shares.sum(axis=1) > 0)[y] * example_weights).sum()
        weights = weights * under / jnp.maximum(weights.sum(), jnp.finfo(x.dtype).tiny)
        return head.fit(key, encode(encoding, x), shares[y], weights, mask)

    return jax.vmap(one)(
        jax.random.split(key, shares.shape[0]), shares, jnp.asarray(layout.mask), encoding
    )


@functools.partial(jax.jit, static_argnames=("head", "encode"))
def node_log_probabilities(
    params,
    x,
    mask: Bool[Array, "I A"],
    encoding: PyTree = (),
    *,
    head: Head,
    encode: Callable = _identity,
) -> Float[Array, "n I A"]:
    """`log P(child | node, x)` of all nodes, -inf where the mask is False."""

    def one(params, mask, encoding):
        return log_softmax(head.logits(params, encode(encoding, x), mask), mask)

    return jax.vmap(one, out_axes=1)(params, jnp.asarray(mask), encoding)


def log_softmax(logits: Float[Array, "n A"], mask: Bool[Array, " A"]) -> Float[Array, "n A"]:
    """Over the children that there are; -inf elsewhere."""
    return jnp.where(mask[None], jax.nn.log_softmax(masked(logits, mask)), -jnp.inf)


def classifier(
    hierarchy: Tree | Dag,
    head: Head,
    encoding: Encoding = Encoding(_identity),
    weighting: Callable = by_example,
) -> Classifier:
    """One model a node, each trained on the examples whose class is under it, relabelled by child;
    by vmap over nodes.

    Args:
      hierarchy: Over the classes; leaf numbers are the labels.
      head: `ridge_head`, `linear_head`, `network_head`, `descent_head`.
      encoding: Features before the heads; default: the input itself. An encoder trained together
        with the heads is `jointly`'s, one of each node's own is part of its head.
      weighting: `(counts [C], shares [C, A]) -> weights of an example of each class [C]` at a node:
        `by_example`, `by_class`, `by_child`.

    Returns:
      A `Classifier`. Nodes are normalised each for itself, so that one with few examples learns as
      fast as the root.

    Raises:
      ValueError: for one class; on fitting, for an empty class, labels out of range, NaN, naming
        it.

    Example:

    >>> from jaxmeta.hierarchy._decoding import greedy
    >>> from jaxmeta.hierarchy._heads import ridge_head
    >>> tree = Tree.from_nested((0, (1, 2)))
    >>> x = jnp.array([[0.0], [0.1], [4.0], [4.2], [6.0], [6.1]])
    >>> made = classifier(tree, ridge_head())
    >>> params = made.fit(jax.random.key(0), x, np.array([0, 0, 1, 1, 2, 2]))
    >>> greedy(tree, made.log_probabilities(params, x)).tolist()
    [0, 0, 1, 1, 2, 2]
    """
    arrays = layout(hierarchy)

    def fit(key, x, y):
        x, y = checked_examples(x, y, hierarchy)
        return fit_nodes(
            key,
            x,
            y,
            jnp.ones(len(y), x.dtype),
            arrays,
            encoding.params,
            head=head,
            weighting=weighting,
            encode=encoding.apply,
        )

    def log_probabilities(params, x):
        return node_log_probabilities(
            params, jnp.asarray(x), arrays.mask, encoding.params, head=head, encode=encoding.apply
        )

    return Classifier(fit, log_probabilities)


def checked_examples(x, y, hierarchy: Tree | Dag):
    """x and y as arrays; refuses what `checked` refuses, naming the hierarchy's concepts."""
    x, y, _ = checked(Examples(x, y), hierarchy.concepts)
    return jnp.asarray(x), jnp.asarray(y)
