"""The head of class means."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmeta import _check
from jaxmeta.base import Examples, Learner
from jaxmeta.learner.closed_form import class_sums, or_infinite, parted, solved, without


def prototypes(ways: int, log_scale=0.0) -> Learner:
    """The class means of the support: `c_w = mean x_w`, logits `-a |x - c_w|^2`.

    Args:
      ways: Number of classes in a task.
      log_scale: Logarithm of a. Learn it across tasks with `hyperparameters`.

    Returns:
      A `Learner` whose phi is `[ways, D]`, for `Examples` with x `[n, D]` (see
      `jaxmeta.representation`).

    References: Snell, Swersky and Zemel, Prototypical networks, NeurIPS 2017; Oreshkin, Rodriguez
    Lopez and Lacoste, TADAM, NeurIPS 2018 (the scale).
    """
    _check.whole_number("ways", ways, least=1)

    def solve(support: Examples) -> Float[Array, "ways D"]:
        sums, counts = class_sums(support, ways)
        return or_infinite(sums / jnp.where(counts == 0, 1, counts)[:, None], counts[:, None] != 0)

    def logits(phi, x):
        finite, absent = parted(phi, axis=1)
        # |x|^2 is the same for all classes, so the softmax does not need it.
        scores = jnp.exp(jnp.asarray(log_scale, x.dtype)) * (
            2 * x @ finite.T - (finite**2).sum(-1)[None, :]
        )
        return without(scores, absent)

    return solved(solve, logits)
