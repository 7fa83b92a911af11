"""Quadratic tasks, whose adapted parameters and meta-gradients are known in closed form: the oracle
of the tests."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from jaxmeta import _check
from jaxmeta._pickle import Function
from jaxmeta.base import Learner, Task
from jaxmeta.process import no_penalty


class Quadratic(NamedTuple):
    """The loss `1/2 (phi - centre)' curvature (phi - centre)`.

    Args:
      curvature: `[D, D]`, symmetric positive definite.
      centre: `[D]`, where it is least.
    """

    curvature: Float[Array, "D D"]
    centre: Float[Array, " D"]


def quadratics(dimension: int, spread: float = 1.0):
    """The sampler of tasks whose support and query are quadratics with eigenvalues in (0.2, 1.2).

    Args:
      dimension: D, of phi.
      spread: Standard deviation of the centres, in phi's unit.

    Returns:
      `key -> Task`, support and query each a `Quadratic`.
    """
    _check.whole_number("dimension", dimension, least=1)

    def one(key):
        key_turn, key_value, key_centre = jax.random.split(key, 3)
        turn, _ = jnp.linalg.qr(jax.random.normal(key_turn, (dimension, dimension)))
        values = jax.random.uniform(key_value, (dimension,), minval=0.2, maxval=1.2)
        centre = spread * jax.random.normal(key_centre, (dimension,))
        return Quadratic((turn * values[None, :]) @ turn.T, centre)

    @Function
    def sample(key):
        key_support, key_query = jax.random.split(key)
        return Task(one(key_support), one(key_query))

    return sample


def quadratic_learner(rate: float, steps: int) -> Learner:
    """Gradient descent on quadratics from a normal start: `phi <- phi - rate A (phi - b)`."""

    def start(key, task):
        return jax.random.normal(key, task.support.centre.shape)

    def loss(key, phi, batch: Quadratic):
        away = phi - batch.centre
        return 0.5 * away @ batch.curvature @ away, {}

    return Learner(start, loss, no_penalty, optax.sgd(rate), steps)


def quadratic_adapted(
    phi: Float[Array, " D"], task: Task, rate: float, steps: int
) -> Float[Array, " D"]:
    """Where gradient descent from phi ends: `b + (I - rate A)^K (phi - b)`, A and b the
    support's."""
    _, centre = task.support
    return centre + _contraction(task, rate, steps) @ (phi - centre)


def quadratic_meta_gradient(
    phi: Float[Array, " D"], task: Task, rate: float, steps: int
) -> Float[Array, " D"]:
    """The derivative in phi of the query's loss at the end: `(I - rate A)^K A_q (phi_K - b_q)`."""
    adapted = quadratic_adapted(phi, task, rate, steps)
    return _contraction(task, rate, steps) @ task.query.curvature @ (adapted - task.query.centre)


def _contraction(task: Task, rate: float, steps: int):
    curvature = task.support.curvature
    return jnp.linalg.matrix_power(
        jnp.eye(len(curvature), dtype=curvature.dtype) - rate * curvature, steps
    )
