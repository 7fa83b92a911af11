"""Against closed forms on quadratics, to 1e-10."""

import jax
import numpy as np
import optax
import problems
import pytest

import jaxmeta as jm
from jaxmeta.tasks import quadratic_adapted, quadratic_learner, quadratic_meta_gradient

KEY, RATE = jax.random.key(3), 0.3


def setting(steps):
    tasks = problems.batch(jm.quadratics(5), tasks=6)
    learner = quadratic_learner(RATE, steps)
    theta = jm.maml(learner).bilevel.init(KEY, problems.one(tasks))
    return tasks, learner, theta


def mean(function, tasks):
    return np.mean([function(jax.tree.map(lambda leaf: leaf[i], tasks)) for i in range(6)], axis=0)


def gradient(algorithm, theta, tasks):
    state = algorithm.estimator.init(KEY, algorithm.bilevel, theta, tasks)
    return algorithm.estimator.estimate(KEY, algorithm.bilevel, theta, tasks, state)[0].grad


@pytest.mark.parametrize("steps", [0, 1, 4, 50])
def test_adapt_ends_where_the_closed_form_says(steps):
    tasks, learner, theta = setting(steps)
    task = problems.one(tasks)
    shaped = jm.initialisation().shape(theta, task, learner)
    np.testing.assert_allclose(
        jm.adapt(KEY, shaped, task), quadratic_adapted(theta, task, RATE, steps), rtol=1e-10
    )


@pytest.mark.parametrize("steps", [0, 1, 4, 50])
def test_maml_is_the_closed_form(steps):
    tasks, learner, theta = setting(steps)
    exact = mean(lambda task: quadratic_meta_gradient(theta, task, RATE, steps), tasks)
    np.testing.assert_allclose(
        gradient(jm.maml(learner), theta, tasks), exact, rtol=1e-10, atol=1e-14
    )


@pytest.mark.parametrize("steps", [1, 4])
def test_fomaml_is_the_query_gradient_where_learning_ends(steps):
    tasks, learner, theta = setting(steps)

    def definition(task):
        return task.query.curvature @ (
            quadratic_adapted(theta, task, RATE, steps) - task.query.centre
        )

    first_order = gradient(jm.fomaml(learner), theta, tasks)
    np.testing.assert_allclose(first_order, mean(definition, tasks), rtol=1e-10)
    # A path that claims second order must not be first order.
    assert np.linalg.norm(
        first_order - gradient(jm.maml(learner), theta, tasks)
    ) > 0.1 * np.linalg.norm(first_order)


@pytest.mark.parametrize("steps", [1, 4])
def test_reptile_is_the_way_to_where_learning_ends(steps):
    tasks, learner, theta = setting(steps)
    definition = mean(lambda task: theta - quadratic_adapted(theta, task, RATE, steps), tasks)
    np.testing.assert_allclose(gradient(jm.reptile(learner), theta, tasks), definition, rtol=1e-10)


def test_the_derivative_of_a_learned_step_size_is_the_closed_form():
    tasks, learner, theta = setting(1)
    bilevel = jm.base.Bilevel(jm.compose(jm.initialisation(), jm.step_sizes(1.0)), learner)
    grad = jm.unrolled().estimate(KEY, bilevel, (theta, np.float64(1.0)), tasks, ())[0].grad

    def definition(task):
        step = RATE * task.support.curvature @ (theta - task.support.centre)
        return (
            -step
            @ task.query.curvature
            @ (quadratic_adapted(theta, task, RATE, 1) - task.query.centre)
        )

    np.testing.assert_allclose(grad[1], mean(definition, tasks), rtol=1e-10)


def test_the_derivative_in_the_support_is_the_closed_form():
    tasks, learner, theta = setting(3)
    task = problems.one(tasks)
    bilevel = jm.maml(learner).bilevel

    def loss(centre):
        return jm.outcome(
            KEY, bilevel, theta, task._replace(support=task.support._replace(centre=centre))
        )[0]

    # phi_K = b + C (phi_0 - b), so d phi_K / d b = I - C.
    contraction = np.linalg.matrix_power(np.eye(5) - RATE * np.asarray(task.support.curvature), 3)
    away = quadratic_adapted(theta, task, RATE, 3) - task.query.centre
    exact = (np.eye(5) - contraction).T @ task.query.curvature @ away
    np.testing.assert_allclose(jax.grad(loss)(task.support.centre), exact, rtol=1e-10)


def test_proximal_term_pulls_towards_the_start():
    tasks, learner, theta = setting(400)
    task = problems.one(tasks)
    bias = jm.compose(jm.initialisation(), jm.fixed(jm.proximal(2.0)))
    shaped = bias.shape((theta, ()), task, learner)
    curvature = np.asarray(task.support.curvature)
    exact = np.linalg.solve(curvature + 2 * np.eye(5), curvature @ task.support.centre + 2 * theta)
    np.testing.assert_allclose(jm.adapt(KEY, shaped, task), exact, rtol=1e-10)


@pytest.mark.parametrize(
    "update",
    [
        optax.adam(0.05),
        optax.adamw(0.05, weight_decay=0.1),
        optax.rmsprop(0.05, eps_in_sqrt=True),
        optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1, nesterov=True, momentum=0.9)),
    ],
    ids=["adam", "adamw", "rmsprop", "clipped nesterov"],
)
def test_any_optax_optimiser_is_an_inner_update(update):
    tasks, learner, theta = setting(3)
    algorithm = jm.maml(learner._replace(update=update))
    grad = gradient(algorithm, theta, tasks)
    direction = np.arange(1.0, 6.0)

    def loss(flat):
        return algorithm.estimator.estimate(KEY, algorithm.bilevel, flat, tasks, ())[0].loss

    h = 1e-5
    difference = (loss(theta + h * direction) - loss(theta - h * direction)) / (2 * h)
    np.testing.assert_allclose(grad @ direction, difference, rtol=1e-6)


def test_a_line_search_gets_what_it_needs():
    tasks, learner, theta = setting(30)
    task = problems.one(tasks)
    shaped = jm.initialisation().shape(theta, task, learner._replace(update=optax.lbfgs()))
    np.testing.assert_allclose(jm.adapt(KEY, shaped, task), task.support.centre, rtol=1e-6)
