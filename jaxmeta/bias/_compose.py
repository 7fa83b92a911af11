"""Several biases as one."""

from __future__ import annotations

import jax

from jaxmeta.base import Bias


def compose(*biases: Bias) -> Bias:
    """Biases one after the other: `shape(theta, task, .) = shape_n(theta_n, task, .) o ... o shape_1(theta_1, task, .)`.

    A later bias sees the learner as the earlier ones made it: after `shared(body)`, `initialisation()` claims the head.

    Args:
      biases: At least one.

    Returns:
      A `Bias` whose theta is the tuple of theirs.
    """
    if not biases:
        raise ValueError("compose needs at least one bias, got none; give for example initialisation()")

    def init(key, task, learner):
        thetas = []
        for bias, own in zip(biases, jax.random.split(key, len(biases))):
            theta = bias.init(own, task, learner)
            learner = bias.shape(theta, task, learner)
            thetas.append(theta)
        return tuple(thetas)

    def shape(theta, task, learner):
        if not isinstance(theta, tuple) or len(theta) != len(biases):
            raise ValueError(f"theta of {len(biases)} composed biases must be a tuple of {len(biases)}, got "
                             f"{type(theta).__name__}; make theta with bias.init of the same bias")
        for bias, part in zip(biases, theta):
            learner = bias.shape(part, task, learner)
        return learner

    return Bias(init, shape)


def fixed(bias: Bias) -> Bias:
    """The bias at its initial theta, which is not learned: theta is `()`. For biases whose init draws nothing."""

    def init(key, task, learner):
        return ()

    def shape(theta, task, learner):
        return bias.shape(bias.init(jax.random.key(0), task, learner), task, learner)

    return Bias(init, shape)
