"""What the low level prefers."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxmeta._pytree import moving
from jaxmeta.base import Bias
from jaxmeta.bias._link import Link, positive


def proximal(strength: float, link: Link = positive) -> Bias:
    """Staying near the start: `penalty'(phi, phi_0) = penalty(phi, phi_0) + strength / 2 |phi -
    phi_0|^2` (iMAML).

    Args:
      strength: What the strength starts from, above 0 if the link keeps it positive.
        `fixed(proximal(2.0))` keeps it.
      link: How theta holds the strength.

    Returns:
      A `Bias` whose theta is a scalar.

    Reference: Rajeswaran et al., Meta-learning with implicit gradients, NeurIPS 2019.
    """
    if link is positive and not strength > 0:
        raise ValueError(
            f"the strength of a proximal term must be above 0, got {strength}; or give link=free"
        )

    def init(key, task, learner):
        return link.inverse(jnp.asarray(strength, dtype=float))

    def shape(theta, task, learner):
        def penalty(phi, phi_0):
            squares = jax.tree.map(lambda a, b: jnp.sum((a - b) ** 2), moving(phi), moving(phi_0))
            distance = sum(jax.tree.leaves(squares), start=jnp.zeros(()))
            return learner.penalty(phi, phi_0) + 0.5 * link.forward(theta) * distance

        return learner._replace(penalty=penalty)

    return Bias(init, shape)
