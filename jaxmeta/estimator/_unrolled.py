"""Through the unrolled process, whole or to the first order."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxmeta.base import Bilevel, Estimate, Estimator
from jaxmeta.parallel import Mapper, over_tasks
from jaxmeta.process import outcome


def unrolled(gradient=jax.grad, over: Mapper | None = None) -> Estimator:
    """The exact derivative, by reverse mode through all inner steps: `d/d(theta) mean_t outer_t(phi_K(theta), theta)`.

    Args:
      gradient: What the low level differentiates its objective with.
      over: How tasks are mapped, from `over_tasks`.

    Returns:
      A stateless `Estimator`. Time is a few times that of K steps of plain learning, memory that of their activations.

    Reference: Maclaurin, Duvenaud and Adams, Gradient-based hyperparameter optimization through reversible learning,
    ICML 2015.
    """
    over = over_tasks() if over is None else over

    def estimate(key, bilevel: Bilevel, theta, tasks, state):
        def one(theta, batched):
            key, task = batched
            (loss, aux), grad = jax.value_and_grad(
                lambda theta: outcome(key, bilevel, theta, task, gradient), has_aux=True)(theta)
            return grad, (loss, aux)

        return estimate_over(over, one, key, theta, tasks), state

    return Estimator(stateless, estimate)


def first_order(over: Mapper | None = None) -> Estimator:
    """As `unrolled`, with inner gradients held constant: the Hessians of the inner loss are left out (FOMAML).

    `d/d(theta) outer(phi_K)` with `d g_k / d phi = 0`. For an initialisation under plain gradient steps that is the
    query's gradient at phi_K.

    Args:
      over: How tasks are mapped, from `over_tasks`.

    Returns:
      A stateless `Estimator`.

    Reference: Finn, Abbeel and Levine, ICML 2017, section 5.2; Nichol, Achiam and Schulman, 2018.
    """
    return unrolled(gradient=_detached_grad, over=over)


def _detached_grad(objective, has_aux: bool = False):
    def gradient(phi):
        result = jax.grad(objective, has_aux=has_aux)(jax.lax.stop_gradient(phi))
        return (jax.lax.stop_gradient(result[0]), result[1]) if has_aux else jax.lax.stop_gradient(result)

    return gradient


def stateless(key, bilevel, theta, tasks):
    """The `init` of an estimator that carries nothing."""
    return ()


def estimate_over(over: Mapper, one, key, theta, tasks) -> Estimate:
    """The `Estimate` from `one(theta, (key, task)) -> (grad, (loss, aux))`, averaged over the tasks."""
    theta = jax.tree.map(jnp.asarray, theta)
    count = jax.tree.leaves(tasks)[0].shape[0]
    grad, (losses, aux) = over(one, theta, (jax.random.split(key, count), tasks))
    return Estimate(losses.mean(), grad, {"losses": losses, "aux": aux})
