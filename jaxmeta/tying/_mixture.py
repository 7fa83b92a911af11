"""Soft weight sharing. Axis letters: `K` components, `d` entries of theta in all."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from jaxmeta import _check
from jaxmeta._sums import widened
from jaxmeta.tying._soft_groups import Hardened, group_means, likeliest, normal_quantiles
from jaxmeta.tying._tying import Tying


def mixture(components: int, scale: float, zero: float = 0.0, strength: float = 1.0) -> Tying:
    r"""Soft weight sharing: nothing is tied, but all entries are preferred near a few values, which
    are learned with them.

    $$ p = -\sum_i \log \sum_k \pi_k N(\theta_i; \mu_k, s_k^2)
       + \lambda \sum_k \Big(\frac{s_0^2}{2 s_k^2} + \log s_k\Big) $$

    Without the last term it falls without bound as a component closes in on one entry; lambda
    imagined entries at a distance s_0 of every component keep it from there. That is Ullrich, Meeds
    and Welling's Gamma prior on the precisions s_k^-2, of shape alpha = 1 + lambda / 2 and rate
    beta = lambda s_0^2 / 2; their alphas are 250 and, of the component at zero, 5000.

    Args:
      components: K.
      scale: $s_0$, above 0; where all $s_k$ begin.
      zero: $\pi_0$, at least 0 and below 1. Above 0 the first component keeps this weight and its
        mean stays 0, which prunes.
      strength: lambda, above 0.

    Returns:
      A `Tying` of any theta whose phi is
      `{"theta", "structure": {"means", "log_scales", "logits"}}`; the means begin at quantiles of a
      normal of theta's mean and deviation (ours; theirs are evenly spaced). `harden_mixture`
      decides. For one mixture over all nodes `compose(free(N), mixture(...))`, for one a node
      `stacked(mixture(...), free(N))`.

    Papers: Nowlan and Hinton, Simplifying neural networks by soft weight-sharing, Neural
    Computation 1992; Ullrich, Meeds and Welling, Soft weight-sharing for neural network
    compression, ICLR 2017.
    """
    _check.whole_number("the number of components", components, least=1)
    _check.number("scale", scale, above=0)
    _check.number("strength", strength, above=0)
    if not 0 <= zero < 1 or (zero and components < 2):
        raise ValueError(
            "the weight of what is pruned must be at least 0, below 1 and 0 where there is one "
            f"component, got {zero} and {components} components; 0 prunes nothing"
        )

    def init(key, theta):
        flat = ravel_pytree(theta)[0]
        moving = components - bool(zero)
        means = flat.mean() + jnp.where(flat.std() > 0, flat.std(), 1) * normal_quantiles(
            moving, flat.dtype
        )
        return {
            "theta": theta,
            "structure": {
                "means": means,
                "log_scales": jnp.full(components, math.log(scale), flat.dtype),
                "logits": jnp.zeros(moving, flat.dtype),
            },
        }

    def penalty(phi):
        phi = widened(phi)
        log_scales = phi["structure"]["log_scales"]
        fit = jax.nn.logsumexp(_log_joint(phi, zero), axis=-1)
        return strength * jnp.sum(scale**2 / 2 * jnp.exp(-2 * log_scales) + log_scales) - jnp.sum(
            fit
        )

    return Tying(init, lambda phi: phi["theta"], penalty)


def harden_mixture(phi: PyTree, zero: float = 0.0) -> Hardened:
    """Entries snapped to the mean of their likeliest component.

    Args:
      phi: Of a `mixture` alone; concrete, not traced.
      zero: As given to it.

    Returns:
      A `Hardened` whose structure is theta with component numbers for entries. Its tying is of
      theta as a whole; its phi has the means of the components that have entries, in rising number;
      `init` takes a group's mean.
    """
    theta, unravel = ravel_pytree(phi["theta"])
    component = likeliest(_log_joint(phi, zero))
    kept, place = np.unique(component, return_inverse=True)
    place = place.astype(np.int32)
    numbers = jax.tree.map(
        lambda leaf: np.asarray(leaf, int), jax.device_get(unravel(component.astype(theta.dtype)))
    )

    def init(key, theta):
        return group_means(place, ravel_pytree(theta)[0])

    def expand(means):
        return jax.tree.map(lambda leaf: means[np.searchsorted(kept, leaf)], numbers)

    return Hardened(numbers, Tying(init, expand), _means(phi, zero)[kept])


def _means(phi, zero) -> Float[Array, " K"]:
    means = phi["structure"]["means"]
    return jnp.concatenate([jnp.zeros(bool(zero), means.dtype), means])


def _log_joint(phi, zero) -> Float[Array, "d K"]:
    """The logarithm of pi_k N(theta_i; mu_k, s_k^2)."""
    structure, theta = phi["structure"], ravel_pytree(phi["theta"])[0]
    mixing = jax.nn.log_softmax(structure["logits"])
    if zero:
        mixing = jnp.concatenate(
            [jnp.full(1, math.log(zero), mixing.dtype), math.log1p(-zero) + mixing]
        )
    log_scales = structure["log_scales"]
    away = (theta[:, None] - _means(phi, zero)[None]) * jnp.exp(-log_scales)[None]
    return (mixing - log_scales - math.log(2 * math.pi) / 2)[None] - away**2 / 2
