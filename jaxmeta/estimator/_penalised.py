"""A term in theta alone."""

from __future__ import annotations

from collections.abc import Callable

import jax
from jaxtyping import PyTree

from jaxmeta import _check
from jaxmeta._pytree import constants, merge, moving
from jaxmeta.base import Estimate, Estimator


def penalised(
    estimator: Estimator, penalty: Callable[[PyTree], jax.Array], strength: float = 1.0
) -> Estimator:
    r"""What an estimator says, and a penalty on theta: $L(\theta) + \lambda p(\theta)$.

    The penalty depends on no task, so it is differentiated once and exactly, by whatever road the
    rest returns.

    Args:
      estimator: Of the outer loss.
      penalty: `(theta) -> scalar`, as a `Tying`'s.
      strength: lambda. The outer loss is a mean over tasks: for the posterior's mode under a
        negative log prior it is one over the number of all tasks.

    Returns:
      An `Estimator`; `info["penalty"]` is $\lambda p$.
    """

    def estimate(key, bilevel, theta, tasks, state):
        plain, state = estimator.estimate(key, bilevel, theta, tasks, state)
        fixed = constants(theta)
        value, grad = jax.value_and_grad(
            lambda moved: strength * _check.scalar("a penalty", penalty(merge(moved, fixed)))
        )(moving(theta))
        value = value.astype(plain.loss.dtype)
        grad = jax.tree.map(lambda a, b: a + b.astype(a.dtype), moving(plain.grad), grad)
        grad = merge(grad, constants(plain.grad))
        return Estimate(plain.loss + value, grad, plain.info | {"penalty": value}), state

    return Estimator(estimator.init, estimate)
