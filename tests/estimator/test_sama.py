"""SAMA and T1-T2 against their definitions, on quadratics."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ends import (
    HELD,
    NEAR,
    RATE,
    STRENGTH,
    THETA,
    D,
    asked,
    descended,
    each,
    estimate,
    on_quadratics,
    tasks,
)

from jaxmeta.base import Bilevel
from jaxmeta.estimator import sama, t1t2
from jaxmeta.tasks import quadratic_learner


@pytest.mark.parametrize("estimator", [t1t2(RATE), sama()], ids=["t1t2", "sama"])
@pytest.mark.parametrize("steps", [3, 200])
def test_t1t2_and_sama_under_gradient_descent_are_their_definition(estimator, steps):
    result = on_quadratics(estimator, steps, theta=(THETA, np.float64(STRENGTH)), bias=NEAR)

    # - (d2F / d theta d phi)' rate b, the mixed derivatives being -s and phi - theta.
    def of_start(task):
        return STRENGTH * RATE * asked(task, descended(task, steps))

    def of_strength(task):
        return -RATE * (descended(task, steps) - THETA) @ asked(task, descended(task, steps))

    np.testing.assert_allclose(result.grad[0], each(of_start).mean(0), rtol=1e-9)
    np.testing.assert_allclose(result.grad[1], each(of_strength).mean(0), rtol=1e-9)
    # Nothing is known of how far such a derivative is from right.
    assert "converged" not in result.info and "error" not in result.info
    assert np.all(result.info["stationarity"] < 1e-10) == (steps == 200)


def adam_answer(task, steps, rate, one=0.9, two=0.999, small=1e-8):
    """phi_K under adam by hand, and the derivative of minus its next update in the gradient, by
    hand too."""
    phi, m, v = THETA, np.zeros(D), np.zeros(D)

    def slope(phi):
        return task.support.curvature @ (phi - task.support.centre) + STRENGTH * (phi - THETA)

    for k in range(1, steps + 1):
        g = slope(phi)
        m, v = one * m + (1 - one) * g, two * v + (1 - two) * g**2
        phi = phi - rate * m / (1 - one**k) / (np.sqrt(v / (1 - two**k)) + small)
    g, k = slope(phi), steps + 1
    m, v = (one * m + (1 - one) * g) / (1 - one**k), (two * v + (1 - two) * g**2) / (1 - two**k)
    root = np.sqrt(v)
    dm, droot = (1 - one) / (1 - one**k), (1 - two) / (1 - two**k) * g / root
    return phi, rate * (dm / (root + small) - m * droot / (root + small) ** 2)


@pytest.mark.parametrize("steps", [1, 6])
def test_sama_under_adam_answers_to_the_gradient_as_adam_does(steps):
    result = on_quadratics(sama(), steps, update=optax.adam(0.05))

    def definition(task):
        phi, answer = adam_answer(task, steps, 0.05)
        return STRENGTH * answer * asked(task, phi)

    np.testing.assert_allclose(result.grad[0], each(definition).mean(0), rtol=1e-8)


def test_sama_leaves_out_elements_without_a_gradient():
    flat = quadratic_learner(RATE, 4)._replace(
        loss=lambda key, phi, batch: (0.5 * jnp.sum((phi[1:] - batch.centre[1:]) ** 2), {}),
        update=optax.adam(0.05),
    )
    bilevel = Bilevel(
        HELD, flat, lambda key, learner, trajectory, task: (jnp.sum(trajectory.end), {})
    )
    grad = estimate(sama(), bilevel, (THETA, ()), tasks()).grad[0]
    assert grad[0] == 0 and np.all(np.isfinite(grad)) and np.all(np.abs(grad[1:]) > 0)
