"""Tyings that may be left, to a degree that is learned."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from jaxmeta import _check
from jaxmeta.tying._tying import Tying, total


def relaxed(
    tying: Tying, scale: float = 1.0, residual: float = 1.0, strength: float = 1.0
) -> Tying:
    r"""A tying and a residual, each with a prior whose scale is learned: $W = W_{eq} + W_{res}$.

    $$ \theta = T(s\, e) + s'\, r, \qquad p = \lambda \big( \tfrac12 |e|^2 + \tfrac12 |r|^2 \big) $$

    so that $W_{eq}$ is T of parameters of prior precision $1/s^2$ and the residual's precision is
    $1/s'^2$. Written so, the prior of what is learned is standard whatever the scales: gradient
    descent keeps its steps as s' goes to 0, which ties, and the evidence needs no normaliser. The
    support's loss always falls as s' grows: let the high level own the structure
    (`jaxmeta.bias.tied`), judged by `jaxmeta.objective.evidence` or by the query.

    Args:
      tying: T, linear within theta, as `null_space` or `applied` ones of every layer; its own
        penalty counts too.
      scale: What every s begins at, above 0.
      residual: What every s' begins at, above 0.
      strength: lambda, above 0; one over the examples for a loss that is a mean of their negative
        log likelihoods.

    Returns:
      A `Tying` whose phi is `{"structure": {"tied": log s, "residual": log s'}, "tied": e,
      "residual": r}`, with one log s for each leaf of T's phi and one log s' for each leaf of
      theta. It begins at T of an example, the residual at 0.

    Example:
      >>> import jax, jax.numpy as jnp, jaxmeta.tying as jt
      >>> phi = jt.relaxed(jt.by_index([0, 1, 0])).init(
      ...     jax.random.key(0), jnp.array([1.0, 2.0, 1.0])
      ... )
      >>> phi["tied"].tolist(), phi["residual"].tolist(), phi["structure"]["residual"].shape
      ([1.0, 2.0], [0.0, 0.0, 0.0], ())

    Papers: van der Ouderaa, Immer and van der Wilk, Learning layer-wise equivariances automatically
    using gradients, NeurIPS 2023; Finzi, Benton and Wilson, Residual pathway priors, NeurIPS 2021.
    """
    _check.number("scale", scale, above=0)
    _check.number("residual", residual, above=0)
    _check.number("strength", strength, above=0)

    def init(key, theta):
        tied = tying.init(key, theta)
        logs = {
            "tied": _constants(math.log(scale), tied),
            "residual": _constants(math.log(residual), theta),
        }
        return {
            "structure": logs,
            "tied": jax.tree.map(lambda leaf: leaf / scale, tied),
            "residual": jax.tree.map(jnp.zeros_like, theta),
        }

    def part(phi, name):
        return jax.tree.map(
            lambda leaf, log: jnp.exp(log) * leaf, phi[name], phi["structure"][name]
        )

    def expand(phi):
        return jax.tree.map(jnp.add, tying.expand(part(phi, "tied")), part(phi, "residual"))

    def penalty(phi):
        squares = total(
            jnp.sum(leaf**2) for leaf in jax.tree.leaves((phi["tied"], phi["residual"]))
        )
        return strength * squares / 2 + tying.penalty(part(phi, "tied"))

    return Tying(init, expand, penalty)


def _constants(value, tree):
    """A scalar for every leaf."""
    return jax.tree.map(lambda leaf: jnp.asarray(value, leaf.dtype), tree)
