"""Evolution strategies and forward mode against exact derivatives, within their standard errors."""

import functools

import jax
import jax.numpy as jnp
import long_runs
import numpy as np
import optax
import problems
import pytest
from long_runs import KEY, THETA, WINDOW

import jaxmeta as jm
from jaxmeta.base import Bilevel
from jaxmeta.estimator import basis, evolution, fresh, gaussian, persistent, rademacher, reused
from jaxmeta.tasks import quadratic_learner

REPEATS = 256


def repeated(function, seed=11):
    """`function(key)` for many keys, stacked."""
    return jax.jit(jax.vmap(function))(jax.random.split(jax.random.key(seed), REPEATS))


def in_standard_errors(samples, exact):
    """How many standard errors of their mean the samples are from the exact value, and that
    error."""
    error = samples.std(0, ddof=1) / np.sqrt(len(samples))
    return np.abs(samples.mean(0) - exact) / error, error


@functools.cache
def quadratics(count=6):
    """MAML on quadratics, where smoothing leaves the derivative as it is:
    `(bilevel, theta, tasks, exact)`."""
    tasks = problems.batch(jm.quadratics(5), tasks=count)
    problem = Bilevel(jm.initialisation(), quadratic_learner(0.3, 4))
    theta = problem.init(KEY, problems.one(tasks))
    exact = jax.jit(lambda: jm.unrolled().estimate(KEY, problem, theta, tasks, ())[0])()
    return problem, theta, tasks, exact


@functools.cache
def estimates(estimator, count=6):
    problem, theta, tasks, _ = quadratics(count)
    return repeated(lambda key: estimator.estimate(key, problem, theta, tasks, ())[0])


EVOLUTION = evolution(0.5, 16)


@pytest.mark.parametrize(
    "estimator", [EVOLUTION, jm.forward(rademacher(16))], ids=["evolution", "forward"]
)
def test_random_directions_are_unbiased(estimator):
    *_, exact = quadratics()
    away, error = in_standard_errors(estimates(estimator).grad, exact.grad)
    assert away.max() < 4
    assert np.linalg.norm(error) < 0.05 * np.linalg.norm(
        exact.grad
    )  # The test sees errors of this size.


def test_evolution_of_quadratics_is_forward_mode_along_its_noise():
    # Mirrored differences of a quadratic are its derivatives; both draw from the same key.
    np.testing.assert_allclose(
        estimates(EVOLUTION).grad, estimates(jm.forward(gaussian(16))).grad, rtol=1e-8, atol=1e-12
    )


def test_the_reported_standard_error_is_the_spread():
    alone = estimates(EVOLUTION, count=1)
    # A sample variance of 256 has a standard error of about 9%, fewer than 4 of which these may be
    # apart.
    np.testing.assert_allclose(
        (alone.info["standard_error"] ** 2).mean(), alone.grad.var(0, ddof=1).sum(), rtol=0.35
    )


def test_noise_of_its_own_for_each_task_averages_out():
    *_, exact = quadratics()
    one, six = (estimates(EVOLUTION, count).grad.var(0, ddof=1).sum() for count in (1, 6))
    assert six < 0.5 * one


def test_nothing_needs_a_derivative():
    def outer(key, learner, walked, task):
        return jnp.where(
            walked.end > 0, 1.0, 0.0
        ), {}  # smoothed: the normal distribution function of theta / sigma

    theta, sigma = jnp.asarray(0.3), 0.5
    learner = jm.Learner(
        lambda key, task: jnp.zeros(()),
        lambda key, phi, batch: (0 * phi, {}),
        jm.no_penalty,
        optax.identity(),
        0,
    )
    problem, task = (
        Bilevel(jm.initialisation(), learner, outer),
        jm.Task(jnp.zeros(1), jnp.zeros(1), jnp.zeros(1, int)),
    )
    smoothed = repeated(lambda key: evolution(sigma, 16).estimate(key, problem, theta, task, ())[0])
    exact = jax.scipy.stats.norm.pdf(theta / sigma) / sigma
    away, error = in_standard_errors(smoothed.grad, exact)
    assert away < 4 and error < 0.05 * exact
    away, _ = in_standard_errors(
        smoothed.loss, jax.scipy.stats.norm.cdf(theta / sigma)
    )  # Of the smoothed objective.
    assert away < 4


def run_gradients(estimator):
    return repeated(lambda key: long_runs.over_a_run(estimator, key)[0])


@functools.cache
def exact_over_a_run():
    problem = long_runs.bilevel()._replace(outer=long_runs.at_window_ends)
    return jm.unrolled().estimate(KEY, problem, THETA, long_runs.tasks(), ())[0].grad["log_rate"]


@pytest.mark.slow
@pytest.mark.parametrize("constructor", [jm.pes, jm.nres])
def test_persistent_and_reused_noise_are_unbiased_over_a_run(constructor):
    exact = exact_over_a_run()
    # Sigma is so small that smoothing, of order sigma squared, is far below the standard error.
    away, error = in_standard_errors(run_gradients(constructor(1e-3, 64, WINDOW)), exact)
    assert away < 4 and error < 0.05 * abs(exact)


def test_fresh_noise_and_truncation_point_the_wrong_way():
    exact = exact_over_a_run()
    blind = run_gradients(evolution(1e-3, 64, WINDOW, fresh))
    away, _ = in_standard_errors(blind, exact)
    short, _ = long_runs.over_a_run(jm.truncated(WINDOW), KEY)
    by_hand = np.mean(
        [long_runs.by_hand(end, end - WINDOW)[0] for end in range(WINDOW, 21, WINDOW)]
    )
    np.testing.assert_allclose(short, by_hand, rtol=1e-10)
    assert away > 5 and short * exact < 0 and blind.mean() * exact < 0
    away, _ = in_standard_errors(
        blind, short
    )  # What fresh noise estimates is the truncated derivative.
    assert away < 4


def test_what_the_noises_are():
    drawn, before = jnp.array([1.0, -2.0]), jnp.array([10.0, 20.0])
    for noise, going_on, anew in (
        (fresh, ([1, -2], [1, -2]), ([1, -2], [1, -2])),
        (persistent, ([1, -2], [11, 18]), ([1, -2], [1, -2])),
        (reused, ([10, 20], [10, 20]), ([1, -2], [1, -2])),
    ):
        np.testing.assert_array_equal(noise(drawn, before, jnp.array(False)), going_on)
        np.testing.assert_array_equal(noise(drawn, before, jnp.array(True)), anew)


def test_particles_are_where_their_perturbed_runs_are():
    def held(key):
        return long_runs.over_a_run(jm.nres(0.1, 3, WINDOW), key, steps=4)[1]

    run, xi = jax.jit(held)(KEY)
    for task in range(long_runs.TASKS):
        eps = np.concatenate([xi["log_rate"][task], -xi["log_rate"][task]])
        centre, curvature = (
            np.asarray(long_runs.tasks().support.centre[task]),
            np.array([1.0, 0.05]),
        )
        contraction = (1 - np.exp(THETA["log_rate"] + eps)[:, None] * curvature[None, :]) ** 4
        np.testing.assert_allclose(
            run.position.phi[task],
            centre + contraction * (np.array([1.0, 4.5]) - centre),
            rtol=1e-12,
        )


def test_the_basis_is_exact():
    problem, tasks = long_runs.random_bilevel(3), long_runs.tasks()
    theta = problem.init(KEY, problems.one(tasks))
    ours, exact = (
        jax.jit(lambda: e.estimate(KEY, problem, theta, tasks, ())[0])()
        for e in (jm.forward(basis), jm.unrolled())
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-14), ours, exact)


@pytest.mark.parametrize(
    "directions, tolerance", [(basis, 1e-14), (gaussian(4000), 0.15), (rademacher(4000), 0.15)]
)
def test_the_mean_outer_product_of_directions_is_the_identity(directions, tolerance):
    theta = {"a": jnp.zeros((2, 2)), "b": jnp.zeros(1)}
    flat = jax.vmap(lambda v: jax.flatten_util.ravel_pytree(v)[0])(directions(KEY, theta))
    # The largest of 25 means of 4000: standard errors of at most sqrt(2 / 4000) = 0.022.
    np.testing.assert_allclose(flat.T @ flat / len(flat), np.eye(5), atol=tolerance)


@pytest.mark.parametrize(
    "estimator",
    [jm.forward(basis), evolution(0.1, 2), jm.pes(0.1, 2, 4)],
    ids=["forward", "evolution", "pes"],
)
def test_memory_does_not_grow_with_the_steps(estimator):
    few, many = (long_runs.memory(estimator, steps) for steps in (20, 200))
    assert many < 1.1 * few
