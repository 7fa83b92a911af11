"""What ends a run before its last step: signals and non-finite numbers."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxmeta._pytree import moving
from jaxmeta.base import Algorithm
from jaxmeta.training._diagnosis import cause, not_finite
from jaxmeta.training._state import TrainState
from jaxmeta.training._step import draw_tasks, step_keys


class NonFinite(FloatingPointError):
    """An outer step came out as NaN or infinity and was not taken.

    `step` is its number from 1, `tasks` the places in the meta-batch of the non-finite tasks (empty
    if each is finite), `cause` what was found and what to do, `checkpoint` the newest checkpoint or
    None, and `fitted` what was reached before.
    """

    def __init__(
        self, message: str, step: int, tasks: list[int], cause: str, checkpoint, fitted: Any
    ):
        super().__init__(message)
        self.step, self.tasks, self.cause, self.checkpoint, self.fitted = (
            step,
            tasks,
            cause,
            checkpoint,
            fitted,
        )


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM came; the call was finished and a checkpoint saved. The message says how to
    resume.

    `signal` is its number, `exit_code` 128 more (130 for Ctrl-C), and `fitted` what was reached.
    """

    def __init__(self, message: str, number: int, fitted: Any):
        super().__init__(message)
        self.signal, self.exit_code, self.fitted = number, 128 + number, fitted


@contextlib.contextmanager
def deferred_signals():
    """Within it SIGINT and SIGTERM are noted in the list that it gives; a second one acts at once,
    as it did before."""
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came  # Only the main thread may set handlers.
        return

    def note(number, frame):
        came.append(number)
        signal.signal(number, before[number])

    before = {
        number: signal.getsignal(number) or signal.SIG_DFL
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    for number in before:
        signal.signal(number, note)
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Failure(NamedTuple):
    """What is known of a step that was not taken: the places in its meta-batch of the `tasks` that
    are not finite, and why."""

    tasks: list[int]
    cause: str


def examined(
    algorithm: Algorithm, state: TrainState, key, source, place: int, drawn: int | None
) -> Failure:
    """Which tasks of the next step's meta-batch have a loss or gradient that is not finite at this
    state, and why.

    The estimate averages gradients over tasks, so each task is tried in the same meta-batch with
    all other weights 0, which keeps the shapes (one compilation), its key (by its place) and what
    the estimator carries for it.
    """
    key_tasks, key_estimate = step_keys(key, state.step)
    tasks = jax.jit(draw_tasks, static_argnums=3)(source, key_tasks, place, drawn)

    @jax.jit
    def finite(state, tasks, weight):
        tasks = tasks._replace(weight=weight)
        estimate, _ = algorithm.estimator.estimate(
            key_estimate, algorithm.bilevel, state.theta, tasks, state.estimator
        )
        return jnp.stack(
            [
                jnp.isfinite(leaf).all()
                for leaf in jax.tree.leaves((estimate.loss, moving(estimate.grad)))
            ]
        ).all()

    count = jax.tree.leaves(tasks)[0].shape[0]
    weight = jnp.ones(count) if tasks.weight is None else tasks.weight
    places = [
        place
        for place in range(count)
        if not finite(state, tasks, jnp.where(jnp.arange(count) == place, weight, 0))
    ]
    if places:
        task = jax.tree.map(lambda leaf: leaf[places[0]], tasks)
        try:
            why = cause(
                jax.random.split(key_estimate, count)[places[0]],
                algorithm.bilevel,
                state.theta,
                task,
            )
        except (
            Exception
        ):  # A learner that cannot be looked into must not hide that its step failed.
            why = None
    elif finite(state, tasks, weight):
        why = (
            "the outer optimiser's step is not finite though loss and gradient are; try a smaller "
            "outer rate"
        )
    else:
        why = "each task is finite and their sum is not; scale the outer loss down"
    if why is None and (bad := not_finite(state.estimator)):
        why = (
            f"what the estimator carries is not finite, in '{bad[0]}'; try a smaller inner "
            "learning rate"
        )
    return Failure(
        places,
        why
        or "the cause was not found: theta, the data and learning itself are finite, only the "
        "derivative through it is not; a smaller inner learning rate or fewer inner steps may help",
    )
