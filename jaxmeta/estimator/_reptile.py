"""Towards where learning ends."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from jaxmeta._pytree import moving
from jaxmeta.base import Bilevel, Estimator
from jaxmeta.estimator._estimate import estimate_over, estimator, idle_leaves
from jaxmeta.estimator._gradients import constant
from jaxmeta.parallel import Mapper, over_tasks
from jaxmeta.process import judged, learned, started


def reptile(over: Mapper | None = None) -> Estimator:
    """The direction from the start to where learning ended: `grad = J' (phi_0 - mean_t phi_K)`, J =
    d phi_0/d theta.

    For an initialisation that is `theta - mean phi_K`, so that plain descent with rate e is
    Reptile's own `theta <- theta + e (phi_K - theta)`. It is no derivative of the outer loss, which
    is reported all the same.

    Args:
      over: How tasks are mapped, from `over_tasks`.

    Returns:
      A stateless `Estimator`. Its `init` refuses, by ValueError, a theta with leaves that do not
      set the start.

    Reference: Nichol, Achiam and Schulman, On first-order meta-learning algorithms, 2018.
    """
    over = over_tasks() if over is None else over

    def init(key, bilevel: Bilevel, theta, tasks):
        task = jax.tree.map(lambda leaf: leaf[0], tasks)
        idle = idle_leaves(
            key,
            lambda theta: moving(
                started(key, bilevel.bias.shape(theta, task, bilevel.learner), task)
            ),
            theta,
        )
        if idle:
            raise ValueError(
                f"reptile moves only what sets the start of learning, got theta's leaf '{idle[0]}' "
                "that does not; use unrolled() or first_order(), or keep that bias as it is with "
                "fixed(...)"
            )
        return ()

    def estimate(key, bilevel: Bilevel, theta, tasks, state):
        def one(theta, batched):
            key, task = batched

            def pull(theta):
                learner, walked, key_outer = learned(key, bilevel, theta, task, constant)
                loss, aux = judged(key_outer, bilevel, learner, walked, task)
                start, end = moving(walked.start), moving(walked.end)
                away = jax.lax.stop_gradient(jax.tree.map(jnp.subtract, start, end))
                return optax.tree.vdot(away, start), {"losses": loss, "aux": aux}

            return jax.grad(pull, has_aux=True)(theta)

        return estimate_over(over, one, key, theta, tasks, tasks.weight), state

    return estimator(init, estimate)
