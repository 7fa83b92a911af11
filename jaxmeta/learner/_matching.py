"""The head of attention over the support."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxmeta import _check
from jaxmeta.base import Examples, Learner
from jaxmeta.learner.closed_form import members, solved, unit, without


def matching(ways: int, scale: float = 10.0) -> Learner:
    r"""Attention over the support: $p(y | x) = \sum_i softmax_i(a \cos(x, x_i))\, [y_i = y]$.

    Args:
      ways: Number of classes in a task.
      scale: a, above 0; the paper has 1, which leaves attention nearly flat for cosines.

    Returns:
      A `Learner` whose phi is the support, unit rows `[n, D]` and labels `[n, ways]`, each
      example's weight in its class.

    Reference: Vinyals et al., Matching networks, NeurIPS 2016 (without full context embeddings).
    """
    _check.whole_number("ways", ways, least=1)
    _check.number("scale", scale, above=0)

    def solve(support: Examples):
        own = members(support, ways)
        return (
            {"x": unit(support.x), "y": own}
            if support.counting is None
            else {"x": unit(support.x), "y": own, "weight": own.sum(1)}
        )

    def logits(phi, x):
        scores, weight = scale * (unit(x) @ phi["x"].T), phi.get("weight")
        if weight is None:
            shares = jax.nn.softmax(scores)
        else:  # y has the weights already
            there = jnp.where(weight[None] == 0, -jnp.inf, jax.lax.stop_gradient(scores)).max(
                1, keepdims=True
            )
            # What does not count may be far above what does: it is kept from overflowing.
            shares = jnp.exp(jnp.minimum(scores - jnp.where(jnp.isfinite(there), there, 0), 30))
            total = shares @ weight
            shares = shares / jnp.where(total > 0, total, 1)[:, None]
        found = jnp.log(shares @ phi["y"] + jnp.finfo(x.dtype).tiny)
        return without(found, phi["y"].sum(0) == 0)

    return solved(solve, logits)
