"""What a model is: a pair of pure functions and nothing hidden.

Axis letters: `n` examples.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
from jaxtyping import PyTree

from jaxmeta._pickle import by_value


@by_value
class Model(NamedTuple):
    """A parameterised function on batches: `y = apply(params, x, reference)`.

    Args:
      init: `(key, x) -> params`: parameters for an example batch `x: [n, ...]`, a plain pytree.
      apply: `(params, x, reference=None) -> y`: pure; `y: [n, ...]`. Where a model normalises by
        batch statistics, these are taken over all n examples, or over those marked True in
        `reference: bool[n]`: with the support marked and support and query joined in one batch, a
        query's prediction depends on the support and on itself alone (inductive); without it, on
        the whole batch (transductive).

    Example:
      >>> import jax, jax.numpy as jnp
      >>> double = Model(lambda key, x: {}, lambda params, x, reference=None: 2 * x)
      >>> double.apply({}, jnp.ones((1, 2), "float32"))
      Array([[2., 2.]], dtype=float32)
    """

    init: Callable[..., PyTree]
    apply: Callable[..., jax.Array]


def check_batch(model: str, x: jax.Array, axes: str, least: int = 1) -> None:
    """Refuses a batch without the axes named, or with a spatial axis shorter than `least`."""
    names = axes.split()
    if x.ndim != len(names):
        raise ValueError(
            f"{model} takes a batch [{', '.join(names)}] of {len(names)} axes, got shape "
            f"{tuple(x.shape)}; add or reshape axes, for example x[None] for one example and "
            "x[..., None] for one channel"
        )
    if min(x.shape[1:-1], default=least) < least:
        raise ValueError(
            f"{model} halves the input at every block and needs a spatial size of at least "
            f"{least}, got {tuple(x.shape[1:-1])}; use fewer blocks or larger inputs"
        )
