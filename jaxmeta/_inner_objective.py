"""What a learner sees of a task, and what inner steps descend: a part of `jaxmeta.process`."""

from __future__ import annotations

from typing import Any

import jax
from jaxtyping import Array, Int, Key, PyTree

from jaxmeta import _check
from jaxmeta.base import Learner, Task

_OF_VIEW = 2**31 - 2  # out of reach of the numbers by which keys are split


def view(key: Key[Array, ""], learner: Learner, task: Task, step: Int[Array, ""] | int) -> Task:
    """The task whose support is what a learner sees of it after so many steps. Its key is made of
    the step's or the start's, so that their own draws stay what they are."""
    if learner.sees is None:
        return task
    return task._replace(
        support=learner.sees(jax.random.fold_in(key, _OF_VIEW), task.support, step)
    )


def seeing(learner: Learner, sees) -> Learner:
    """The learner that sees, of what it saw before, what `sees(key, support, step)` makes of it."""
    first = learner.sees
    if first is None or sees is None:
        return learner._replace(sees=first if sees is None else sees)

    def both(key, support, step):
        key_first, key_then = jax.random.split(key)
        return sees(key_then, first(key_first, support, step), step)

    return learner._replace(sees=both)


def lifted(learner: Learner, lift) -> Learner:
    """The learner that measures and predicts as another does at `lift(phi, batch) -> (phi, batch)`:
    one piece of code for both."""

    def through(function):
        return (
            None if function is None else lambda key, phi, batch: function(key, *lift(phi, batch))
        )

    return learner._replace(loss=through(learner.loss), predict=through(learner.predict))


def objective(key: Key[Array, ""], learner: Learner, start: PyTree, phi: PyTree, task: Task):
    """What inner steps descend: `(loss(phi, support) + penalty(phi, phi_0), (loss, aux))`, with
    phi_0 = start. The support is taken as it is: who wants what a step sees of it gives the task's
    `view`."""
    value, aux = loss_and_aux(learner, key, phi, task.support)
    penalty = _check.scalar("the penalty of a learner", learner.penalty(phi, start))
    return value + penalty.astype(value.dtype), (value, aux)


def loss_and_aux(learner: Learner, key, phi: PyTree, batch: PyTree) -> tuple[Array, Any]:
    """The learner's loss on a batch, refused in a sentence where it is not `(scalar, aux)`."""
    result = learner.loss(key, phi, batch)
    if not (isinstance(result, tuple) and len(result) == 2):
        raise ValueError(
            f"the loss of a learner must return a pair (scalar, aux), got {type(result).__name__}; "
            "return (value, {})"
        )
    return (
        _check.scalar("the loss of a learner", result[0]),
        _check.numbers("what a loss returns beside its value", result[1]),
    )
