"""A support vector machine as the low level, solved by its dual."""

from __future__ import annotations

import math

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmeta import _check
from jaxmeta._sums import widened
from jaxmeta.base import Examples, Learner
from jaxmeta.learner._crammer_singer import crammer_singer, exact
from jaxmeta.learner.closed_form import members, or_infinite, parted, solved, without


def support_vectors(ways: int, log_cost=math.log(0.1), log_scale=0.0) -> Learner:
    r"""The multi-class support vector machine of Crammer and Singer, logits $a\, x W$.

    $$ \min_W \tfrac{1}{2} |W|^2 + c \sum_i w_i \max_k \big( [k \ne y_i] + x_i (w_k
       - w_{y_i}) \big) $$

    It is solved: the optimality conditions of its dual hold to 4e-11 of the margin in float64, in
    float32 to rounding. Its derivative is that of the optimum, by a linear system of the variables
    that are not at their bounds, not of steps.

    Args:
      ways: Number of classes in a task.
      log_cost: Logarithm of c, the paper's 0.1.
      log_scale: Logarithm of a. Learn it across tasks with `hyperparameters`; that the cost can be
        learned too is ours.

    Returns:
      A `Learner` whose phi is `[D, ways]`, for `Examples` with x `[n, D]`.

    Two examples, one of each class: w_0 - w_1 is their difference over half its square, as long as
    the cost allows it.

    >>> import jax, jax.numpy as jnp, jaxmeta as jm
    >>> pair = jm.Examples(jnp.array([[2.0, 0.0], [0.0, 2.0]]), jnp.array([0, 1]))
    >>> head = jm.learner.support_vectors(2, log_cost=0.0)
    >>> [
    ...     [f"{value:.3f}" for value in row]
    ...     for row in jm.adapt(jax.random.key(0), head, jm.Task(pair, pair))
    ... ]
    [['0.250', '-0.250'], ['-0.250', '0.250']]

    References: Crammer and Singer, JMLR 2001; Lee et al., Meta-learning with differentiable convex
    optimization (MetaOptNet), CVPR 2019, who solve it by an interior point method (OptNet, Amos and
    Kolter, ICML 2017).
    """
    _check.whole_number("ways", ways, least=1)

    def solve(support: Examples) -> Float[Array, "D ways"]:
        counted = members(support, ways)
        x, counted = widened((support.x, counted))
        present, cost = counted.sum(0) != 0, jnp.exp(jnp.asarray(log_cost, x.dtype))
        own = (
            counted
            if support.counting is None
            else jnp.where(
                jnp.isnan(counted), counted, support.y[:, None] == jnp.arange(ways)[None]
            )
        )
        counting = (
            jnp.ones(len(x), x.dtype)
            if support.counting is None
            else support.counting.astype(x.dtype)
        )
        with exact():
            weights = x.T @ crammer_singer(x @ x.T, own, cost * counting, present)
        return or_infinite(weights.astype(support.x.dtype), present[None])

    def logits(phi, x):
        finite, absent = parted(phi, axis=0)
        return without(jnp.exp(jnp.asarray(log_scale, x.dtype)) * (x @ finite), absent)

    return solved(solve, logits)
