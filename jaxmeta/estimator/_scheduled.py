"""Estimators that change in the course of training. They carry the number of estimates made."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from jaxmeta import _check
from jaxmeta.base import Bilevel, Estimator


def scheduled(estimator: Estimator, change: Callable[[jax.Array, Bilevel], Bilevel]) -> Estimator:
    """An estimator whose bilevel problem changes with the number of estimates made.

    Args:
      estimator: What estimates.
      change: `(count, bilevel) -> bilevel`, with a traced count from 0: `lambda count, bilevel:
        bilevel._replace(outer=multi_step(annealed_weights(5, count / 1000)))` is MAML++'s annealed
        multi-step loss.

    Returns:
      An `Estimator` that carries `(count, the other's state)`.
    """

    def init(key, bilevel, theta, tasks):
        count = jnp.zeros((), jnp.int32)
        return count, estimator.init(key, change(count, bilevel), theta, tasks)

    def estimate(key, bilevel, theta, tasks, state):
        count, held = state
        result, held = estimator.estimate(key, change(count, bilevel), theta, tasks, held)
        return result, (count + 1, held)

    return Estimator(init, estimate)


def staged(estimators: Sequence[Estimator], boundaries: Sequence[int]) -> Estimator:
    """One estimator after the other, in one compiled program: MAML++'s annealed order is
    `staged([first_order(), unrolled()], [1000])`.

    Args:
      estimators: Stateless or not; all report the same info.
      boundaries: How many estimates have been made when the next takes over, ascending; one fewer
        than estimators.

    Returns:
      An `Estimator` that carries `(count, the states of all)`.

    Raises:
      ValueError: For boundaries that are not as many or do not ascend.

    Reference: Antoniou, Edwards and Storkey, How to train your MAML, ICLR 2019 (derivative-order
    annealing).
    """
    boundaries = [_check.whole_number("a boundary", boundary, least=1) for boundary in boundaries]
    if len(boundaries) != len(estimators) - 1 or boundaries != sorted(set(boundaries)):
        raise ValueError(
            f"{len(estimators)} estimators need {len(estimators) - 1} ascending boundaries, got "
            f"{boundaries}; give the number of estimates at which each but the first begins"
        )

    def init(key, bilevel, theta, tasks):
        keys = jax.random.split(key, len(estimators))
        states = [each.init(own, bilevel, theta, tasks) for each, own in zip(estimators, keys)]
        return jnp.zeros((), jnp.int32), states

    def estimate(key, bilevel, theta, tasks, state):
        count, states = state

        def by(index):
            def run():
                result, held = estimators[index].estimate(key, bilevel, theta, tasks, states[index])
                return result, [
                    held if place == index else other for place, other in enumerate(states)
                ]

            return run

        stage = jnp.sum(count >= jnp.asarray(boundaries, jnp.int32)) if boundaries else 0
        result, states = jax.lax.switch(stage, [by(index) for index in range(len(estimators))])
        return result, (count + 1, states)

    return Estimator(init, estimate)
