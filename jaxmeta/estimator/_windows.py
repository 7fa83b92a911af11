"""Windows of a long inner run: it goes on from one outer step to the next and is never stored
whole.

Axis letters: `T` tasks, `K` inner steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from jaxmeta import _check
from jaxmeta.base import Bilevel, Learner, Position, Trajectory
from jaxmeta.estimator._estimate import estimate_over
from jaxmeta.parallel import Mapper, divisor
from jaxmeta.process import advance, begin, judged


class Run(NamedTuple):
    """One task's inner run between two outer steps.

    Args:
      position: Where it stands.
      steps: A scalar integer, the inner steps taken since it began; 0 also after all K: the next
        window begins anew.
    """

    position: Position
    steps: Array


class Carry(NamedTuple):
    """Where a window begins, and what is held for the next one. `learner` is shaped by theta.

    Args:
      init: `(key, learner, task, window) -> held`, before the first window.
      begin: `(key, learner, constant, task, window, held) -> (Position, key, before)`: where the
        window begins, the key for its own steps, and how many steps were taken before it.
        `constant` is the learner with theta held constant: what it goes through has no derivative
        and stores nothing.
      keep: `(learner, window, held, Position) -> held`, from the position at the window's end.
    """

    init: Callable[..., PyTree]
    begin: Callable[..., tuple[Position, Array, Array | int]]
    keep: Callable[..., PyTree]


def _held_init(key, learner: Learner, task, window: int) -> Run:
    _whole_windows(learner, window)
    return Run(begin(key, learner, task), jnp.zeros((), jnp.int32))


def _held_begin(key, learner: Learner, constant: Learner, task, window: int, held: Run):
    _whole_windows(learner, window)
    key_start, key_steps = jax.random.split(key)
    start = begin(
        key_start, learner, task
    )  # Of this theta, and so differentiable in it; what is held is not.
    return (
        jax.tree.map(lambda new, old: jnp.where(held.steps == 0, new, old), start, held.position),
        key_steps,
        held.steps,
    )


def _held_keep(learner: Learner, window: int, held: Run, position: Position) -> Run:
    return Run(position, (held.steps + window) % learner.steps)


def _whole_windows(learner: Learner, window: int) -> None:
    steps = _check.whole_number("steps of a learner in windows", learner.steps, least=1)
    if steps % window:
        raise ValueError(
            f"the steps of a learner must be a multiple of the window of {window}, got {steps}; "
            f"take {steps + -steps % window} steps, or a window of {divisor(steps, window)}"
        )


def _afresh_begin(key, learner: Learner, constant: Learner, task, window: int, held):
    before = _check.whole_number("steps of a learner", learner.steps) - window
    if before < 0:
        raise ValueError(
            f"the window must be at most the {learner.steps} steps of the learner, got {window}; "
            f"take a window of {learner.steps}"
        )
    key_start, key_steps = jax.random.split(key)
    if before == 0:
        return begin(key_start, learner, task), key_steps, 0
    key_before, key_steps = jax.random.split(key_steps)
    position, _ = advance(key_before, constant, task, begin(key_start, constant, task), before)
    return position, key_steps, before


going_on = Carry(_held_init, _held_begin, _held_keep)
"""From where the last window ended; from the start once the learner's K steps are done."""

afresh = Carry(lambda *_: (), _afresh_begin, lambda *_: ())
"""From the start each time: K - window steps without a derivative, then the window. Nothing is
held."""


def window_of(
    key,
    bilevel: Bilevel,
    theta: PyTree,
    task,
    carry: Carry,
    window: int,
    held,
    gradient=jax.grad,
    scan=jax.lax.scan,
):
    """One task's next window, judged by a `Trajectory` of it alone.

    Returns:
      `(value, (aux, held))`. Of the whole run in one window, value is what `jaxmeta.outcome` gives
      for this key.
    """
    key_process, key_outer = jax.random.split(key)
    learner, constant = (
        bilevel.bias.shape(each, task, bilevel.learner)
        for each in (theta, jax.lax.stop_gradient(theta))
    )
    position, key_steps, before = carry.begin(key_process, learner, constant, task, window, held)
    end, (path, losses, aux) = advance(
        key_steps, learner, task, position, window, gradient, scan, before
    )
    value, aux = judged(
        key_outer, bilevel, learner, Trajectory(position.phi, end.phi, path, losses, aux), task
    )
    return value, (aux, carry.keep(learner, window, held, end))


def hold(over: Mapper, one, key, theta, tasks) -> PyTree:
    """The state before the first window: `one(theta, key, task)`, stacked `[T, ...]`."""
    keys = jax.random.split(key, jax.tree.leaves(tasks)[0].shape[0])
    # Once, but op by op it would take longer than to compile.
    _, state = jax.jit(
        lambda *args: over(lambda theta, batched: ((), one(theta, *batched)), *args)
    )(theta, (keys, tasks))
    # Weakly typed leaves would come back strongly typed from the first window and compile
    # everything again.
    return jax.tree.map(lambda leaf: jax.lax.convert_element_type(leaf, leaf.dtype), state)


def estimate_held(over: Mapper, one, key, theta, tasks, state):
    """`(Estimate, state)` from `one(theta, (key, (task, held))) -> (grad, each)`, `each["held"]`
    going into the state."""
    count = jax.tree.leaves(tasks)[0].shape[0]
    others = {leaf.shape[0] for leaf in jax.tree.leaves(state)} - {count}
    if others:
        raise ValueError(
            f"the tasks must be the {others.pop()} whose runs are held, got {count}; give as many "
            "at each outer step, or make a new state with the estimator's init"
        )
    estimate = estimate_over(over, one, key, theta, (tasks, state), tasks.weight)
    info = dict(estimate.info)
    state = info.pop("held")
    return estimate._replace(info=info), state
