"""The dual of Crammer and Singer's machine, solved: a search for the free variables, and one linear
system for what they are.

Axis letters: `n` examples, `k` classes.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

# Of the search: its first-order steps between two looks, how many looks, the multipliers' quadratic
# term and over-relaxation for a Gram matrix of mean diagonal 1. Of features of an untrained Conv4,
# two looks at most are needed up to 20-way 5-shot.
_STEPS, _LOOKS, _RHO, _OVER, _REFINEMENTS = 40, 50, 0.3, 1.6, 3

exact = functools.partial(
    jax.default_matmul_precision, "highest"
)  # an accelerator's short products solve nothing


def crammer_singer(
    gram: Float[Array, "n n"],
    own: Float[Array, "n k"],
    cost: Float[Array, " n"] | float,
    present: Bool[Array, " k"] | None = None,
) -> Float[Array, "n k"]:
    r"""The dual variables of the multi-class support vector machine, $W = X^\top \alpha$.

    $$ \alpha = \arg\min \tfrac{1}{2} \mathrm{tr}(\alpha^\top G \alpha)
       - \sum_i \alpha_{i y_i}, \quad
       \alpha_{ik} \le c_i [k = y_i], \quad \sum_k \alpha_{ik} = 0 $$

    Rounds of the alternating direction method of multipliers, all of whose steps share one inverse,
    guess which variables are free, the others being at their bounds. On a guess the problem is a
    linear system, and a guess is right if its solution keeps the bounds and no multiplier has the
    wrong sign. The search ends at the first right one; every example and class moves in every step,
    so that it is as short under vmap.

    The derivative is that of the linear system, of any order, forward or in reverse. Where an
    example has cost 0 it is that for a first cost: what it is nearest to violating, or nothing.

    Args:
      gram: G, `X X'`.
      own: One-hot labels, zeros for a label that is none.
      cost: c, from 0 up, of each example or of all.
      present: The classes that take part; the others' variables are 0. None for all.

    Returns:
      The variables. That they are the optimum is seen by the gap between the primal value,
      $\tfrac{1}{2} |W|^2 + \sum_i c_i \max_k ([k \ne y_i] + s_{ik} - s_{i y_i})$ with $s = G
      \alpha$, and the dual one, $\sum_i \alpha_{i y_i} - \tfrac{1}{2} |W|^2$; $|W - W^*|^2$ is at
      most twice that gap.

    >>> import jax.numpy as jnp
    >>> crammer_singer(4 * jnp.eye(2), jnp.eye(2), 1.0).tolist()
    [[0.125, -0.125], [-0.125, 0.125]]

    Reference: Crammer and Singer, On the algorithmic implementation of multiclass kernel-based
    vector machines, JMLR 2001; Boyd et al., Distributed optimization by the alternating direction
    method of multipliers, 2011.
    """
    own = jnp.asarray(own, gram.dtype)
    present = jnp.ones(own.shape[1], bool) if present is None else present
    return _solved(
        gram, own, jnp.broadcast_to(jnp.asarray(cost, gram.dtype), own.shape[:1]), present
    )[0]


@jax.custom_jvp
def _solved(gram, own, cost, present):
    """The variables, and 1 for those that are free to move."""
    with exact():
        there = cost > 0
        unit = _size(gram, there)
        seen = jnp.where(there[:, None] & there[None], gram, 0) / unit
        mine = jnp.where(there[:, None] & present[None], own, 0)
        alpha, free = _search(
            seen, mine, unit * cost[:, None] * mine, there[:, None] & present[None]
        )
        alpha = alpha / unit
        # Beside its label an example of cost 0 would first move the class that is nearest to
        # violating its margin.
        nearest = jnp.where(present[None], gram @ alpha - own, -jnp.inf).argmax(1)
        free = jnp.where(there[:, None], free, jax.nn.one_hot(nearest, own.shape[1], dtype=bool))
        return alpha, free.astype(gram.dtype)


@_solved.defjvp
def _moved(primals, tangents):
    gram, own, cost, present = primals
    alpha, free = _solved(*primals)

    def conditions(
        gram, own, cost
    ):  # the slope where variables are free, where they end if they are not
        return own - gram @ alpha, jnp.where(present[None], cost[:, None] * own, 0)

    with exact():
        unit = jax.lax.stop_gradient(_size(gram, cost > 0))
        _, (slope, most) = jax.jvp(conditions, primals[:3], tangents[:3])
        moved, _ = _held(gram / unit, free > 0, slope, unit * most)
    return (alpha, free), (moved / unit, jnp.zeros_like(free))


def _size(gram, there):
    """The mean diagonal of what is there, 1 if that is 0."""
    size = jnp.where(there, jnp.diagonal(gram), 0).sum() / jnp.maximum(there.sum(), 1)
    return jnp.where(size == 0, 1, size)


def _search(gram, own, most, movable):
    """The variables within `most` and which of them are free, for a Gram matrix of mean diagonal
    1."""
    n = len(gram)
    inverse = jax.scipy.linalg.solve(
        gram + _RHO * jnp.eye(n, dtype=gram.dtype), jnp.eye(n, dtype=gram.dtype), assume_a="pos"
    )
    count = jnp.maximum(movable.sum(1, keepdims=True), 1)

    def step(_, state):
        z, multiplier = state
        x = inverse @ (own + _RHO * (z - multiplier))
        x = jnp.where(movable, x - x.sum(1, keepdims=True) / count, 0)
        reached = _OVER * x + (1 - _OVER) * z + multiplier
        z = jnp.minimum(reached, most)
        return z, reached - z

    def look(state):
        looks, _, position, best = state
        position = jax.lax.fori_loop(0, _STEPS, step, position)
        multiplier = jnp.where(movable, position[1], jnp.inf)
        free = movable & (
            multiplier <= multiplier.min(1, keepdims=True)
        )  # one in each row, since rows balance: 0 in the end
        alpha, shared = _held(gram, free, own, most)
        slack = gram @ alpha - own + shared[:, None]
        wrong = jnp.where(free, jnp.abs(slack), jnp.where(movable, slack, 0))
        size = jnp.maximum(jnp.abs(alpha).max(), jnp.finfo(gram.dtype).tiny)
        beyond = jnp.maximum((alpha - most).max(), jnp.abs(alpha.sum(1)).max()) / size
        found = jnp.maximum(wrong.max(), beyond), alpha, free
        better = jnp.isnan(found[0]) | (found[0] < best[0])
        best, known = (
            jax.tree.map(lambda new, old: jnp.where(better, new, old), found, best),
            (free == best[2]).all(),
        )
        right = (best[0] <= eps ** (2 / 3)) | (
            known & (best[0] <= eps**0.4)
        )  # found again: what is left is rounding
        return looks + 1, right, position, best

    eps, nothing = jnp.finfo(gram.dtype).eps, jnp.zeros_like(own)
    start = 0, False, (nothing, nothing), (jnp.asarray(jnp.inf, gram.dtype), nothing, movable)
    return jax.lax.while_loop(lambda state: (state[0] < _LOOKS) & ~state[1], look, start)[-1][1:]


def _held(gram, free, slope, fixed):
    """The least of `1/2 tr(a' G a) - <slope, a>` of rows that sum to 0, `fixed` where not free, and
    the rows' multipliers.

    Of each class the free examples' system is solved by Cholesky's factors, the multipliers by the
    sum of their inverses. A little is added to the diagonal, since there may be fewer features than
    examples, and refined away.
    """
    fixed = jnp.where(free, 0, fixed)
    empty = ~free.any(1)

    def joined(
        beta, shared
    ):  # one array, since linear solves of more have no transpose where parts are constant
        return jnp.concatenate([beta, shared[:, None]], axis=1)

    def operator(unknown):
        beta, shared = unknown[:, :-1], unknown[:, -1]
        within = jnp.where(free, beta, 0)
        return joined(
            jnp.where(free, gram @ within + shared[:, None], beta),
            within.sum(1) + jnp.where(empty, shared, 0),
        )

    def solve(operator, right):
        once = _factored(jax.lax.stop_gradient(gram), free)
        return jax.lax.fori_loop(
            0,
            _REFINEMENTS,
            lambda _, unknown: unknown + joined(*once(right - operator(unknown))),
            joined(*once(right)),
        )

    right = joined(jnp.where(free, slope - gram @ fixed, 0), jnp.where(empty, 0, -fixed.sum(1)))
    found = jax.lax.custom_linear_solve(operator, right, solve, symmetric=True)
    return jnp.where(free, found[:, :-1], fixed), found[:, -1]


def _factored(gram, free):
    """`right -> (beta, shared)`, nearly what `operator` of `_held` takes to right `[n, k + 1]`."""
    eye, empty, among = (
        jnp.eye(len(gram), dtype=gram.dtype),
        ~free.any(1),
        free.T[:, :, None] & free.T[:, None],
    )
    ridged = gram + jnp.finfo(gram.dtype).eps ** 0.5 * eye
    factors = jnp.linalg.cholesky(jnp.where(among, ridged[None], eye[None]))
    roots = jax.lax.linalg.triangular_solve(
        factors, jnp.broadcast_to(eye, factors.shape), left_side=True, lower=True
    )
    roots = jnp.where(among, roots, 0)
    rows = roots.reshape(-1, len(gram))
    total = jax.scipy.linalg.cho_factor(rows.T @ rows + jnp.diag(empty.astype(gram.dtype)))

    def within(right):
        return (roots.mT @ (roots @ right.T[..., None]))[..., 0].T

    def once(right):
        first, sums = right[:, :-1], right[:, -1]
        beta = within(first)
        shared = jax.scipy.linalg.cho_solve(total, jnp.where(empty, sums, beta.sum(1) - sums))
        return jnp.where(
            free, beta - within(jnp.broadcast_to(shared[:, None], beta.shape)), first
        ), shared

    return once
