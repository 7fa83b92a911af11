"""Estimates at a theta that is disturbed."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxmeta._pytree import Where, everything, merge, moving, take
from jaxmeta.base import Estimator


def perturbed(
    estimator: Estimator,
    draw: Callable = jax.random.gumbel,
    scale: float = 1.0,
    where: Where = everything,
) -> Estimator:
    r"""An estimator of the smoothed outer loss $E_\epsilon\, L(\theta + \sigma \epsilon)$, by one
    draw an estimate.

    Gumbel noise on the logits of a soft tying, `perturbed(unrolled(), where=named("structure"))`,
    makes its assignments the Gumbel-softmax: they are tried one by one, nearly decided, so that
    none is rewarded for standing between groups. With `jax.random.normal` on all of theta it is
    Gaussian smoothing.

    Args:
      estimator: Of the outer loss. It must not look at theta's history.
      draw: `(key, shape, dtype) -> epsilon`.
      scale: sigma.
      where: The leaves of theta that are disturbed.

    Returns:
      An `Estimator`.

    References: Jang, Gu and Poole, Categorical reparameterization with Gumbel-softmax, ICLR 2017;
    Maddison, Mnih and Teh, The concrete distribution, ICLR 2017.
    """

    def estimate(key, bilevel, theta, tasks, state):
        key, key_noise = jax.random.split(key)
        leaves, structure = jax.tree.flatten(moving(take(theta, where)))
        keys = jax.random.split(key_noise, max(1, len(leaves)))
        noisy = [
            leaf + jnp.asarray(scale, leaf.dtype) * draw(own, leaf.shape, leaf.dtype)
            for leaf, own in zip(leaves, keys)
        ]
        theta = merge(jax.tree.unflatten(structure, noisy), theta)
        return estimator.estimate(key, bilevel, theta, tasks, state)

    return Estimator(estimator.init, estimate)
