"""Through the unrolled process, whole or to the first order."""

from __future__ import annotations

import jax

from jaxmeta.base import Bilevel, Estimator
from jaxmeta.estimator._estimate import estimate_over, estimator, stateless
from jaxmeta.estimator._gradients import Gradient, constant, linearising, recomputing
from jaxmeta.estimator._remat import Plan, storing
from jaxmeta.parallel import Mapper, over_tasks
from jaxmeta.process import outcome


def unrolled(
    remat: Plan = storing, gradient: Gradient = linearising, over: Mapper | None = None
) -> Estimator:
    """The exact derivative, by reverse mode through all inner steps:
    `d/d(theta) mean_t outer_t(phi_K(theta), theta)`.

    It is the derivative as JAX has it, that of `jax.grad` through `jax.grad`: what
    `jax.lax.stop_gradient` holds constant in the inner loss is constant to the outer derivative
    too, and where a loss has a derivative rule of its own (`jax.custom_vjp`, or `jax.custom_jvp`
    beyond those of JAX, optax and flax) the steps follow that rule and are differentiated by
    reverse over reverse, whatever `gradient` says (but `constant`).

    Args:
      remat: What of the steps is stored and what is computed again: `storing` all, or `each_step`,
        `saving("inner_gradient")`, `segments(...)`, `rebuilding(...)`, `binomial(slots)`,
        `offloading`, from `jaxmeta.estimator`.
      gradient: What the low level differentiates its objective with, and so how that is
        differentiated in turn: `linearising` once and forward (as much storage as reverse over
        reverse, less work), `recomputing`, `jax.grad` (reverse over reverse),
        `finite_difference(size)`.
      over: How tasks are mapped, from `over_tasks`.

    Returns:
      A stateless `Estimator`. Time is a few times that of K steps of plain learning, memory that of
      their activations.

    Reference: Maclaurin, Duvenaud and Adams, Gradient-based hyperparameter optimization through
    reversible learning, ICML 2015.
    """
    over = over_tasks() if over is None else over

    def estimate(key, bilevel: Bilevel, theta, tasks, state):
        def one(theta, batched):
            key, task = batched
            (loss, aux), grad = jax.value_and_grad(
                lambda theta: outcome(key, bilevel, theta, task, gradient, remat), has_aux=True
            )(theta)
            return grad, {"losses": loss, "aux": aux}

        return estimate_over(over, one, key, theta, tasks, tasks.weight), state

    return estimator(stateless, estimate)


def mixed(
    remat: Plan = storing, gradient: Gradient = recomputing, over: Mapper | None = None
) -> Estimator:
    """As `unrolled`, the inner gradients differentiated forward over reverse: the same derivative,
    without the storage that `unrolled()` needs for the backward pass of every inner gradient.

    `H v = d/de grad L(phi + e v)`, and the derivatives in theta and in the data come from the same
    tangent. Any optimiser, bias and plan of memory go with it, and all its derivatives exist.
    Rungs, from the most memory to the least: `unrolled()`; `mixed()`;
    `mixed(saving("inner_gradient"))` with a model that rematerialises its blocks;
    `mixed(each_step)`; `mixed(segments(..., within=each_step))`; `mixed(binomial(slots))`.

    Args:
      remat: What of the steps is stored and what is computed again, as in `unrolled`.
      gradient: As in `unrolled`; `recomputing` stores phi alone.
      over: How tasks are mapped, from `over_tasks`.

    Returns:
      A stateless `Estimator`.

    Reference: Kemaev et al., Scalable meta-learning via mixed-mode differentiation (MixFlow-MG),
    ICML 2025.
    """
    return unrolled(remat, gradient, over)


def first_order(over: Mapper | None = None) -> Estimator:
    """As `unrolled`, with inner gradients held constant: the Hessians of the inner loss are left
    out (FOMAML).

    `d/d(theta) outer(phi_K)` with `d g_k / d phi = 0`. For an initialisation under plain gradient
    steps that is the query's gradient at phi_K.

    Args:
      over: How tasks are mapped, from `over_tasks`.

    Returns:
      A stateless `Estimator`.

    Reference: Finn, Abbeel and Levine, ICML 2017, section 5.2; Nichol, Achiam and Schulman, 2018.
    """
    return unrolled(gradient=constant, over=over)
