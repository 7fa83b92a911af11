"""Evolution strategies: from outer losses at perturbed thetas alone.

Axis letters: `T` tasks, `P` antithetic pairs, `K` inner steps.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from jaxmeta import _check
from jaxmeta.base import Bilevel, Estimator
from jaxmeta.estimator._estimate import estimator, stateless
from jaxmeta.estimator._forward import along, gaussian, mean, own_key
from jaxmeta.estimator._windows import afresh, estimate_held, going_on, hold, window_of
from jaxmeta.parallel import Mapper, over_tasks

Noise = Callable[[Array, Array, Array], tuple[Array, Array]]
"""`(drawn, before, anew) -> (eps, xi)`: this window's perturbation of theta and what weighs its
losses, from a new draw, the last window's xi, and whether the run begins anew. All like a leaf of
theta, beside the last, a scalar boolean."""


def fresh(drawn, before, anew):
    """A new perturbation each window, which alone counts: blind to what earlier ones did to the run
    (truncated ES)."""
    return drawn, drawn


def persistent(drawn, before, anew):
    """A new perturbation each window; all since the run began count: `xi = sum eps` (PES)."""
    return drawn, jnp.where(anew, drawn, before + drawn)


def reused(drawn, before, anew):
    """One perturbation for all windows of a run (NRES)."""
    eps = jnp.where(anew, drawn, before)
    return eps, eps


def evolution(
    sigma: float,
    pairs: int,
    window: int | None = None,
    noise: Noise = fresh,
    over: Mapper | None = None,
) -> Estimator:
    """Antithetic evolution strategies:
    `1/(2 sigma^2 P) sum_i xi_i (L(theta + eps_i) - L(theta - eps_i))`.

    The derivative of the outer loss smoothed by `eps ~ N(0, sigma^2)`. Nothing is differentiated,
    so nothing but what the low level does for itself needs to be differentiable, and chaotic runs
    do no harm. In windows, with `persistent` or `reused` noise and theta standing still, the mean
    of the estimates over a run's windows is unbiased for the mean over these windows of the
    smoothed outer loss at the window's end; with `fresh` noise it is biased as `truncated` is.

    The noise is drawn for each task: a mean over T tasks then has a T-th of one task's variance,
    while noise that the tasks share would hit the part of the derivative that they share with all
    of it. Within a task all particles see the same keys, the low level's randomness being no part
    of the differences.

    Args:
      sigma: Standard deviation of the perturbations, in theta's unit. The bias of smoothing is of
        order sigma squared.
      pairs: P. Two inner runs each.
      window: Inner steps an outer step, dividing K; each particle's run is carried, for the tasks
        of the outer step before (their data new ones if need be), until it begins anew. None for
        the whole run each time.
      noise: `fresh`, `persistent` or `reused`: how a window's perturbation depends on those before.
        In whole runs each window is the first, and all of them are `fresh`.
      over: How tasks are mapped, from `over_tasks`.

    Returns:
      An `Estimator`. It carries `()` without a window, else the 2P runs and P xi of each task. The
      loss, "losses" `[T]` and "aux" are means over the 2P particles; "standard_error" `[T]` is that
      of a task's gradient, as a norm (NaN for one pair).

    Raises:
      ValueError: If sigma is not positive, pairs or the window are no whole numbers of at least 1,
        the window does not divide K, or the number of tasks changes.

    Reference: Salimans et al., Evolution strategies as a scalable alternative to reinforcement
    learning, 2017; Metz et al., Understanding and correcting pathologies in the training of learned
    optimizers, ICML 2019.
    """
    if not sigma > 0:
        raise ValueError(
            f"sigma must be positive, got {sigma}; it is the standard deviation of the "
            "perturbations"
        )
    directions = gaussian(_check.whole_number("pairs", pairs, least=1))
    if window is not None:
        _check.whole_number("window", window, least=1)
    over = over_tasks() if over is None else over

    def init(key, bilevel: Bilevel, theta, tasks):
        def one(theta, key, task):
            run = going_on.init(key, bilevel.bias.shape(theta, task, bilevel.learner), task, window)
            return (
                jax.tree.map(
                    lambda leaf: jnp.broadcast_to(leaf, (2 * pairs, *jnp.shape(leaf))), run
                ),
                jax.tree.map(lambda leaf: jnp.zeros((pairs, *leaf.shape), leaf.dtype), theta),
            )

        return hold(over, one, key, jax.tree.map(jnp.asarray, theta), tasks)

    def estimate(key, bilevel: Bilevel, theta, tasks, state):
        def one(theta, batched):
            key, (task, held) = batched
            drawn = jax.tree.map(lambda leaf: sigma * leaf, directions(own_key(key), theta))
            if window is None:
                size = bilevel.bias.shape(theta, task, bilevel.learner).steps
                carry, runs, eps, xi = afresh, (), drawn, drawn
            else:
                size, carry, (runs, before) = window, going_on, held
                both = jax.tree.map(
                    lambda new, old: noise(new, old, runs.steps[0] == 0), drawn, before
                )
                eps, xi = jax.tree.transpose(jax.tree.structure(drawn), None, both)

            def particle(eps, run):
                moved = jax.tree.map(jnp.add, theta, eps)
                return window_of(key, bilevel, moved, task, carry, size, run)

            mirrored = jax.tree.map(lambda leaf: jnp.concatenate([leaf, -leaf]), eps)
            losses, (aux, runs) = jax.vmap(particle)(mirrored, runs)
            slopes = (losses[:pairs] - losses[pairs:]) / (2 * sigma**2)
            each = along(slopes, xi)
            grad = mean(each)
            spread = jax.tree.map(lambda leaf, centre: leaf - centre[None], each, grad)
            error = optax.tree.norm(spread) / jnp.sqrt(
                jnp.asarray(pairs * (pairs - 1), losses.dtype)
            )
            return grad, {
                "losses": losses.mean(),
                "aux": mean(aux),
                "standard_error": error,
                "held": () if window is None else (runs, xi),
            }

        return estimate_held(over, one, key, theta, tasks, state)

    return estimator(stateless if window is None else init, estimate)


def pes(sigma: float, pairs: int, window: int, over: Mapper | None = None) -> Estimator:
    """Persistent evolution strategies: `evolution` in windows, unbiased, its variance growing with
    a run's windows.

    Args:
      sigma: Standard deviation of the perturbations, in theta's unit.
      pairs: P.
      window: Inner steps an outer step.
      over: How tasks are mapped, from `over_tasks`.

    Returns:
      An `Estimator`, see `evolution`.

    Reference: Vicol, Metz and Sohl-Dickstein, Unbiased gradient estimation in unrolled computation
    graphs with persistent evolution strategies, ICML 2021.
    """
    return evolution(sigma, pairs, window, persistent, over)


def nres(sigma: float, pairs: int, window: int, over: Mapper | None = None) -> Estimator:
    """Noise-reuse evolution strategies: as `pes` with one perturbation for a whole run, mostly of
    lower variance.

    Args:
      sigma: Standard deviation of the perturbations, in theta's unit.
      pairs: P.
      window: Inner steps an outer step.
      over: How tasks are mapped, from `over_tasks`.

    Returns:
      An `Estimator`, see `evolution`.

    Reference: Li et al., Variance-reduced gradient estimation via noise-reuse in online evolution
    strategies, NeurIPS 2023.
    """
    return evolution(sigma, pairs, window, reused, over)
