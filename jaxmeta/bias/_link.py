"""How a number that must stay in its range is kept by theta, which must not."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp


class Link(NamedTuple):
    """A smooth map from all reals to where a number may lie, and its inverse."""

    forward: Callable
    inverse: Callable


free = Link(lambda x: x, lambda x: x)
"""Any real; the number itself is theta."""

positive = Link(jnp.exp, jnp.log)
"""Positive by construction: theta is the logarithm."""
