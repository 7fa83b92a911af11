"""The support vector machine: its optimality by its own duality gap and another solver's, its
derivatives by differences."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

import jaxmeta as jm
from jaxmeta.base import Examples, Task
from jaxmeta.learner import crammer_singer, support_vectors

KEY = jax.random.key(0)


def features(rng, ways, shots, dimensions=32):
    """As an encoder's last ReLU leaves them: a large common mean, so that examples have cosines of
    about 3/4."""
    y = np.arange(ways * shots) % ways
    means = rng.normal(size=(ways, dimensions))[y]
    return np.maximum(1.6 + 0.6 * means + rng.normal(size=means.shape), 0), y


@functools.partial(jax.jit, static_argnums=2)
def machine(x, y, ways, cost, weight=None):
    return jm.adapt(
        KEY, support_vectors(ways, jnp.log(cost)), Task(Examples(x, y, weight=weight), None)
    )


def primal(w, x, y, cost):
    scores = x @ w
    margins = scores - scores[np.arange(len(y)), y][:, None] + (np.arange(w.shape[1]) != y[:, None])
    return (w**2).sum() / 2 + (cost * margins.max(1)).sum()


def by_scipy(x, y, ways, cost):
    """The optimal weights: SLSQP, whose variables are those of the dual without the label's, which
    is minus their sum."""
    n, own = len(y), np.eye(ways)[y]
    others = np.array([[k for k in range(ways) if k != label] for label in y])
    lift = np.zeros((n, ways, n, ways - 1))
    for i in range(n):
        lift[i, others[i], i, range(ways - 1)] = -1
        lift[i, y[i], i] = 1
    lift = lift.reshape(n * ways, -1)
    curvature = lift.T @ np.kron(x @ x.T, np.eye(ways)) @ lift
    slope = lift.T @ own.reshape(-1)
    sums = np.kron(np.eye(n), np.ones(ways - 1))
    size = np.abs(np.diag(curvature)).mean()  # its steps are those of variables near 1
    found = minimize(
        lambda b: b @ curvature @ b / 2 / size - slope @ b,
        np.zeros(len(slope)),
        method="SLSQP",
        jac=lambda b: curvature @ b / size - slope,
        bounds=[(0, None)] * len(slope),
        constraints=dict(type="ineq", fun=lambda b: cost * size - sums @ b, jac=lambda b: -sums),
        options=dict(ftol=1e-15, maxiter=500),
    )
    return x.T @ (lift @ found.x / size).reshape(n, ways)


@pytest.mark.parametrize("cost", [10.0, 0.1, 0.003])
def test_the_machine_is_that_of_sequential_quadratic_programming(rng, cost):
    x, y = features(rng, 4, 3)
    found = machine(x, y, 4, cost)
    np.testing.assert_allclose(
        found, by_scipy(x, y, 4, cost), atol=1e-6 * float(jnp.abs(found).max())
    )


@pytest.mark.parametrize("ways, shots", [(5, 1), (5, 5), (20, 1), (20, 5)])
@pytest.mark.parametrize("cost", [1.0, 0.1, 1e-3])
def test_no_machine_has_a_lower_objective_by_more_than_rounding(rng, ways, shots, cost):
    x, y = features(rng, ways, shots)
    for dtype, share in (("float64", 1e-11), ("float32", 1e-4)):
        given, own = jnp.asarray(x, dtype), jnp.eye(ways, dtype=dtype)[y]
        alpha = jax.jit(crammer_singer)(given @ given.T, own, cost)
        alpha = np.asarray(alpha, float)
        at = alpha[np.arange(len(y)), y]
        np.testing.assert_allclose(
            alpha.sum(1), 0, atol=1e-5 * cost if dtype == "float32" else 1e-12
        )
        w = x.T @ alpha
        dual = at.sum() - (w**2).sum() / 2
        assert (
            dual - 1e-5 * abs(dual)
            <= primal(w, x, y, cost)
            <= dual + share * max(cost * len(y), dual)
        )


def test_examples_without_enough_features_and_examples_that_are_alike_are_solved(rng):
    y = np.arange(40) % 4
    for x in (
        rng.normal(size=(40, 3)),
        np.repeat(rng.normal(size=(4, 6)), 10, axis=0),
        np.zeros((40, 3)),
    ):
        for cost in (10.0, 0.1):
            w, other = machine(x, y, 4, cost), machine(x[::-1], y[::-1], 4, cost)
            np.testing.assert_allclose(w, other, atol=1e-8)
            lower = [primal(w + 1e-4 * rng.normal(size=w.shape), x, y, cost) for _ in range(20)]
            assert primal(w, x, y, cost) <= min(lower)


@pytest.mark.parametrize("cost", [10.0, 0.02])
def test_derivatives_are_differences_in_both_modes_and_of_second_order(rng, cost):
    x, y = features(rng, 3, 3, 5)
    weight, to = rng.uniform(0.5, 2, 9), rng.normal(size=(5, 3))
    given = (jnp.asarray(x), jnp.log(cost), jnp.asarray(weight))
    along = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), given)

    def value(x, log_cost, weight):
        return jnp.sum(to * jnp.sin(machine(x, y, 3, jnp.exp(log_cost), weight)))

    def moved(h):
        return jax.tree.map(lambda leaf, step: leaf + h * step, given, along)

    def product(a, b):
        return sum(jnp.vdot(*pair) for pair in zip(a, b))

    slope = jax.jit(jax.grad(value, argnums=(0, 1, 2)))
    h = 1e-6
    difference = (value(*moved(h)) - value(*moved(-h))) / (2 * h)
    forward = jax.jit(lambda: jax.jvp(value, given, along)[1])()
    np.testing.assert_allclose([product(slope(*given), along), forward], difference, rtol=1e-6)
    second = jax.jit(jax.grad(lambda *given: product(slope(*given), along), argnums=(0, 1, 2)))(
        *given
    )
    ahead = jax.jit(lambda: jax.jvp(slope, given, along)[1])()
    chex.assert_trees_all_close(second, ahead, rtol=1e-8, atol=1e-10)
    differences = jax.tree.map(
        lambda up, down: (up - down) / (2 * h), slope(*moved(h)), slope(*moved(-h))
    )
    chex.assert_trees_all_close(ahead, differences, rtol=1e-5, atol=1e-7)


def test_an_absent_example_has_the_derivative_of_its_first_weight(rng):
    x, y = features(rng, 3, 3, 5)
    x[7], x[8] = x[6] + 0.1, 3 * x[8]  # one violates its margin under another label, one does not
    y[7] = (y[6] + 1) % 3
    weight = jnp.ones(9).at[7].set(0).at[8].set(0)
    value = jax.jit(
        lambda weight: jnp.sum(
            jnp.cos(jnp.arange(15.0).reshape(5, 3)) * machine(x, y, 3, 0.1, weight)
        )
    )
    slope, h = jax.jit(jax.grad(value))(weight), 1e-6
    for place in (7, 8):
        np.testing.assert_allclose(
            slope[place], (value(weight.at[place].add(h)) - value(weight)) / h, rtol=1e-4, atol=1e-9
        )
    assert abs(slope[7]) > 1e-4


def test_tasks_are_solved_together_as_alone(rng):
    x = jnp.asarray([features(rng, 3, 2)[0] for _ in range(3)])
    y = jnp.arange(6) % 3
    together = jax.vmap(lambda x: machine(x, y, 3, 0.1))(x)
    np.testing.assert_allclose(together, [machine(each, y, 3, 0.1) for each in x], atol=1e-10)
