"""Bad input to the core: one sentence each, before anything is compiled."""

import jax
import jax.numpy as jnp
import numpy as np
import problems
import pytest

import jaxmeta as jm
from jaxmeta.base import Examples
from jaxmeta.tasks import quadratic_learner

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def tasks():
    return problems.classified()


def estimate(bilevel, theta, tasks):
    return jm.unrolled().estimate(KEY, bilevel, theta, tasks, ())[0]


def bilevel(learner=None, bias=None):
    return jm.base.Bilevel(bias or jm.initialisation(), learner or problems.learner())


def test_a_loss_that_returns_a_vector(tasks):
    learner = problems.learner()
    broken = learner._replace(loss=lambda key, phi, batch: (jnp.ones(5), {}))
    with pytest.raises(ValueError, match=r"loss of a learner must be a real scalar, got shape \(5,\).*average it"):
        estimate(bilevel(broken), bilevel().init(KEY, problems.one(tasks)), tasks)


def test_a_loss_without_aux(tasks):
    broken = problems.learner()._replace(loss=lambda key, phi, batch: jnp.ones(()))
    with pytest.raises(ValueError, match=r"must return a pair \(scalar, aux\)"):
        estimate(bilevel(broken), bilevel().init(KEY, problems.one(tasks)), tasks)


def test_an_outer_objective_that_returns_integers(tasks):
    broken = bilevel()._replace(outer=lambda key, learner, trajectory, task: (jnp.ones((), int), {}))
    with pytest.raises(ValueError, match="outer loss must be a real scalar"):
        estimate(broken, bilevel().init(KEY, problems.one(tasks)), tasks)


def test_labels_that_are_not_integers():
    with pytest.raises(ValueError, match="labels must be integers from 0 to ways - 1, got dtype float64"):
        jm.cross_entropy(jnp.zeros((2, 3)), Examples(None, jnp.zeros(2)))


def test_logits_of_another_shape():
    with pytest.raises(ValueError, match=r"needs logits \[n, ways\] and labels \[n\], got shapes \(2,\) and \(2,\)"):
        jm.cross_entropy(jnp.zeros(2), Examples(None, jnp.zeros(2, int)))
    with pytest.raises(ValueError, match=r"shape of the targets, \(2,\), got \(2, 1\)"):
        jm.squared_error(jnp.zeros((2, 1)), Examples(None, jnp.zeros(2)))


@pytest.mark.parametrize("bias", [jm.initialisation(), jm.shared()], ids=["initialisation", "shared"])
def test_a_theta_of_another_structure(bias, tasks):
    theta = bias.init(KEY, problems.one(tasks), problems.learner())
    wider = jax.tree.map(lambda leaf: leaf, theta)
    wider["head"]["kernel"] = jnp.zeros((4, 9))
    with pytest.raises(ValueError, match=r"theta at 'head/kernel' must have shape \(4, 3\), got \(4, 9\)"):
        estimate(bilevel(bias=bias), wider, tasks)
    del theta["body"]
    with pytest.raises(ValueError, match="theta at 'body/bias' must have shape .* got nothing"):
        estimate(bilevel(bias=bias), theta, tasks)


def test_a_theta_that_is_not_composed(tasks):
    bias = jm.compose(jm.initialisation(), jm.step_sizes())
    with pytest.raises(ValueError, match="theta of 2 composed biases must be a tuple of 2, got dict"):
        estimate(bilevel(bias=bias), bilevel().init(KEY, problems.one(tasks)), tasks)
    with pytest.raises(ValueError, match="at least one bias"):
        jm.compose()


def test_a_where_that_means_nothing(tasks):
    with pytest.raises(ValueError, match="where must mean at least one leaf .* body/bias"):
        jm.initialisation(jm.named("haed")).init(KEY, problems.one(tasks), problems.learner())


@pytest.mark.parametrize("steps", [-1, 1.5, True])
def test_steps_that_are_no_number_of_steps(steps, tasks):
    with pytest.raises(ValueError, match="steps of a learner must be"):
        estimate(bilevel(problems.learner(steps)), bilevel().init(KEY, problems.one(tasks)), tasks)


def test_zero_steps_are_no_adaptation(tasks):
    problem = bilevel(problems.learner(steps=0))
    theta = problem.init(KEY, problems.one(tasks))
    task = problems.one(tasks)
    shaped = problem.bias.shape(theta, task, problem.learner)
    end = jm.adapt(KEY, shaped, task)
    jax.tree.map(np.testing.assert_array_equal, end, theta)
    assert np.isfinite(estimate(problem, theta, tasks).loss)


def test_tasks_that_the_devices_do_not_divide():
    tasks = problems.classified(tasks=3)
    algorithm = problems.ALGORITHMS["maml"](jm.over_tasks(mesh=jm.task_mesh()))
    theta = jax.jit(algorithm.bilevel.init)(KEY, problems.one(tasks))
    with pytest.raises(ValueError, match="multiple of the 2 devices of the mesh, got 3; take 4 tasks"):
        algorithm.estimator.estimate(KEY, algorithm.bilevel, theta, tasks, ())
    with pytest.raises(ValueError, match="chunk must be at least 1"):
        jm.over_tasks(chunk=0)


def test_reptile_refuses_what_it_cannot_move(tasks):
    problem = bilevel(bias=jm.compose(jm.initialisation(), jm.step_sizes()))
    theta = problem.init(KEY, problems.one(tasks))
    with pytest.raises(ValueError, match="reptile moves only what sets the start of learning, got theta's leaf '1'"):
        jm.estimator.reptile().init(KEY, problem, theta, tasks)


def test_a_diverging_inner_rate_is_reported_and_not_raised():
    tasks = problems.batch(jm.quadratics(3))
    problem = bilevel(quadratic_learner(1e30, steps=40))
    theta = problem.init(KEY, problems.one(tasks))
    result = jax.jit(lambda theta: estimate(problem, theta, tasks))(theta)
    assert not np.isfinite(result.info["losses"]).any()


def test_heads_in_closed_form_refuse_images():
    task = jm.Task(Examples(jnp.zeros((4, 8, 8, 1)), jnp.array([0, 0, 1, 1])), None)
    for head in (jm.prototypes(2), jm.ridge(2)):
        with pytest.raises(ValueError, match=r"needs inputs \[n, D\], got shape \(4, 8, 8, 1\).*representation"):
            head.start(KEY, task)


def test_a_proximal_term_that_pushes_away():
    with pytest.raises(ValueError, match="strength of a proximal term must be above 0, got -1.0"):
        jm.proximal(-1.0)
