"""What estimators have in common."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PyTree

from jaxmeta._programs import run
from jaxmeta._pytree import constants, merge, moving, paths
from jaxmeta._sums import summing_dtype, weighted_mean
from jaxmeta.base import Bilevel, Estimate, Estimator
from jaxmeta.parallel import Mapper, batch


def stateless(key, bilevel, theta, tasks):
    """The `init` of an estimator that carries nothing."""
    return ()


def estimator(init, estimate) -> Estimator:
    """The `Estimator` of these two, given what all of them take for granted: a batch of tasks that
    all have the leading axis T, and a theta without constants, which come back with a gradient of
    zero."""

    def apart(bilevel: Bilevel, theta):
        theta = jax.tree.map(jnp.asarray, theta)
        moved = moving(theta)
        if moved is theta:
            return bilevel, theta, lambda grad: grad
        fixed, shape = constants(theta), bilevel.bias.shape
        bias = bilevel.bias._replace(shape=lambda moved, *given: shape(merge(moved, fixed), *given))
        return (
            bilevel._replace(bias=bias),
            moved,
            lambda grad: merge(grad, jax.tree.map(_nothing, fixed)),
        )

    def init_apart(key, bilevel, theta, tasks):
        bilevel, theta, _ = apart(bilevel, theta)
        return init(key, bilevel, theta, batch(tasks))

    def estimate_apart(key, bilevel, theta, tasks, state):
        bilevel, theta, whole = apart(bilevel, theta)
        found, state = estimate(key, bilevel, theta, batch(tasks), state)
        return found._replace(grad=whole(found.grad)), state

    return Estimator(init_apart, estimate_apart)


def _nothing(leaf):
    """The gradient of a constant, of its own dtype: zero; a key has none but itself."""
    return leaf if jnp.issubdtype(leaf.dtype, jax.dtypes.extended) else jnp.zeros_like(leaf)


def estimate_over(over: Mapper, one, key, theta, batched, weight=None) -> Estimate:
    r"""The `Estimate` from `one(theta, (key, batched)) -> (grad, each)`: grad averaged over the
    tasks, each stacked.

    `each` is a dict with the task's outer loss as "losses", what came beside it as "aux", and
    whatever else the estimator has to report. Weights `[T]` act here and nowhere else: means are
    $\sum_t w_t v_t / \sum_t w_t$, and a task of weight 0 is not seen.
    """
    count = jax.tree.leaves(batched)[0].shape[0]
    keys = jax.random.split(key, count)
    if weight is None:
        grad, each = over(one, theta, (keys, batched))
        return Estimate(each["losses"].mean(), grad, each)
    weight = jnp.asarray(weight, float)  # shares of few bits would be those of other weights
    total = weight.sum()
    shares = weight * (count / jnp.where(total == 0, 1, total))

    def weighted(theta, given):
        share, given = given
        grad, each = one(theta, given)
        return jax.tree.map(
            lambda leaf: jnp.where(share == 0, 0, leaf * share.astype(leaf.dtype)), grad
        ), each

    grad, each = over(weighted, theta, (shares, (keys, batched)))
    return Estimate(weighted_mean(each["losses"], weight), grad, each)


def wide(tree: PyTree) -> PyTree:
    """What moves of a tree, in float32 at least, to be summed."""
    return jax.tree.map(
        lambda leaf: jnp.asarray(leaf, summing_dtype(jnp.result_type(leaf))), moving(tree)
    )


def closeness(grad: PyTree, exact: PyTree) -> dict[str, Array]:
    """How near a gradient is to the exact one: "cosine" of their angle, "relative_error"
    `|grad - exact| / |exact|`."""
    grad, exact = wide(grad), wide(exact)
    size = optax.tree.norm(exact)
    return {
        "cosine": optax.tree.vdot(grad, exact) / (optax.tree.norm(grad) * size),
        "relative_error": optax.tree.norm(optax.tree.sub(grad, exact)) / size,
    }


def beside(one: Estimator, exact: Estimator) -> Estimator:
    """The estimator, with its `closeness` to another's gradient in `info`; it carries the pair of
    their states."""

    def init(key, bilevel, theta, tasks):
        keys = jax.random.split(key)
        return tuple(each.init(key, bilevel, theta, tasks) for each, key in zip((one, exact), keys))

    def estimate(key, bilevel, theta, tasks, state):
        # The same key: the same starts and minibatches, so that only the estimators differ.
        (ours, own), (theirs, other) = (
            each.estimate(key, bilevel, theta, tasks, held)
            for each, held in zip((one, exact), state)
        )
        return ours._replace(info=ours.info | closeness(ours.grad, theirs.grad)), (own, other)

    return Estimator(init, estimate)


def idle_leaves(key, function, theta: PyTree) -> list[str]:
    """The paths of theta's leaves on which `function(theta)` does not depend.

    A random cotangent reaches every leaf that the function depends on, whatever the function's
    values.
    """

    def pulled(theta):
        value, pull = jax.vjp(function, theta)
        leaves, structure = jax.tree.flatten(value)
        noise = [
            jax.random.normal(k, x.shape, x.dtype)
            for k, x in zip(jax.random.split(key, len(leaves)), leaves)
        ]
        return pull(jax.tree.unflatten(structure, noise))[0]

    moved = run(pulled, theta)
    return [
        path
        for path, leaf in zip(paths(moved), jax.tree.leaves(moved))
        if not np.any(np.asarray(leaf))
    ]
