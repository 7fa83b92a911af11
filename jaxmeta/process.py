"""The process: low-level learning, and the outcome by which the high level is judged."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Int, Key, PyTree

from jaxmeta import _check, _programs
from jaxmeta._inner_objective import lifted, loss_and_aux, objective, seeing, view
from jaxmeta._judged import judged, predicted
from jaxmeta._pytree import constants, counted, merge, moving
from jaxmeta.base import Bilevel, Learner, Position, Task, Trajectory

__all__ = [
    "adapt",
    "advance",
    "begin",
    "judged",
    "learned",
    "lifted",
    "loss_and_aux",
    "no_penalty",
    "objective",
    "outcome",
    "predict",
    "predicted",
    "seeing",
    "started",
    "trajectory",
    "view",
    "walk",
]

_takes = _check.takes(
    {"key": _check.key, "learner": _check.learner, "bilevel": _check.bilevel, "task": _check.task}
)


@_takes
def trajectory(
    key: Key[Array, ""], learner: Learner, task: Task, gradient=jax.grad, scan=jax.lax.scan
) -> Trajectory:
    """Runs the low level from its start and keeps every step.

    `phi_{k+1} = phi_k + u_k`, where u_k is what `learner.update` makes of
    `d/d(phi) [loss(phi, support) + penalty(phi, phi_0)]` at phi_k.

    Args:
      key: Split between the start and one key a step for the loss.
      learner: The low level, shaped by its bias.
      task: Its support is learnt from; its query is not looked at.
      gradient: Called as `gradient(objective, has_aux=True)(phi)`, as `jax.grad` is. Estimators
        give their own.
      scan: Called as `scan(step, carry, keys)`, as `jax.lax.scan` is. Estimators give their plans
        of memory.

    Returns:
      The `Trajectory` of K = `learner.steps` steps.

    Raises:
      ValueError: If the loss or the penalty is not a scalar, or the number of steps not a whole
        number of at least 0.
    """
    return walk(*jax.random.split(key), learner, task, gradient, scan)[0]


def walk(
    key_start: Key[Array, ""],
    key_steps: Key[Array, ""],
    learner: Learner,
    task: Task,
    gradient=jax.grad,
    scan=jax.lax.scan,
) -> tuple[Trajectory, PyTree]:
    """The `trajectory` of these two keys, and what the learner's update remembers at its end."""
    steps = _check.whole_number("steps of a learner", learner.steps)
    start = begin(key_start, learner, task)
    end, (path, losses, aux) = advance(key_steps, learner, task, start, steps, gradient, scan)
    return Trajectory(start.phi, end.phi, path, losses, aux), end.memory


@_takes
def begin(key: Key[Array, ""], learner: Learner, task: Task) -> Position:
    """The `Position` before the first step, for `advance`: a loop of one's own takes inner steps as
    it likes."""
    phi = started(key, learner, task)
    return Position(phi, phi, learner.update.init(moving(phi)))


def started(key: Key[Array, ""], learner: Learner, task: Task) -> PyTree:
    """phi_0: where learning begins, made of what a learner sees before its first step."""
    return learner.start(key, view(key, learner, task, 0))


@_takes
def advance(
    key: Key[Array, ""],
    learner: Learner,
    task: Task,
    position: Position,
    steps: int,
    gradient=jax.grad,
    scan=jax.lax.scan,
    before: Int[Array, ""] | int = 0,
):
    """Takes inner steps from a position; the only scan over inner steps there is. The gradients
    have the checkpoint name 'inner_gradient'. Leaves of phi that are whole numbers, booleans or
    keys are constants, but that a `Count` counts on.

    Args:
      key: Split into one a step.
      learner: The low level, shaped by its bias.
      task: Its support is learnt from.
      position: From `begin`, or where an earlier call ended.
      steps: How many, a whole number.
      gradient, scan: As in `trajectory`.
      before: How many steps were taken before, which `learner.sees` is told.

    Returns:
      `(Position, (path, losses, aux))`, the latter stacked `[steps, ...]` as in a `Trajectory`.

    >>> import jax, optax, jaxmeta as jm
    >>> learner = jm.Learner(
    ...     lambda key, task: 0.0,
    ...     lambda key, phi, b: ((phi - b) ** 2, {}),
    ...     jm.no_penalty,
    ...     optax.sgd(0.25),
    ...     steps=2,
    ... )
    >>> key, task = jax.random.key(0), jm.Task(support=1.0, query=None)
    >>> position = jm.begin(key, learner, task)
    >>> for k in range(learner.steps):
    ...     position, (_, losses, _) = jm.advance(
    ...         jax.random.fold_in(key, k), learner, task, position, 1, before=k
    ...     )
    ...     print(float(position.phi), float(losses[0]))
    0.5 1.0
    0.75 0.25
    """
    update = optax.with_extra_args_support(learner.update)

    def step(carry, given):
        phi, memory = carry
        key, seen = (
            (given, task)
            if learner.sees is None
            else (given[0], view(given[0], learner, task, given[1]))
        )
        moved = moving(phi)
        fixed = None if moved is phi else counted(constants(phi), begun=1)

        def of(moved):
            return objective(
                key, learner, position.start, moved if fixed is None else merge(moved, fixed), seen
            )

        grads, (value, aux) = gradient(of, has_aux=True)(moved)
        grads = checkpoint_name(grads, "inner_gradient")
        # Line searches and second-order updates of optax ask for these; the others never see them.
        more = {"value": value, "grad": grads, "value_fn": lambda moved: of(moved)[0]}
        updates, memory = update.update(grads, memory, moved, **more)
        moved = optax.apply_updates(moved, updates)
        phi = moved if fixed is None else merge(moved, counted(fixed, done=1))
        return (phi, memory), (phi, value, aux)

    keys = jax.random.split(key, steps)
    given = keys if learner.sees is None else (keys, before + jnp.arange(steps))
    (phi, memory), kept = scan(step, (position.phi, position.memory), given)
    return Position(position.start, phi, memory), kept


@_takes
def adapt(
    key: Key[Array, ""], learner: Learner, task: Task, gradient=jax.grad, scan=jax.lax.scan
) -> PyTree:
    """The low-level process: `trajectory`, of which only phi_K is kept.

    Called without `jax.jit` it is one compiled program all the same: it needs the memory of one
    phi, and compiles once for all tasks of the same shapes, also where a bias shapes the learner
    anew for each of them.

    >>> import jax, optax, jaxmeta as jm
    >>> learner = jm.Learner(
    ...     lambda key, task: 0.0,
    ...     lambda key, phi, b: ((phi - b) ** 2, {}),
    ...     jm.no_penalty,
    ...     optax.sgd(0.25),
    ...     steps=2,
    ... )
    >>> float(jm.adapt(jax.random.key(0), learner, jm.Task(support=1.0, query=None)))
    0.75
    """
    return _programs.run(
        lambda key, task: trajectory(key, learner, task, gradient, scan).end, key, task
    )


@_takes
def outcome(
    key: Key[Array, ""],
    bilevel: Bilevel,
    theta: PyTree,
    task: Task,
    gradient=jax.grad,
    scan=jax.lax.scan,
) -> tuple[Array, Any]:
    """The outer loss of one task: shape the learner, let it learn, judge it.

    Returns:
      `(value, aux)` of `bilevel.outer`. Differentiable in theta, and in the task's support and
      query.
    """
    learner, walked, key_outer = learned(key, bilevel, theta, task, gradient, scan)
    return judged(key_outer, bilevel, learner, walked, task)


def learned(
    key: Key[Array, ""],
    bilevel: Bilevel,
    theta: PyTree,
    task: Task,
    gradient=jax.grad,
    scan=jax.lax.scan,
):
    """One task up to its judgement: the learner as shaped, its trajectory, and the key left for the
    outer objective."""
    key_process, key_outer = jax.random.split(key)
    learner = bilevel.bias.shape(theta, task, bilevel.learner)
    return learner, trajectory(key_process, learner, task, gradient, scan), key_outer


@_takes
def predict(key: Key[Array, ""], bilevel: Bilevel, theta: PyTree, task: Task) -> Array:
    """What a learner says of a task's query after it has learned from the support.

    `predict(key, phi_K(theta), query)` of the learner as the bias shapes it, on the batch that the
    outer objective makes of the query: an inductive one normalises it by the support.

    Args:
      key: As in `outcome`: the same learning.
      bilevel: The problem. An outer objective of your own that wraps an inductive one tells what
        that asks where `functools.wraps` makes it.
      theta: What was learned across tasks.
      task: The labels of its query are not looked at and may be None.

    Returns:
      `[n, ...]`, one row an example of the query: logits of the classes, or values.

    Raises:
      ValueError: For a learner without predictions.

    >>> import jax, jax.numpy as jnp, jaxmeta as jm
    >>> raw = jm.models.Model(lambda key, x: {}, lambda params, x, reference=None: x)
    >>> task = jm.Task(
    ...     jm.Examples(jnp.eye(2), jnp.arange(2)), jm.Examples(jnp.array([[0.0, 3.0]]), None)
    ... )
    >>> jm.predict(jax.random.key(0), jm.protonet(raw, ways=2).bilevel, {}, task).argmax(1).tolist()
    [1]
    """
    learner, walked, key_outer = learned(key, bilevel, theta, task)
    return predicted(key_outer, bilevel, learner, walked, task)


def no_penalty(phi: PyTree, start: PyTree) -> Array:
    """The penalty of a learner that prefers nothing."""
    return jnp.zeros(())
