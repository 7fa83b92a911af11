"""Towards where learning ends."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta._pytree import paths
from jaxmeta.base import Bilevel, Estimator
from jaxmeta.estimator._unrolled import estimate_over
from jaxmeta.parallel import Mapper, over_tasks
from jaxmeta.process import trajectory


def reptile(over: Mapper | None = None) -> Estimator:
    """The direction from the start to where learning ended: `grad = J' (phi_0 - mean_t phi_K)`, J = d phi_0/d theta.

    For an initialisation that is `theta - mean phi_K`, so that plain descent with rate e is Reptile's own `theta <- theta
    + e (phi_K - theta)`. It is no derivative of the outer loss, which is reported all the same.

    Args:
      over: How tasks are mapped, from `over_tasks`.

    Returns:
      A stateless `Estimator`. Its `init` refuses, by ValueError, a theta with leaves that do not set the start.

    Reference: Nichol, Achiam and Schulman, On first-order meta-learning algorithms, 2018.
    """
    over = over_tasks() if over is None else over

    def start(bilevel: Bilevel, key, theta, task):
        return bilevel.bias.shape(theta, task, bilevel.learner).start(key, task)

    def init(key, bilevel: Bilevel, theta, tasks):
        task = jax.tree.map(lambda leaf: leaf[0], tasks)
        phi, pull = jax.vjp(lambda theta: start(bilevel, key, theta, task), theta)
        # A random cotangent reaches every leaf that sets the start, whatever the start's values.
        leaves, structure = jax.tree.flatten(phi)
        noise = [jax.random.normal(k, x.shape, x.dtype) for k, x in zip(jax.random.split(key, len(leaves)), leaves)]
        (moved,) = pull(jax.tree.unflatten(structure, noise))
        idle = [path for path, leaf in zip(paths(moved), jax.tree.leaves(moved)) if not np.any(np.asarray(leaf))]
        if idle:
            raise ValueError(f"reptile moves only what sets the start of learning, got theta's leaf '{idle[0]}' that does "
                             "not; use unrolled() or first_order(), or keep that bias as it is with fixed(...)")
        return ()

    def estimate(key, bilevel: Bilevel, theta, tasks, state):
        def one(theta, batched):
            key, task = batched
            key_process, key_outer = jax.random.split(key)  # as `outcome` does
            learner = bilevel.bias.shape(theta, task, bilevel.learner)
            path = trajectory(key_process, learner, task)
            key_start, _ = jax.random.split(key_process)
            _, pull = jax.vjp(lambda theta: start(bilevel, key_start, theta, task), theta)
            (grad,) = pull(jax.tree.map(jnp.subtract, path.start, path.end))
            return grad, bilevel.outer(key_outer, learner, path, task)

        return estimate_over(over, one, key, theta, tasks), state

    return Estimator(init, estimate)
