"""The solvers against their equations, on matrices whose eigenvalues are known."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta.estimator import cg, direct, identity, neumann, nystrom

KEY = jax.random.key(3)


def solved(solver, hessian, b, key=KEY):
    return jax.jit(lambda key, hessian, b: solver(key, lambda v: hessian @ v, b))(key, hessian, b)


def positive(size, rank=None, seed=0):
    """A random positive definite matrix with geometric eigenvalues from 1, or one of a given
    rank."""
    turn, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))
    values = 0.6 ** np.arange(size) * (np.arange(size) < (rank or size))
    return (turn * values) @ turn.T


B = np.random.default_rng(1).normal(size=8)


@pytest.mark.parametrize("terms", [1, 2, 7, 60])
def test_neumann_misses_what_its_equation_says(terms):
    hessian, rate = positive(8), 1.3
    x, _ = solved(neumann(terms, rate), hessian, B)
    exact = np.linalg.solve(hessian, B)
    missing = np.linalg.matrix_power(np.eye(8) - rate * hessian, terms) @ exact
    np.testing.assert_allclose(exact - x, missing, rtol=1e-9, atol=1e-12)


def test_identity_is_a_series_of_one_term():
    x, products = solved(identity(0.3), positive(8), B)
    np.testing.assert_allclose(x, 0.3 * B, rtol=1e-15)
    assert products == 0


@pytest.mark.parametrize(("rank", "of"), [(3, 3), (5, 3), (8, 3), (8, 8)])
def test_nystrom_is_exact_up_to_damping_at_the_rank_of_the_hessian(rank, of):
    hessian, damping = positive(8, of), 0.01
    x, products = solved(nystrom(rank, damping), hessian, B)
    np.testing.assert_allclose(x, np.linalg.solve(hessian + damping * np.eye(8), B), rtol=1e-7)
    assert products == rank


def test_nystrom_gets_nearer_with_rank():
    hessian, damping = positive(8), 0.01
    exact = np.linalg.solve(hessian + damping * np.eye(8), B)
    keys = jax.random.split(KEY, 64)

    def error(rank):
        x = jax.jit(jax.vmap(lambda key: nystrom(rank, damping)(key, lambda v: hessian @ v, B)[0]))(
            keys
        )
        return np.linalg.norm(x - exact[None], axis=1).mean()

    errors = [error(rank) for rank in (1, 4, 6, 8)]
    assert np.all(np.diff(errors) < -0.1 * errors[0]) and errors[-1] < 1e-8 * errors[0]


def test_cg_is_the_best_of_its_subspace_and_stops_when_done():
    hessian = positive(8)
    for iterations in (1, 3):
        x, taken = solved(cg(iterations), hessian, B)
        basis = np.stack(
            [np.linalg.matrix_power(hessian, j) @ B for j in range(iterations)], axis=1
        )
        best = basis @ np.linalg.solve(basis.T @ hessian @ basis, basis.T @ B)
        np.testing.assert_allclose(x, best, rtol=1e-9)
        assert taken == iterations
    x, taken = solved(cg(200), hessian, B)
    np.testing.assert_allclose(x, np.linalg.solve(hessian, B), rtol=1e-10)
    assert taken < 30
    x, _ = solved(cg(200, damping=0.3), hessian, B)
    np.testing.assert_allclose(x, np.linalg.solve(hessian + 0.3 * np.eye(8), B), rtol=1e-10)
    x, taken = solved(cg(5), hessian, 0 * B)
    assert not np.any(x) and taken == 0


def test_cg_stops_without_positive_curvature():
    x, taken = solved(cg(50), np.diag([2.0, 1.0, -1.0]), np.ones(3))
    assert taken < 3 and np.all(np.isfinite(x))


@pytest.mark.parametrize(
    "solver",
    [cg(4), neumann(4), identity(), nystrom(4), direct()],
    ids=["cg", "neumann", "identity", "nystrom", "direct"],
)
def test_solvers_keep_float32_and_map(solver):
    hessians, bs = (jnp.asarray(np.stack([x, 2 * x]), jnp.float32) for x in (positive(8), B))

    def solve(hessian, b):
        return solver(KEY, lambda v: hessian @ v, b)[0]

    mapped = jax.jit(jax.vmap(solve))(hessians, bs)
    assert mapped.dtype == jnp.float32
    chex.assert_trees_all_close(
        mapped, jnp.stack([jax.jit(solve)(*one) for one in zip(hessians, bs)]), rtol=2e-4
    )


@pytest.mark.parametrize("size", [1e-15, 1e-10, 1e10])
def test_conjugate_gradients_bear_losses_of_any_size(size):
    curvatures = jnp.asarray([1.0, 2.0, 5.0], jnp.float32)
    for scale in (1.0, size):
        x, taken = cg(16)(
            None,
            lambda v, scale=scale: jnp.float32(scale) * curvatures * v,
            jnp.full(3, scale, jnp.float32),
        )
        np.testing.assert_allclose(x, 1 / curvatures, rtol=1e-5)
        assert taken >= 3
