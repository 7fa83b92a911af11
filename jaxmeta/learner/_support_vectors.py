"""A support vector machine as the low level, by exact steps on its dual."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxmeta import _check
from jaxmeta.base import Examples, Learner
from jaxmeta.learner._closed_form import solved


def support_vectors(ways: int, sweeps: int = 15, log_cost=0.0, log_scale=0.0) -> Learner:
    r"""The multi-class support vector machine of Crammer and Singer, logits $a\, x W$.

    $$ \min_W \tfrac{1}{2} |W|^2 + c \sum_i \max_k \big( [k \ne y_i] + x_i (w_k - w_{y_i}) \big) $$

    Its dual is solved by sweeps over the examples, each minimising exactly in one example's variables (a projection onto a
    simplex), so that it falls at every step; the derivative is that of the steps taken.

    Args:
      ways: Number of classes in a task.
      sweeps: Over all examples, at least 1.
      log_cost: Logarithm of c.
      log_scale: Logarithm of a. Learn both across tasks with `hyperparameters`.

    Returns:
      A `Learner` whose phi is `[D, ways]`, for `Examples` with x `[n, D]`.

    References: Crammer and Singer, JMLR 2001; Lee et al., Meta-learning with differentiable convex optimization (MetaOptNet),
    CVPR 2019.
    """
    _check.whole_number("ways", ways, least=1)
    _check.whole_number("sweeps", sweeps, least=1)

    def solve(support: Examples) -> Float[Array, "D ways"]:
        x = support.x
        own = jax.nn.one_hot(support.y, ways, dtype=x.dtype)
        return x.T @ crammer_singer(x @ x.T, own, jnp.exp(jnp.asarray(log_cost, x.dtype)), sweeps)

    def logits(phi, x):
        return jnp.exp(jnp.asarray(log_scale, x.dtype)) * (x @ phi)

    return solved(solve, logits)


def crammer_singer(gram: Float[Array, "n n"], own: Int[Array, "n ways"], cost, sweeps: int) -> Float[Array, "n ways"]:
    r"""The dual variables, $W = X^\top \alpha$: `argmin 1/2 tr(a' G a) - sum_i a_{i y_i}`, `a <= c own`, rows that sum to 0.

    Args:
      gram: $X X^\top$.
      own: One-hot labels.
      cost: c.
      sweeps: Over the examples.
    """
    tiny = jnp.finfo(gram.dtype).tiny

    def step(alpha, i):
        # In example i alone: with b = c own_i - a_i on the simplex of size c, a projection of its unconstrained minimum.
        curvature = jnp.maximum(gram[i, i], tiny)
        slope = gram[i] @ alpha - own[i]
        most = cost * own[i]
        best = most - _onto_simplex(most - alpha[i] + slope / curvature, cost)
        return alpha.at[i].set(best), None

    order = jnp.tile(jnp.arange(len(gram)), sweeps)
    return jax.lax.scan(step, jnp.zeros_like(own), order)[0]


def _onto_simplex(v, size):
    """The nearest point with entries of at least 0 that sum to size. (optax's has no derivative in float32 under x64.)"""
    high = jnp.sort(v)[::-1]
    shifts = (jnp.cumsum(high) - size) / jnp.arange(1, len(v) + 1, dtype=v.dtype)
    return jax.nn.relu(v - shifts[jnp.sum(high > shifts) - 1])
