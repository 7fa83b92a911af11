"""Momentum before the learner's own update."""

from __future__ import annotations

from typing import NamedTuple

import optax

from jaxmeta import _check
from jaxmeta.base import Bias


class Momentum(NamedTuple):
    """The `update` of a transformation that is momentum first and the rest then; estimators know it
    by this type.

    Args:
      decay: Of the momenta, a step.
      rest: What makes of the momenta that by which phi moves.
    """

    decay: float
    rest: optax.GradientTransformationExtraArgs

    def __call__(self, grads, state, phi=None, **more):
        """As the `update` of an optax transformation."""
        trace, memory = state
        momenta, trace = optax.trace(self.decay).update(grads, trace, phi)
        updates, memory = self.rest.update(momenta, memory, phi, **more)
        return updates, (trace, memory)


def momentum(decay: float = 0.9) -> Bias:
    """Heavy-ball momentum before the learner's own update: `m_{k+1} = decay m_k + g_k`,
    `phi_{k+1} = phi_k + update(m_{k+1})`.

    `reversible` needs it to be the last of the composed biases; what they make of the update, step
    sizes for example, then acts on the momenta. With `optax.sgd(rate)` it is
    `optax.sgd(rate, momentum=decay)`.

    Args:
      decay: Above 0 and below 1; not learned.

    Returns:
      A `Bias` whose theta is `()`.

    Raises:
      ValueError: If the decay is not between 0 and 1.

    >>> import jax, optax, jaxmeta as jm
    >>> low = jm.Learner(
    ...     lambda key, task: 0.0,
    ...     lambda key, phi, b: ((phi - b) ** 2 / 2, {}),
    ...     jm.no_penalty,
    ...     optax.sgd(0.5),
    ...     2,
    ... )
    >>> learner = jm.compose(jm.momentum(0.5)).shape(((),), None, low)
    >>> float(
    ...     jm.adapt(jax.random.key(0), learner, jm.Task(support=1.0, query=None))
    ... )  # momenta -1 and -1
    1.0

    Reference: Polyak, Some methods of speeding up the convergence of iteration methods, 1964.
    """
    _check.number("decay of the momenta", decay, above=0)
    if not decay < 1:
        raise ValueError(f"decay of the momenta must be below 1, got {decay}")

    def init(key, task, learner):
        return ()

    def shape(theta, task, learner):
        rest = optax.with_extra_args_support(learner.update)

        def start(phi):
            return optax.trace(decay).init(phi), rest.init(phi)

        return learner._replace(
            update=optax.GradientTransformationExtraArgs(start, Momentum(decay, rest))
        )

    return Bias(init, shape)
