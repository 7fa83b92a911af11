"""At the end of learning, with nothing but gradients."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxmeta.base import Estimator
from jaxmeta.estimator._gradients import finite_difference
from jaxmeta.estimator._implicit import End, at_the_end
from jaxmeta.parallel import Mapper


def sama(size: float = 0.01, over: Mapper | None = None) -> Estimator:
    """As `implicit`, for large models: `v = D d outer / d phi`, the mixed derivative by central
    differences along v.

    `d outer / d theta = partial_theta outer - (dF/d theta at phi + e v - dF/d theta at phi - e v) /
    2 e`, `e = size / |v|`. D stands for the inverse Hessian: the Jacobian of the low level's
    fixed-point condition in phi is taken as the identity, which leaves `D = - d update / d g`, how
    far the learner's own next step at phi_K answers to the gradient g. Under plain gradient descent
    D is the step size, and the estimate that of `t1t2`.

    D is got from any optax update by one derivative in the direction of all ones: that is the
    diagonal of an update that treats elements apart (sgd, momentum, adam, rmsprop), with its memory
    as learning left it; one that mixes elements (clipping by a global norm, a preconditioner that
    is not diagonal) is taken at its row sums instead. Elements at which the update has no
    derivative, as adam's has none where all gradients were 0, are left out. An update that asks for
    the objective itself, as line searches do, cannot be asked for D.

    Args:
      size: How far phi is moved for the difference, in phi's unit, above 0.
      over: How tasks are mapped, from `over_tasks`.

    Returns:
      A stateless `Estimator`, whose info has "stationarity" as that of `implicit`. Four gradients a
      task beside the learning, no second derivative but with a loss that has derivative rules of
      its own, see `finite_difference`.

    Raises:
      ValueError: As `implicit`.

    Reference: Choe et al., Making scalable meta learning practical, NeurIPS 2023.
    """

    def solve(key, end: End, cotangent):
        def step(slope):
            return end.learner.update.update(slope, end.memory, end.phi)[0]

        _, answer = jax.jvp(step, (end.slope,), (jax.tree.map(jnp.ones_like, end.slope),))
        return (
            jax.tree.map(lambda d, b: jnp.where(jnp.isfinite(d), -d, 0) * b, answer, cotangent),
            {},
            None,
        )

    return at_the_end(solve, finite_difference(size), over)
