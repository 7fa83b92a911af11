"""The process: low-level learning, and the outcome by which the high level is judged."""

from __future__ import annotations

from typing import Any

import jax
import optax
from jaxtyping import Array, Key, PyTree

from jaxmeta import _check
from jaxmeta.base import Bilevel, Learner, Task, Trajectory


def trajectory(key: Key[Array, ""], learner: Learner, task: Task, gradient=jax.grad) -> Trajectory:
    """Runs the low level and keeps every step; the only scan over inner steps there is.

    `phi_{k+1} = phi_k + u_k`, where u_k is what `learner.update` makes of `d/d(phi) [loss(phi, support) + penalty(phi,
    phi_0)]` at phi_k.

    Args:
      key: Split between the start and one key a step for the loss.
      learner: The low level, shaped by its bias.
      task: Its support is learnt from; its query is not looked at.
      gradient: Called as `gradient(objective, has_aux=True)(phi)`, as `jax.grad` is. Estimators give their own.

    Returns:
      The `Trajectory` of K = `learner.steps` steps.

    Raises:
      ValueError: If the loss or the penalty is not a scalar, or the number of steps not a whole number of at least 0.
    """
    steps = _check.whole_number("steps of a learner", learner.steps)
    key_start, key_steps = jax.random.split(key)
    start = learner.start(key_start, task)
    update = optax.with_extra_args_support(learner.update)

    def step(carry, key):
        phi, state = carry

        def objective(phi):
            value, aux = loss_and_aux(learner, key, phi, task.support)
            penalty = _check.scalar("the penalty of a learner", learner.penalty(phi, start))
            return value + penalty.astype(value.dtype), (value, aux)

        grads, (value, aux) = gradient(objective, has_aux=True)(phi)
        # Line searches and second-order updates of optax ask for these; the others never see them.
        more = {"value": value, "grad": grads, "value_fn": lambda phi: objective(phi)[0]}
        updates, state = update.update(grads, state, phi, **more)
        phi = optax.apply_updates(phi, updates)
        return (phi, state), (phi, value, aux)

    keys = jax.random.split(key_steps, steps)
    (end, _), (path, losses, aux) = jax.lax.scan(step, (start, update.init(start)), keys)
    return Trajectory(start, end, path, losses, aux)


def adapt(key: Key[Array, ""], learner: Learner, task: Task, gradient=jax.grad) -> PyTree:
    """The low-level process: `trajectory`, of which only phi_K is kept.

    >>> import jax, optax, jaxmeta as jm
    >>> learner = jm.Learner(lambda key, task: 0.0, lambda key, phi, b: ((phi - b) ** 2, {}), jm.no_penalty,
    ...                      optax.sgd(0.25), steps=2)
    >>> float(jm.adapt(jax.random.key(0), learner, jm.Task(support=1.0, query=None)))
    0.75
    """
    return trajectory(key, learner, task, gradient).end


def outcome(key: Key[Array, ""], bilevel: Bilevel, theta: PyTree, task: Task, gradient=jax.grad) -> tuple[Array, Any]:
    """The outer loss of one task: shape the learner, let it learn, judge it.

    Returns:
      `(value, aux)` of `bilevel.outer`. Differentiable in theta, and in the task's support and query.
    """
    learner, walked, key_outer = learned(key, bilevel, theta, task, gradient)
    value, aux = bilevel.outer(key_outer, learner, walked, task)
    return _check.scalar("the outer loss", value), aux


def learned(key: Key[Array, ""], bilevel: Bilevel, theta: PyTree, task: Task, gradient=jax.grad):
    """One task up to its judgement: the learner as shaped, its trajectory, and the key left for the outer objective."""
    key_process, key_outer = jax.random.split(key)
    learner = bilevel.bias.shape(theta, task, bilevel.learner)
    return learner, trajectory(key_process, learner, task, gradient), key_outer


def loss_and_aux(learner: Learner, key, phi: PyTree, batch: PyTree) -> tuple[Array, Any]:
    """The learner's loss on a batch, refused in a sentence where it is not `(scalar, aux)`."""
    result = learner.loss(key, phi, batch)
    if not (isinstance(result, tuple) and len(result) == 2):
        raise ValueError(
            f"the loss of a learner must return a pair (scalar, aux), got {type(result).__name__}; return (value, {{}})")
    return _check.scalar("the loss of a learner", result[0]), result[1]


def no_penalty(phi: PyTree, start: PyTree) -> Array:
    """The penalty of a learner that prefers nothing."""
    return jax.numpy.zeros(())
