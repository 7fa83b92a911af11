"""What estimators have in common."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PyTree

from jaxmeta._pytree import paths
from jaxmeta.base import Estimate, Estimator
from jaxmeta.parallel import Mapper


def stateless(key, bilevel, theta, tasks):
    """The `init` of an estimator that carries nothing."""
    return ()


def estimate_over(over: Mapper, one, key, theta, tasks) -> Estimate:
    """The `Estimate` from `one(theta, (key, task)) -> (grad, each)`: grad averaged over the tasks, each stacked.

    `each` is a dict with the task's outer loss as "losses", what came beside it as "aux", and whatever else the
    estimator has to report.
    """
    theta = jax.tree.map(jnp.asarray, theta)
    count = jax.tree.leaves(tasks)[0].shape[0]
    grad, each = over(one, theta, (jax.random.split(key, count), tasks))
    return Estimate(each["losses"].mean(), grad, each)


def closeness(grad: PyTree, exact: PyTree) -> dict[str, Array]:
    """How near a gradient is to the exact one: "cosine" of their angle, "relative_error" `|grad - exact| / |exact|`."""
    size = optax.tree.norm(exact)
    return {"cosine": optax.tree.vdot(grad, exact) / (optax.tree.norm(grad) * size),
            "relative_error": optax.tree.norm(optax.tree.sub(grad, exact)) / size}


def beside(estimator: Estimator, exact: Estimator) -> Estimator:
    """The estimator, with its `closeness` to another's gradient in `info`; it carries the pair of their states."""

    def init(key, bilevel, theta, tasks):
        keys = jax.random.split(key)
        return tuple(each.init(key, bilevel, theta, tasks) for each, key in zip((estimator, exact), keys))

    def estimate(key, bilevel, theta, tasks, state):
        # The same key: the same starts and minibatches, so that only the estimators differ.
        (ours, own), (theirs, other) = (
            each.estimate(key, bilevel, theta, tasks, held) for each, held in zip((estimator, exact), state))
        return ours._replace(info=ours.info | closeness(ours.grad, theirs.grad)), (own, other)

    return Estimator(init, estimate)


def idle_leaves(key, function, theta: PyTree) -> list[str]:
    """The paths of theta's leaves on which `function(theta)` does not depend.

    A random cotangent reaches every leaf that the function depends on, whatever the function's values.
    """
    value, pull = jax.vjp(function, theta)
    leaves, structure = jax.tree.flatten(value)
    noise = [jax.random.normal(k, x.shape, x.dtype) for k, x in zip(jax.random.split(key, len(leaves)), leaves)]
    (moved,) = pull(jax.tree.unflatten(structure, noise))
    return [path for path, leaf in zip(paths(moved), jax.tree.leaves(moved)) if not np.any(np.asarray(leaf))]
