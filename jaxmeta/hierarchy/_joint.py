"""Nodes trained together with an encoder that they share: one loss over the whole hierarchy, and
penalties that tie nodes.

`C` concepts, `I` inner nodes, `A` children at most, `n` examples, `d` features of the encoder.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from jaxmeta import _check, _index
from jaxmeta.hierarchy._classifier import (
    Classifier,
    by_example,
    checked_examples,
    layout,
    log_softmax,
)
from jaxmeta.hierarchy._dag import Dag
from jaxmeta.hierarchy._tree import Tree
from jaxmeta.models import Model

Weights = Float[Array, "I d A"]
"""The kernels of all nodes' linear heads, 0 where there is no child."""


def hierarchical_cross_entropy(
    hierarchy: Tree | Dag,
    log_probabilities: Float[Array, "n I A"],
    y: Int[Array, " n"],
    depth_weight: Callable[[int], float] | None = None,
) -> Float[Array, " n"]:
    r"""The cross-entropy of every node on the way to the true leaf, weighted by depth, of every
    example.

    $$ -\sum_{t \to u \text{ on the path to } y} \lambda_{\text{depth}(t)} \log P(u \mid t, x) $$

    Args:
      hierarchy: Where leaves stand. In a DAG a node's target is equal shares of the children that
        hold the class.
      log_probabilities: As a `Classifier` gives them.
      y: Leaves.
      depth_weight: lambda by the node's depth, 0 at the root, which needs a tree; default 1, which
        in a tree makes it the cross-entropy of `path_product`.

    Returns:
      `[n]`, in nats; under jit NaN for a leaf that there is not.

    Raises:
      ValueError: for leaves that are known and not 0 to C-1.

    >>> half = jnp.log(jnp.full((1, 2, 2), 0.5))
    >>> print(
    ...     hierarchical_cross_entropy(Tree.from_nested((0, (1, 2))), half, jnp.array([2])).round(4)
    ... )
    [1.3863]
    """
    y = jnp.asarray(_index.checked("y", y, hierarchy.size, "number concepts as tree.leaf does"))
    arrays = layout(hierarchy, arity=log_probabilities.shape[-1])
    shares = jnp.asarray(arrays.shares, log_probabilities.dtype)[:, y]
    if depth_weight is not None:
        lambdas = np.array([depth_weight(hierarchy.depths[node]) for node in hierarchy.inner])
        shares = shares * jnp.asarray(lambdas, shares.dtype)[:, None, None]
    known = jnp.where(
        jnp.moveaxis(shares, 0, 1) > 0, log_probabilities, 0.0
    )  # children beside the path may have -inf
    return _index.or_nan(-jnp.einsum("ina,nia->n", shares, known), y, hierarchy.size)


def orthogonality(hierarchy: Tree | Dag, weights: Weights) -> Float[Array, ""]:
    r"""What nodes repeat of those above them: `sum_{t, a above t} |W_t' W_a|_F^2`.

    Paper: Zhou, Xiao and Wu, "Hierarchical classification via orthogonal transfer", 2011, in its
    smooth form.
    """
    _checked_weights(hierarchy, weights)
    inner = hierarchy.members[list(hierarchy.inner)]
    above = [(t, a) for t in range(len(inner)) for a in range(t) if (inner[t] <= inner[a]).all()]
    if not above:
        return jnp.zeros((), weights.dtype)
    node, ancestor = np.array(above).T
    return (jnp.einsum("eda,edb->eab", weights[node], weights[ancestor]) ** 2).sum()


def recursive_regularisation(tree: Tree, weights: Weights) -> Float[Array, ""]:
    r"""Nodes near their parents: `sum_u 1/2 |w_u - w_parent(u)|^2`, w_u the column of u in its
    parent's head, 0 at the root.

    Paper: Gopal and Yang, "Recursive regularization for large-scale classification with
    hierarchical and graphical dependencies", 2013.
    """
    _checked_weights(tree, weights)
    vectors = jnp.zeros((tree.nodes, weights.shape[1]), weights.dtype)
    child, row, column = np.array(
        [
            (child, row, column)
            for row, node in enumerate(tree.inner)
            for column, child in enumerate(tree.children[node])
        ]
    ).T
    vectors = vectors.at[child].set(weights[row, :, column])
    return 0.5 * ((vectors[child] - vectors[np.array(tree.parents)[child]]) ** 2).sum()


def _checked_weights(hierarchy: Tree | Dag, weights: Weights) -> None:
    nodes, arity = len(hierarchy.inner), max(len(below) for below in hierarchy.children)
    if weights.ndim != 3 or weights.shape[0] < nodes or weights.shape[2] < arity:
        raise ValueError(
            f"weights must be [{nodes}, d, {arity}], a kernel for every inner node of the "
            f"hierarchy, got shape {weights.shape}; take those of a classifier of this hierarchy"
        )


def no_penalty(hierarchy, weights):
    """Nodes are not tied."""
    return 0.0


def jointly(
    hierarchy: Tree | Dag,
    body: Model,
    update: optax.GradientTransformation,
    steps: int,
    *,
    batch: int | None = None,
    depth_weight: Callable | None = None,
    penalty: Callable = no_penalty,
    weighting: Callable = by_example,
) -> Classifier:
    r"""An encoder shared by all nodes, trained with their linear heads.

    $$ \min_{\theta, W} \frac1n \sum_i \text{hierarchical cross-entropy}(W' f_\theta(x_i), y_i)
       + \text{penalty}(W) $$

    Args:
      hierarchy: Over the classes; leaf numbers are the labels.
      body: f, from `[n, ...]` to `[n, d]`, such as `mlp((64,), None)`.
      update: Any optax optimiser.
      steps: Updates.
      batch: Examples an update, drawn with replacement; default: all.
      depth_weight: See `hierarchical_cross_entropy`.
      penalty: `(hierarchy, W [I, d, A]) -> scalar`, such as
        `lambda tree, W: 0.1 * orthogonality(tree, W)`.
      weighting: `by_example`, or `by_class`, for which classes weigh the same whatever their
        examples.

    Returns:
      A `Classifier` with parameters `{"body", "kernel" [I, d, A], "bias" [I, A]}`; heads start at
      0. Classifiers of equal arguments share their compiled programs.

    Raises:
      ValueError: for one class; on fitting, for an empty class, labels out of range, NaN, naming
        it.
    """
    layout(hierarchy)  # refuses one class
    _check.whole_number("steps", steps, least=1)
    if batch is not None:
        _check.whole_number("batch", batch, least=1)
    settings = _Settings(hierarchy, body, update, steps, batch, depth_weight, penalty, weighting)

    def fit(key, x, y):
        return _trained(settings, key, *checked_examples(x, y, hierarchy))

    return Classifier(fit, functools.partial(_log_probabilities, settings))


class _Settings(NamedTuple):
    """What `jointly` was given; equal settings share programs."""

    hierarchy: Tree | Dag
    body: Model
    update: optax.GradientTransformation
    steps: int
    batch: int | None
    depth_weight: Callable | None
    penalty: Callable
    weighting: Callable


@functools.partial(jax.jit, static_argnums=0)
def _log_probabilities(settings: _Settings, params, x):
    mask = layout(settings.hierarchy).mask
    z = settings.body.apply(params["body"], x)
    logits = jnp.einsum("nd,ida->nia", z, _kernels(params, mask)) + params["bias"][None]
    return jax.vmap(log_softmax, in_axes=(1, 0), out_axes=1)(logits, jnp.asarray(mask))


@functools.partial(jax.jit, static_argnums=0)
def _trained(settings: _Settings, key, x, y):
    hierarchy, body, update, steps, batch, depth_weight, penalty, weighting = settings
    mask = layout(hierarchy).mask
    start, drawing = jax.random.split(key)
    theta = body.init(start, x[:1])
    features = jax.eval_shape(body.apply, theta, x[:1]).shape[-1]
    params = {
        "body": theta,
        "kernel": jnp.zeros((len(mask), features, mask.shape[1]), x.dtype),
        "bias": jnp.zeros(mask.shape, x.dtype),
    }
    everything = jnp.ones((hierarchy.size, 1), x.dtype)
    weights = weighting(jnp.bincount(y, length=hierarchy.size).astype(x.dtype), everything)[y]
    weights = weights / weights.mean()

    def loss(params, x, y, weights):
        values = hierarchical_cross_entropy(
            hierarchy, _log_probabilities(settings, params, x), y, depth_weight
        )
        return (weights * values).mean() + penalty(hierarchy, _kernels(params, mask))

    def step(carry, key):
        params, state = carry
        picked = (
            (x, y, weights)
            if batch is None
            else [each[jax.random.randint(key, (batch,), 0, len(y))] for each in (x, y, weights)]
        )
        change, state = update.update(jax.grad(loss)(params, *picked), state, params)
        return (optax.apply_updates(params, change), state), None

    return jax.lax.scan(step, (params, update.init(params)), jax.random.split(drawing, steps))[0][0]


def _kernels(params, mask):
    return params["kernel"] * mask[:, None]
