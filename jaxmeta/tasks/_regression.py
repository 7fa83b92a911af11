"""Regression tasks."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxmeta import _check
from jaxmeta._pickle import Function
from jaxmeta.base import Examples, Task


def sinusoids(shots: int = 10, queries: int = 10):
    """The sinusoids of the MAML paper: `y = A sin(x - p)`, A in (0.1, 5), p in (0, pi), x in (-5,
    5), all uniform.

    Args:
      shots: Examples in the support, at least 1.
      queries: Examples in the query, at least 1.

    Returns:
      `key -> Task`, with x and y of shape `[shots or queries, 1]`.

    Reference: Finn, Abbeel and Levine, ICML 2017, section 5.1.
    """
    _check.whole_number("shots", shots, least=1)
    _check.whole_number("queries", queries, least=1)

    @Function
    def sample(key):
        key_amplitude, key_phase, key_x = jax.random.split(key, 3)
        amplitude = jax.random.uniform(key_amplitude, minval=0.1, maxval=5.0)
        phase = jax.random.uniform(key_phase, maxval=jnp.pi)
        x = jax.random.uniform(key_x, (shots + queries, 1), minval=-5.0, maxval=5.0)
        y = amplitude * jnp.sin(x - phase)
        return Task(Examples(x[:shots], y[:shots]), Examples(x[shots:], y[shots:]))

    return sample
