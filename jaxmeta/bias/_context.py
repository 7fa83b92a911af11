"""Adapting by a few inputs instead of the weights."""

from __future__ import annotations

import jax.numpy as jnp

from jaxmeta import _check
from jaxmeta.base import Bias
from jaxmeta.process import lifted, no_penalty, view


def context(size: int) -> Bias:
    """A few context inputs adapt from zero; all the learner's own parameters are shared (CAVIA).

    `phi_0 = 0` of shape `[size]`, `loss'(key, phi, (x, y)) = loss(key, theta, ([x, phi], y))`: phi
    is joined to the last axis of every input, so that images and sensor windows get `size` constant
    channels more.

    Args:
      size: How many context inputs, at least 1.

    Returns:
      A `Bias` whose theta is the parameters of the learner, made for inputs that are `size` wider.

    Reference: Zintgraf et al., Fast context adaptation via meta-learning, ICML 2019.
    """
    _check.whole_number("size of the context", size, least=1)

    def join(phi, batch):
        spread = jnp.broadcast_to(phi.astype(batch.x.dtype), (*batch.x.shape[:-1], size))
        return batch._replace(x=jnp.concatenate([batch.x, spread], axis=-1))

    def zeros(task):
        return jnp.zeros(size, task.support.x.dtype)

    def init(key, task, learner):
        phi, task = zeros(task), view(key, learner, task, 0)
        return learner.start(
            key, task._replace(support=join(phi, task.support), query=join(phi, task.query))
        )

    def shape(theta, task, learner):
        def start(key, task):
            return zeros(task)

        # The learner's penalty is on its own parameters, which no longer move.
        return lifted(learner, lambda phi, batch: (theta, join(phi, batch)))._replace(
            start=start, penalty=no_penalty
        )

    return Bias(init, shape)
