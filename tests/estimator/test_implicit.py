"""Derivatives where learning ends: against closed forms on quadratics, and against unrolling for as
long as it takes."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import problems
import pytest
from ends import (
    HELD,
    KEY,
    NEAR,
    RATE,
    STRENGTH,
    THETA,
    D,
    T,
    asked,
    descended,
    each,
    estimate,
    on_quadratics,
    reached,
    tasks,
)

import jaxmeta as jm
from jaxmeta.base import Bilevel, Learner
from jaxmeta.estimator import cg, direct, identity, implicit, neumann, nystrom, sama, t1t2
from jaxmeta.tasks import quadratic_learner

# Products with H, and how near each comes: cg ends exactly after D, the others are what their
# parameters say.
SOLVERS = {
    "cg": (cg(D), 1e-10, D),
    "neumann": (neumann(100, RATE), 1e-10, 99),
    "direct": (direct(), 1e-12, D),
    "nystrom": (nystrom(D, 1e-7), 1e-6, D),
}


@pytest.mark.parametrize("name", SOLVERS)
def test_every_solver_gives_the_closed_form(name):
    solver, accuracy, products = SOLVERS[name]
    result = on_quadratics(implicit(solver), theta=(THETA, np.float64(STRENGTH)), bias=NEAR)

    def of_start(task):
        phi, hessian = reached(task)
        return STRENGTH * np.linalg.solve(hessian, asked(task, phi))

    def of_strength(task):
        phi, hessian = reached(task)
        return -np.linalg.solve(hessian, phi - THETA) @ asked(task, phi)

    np.testing.assert_allclose(result.grad[0], each(of_start).mean(0), rtol=accuracy)
    np.testing.assert_allclose(result.grad[1], each(of_strength).mean(0), rtol=accuracy)
    chex.assert_shape(
        [
            result.info[name]
            for name in ("residual", "iterations", "stationarity", "error", "converged")
        ],
        (T,),
    )
    assert np.all(result.info["residual"] < 10 * accuracy) and np.all(
        result.info["iterations"] == products
    )
    assert np.all(result.info["converged"]) and np.all(result.info["stationarity"] < 1e-10)
    assert np.all(result.info["error"] < accuracy)


def decayed(strength):
    return lambda phi, start: (
        0.5 * strength * sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(phi))
    )


def classifier(log_decay=-1.0, steps=300, model=None):
    return jm.gradient(
        model or problems.smooth_model(),
        update=optax.sgd(0.5, momentum=0.5),
        steps=steps,
        penalty=decayed(jnp.exp(log_decay)),
    )


def head():
    """The part of the model that a learner has on top of a representation."""
    whole = problems.smooth_model()
    return whole._replace(
        init=lambda key, x: whole.init(key, x)["head"],
        apply=lambda phi, x, reference=None: x @ phi["kernel"] + phi["bias"][None, :],
    )


def far_from_the_start(key, learner, trajectory, task):
    """An outer objective that reads the start, the end and the shaped learner."""
    value, aux = jm.query_loss(key, learner, trajectory, task)
    away = jax.tree.map(lambda a, b: jnp.sum(jnp.sin(a) * b), trajectory.start, trajectory.end)
    return value + 0.1 * sum(jax.tree.leaves(away)) + learner.penalty(
        trajectory.end, trajectory.start
    ), aux


PROXIMAL = jm.compose(jm.initialisation(), jm.proximal(2.0))
LIMITS = {
    "proximal": Bilevel(PROXIMAL, classifier()),
    "proximal, judged by all there is": Bilevel(PROXIMAL, classifier(), far_from_the_start),
    "weight decay": Bilevel(jm.hyperparameters(classifier, log_decay=-1.0), classifier()),
    "shared body": Bilevel(jm.shared(jm.excluding("head")), classifier(), far_from_the_start),
    "representation": Bilevel(
        jm.representation(problems.smooth_model(None)), classifier(model=head())
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LIMITS)
def test_the_derivative_is_the_limit_of_unrolling(name):
    bilevel, batch = LIMITS[name], problems.classified()
    theta = jax.jit(bilevel.init)(KEY, problems.one(batch))
    ours, exact = (
        estimate(estimator, bilevel, theta, batch)
        for estimator in (implicit(cg(40)), jm.unrolled())
    )
    np.testing.assert_allclose(ours.loss, exact.loss, rtol=1e-13)  # the same key, the same learning
    flat = jax.flatten_util.ravel_pytree(exact.grad)[0]
    assert np.abs(flat).max() > 1e-3
    np.testing.assert_allclose(
        jax.flatten_util.ravel_pytree(ours.grad)[0], flat, rtol=1e-8, atol=1e-10
    )
    assert np.all(ours.info["converged"])


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_where_learning_has_not_converged_the_predicted_error_says_by_how_much(steps):
    result = on_quadratics(implicit(direct()), steps)

    def error(task):
        # A Newton step ends learning on a quadratic, so that what is predicted is the error itself.
        phi, hessian = reached(task)
        ours, right = (
            np.linalg.solve(hessian, asked(task, at)) for at in (descended(task, steps), phi)
        )
        return np.linalg.norm(ours - right) / np.linalg.norm(right)

    np.testing.assert_allclose(result.info["error"], each(error), rtol=1e-9)
    assert not np.any(result.info["converged"])
    loose = on_quadratics(
        implicit(direct(), tolerance=float(np.median(each(error))) + 1e-12), steps
    )
    np.testing.assert_array_equal(
        loose.info["converged"], each(error) <= np.median(each(error)) + 1e-12
    )
    # What is reported is the formula at phi_K all the same.
    at_end = each(
        lambda task: (
            STRENGTH * np.linalg.solve(reached(task)[1], asked(task, descended(task, steps)))
        )
    ).mean(0)
    np.testing.assert_allclose(result.grad[0], at_end, rtol=1e-10)


# A stiff problem, whose second parameter is learned a thousand times as slowly as the first; theta
# is the logarithm of a decay.
STIFF, CENTRE, WANTED, DECAY = np.array([1.0, 1e-3]), np.ones(2), np.array([1.5, 1.5]), -8.0
SOLVED = STIFF * CENTRE / (STIFF + np.exp(DECAY))


def stiff(start, steps, solver=None, wanted=WANTED):
    def make(log_decay):
        def loss(key, phi, batch):
            return 0.5 * jnp.sum(STIFF * (phi - CENTRE) ** 2), {}

        return Learner(
            lambda key, task: jnp.asarray(start),
            loss,
            decayed(jnp.exp(log_decay)),
            optax.sgd(0.9),
            steps,
        )

    bilevel = Bilevel(
        jm.hyperparameters(make, log_decay=DECAY),
        make(DECAY),
        lambda key, learner, trajectory, task: (0.5 * jnp.sum((trajectory.end - wanted) ** 2), {}),
    )
    return estimate(
        implicit(solver or direct()),
        bilevel,
        {"log_decay": jnp.asarray(DECAY)},
        jm.Task(np.zeros((1, 1)), np.zeros((1, 1)), np.zeros(1, int)),
    )


def after(start, steps):
    """Where descent on the stiff problem is."""
    return SOLVED + (1 - 0.9 * (STIFF + np.exp(DECAY))) ** steps * (start - SOLVED)


def test_no_start_makes_an_end_look_like_another():
    ends = [(np.zeros(2), 20), (after(np.zeros(2), 17), 3), (after(np.zeros(2), 20), 0)]
    infos = [stiff(start, steps).info for start, steps in ends]
    for info in infos:
        np.testing.assert_allclose(info["error"], infos[0]["error"], rtol=1e-8)
        assert not info["converged"] and info["error"] > 0.9
    # The true error: a Newton step is exact here.
    np.testing.assert_allclose(
        1 - stiff(np.zeros(2), 20).grad["log_decay"] / stiff(SOLVED, 0).grad["log_decay"],
        infos[0]["error"],
        rtol=1e-8,
    )


@pytest.mark.parametrize("steps", [0, 5])
def test_at_the_solution_a_task_has_converged_however_it_got_there(steps):
    for start in (SOLVED, SOLVED * (1 + 1e-9)):
        found = stiff(start, steps)
        assert found.info["converged"] and found.info["error"] < 1e-6
    away = after(SOLVED + np.array([1e3, 0.0]), 40)  # from far along what is learned fast
    assert (
        stiff(SOLVED + np.array([1e3, 0.0]), 40).info["converged"]
        and np.linalg.norm(away - SOLVED) < 1e-3
    )


def test_a_start_that_the_query_likes_is_not_an_end():
    # There the query's slope is 0, and with it the derivative: it is the end that it would have to
    # be taken at.
    found = stiff(WANTED, 0)
    assert (
        found.grad["log_decay"] == 0 and found.info["error"] > 0.9 and not found.info["converged"]
    )


def test_a_solve_that_has_not_converged_never_says_so():
    found = stiff(SOLVED, 5, cg(1))
    assert found.info["residual"] > 1e-3 and not found.info["converged"]
    # The other way round: where the query's slope is solved for at once, and what is left to learn
    # is not.
    found = stiff(np.zeros(2), 20, cg(1), wanted=np.array([1.5, after(np.zeros(2), 20)[1]]))
    assert found.info["residual"] < 1e-3 and not found.info["converged"]


def test_the_prediction_costs_nothing_where_nobody_looks_at_it():
    def factorisations(look):
        curved = quadratic_learner(RATE, 3)._replace(
            loss=lambda key, phi, batch: (jnp.sum(jnp.cosh(phi - batch.centre)), {})
        )
        bilevel = Bilevel(HELD, curved)
        text = (
            jax.jit(
                lambda theta: look(implicit(direct()).estimate(KEY, bilevel, theta, tasks(), ())[0])
            )
            .lower((THETA, ()))
            .compile()
            .as_text()
        )
        return text.count("getrf")

    assert (
        factorisations(lambda found: (found.loss, found.grad))
        == 1
        < factorisations(lambda found: found.info["converged"])
    )


@pytest.mark.parametrize("damping", [0.0, 0.2])
def test_the_residual_of_too_few_iterations_is_the_true_one(damping):
    result = on_quadratics(implicit(cg(2, damping)))

    def residual(task):
        phi, hessian = reached(task)
        b = asked(task, phi)
        basis = np.stack([b, hessian @ b], axis=1)
        damped = hessian + damping * np.eye(D)
        v = basis @ np.linalg.solve(basis.T @ damped @ basis, basis.T @ b)
        return np.linalg.norm(hessian @ v - b) / np.linalg.norm(b)

    np.testing.assert_allclose(result.info["residual"], each(residual), rtol=1e-8)
    assert np.all(result.info["iterations"] == 2) and np.all(result.info["residual"] > 1e-4)


ESTIMATORS = {"implicit": implicit(), "t1t2": t1t2(), "sama": sama()}
REFUSED = {
    "a start without a proximal term": (jm.initialisation(), THETA, "got theta's leaf ''"),
    "step sizes": (
        jm.compose(HELD, jm.step_sizes(1.0)),
        ((THETA, ()), np.float64(1.0)),
        "got theta's leaf '1'",
    ),
    "a preconditioner": (
        jm.compose(HELD, jm.preconditioner()),
        ((THETA, ()), (np.eye(D),)),
        "got theta's leaf '1/0'",
    ),
}


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("case", REFUSED)
def test_what_only_says_how_the_end_is_reached_is_refused(name, case):
    bias, theta, message = REFUSED[case]
    with pytest.raises(ValueError, match=f"{message}.*proximal.*unrolled.*fixed"):
        ESTIMATORS[name].init(KEY, Bilevel(bias, quadratic_learner(RATE, 3)), theta, tasks())


def test_ends_of_proximal_steps_are_refused_as_ends_where_no_gradient_vanishes():
    def lasso(log_strength):
        def shrink(updates, state, phi):
            moved = phi + updates
            return jnp.sign(moved) * jnp.maximum(
                jnp.abs(moved) - 0.1 * jnp.exp(log_strength), 0
            ) - phi, state

        update = optax.chain(optax.sgd(0.1), optax.GradientTransformation(lambda phi: (), shrink))
        return quadratic_learner(RATE, 50)._replace(
            update=update, start=lambda key, task: jnp.zeros(D)
        )

    bilevel = Bilevel(jm.hyperparameters(lasso, log_strength=-2.0), lasso(-2.0))
    with pytest.raises(
        ValueError,
        match="ends where the gradient of loss plus penalty vanishes.*log_strength.*unrolled",
    ):
        implicit().init(KEY, bilevel, {"log_strength": jnp.asarray(-2.0)}, tasks())


@pytest.mark.parametrize("part", ["path", "losses"])
def test_an_outer_objective_that_looks_at_the_way_is_refused(part):
    def outer(key, learner, trajectory, task):
        value, aux = jm.query_loss(key, learner, trajectory, task)
        return value + jnp.sum(getattr(trajectory, part)), aux

    with pytest.raises(ValueError, match="start and the end alone.*judge the end, or use unrolled"):
        implicit().init(KEY, Bilevel(HELD, quadratic_learner(RATE, 3), outer), (THETA, ()), tasks())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: cg(0), "iterations of cg must be at least 1, got 0"),
        (lambda: cg(5, -1.0), "damping of cg must be at least 0, got -1.0"),
        (lambda: neumann(2.5), "terms of neumann must be a whole number, got 2.5"),
        (lambda: identity(0.0), "rate of neumann must be above 0, got 0.0"),
        (lambda: nystrom(0), "rank of nystrom must be at least 1, got 0"),
        (lambda: nystrom(3, 0.0), "damping of nystrom must be above 0, got 0.0"),
        (lambda: implicit(tolerance=0.0), "tolerance must be above 0, got 0.0"),
        (lambda: sama(0.0), "finite difference must be above 0, got 0.0"),
        (
            lambda: on_quadratics(implicit(nystrom(6))),
            "rank of nystrom must be at most the 5 low-level parameters, got 6",
        ),
    ],
)
def test_bad_parameters_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_theta_without_leaves_is_estimated():
    result = on_quadratics(implicit(), 3, (), jm.fixed(jm.proximal(2.0)))
    assert result.grad == () and np.isfinite(result.loss)


@pytest.mark.parametrize("solver", [direct(), cg(D)], ids=["direct", "cg"])
def test_the_estimate_is_differentiable_in_turn(solver):
    bilevel = Bilevel(HELD, quadratic_learner(RATE, 60))

    def slope(theta):
        return implicit(solver).estimate(KEY, bilevel, (theta, ()), tasks(), ())[0].grad[0]

    def curvature(task):
        inverse = STRENGTH * np.linalg.inv(reached(task)[1])
        return inverse @ task.query.curvature @ inverse

    np.testing.assert_allclose(
        jax.jit(jax.jacrev(slope))(THETA), each(curvature).mean(0), rtol=1e-9, atol=1e-12
    )


def test_a_loss_that_draws_numbers_is_taken_with_one_key():
    plain = quadratic_learner(RATE, 5)

    def noisy(key, phi, batch):
        value, aux = plain.loss(key, phi, batch)
        return value * jax.random.uniform(key, minval=0.5, maxval=1.5), aux

    def outer(key, learner, trajectory, task):
        return plain.loss(key, trajectory.end, task.query)[0], trajectory.end

    first = jax.tree.map(lambda leaf: leaf[:1], tasks())
    result = estimate(
        implicit(direct()), Bilevel(HELD, plain._replace(loss=noisy), outer), (THETA, ()), first
    )
    task, grad, phi = problems.one(tasks()), result.grad[0], result.info["aux"][0]
    # (c A + s) grad = s b for the one c that was drawn, which the slope at both ends has too.
    bent, rest = task.support.curvature @ grad, STRENGTH * (asked(task, phi) - grad)
    c = bent @ rest / (bent @ bent)
    np.testing.assert_allclose(rest, c * bent, rtol=1e-9)
    assert 0.5 < c < 1.5 and abs(c - 1) > 1e-3

    def slope(phi):
        return c * task.support.curvature @ (phi - task.support.centre) + STRENGTH * (phi - THETA)

    ratio = np.linalg.norm(slope(phi)) / np.linalg.norm(slope(THETA))
    np.testing.assert_allclose(result.info["stationarity"][0], ratio, rtol=1e-8)


def test_imaml_holds_on_in_training_alone():
    algorithm = jm.imaml(quadratic_learner(RATE, 16), STRENGTH)
    theta = algorithm.bilevel.init(KEY, problems.one(tasks()))
    held = algorithm.bilevel._replace(bias=HELD)
    ours, same = (
        estimate(algorithm.estimator, algorithm.bilevel, theta, tasks()),
        estimate(implicit(cg(5)), held, (theta, ()), tasks()),
    )
    chex.assert_trees_all_equal(ours._replace(grad=(ours.grad, ())), same)
    task = problems.one(tasks())
    ours, plain, held = (
        jm.adapt(KEY, bilevel.bias.shape(theta, task, bilevel.learner), task)
        for bilevel, theta in (
            (algorithm.bilevel, theta),
            (jm.maml(quadratic_learner(RATE, 16)).bilevel, theta),
            (held, (theta, ())),
        )
    )
    chex.assert_trees_all_equal(ours, plain)
    assert np.abs(ours - held).max() > 1e-3
