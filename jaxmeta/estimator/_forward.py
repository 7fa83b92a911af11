"""Along directions of theta: forward mode, and the directions themselves.

Axis letters: `P` directions, `D` elements of theta.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Key, PyTree

from jaxmeta import _check
from jaxmeta.base import Bilevel, Estimator
from jaxmeta.estimator._estimate import estimate_over, estimator, stateless
from jaxmeta.parallel import Mapper, over_tasks
from jaxmeta.process import outcome

Directions = Callable[[Key[Array, ""], PyTree], PyTree]
"""`(key, theta) -> v`, like theta with a leading axis `P`; the mean of `v v'` is the identity, at
least in expectation."""


def gaussian(count: int) -> Directions:
    """Directions from the standard normal distribution, `count` of them."""
    return _drawn(count, jax.random.normal)


def rademacher(count: int) -> Directions:
    """Directions of random signs, `count` of them: of all that are unbiased with independent
    elements the least spread."""
    return _drawn(count, jax.random.rademacher)


def _drawn(count: int, draw) -> Directions:
    _check.whole_number("the count of directions", count, least=1)

    def directions(key, theta):
        leaves, structure = jax.tree.flatten(theta)
        keys = jax.random.split(key, len(leaves))
        return jax.tree.unflatten(
            structure, [draw(k, (count, *x.shape), x.dtype) for k, x in zip(keys, leaves)]
        )

    return directions


def basis(key: Key[Array, ""], theta: PyTree) -> PyTree:
    """The D directions `sqrt(D) e_i`, whose mean outer product is the identity itself: the
    derivative is exact."""
    flat, unravel = ravel_pytree(theta)
    return jax.vmap(unravel)(flat.size**0.5 * jnp.eye(flat.size, dtype=flat.dtype))


def own_key(key):
    """A key for an estimator's own draws, so that the inner run has the key that it has under every
    other estimator."""
    return jax.random.fold_in(
        key, 2**31 - 1
    )  # Out of reach of the numbers by which keys are split.


def along(coefficients: Array, directions: PyTree) -> PyTree:
    """`c_i v_i` for each of the `P` directions."""
    return jax.vmap(lambda c, v: jax.tree.map(lambda leaf: c.astype(leaf.dtype) * leaf, v))(
        coefficients, directions
    )


def mean(stacked: PyTree) -> PyTree:
    """Over the leading axis."""
    return jax.tree.map(lambda leaf: leaf.mean(0), stacked)


def forward(directions: Directions, gradient=jax.grad, over: Mapper | None = None) -> Estimator:
    """Forward mode through the whole run: `mean_i (d outer/d(theta) . v_i) v_i`, memory not growing
    with the steps.

    Args:
      directions: `basis`, exact, whose time is that of D runs: for few hyperparameters; or
        `gaussian(count)` and `rademacher(count)`, unbiased, with a variance that grows as D /
        count. They are drawn for each task.
      gradient: What the low level differentiates its objective with, and how that is
        differentiated.
      over: How tasks are mapped, from `over_tasks`.

    Returns:
      A stateless `Estimator`. Estimating refuses, by ValueError, losses with a `jax.custom_vjp`
      that the derivative meets.

    References: Franceschi et al., Forward and reverse gradient-based hyperparameter optimization,
    ICML 2017 (`basis`); Shen et al., Memory-efficient gradient unrolling for large-scale bi-level
    optimization, NeurIPS 2024.
    """
    over = over_tasks() if over is None else over

    def estimate(key, bilevel: Bilevel, theta, tasks, state):
        def one(theta, batched):
            key, task = batched
            v = directions(own_key(key), theta)

            def push(v):
                return jax.jvp(
                    lambda theta: outcome(key, bilevel, theta, task, gradient),
                    (theta,),
                    (v,),
                    has_aux=True,
                )

            try:
                loss, slopes, aux = jax.vmap(push, out_axes=(None, 0, None))(
                    v
                )  # The run itself is done once.
            except TypeError as error:
                if "custom_vjp" not in str(error):
                    raise
                raise ValueError(
                    "forward() needs losses that have a forward derivative, got one with a "
                    "jax.custom_vjp; give its rule as a jax.custom_jvp, or use unrolled()"
                ) from error
            return mean(along(slopes, v)), {"losses": loss, "aux": aux}

        return estimate_over(over, one, key, theta, tasks, tasks.weight), state

    return estimator(stateless, estimate)
