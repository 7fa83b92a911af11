"""The process: low-level learning, and the outcome by which the high level is judged."""

from __future__ import annotations

from typing import Any

import jax
import optax
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Key, PyTree

from jaxmeta import _check
from jaxmeta.base import Bilevel, Learner, Position, Task, Trajectory


def trajectory(key: Key[Array, ""], learner: Learner, task: Task, gradient=jax.grad, scan=jax.lax.scan) -> Trajectory:
    """Runs the low level from its start and keeps every step.

    `phi_{k+1} = phi_k + u_k`, where u_k is what `learner.update` makes of `d/d(phi) [loss(phi, support) + penalty(phi,
    phi_0)]` at phi_k.

    Args:
      key: Split between the start and one key a step for the loss.
      learner: The low level, shaped by its bias.
      task: Its support is learnt from; its query is not looked at.
      gradient: Called as `gradient(objective, has_aux=True)(phi)`, as `jax.grad` is. Estimators give their own.
      scan: Called as `scan(step, carry, keys)`, as `jax.lax.scan` is. Estimators give their plans of memory.

    Returns:
      The `Trajectory` of K = `learner.steps` steps.

    Raises:
      ValueError: If the loss or the penalty is not a scalar, or the number of steps not a whole number of at least 0.
    """
    return walk(*jax.random.split(key), learner, task, gradient, scan)[0]


def walk(key_start: Key[Array, ""], key_steps: Key[Array, ""], learner: Learner, task: Task, gradient=jax.grad,
         scan=jax.lax.scan) -> tuple[Trajectory, PyTree]:
    """The `trajectory` of these two keys, and what the learner's update remembers at its end."""
    steps = _check.whole_number("steps of a learner", learner.steps)
    start = begin(key_start, learner, task)
    end, (path, losses, aux) = advance(key_steps, learner, task, start, steps, gradient, scan)
    return Trajectory(start.phi, end.phi, path, losses, aux), end.memory


def begin(key: Key[Array, ""], learner: Learner, task: Task) -> Position:
    """The `Position` before the first step."""
    phi = learner.start(key, task)
    return Position(phi, phi, learner.update.init(phi))


def advance(key: Key[Array, ""], learner: Learner, task: Task, position: Position, steps: int, gradient=jax.grad,
            scan=jax.lax.scan):
    """Takes inner steps from a position; the only scan over inner steps there is. The gradients have the checkpoint name
    'inner_gradient'.

    Returns:
      `(Position, (path, losses, aux))`, the latter stacked `[steps, ...]` as in a `Trajectory`.
    """
    update = optax.with_extra_args_support(learner.update)

    def step(carry, key):
        phi, memory = carry

        def of(phi):
            return objective(key, learner, position.start, phi, task)

        grads, (value, aux) = gradient(of, has_aux=True)(phi)
        grads = checkpoint_name(grads, "inner_gradient")
        # Line searches and second-order updates of optax ask for these; the others never see them.
        more = {"value": value, "grad": grads, "value_fn": lambda phi: of(phi)[0]}
        updates, memory = update.update(grads, memory, phi, **more)
        phi = optax.apply_updates(phi, updates)
        return (phi, memory), (phi, value, aux)

    (phi, memory), kept = scan(step, (position.phi, position.memory), jax.random.split(key, steps))
    return Position(position.start, phi, memory), kept


def objective(key: Key[Array, ""], learner: Learner, start: PyTree, phi: PyTree, task: Task):
    """What inner steps descend: `(loss(phi, support) + penalty(phi, phi_0), (loss, aux))`, with phi_0 = start."""
    value, aux = loss_and_aux(learner, key, phi, task.support)
    penalty = _check.scalar("the penalty of a learner", learner.penalty(phi, start))
    return value + penalty.astype(value.dtype), (value, aux)


def adapt(key: Key[Array, ""], learner: Learner, task: Task, gradient=jax.grad, scan=jax.lax.scan) -> PyTree:
    """The low-level process: `trajectory`, of which only phi_K is kept.

    >>> import jax, optax, jaxmeta as jm
    >>> learner = jm.Learner(lambda key, task: 0.0, lambda key, phi, b: ((phi - b) ** 2, {}), jm.no_penalty,
    ...                      optax.sgd(0.25), steps=2)
    >>> float(jm.adapt(jax.random.key(0), learner, jm.Task(support=1.0, query=None)))
    0.75
    """
    return trajectory(key, learner, task, gradient, scan).end


def outcome(key: Key[Array, ""], bilevel: Bilevel, theta: PyTree, task: Task, gradient=jax.grad,
            scan=jax.lax.scan) -> tuple[Array, Any]:
    """The outer loss of one task: shape the learner, let it learn, judge it.

    Returns:
      `(value, aux)` of `bilevel.outer`. Differentiable in theta, and in the task's support and query.
    """
    learner, walked, key_outer = learned(key, bilevel, theta, task, gradient, scan)
    return judged(key_outer, bilevel, learner, walked, task)


def learned(key: Key[Array, ""], bilevel: Bilevel, theta: PyTree, task: Task, gradient=jax.grad, scan=jax.lax.scan):
    """One task up to its judgement: the learner as shaped, its trajectory, and the key left for the outer objective."""
    key_process, key_outer = jax.random.split(key)
    learner = bilevel.bias.shape(theta, task, bilevel.learner)
    return learner, trajectory(key_process, learner, task, gradient, scan), key_outer


def judged(key: Key[Array, ""], bilevel: Bilevel, learner: Learner, walked: Trajectory, task: Task) -> tuple[Array, Any]:
    """The outer loss of a trajectory, and what came beside it."""
    value, aux = bilevel.outer(key, learner, walked, task)
    return _check.scalar("the outer loss", value), aux


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
