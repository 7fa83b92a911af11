"""Products with curvatures, without their matrices."""

from __future__ import annotations

from collections.abc import Callable

import jax
from jaxtyping import PyTree


def hessian(loss: Callable, theta: PyTree) -> Callable:
    """The product `v -> H v` with the Hessian of `loss: theta -> scalar`; one linearisation of the
    gradient serves all v."""
    return jax.linearize(jax.grad(loss), theta)[1]


def gauss_newton(measure: Callable) -> Callable:
    r"""The generalised Gauss-Newton curvature `G' (d^2 measure) G` of `measure(outputs(theta))`, G
    the outputs' Jacobian.

    For a convex measure it is positive semidefinite, where the Hessian need not be.

    Args:
      measure: `outputs -> scalar`, for example a cross-entropy of logits.

    Returns:
      `(outputs, theta) -> (v -> H v)` to be given as `curvature`; `outputs: theta -> outputs` then
      takes the loss's place.

    Paper: Schraudolph, "Fast curvature matrix-vector products for second-order gradient descent",
    2002.
    """

    def curvature(outputs, theta):
        at, forward = jax.linearize(outputs, theta)
        backward = jax.linear_transpose(forward, theta)
        along = hessian(measure, at)
        return lambda v: backward(along(forward(v)))[0]

    return curvature
