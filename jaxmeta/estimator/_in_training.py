"""Estimates of the problem as it is in training."""

from __future__ import annotations

from collections.abc import Callable

from jaxmeta.base import Bilevel, Estimator


def in_training(estimator: Estimator, change: Callable[[Bilevel], Bilevel]) -> Estimator:
    """An estimator of the bilevel problem as training alone has it: its noise, what it descends for
    the query's loss.

    Predictions, validation and evaluation are of the problem as it is. `scheduled` is this with a
    count.

    Args:
      estimator: What estimates.
      change: `bilevel -> bilevel`, with the same theta.

    Returns:
      An `Estimator` with the other's state.

    >>> import optax, jaxmeta as jm
    >>> from jaxmeta.objective import multi_step
    >>> learner = jm.gradient(jm.models.mlp([8], 2), steps=2)
    >>> estimator = in_training(
    ...     jm.unrolled(),
    ...     lambda bilevel: bilevel._replace(outer=multi_step([0.5, 0.5], bilevel.outer)),
    ... )
    >>> algorithm = jm.maml(learner)._replace(estimator=estimator)
    """

    def init(key, bilevel, theta, tasks):
        return estimator.init(key, change(bilevel), theta, tasks)

    def estimate(key, bilevel, theta, tasks, state):
        return estimator.estimate(key, change(bilevel), theta, tasks, state)

    return Estimator(init, estimate)
