"""A support vector machine as the low level, by exact steps on its dual."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxmeta import _check
from jaxmeta.base import Examples, Learner
from jaxmeta.learner._closed_form import members, or_infinite, parted, solved, without


def support_vectors(ways: int, sweeps: int = 15, log_cost=0.0, log_scale=0.0) -> Learner:
    r"""The multi-class support vector machine of Crammer and Singer, logits $a\, x W$.

    $$ \min_W \tfrac{1}{2} |W|^2 + c \sum_i w_i \max_k \big( [k \ne y_i] + x_i (w_k - w_{y_i}) \big) $$

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
        x, counting = support.x, support.counting
        own, cost = members(support, ways), jnp.exp(jnp.asarray(log_cost, x.dtype))
        present = own.sum(0) != 0
        if counting is not None:  # an example's weight multiplies its cost
            counting = counting.astype(x.dtype)
            own, cost = own / jnp.where(counting == 0, 1, counting)[:, None], cost * counting
        return or_infinite(x.T @ crammer_singer(x @ x.T, own, cost, sweeps, present), present[None])

    def logits(phi, x):
        finite, absent = parted(phi, axis=0)
        return without(jnp.exp(jnp.asarray(log_scale, x.dtype)) * (x @ finite), absent)

    return solved(solve, logits)


def crammer_singer(gram: Float[Array, "n n"], own: Int[Array, "n ways"], cost, sweeps: int, present=True) -> Float[Array, "n ways"]:
    r"""The dual variables, $W = X^\top \alpha$: `argmin 1/2 tr(a' G a) - sum_i a_{i y_i}`, `a <= c own`, rows that sum to 0.

    Args:
      gram: $X X^\top$.
      own: One-hot labels.
      cost: c, or `[n]`, that of each example.
      sweeps: Over the examples.
      present: `[ways]`, the classes that take part; True for all.
    """
    tiny = jnp.finfo(gram.dtype).tiny
    cost = jnp.broadcast_to(cost, len(gram))

    def step(alpha, i):
        # In example i alone: with b = c own_i - a_i on the simplex of size c, a projection of its unconstrained minimum.
        curvature = jnp.maximum(gram[i, i], tiny)
        slope = gram[i] @ alpha - own[i]
        most = cost[i] * own[i]
        best = most - _onto_simplex(jnp.where(present, most - alpha[i] + slope / curvature, -jnp.inf), cost[i])
        best = jnp.where(cost[i] > 0, best, 0)  # a simplex of size 0 is a point
        return alpha.at[i].set(best), None

    order = jnp.tile(jnp.arange(len(gram)), sweeps)
    return jax.lax.scan(step, jnp.zeros_like(own), order)[0]


def _onto_simplex(v, size):
    """The nearest point with entries of at least 0 that sum to size. (optax's has no derivative in float32 under x64.)"""
    high = jnp.sort(v)[::-1]
    shifts = (jnp.cumsum(high) - size) / jnp.arange(1, len(v) + 1, dtype=v.dtype)
    return jax.nn.relu(v - shifts[jnp.sum(high > shifts) - 1])
