"""A learner's own settings, learned across tasks."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp

from jaxmeta.base import Bias, Learner
from jaxmeta.process import seeing


def hyperparameters(make: Callable[..., Learner], **initial: float) -> Bias:
    """The high level sets what a learner is made with: `shape(theta, task, _) = make(**theta)`.

    Anything differentiable that `make` takes can be learned: weight decay, the strength of a ridge,
    momentum. Give positive ones to `make` as their logarithm.

    Args:
      make: Builds a learner from the settings named in `initial`; the learner that is shaped is
        replaced, but for what it sees of the support.
      initial: The settings' values to start from, floats or float arrays.

    Returns:
      A `Bias` whose theta is a dict of arrays.

    Reference: Franceschi et al., Bilevel programming for hyperparameter optimization and
    meta-learning, ICML 2018.
    """

    def init(key, task, learner):
        return {name: jnp.asarray(value, dtype=float) for name, value in initial.items()}

    def shape(theta, task, learner):
        made = make(**theta)
        return seeing(made._replace(sees=learner.sees), made.sees)

    return Bias(init, shape)
