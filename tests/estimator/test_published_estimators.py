"""Estimators beside references in numpy, written from the papers: the same outer gradient, along
the same directions."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import problems
import pytest
from references import (
    KEY,
    RATE,
    TASKS,
    agrees,
    conjugate,
    derivative,
    descended,
    each,
    flat,
    held,
    like,
    loss,
    moved,
    over,
    same,
    slope,
    started,
    tasks,
)

import jaxmeta as jm
from jaxmeta import estimator as of
from jaxmeta.base import Algorithm, Bilevel
from jaxmeta.bias import leaf

STEPS, WINDOW, DECAY = 4, 2, 0.6


def learner(update=None, steps=STEPS):
    return jm.gradient(problems.smooth_model(), update=update or optax.sgd(RATE), steps=steps)


def with_rates(*more):
    """A start and a rate for every leaf."""
    return Bilevel(jm.compose(jm.initialisation(), jm.step_sizes(0.8, each=leaf), *more), learner())


def quick(names, *but):
    """The quick suite does without those that compile much, or whose formula another test has."""
    return [pytest.param(name, marks=pytest.mark.slow) if name in but else name for name in names]


def maml(outer=jm.query_loss):
    return Bilevel(jm.initialisation(), learner(), outer)


def of_maml(phi, task):
    return loss(descended(phi, task.support, STEPS), task.query)


# What goes through all steps.


def with_momentum(of_slope):
    def reference(theta, task):
        phi, rates, _ = theta
        momenta = jax.tree.map(np.zeros_like, phi)
        for _ in range(STEPS):
            momenta = jax.tree.map(
                lambda m, g: DECAY * m + g, momenta, slope(of_slope(phi), task.support)
            )
            phi = jax.tree.map(lambda leaf, a, m: leaf - RATE * a * m, phi, rates, momenta)
        return loss(phi, task.query)

    return over(reference)


EXACT = {
    "unrolled": of.unrolled(),
    "mixed": of.mixed(),
    "auto": of.auto(10**8),
    "reversible": of.reversible(),
    "basis": of.forward(of.basis),
    "saving": of.mixed(of.saving("inner_gradient")),
    "segments": of.mixed(of.segments(2, within=of.each_step)),
    "rebuilding": of.unrolled(of.rebuilding(2)),
    "binomial": of.mixed(of.binomial(2)),
}


@pytest.mark.parametrize("name", quick(EXACT, "auto", "rebuilding", "binomial"))
def test_what_says_exact_is_the_derivative(name):
    problem = with_rates(jm.momentum(DECAY))
    agrees(Algorithm(problem, EXACT[name]), started(problem), with_momentum(lambda phi: phi))


@pytest.mark.parametrize(
    "estimator",
    [of.first_order(), of.unrolled(gradient=of.constant)],
    ids=["first_order", "constant"],
)
def test_to_the_first_order_inner_gradients_are_held_constant(estimator):
    problem = with_rates(jm.momentum(DECAY))
    agrees(Algorithm(problem, estimator), started(problem), with_momentum(held))


def test_products_with_the_hessian_by_differences_are_those_of_darts():
    problem, size = maml(), 0.01
    theta, values, grads = started(problem), [], []
    for task in each(tasks()):
        path = [descended(theta, task.support, steps) for steps in range(STEPS + 1)]
        back = slope(path[-1], task.query)
        for phi in reversed(path[:-1]):
            e = size / np.linalg.norm(flat(back))
            ahead, behind = (slope(moved(phi, back, way * e), task.support) for way in (-1, 1))
            back = jax.tree.map(lambda v, a, b: v - RATE * (a - b) / (2 * e), back, ahead, behind)
        values.append(loss(path[-1], task.query))
        grads.append(flat(back))
    same(
        Algorithm(problem, of.unrolled(gradient=of.finite_difference(size))),
        theta,
        np.mean(values),
        like(theta, np.mean(grads, axis=0)),
    )


def test_reptile_goes_from_the_start_to_the_end():
    problem = maml()
    theta = started(problem)
    ends = [flat(descended(theta, task.support, STEPS)) for task in each(tasks())]
    same(
        Algorithm(problem, of.reptile()),
        theta,
        over(of_maml)(theta),
        like(theta, flat(theta) - np.mean(ends, axis=0)),
    )


# Windows.


def stepped(phi, rates, batch, steps):
    for _ in range(steps):
        phi = jax.tree.map(lambda leaf, a, g: leaf - RATE * a * g, phi, rates, slope(phi, batch))
    return phi


def windowed(before, window):
    """Learning up to the window is no function of theta."""

    def reference(theta, task):
        phi, rates = (
            theta if before == 0 else (stepped(*held(theta), task.support, before), theta[1])
        )
        return loss(stepped(phi, rates, task.support, window), task.query)

    return over(reference)


@pytest.mark.parametrize(
    "estimator, window, before",
    [
        (of.truncated(WINDOW, of.afresh), WINDOW, [2, 2]),
        (of.truncated(WINDOW, of.going_on), WINDOW, [0, 2, 0]),
        (of.one_step(), 1, [0, 1, 2]),
    ],
    ids=["afresh", "going_on", "one_step"],
)
def test_a_window_alone_is_differentiated(estimator, window, before):
    problem = with_rates()
    theta, state = started(problem), None
    for steps in before:
        state = same(
            Algorithm(problem, estimator),
            theta,
            *derivative(windowed(steps, window), theta),
            state=state,
        )


# At the end of learning.


def series(matrix, b, terms, rate):
    return (
        rate
        * sum(
            np.linalg.matrix_power(np.eye(len(b)) - rate * matrix, power) for power in range(terms)
        )
        @ b
    )


def by_columns(matrix, b, rank, damping, place):
    """Of some columns C and the rows W of these, `(C W^-1 C' + damping I)^-1 b`; the columns are
    those that the code draws."""
    own = jax.random.split(jax.random.fold_in(jax.random.split(KEY, TASKS)[place], 2))[1]
    chosen = np.asarray(jax.random.choice(own, len(b), (rank,), replace=False))
    columns = matrix[:, chosen]
    return np.linalg.solve(
        columns @ np.linalg.solve(columns[chosen], columns.T) + damping * np.eye(len(b)), b
    )


SOLVERS = {
    "direct": (of.implicit(of.direct()), lambda matrix, b, place: np.linalg.solve(matrix, b)),
    "cg": (
        of.implicit(of.cg(5, 0.3)),
        lambda matrix, b, place: conjugate(matrix + 0.3 * np.eye(len(b)), b, 5),
    ),
    "neumann": (
        of.implicit(of.neumann(6, 0.2)),
        lambda matrix, b, place: series(matrix, b, 6, 0.2),
    ),
    "nystrom": (
        of.implicit(of.nystrom(6, 0.05)),
        lambda matrix, b, place: by_columns(matrix, b, 6, 0.05, place),
    ),
    "t1t2": (of.t1t2(0.2), lambda matrix, b, place: 0.2 * b),
}


def near(update=None):
    """The head is shared, the body learns, held to its start by a learned strength."""
    bias = jm.compose(jm.shared(jm.named("head")), jm.initialisation(), jm.proximal(2.0))
    return Bilevel(bias, learner(update))


def preferred(theta, body, batch):
    """The gradient in the body of the support's loss and the proximal term."""
    away = jax.tree.map(lambda a, b: np.exp(theta[2]) * (a - b), body, theta[1]["body"])
    return jax.tree.map(
        np.add, slope({"body": body, "head": theta[0]["head"]}, batch)["body"], away
    )


def descent(rate=RATE):
    return lambda grads, memory: (-rate * grads, memory)


def adam(rate, b1=0.9, b2=0.999, eps=1e-8):
    def update(grads, memory):
        m, v, count = memory or (0, 0, 0)
        m, v, count = b1 * m + (1 - b1) * grads, b2 * v + (1 - b2) * grads**2, count + 1
        return -rate * m / (1 - b1**count) / (np.sqrt(v / (1 - b2**count)) + eps), (m, v, count)

    return update


def ended(theta, task, update):
    body, memory = theta[1]["body"], None
    for _ in range(STEPS):
        step, memory = update(flat(preferred(theta, body, task.support)), memory)
        body = like(body, flat(body) + step)
    return body, memory


@pytest.mark.parametrize("name", quick(SOLVERS, "direct", "cg", "neumann"))
def test_the_implicit_derivative_is_by_the_same_solution(name):
    estimator, solved = SOLVERS[name]
    problem = near()
    theta, values, grads = started(problem), [], []
    for place, task in enumerate(each(tasks())):
        body, _ = ended(theta, task, descent())
        phi = {"body": body, "head": theta[0]["head"]}
        asked, curvature = (
            slope(phi, task.query),
            derivative(lambda body: flat(preferred(theta, body, task.support)), body)[1],
        )
        v = solved(curvature, flat(asked["body"]), place)
        mixed = derivative(lambda theta: flat(preferred(theta, body, task.support)), theta)[1]
        explicit = jax.tree.map(np.zeros_like, theta)
        explicit[0]["head"] = asked["head"]
        values.append(loss(phi, task.query))
        grads.append(flat(explicit) - mixed.T @ v)
    same(Algorithm(problem, estimator), theta, np.mean(values), like(theta, np.mean(grads, axis=0)))


@pytest.mark.parametrize(
    "theirs, ours",
    [(optax.sgd(RATE), descent()), (optax.adam(0.05), adam(0.05))],
    ids=["sgd", "adam"],
)
def test_sama_is_the_papers_with_the_learners_next_step(theirs, ours):
    """`v = D d query / d phi` with D the derivative of a step in its gradient, and a difference of
    gradients along it."""
    problem, size = near(theirs), 0.01
    theta, values, grads = started(problem), [], []
    for task in each(tasks()):
        body, memory = ended(theta, task, ours)
        phi = {"body": body, "head": theta[0]["head"]}
        answer = -ours(flat(preferred(theta, body, task.support)) + 1e-30j, memory)[0].imag / 1e-30
        asked = slope(phi, task.query)
        v = answer * flat(asked["body"])
        e = size / np.linalg.norm(v)

        def in_theta(body):
            away = flat(body) - flat(theta[1])
            strength = np.exp(theta[2])
            return np.concatenate(
                [
                    flat(slope(phi | {"body": body}, task.support)["head"]),
                    -strength * away,
                    [strength / 2 * away @ away],
                ]
            )

        ahead, behind = (in_theta(like(body, flat(body) + way * e * v)) for way in (1, -1))
        explicit = np.concatenate([flat(asked["head"]), np.zeros(len(v) + 1)])
        values.append(loss(phi, task.query))
        grads.append(explicit - (ahead - behind) / (2 * e))
    same(
        Algorithm(problem, of.sama(size)),
        theta,
        np.mean(values),
        like(theta, np.mean(grads, axis=0)),
    )


# Along random directions, those that the code draws.


def drawn(directions, theta, key=KEY):
    """`[T, P, D]`."""
    keys = [jax.random.fold_in(own, 2**31 - 1) for own in jax.random.split(key, TASKS)]
    stacked = [directions(own, jax.tree.map(jnp.asarray, theta)) for own in keys]
    return [
        np.concatenate([np.reshape(leaf, (len(leaf), -1)) for leaf in jax.tree.leaves(v)], axis=1)
        for v in stacked
    ]


@pytest.mark.parametrize(
    "directions", [of.rademacher(3), of.gaussian(3)], ids=["rademacher", "gaussian"]
)
def test_forward_gradients_are_slopes_times_directions(directions):
    problem = maml()
    theta, grads = started(problem), []
    for task, v in zip(each(tasks()), drawn(directions, theta)):
        exact = flat(derivative(lambda phi, task=task: of_maml(phi, task), theta)[1])
        grads.append(np.mean((v @ exact)[:, None] * v, axis=0))
    same(
        Algorithm(problem, of.forward(directions)),
        theta,
        over(of_maml)(theta),
        like(theta, np.mean(grads, axis=0)),
    )


def fresh(eps, before, anew):
    return eps, eps


def persistent(eps, before, anew):
    return eps, eps if anew else before + eps


def reused(eps, before, anew):
    return (eps, eps) if anew else (before, before)


SIGMA, PAIRS = 0.05, 2
EVOLUTIONS = {
    "evolution": (of.evolution(SIGMA, PAIRS), STEPS, fresh),
    "fresh": (of.evolution(SIGMA, PAIRS, WINDOW), WINDOW, fresh),
    "pes": (of.pes(SIGMA, PAIRS, WINDOW), WINDOW, persistent),
    "nres": (of.nres(SIGMA, PAIRS, WINDOW), WINDOW, reused),
}


@pytest.mark.parametrize("name", quick(EVOLUTIONS, "fresh"))
def test_evolution_weighs_differences_by_the_noise_so_far(name):
    """`1 / (2 sigma^2 P) sum xi (L(theta + eps) - L(theta - eps))`, each particle going on where it
    was."""
    estimator, window, noise = EVOLUTIONS[name]
    problem = with_rates()
    theta, state = started(problem), None
    xi, ends = [0] * TASKS, {}
    for count in range(3):  # a run has two windows: the third begins anew
        key, values, grads = jax.random.fold_in(KEY, count), [], []
        anew = window * count % STEPS == 0
        for place, (task, v) in enumerate(
            zip(each(tasks()), drawn(of.gaussian(PAIRS), theta, key))
        ):
            eps, xi[place] = noise(SIGMA * v, xi[place], anew)
            losses = np.zeros((2, PAIRS))
            for side, pair in np.ndindex(2, PAIRS):
                phi, rates = like(theta, flat(theta) + (1, -1)[side] * eps[pair])
                phi = phi if anew else ends[place, side, pair]
                ends[place, side, pair] = stepped(phi, rates, task.support, window)
                losses[side, pair] = loss(ends[place, side, pair], task.query)
            values.append(losses.mean())
            grads.append((losses[0] - losses[1]) @ xi[place] / (2 * SIGMA**2 * PAIRS))
        state = same(
            Algorithm(problem, estimator),
            theta,
            np.mean(values),
            like(theta, np.mean(grads, axis=0)),
            state=state,
            key=key,
        )


# What changes an estimator.


def times(factor):
    def outer(key, learner, walked, task):
        value, aux = jm.query_loss(key, learner, walked, task)
        return factor * value, aux

    return outer


def test_scheduled_and_in_training_estimate_the_problem_as_they_change_it():
    theta = started(maml())
    growing = of.scheduled(
        of.unrolled(), lambda count, problem: problem._replace(outer=times(1.0 + count))
    )
    trained = of.in_training(of.unrolled(), lambda problem: problem._replace(outer=times(3.0)))
    value, grad = derivative(over(of_maml), theta)
    state = None
    for count in range(2):
        state = same(
            Algorithm(maml(), growing),
            theta,
            (1 + count) * value,
            jax.tree.map(lambda g: (1 + count) * g, grad),
            state=state,
        )
    same(Algorithm(maml(), trained), theta, 3 * value, jax.tree.map(lambda g: 3 * g, grad))


def test_staged_is_one_and_then_the_other():
    theta, staged = started(maml()), of.staged([of.first_order(), of.unrolled()], [1])
    ends = [(descended(theta, task.support, STEPS), task.query) for task in each(tasks())]
    first = like(theta, np.mean([flat(slope(*end)) for end in ends], axis=0))
    value, exact = derivative(over(of_maml), theta)
    state = same(Algorithm(maml(), staged), theta, value, first)
    same(Algorithm(maml(), staged), theta, value, exact, state=state)


def test_penalised_and_perturbed_are_of_another_theta_or_of_one_term_more():
    theta = started(maml())
    penalised = of.penalised(of.unrolled(), lambda theta: optax.tree.norm(theta, squared=True), 0.7)
    agrees(
        Algorithm(maml(), penalised),
        theta,
        lambda theta: over(of_maml)(theta) + 0.7 * (flat(theta) ** 2).sum(),
    )
    keys = jax.random.split(jax.random.split(KEY)[1], 4)
    noise = np.concatenate(
        [
            np.ravel(jax.random.normal(own, leaf.shape))
            for own, leaf in zip(keys, jax.tree.leaves(theta))
        ]
    )
    perturbed = of.perturbed(of.unrolled(), jax.random.normal, 0.1)
    agrees(
        Algorithm(maml(), perturbed),
        theta,
        lambda theta: over(of_maml)(like(theta, flat(theta) + 0.1 * noise)),
    )


# By which test each is held to a reference, by itself or as all that another is made of. A plan is
# no estimate, and offloading needs a device with memory of its own.
REFERENCES = {
    test_what_says_exact_is_the_derivative: (
        *EXACT,
        "forward",
        "linearising",
        "recomputing",
        "storing",
        "each_step",
    ),
    test_to_the_first_order_inner_gradients_are_held_constant: ("first_order", "constant"),
    test_products_with_the_hessian_by_differences_are_those_of_darts: ("finite_difference",),
    test_reptile_goes_from_the_start_to_the_end: ("reptile",),
    test_a_window_alone_is_differentiated: ("truncated", "afresh", "going_on", "one_step"),
    test_the_implicit_derivative_is_by_the_same_solution: (*SOLVERS, "implicit", "identity"),
    test_sama_is_the_papers_with_the_learners_next_step: ("sama",),
    test_forward_gradients_are_slopes_times_directions: ("rademacher", "gaussian"),
    test_evolution_weighs_differences_by_the_noise_so_far: (*EVOLUTIONS, "persistent", "reused"),
    test_scheduled_and_in_training_estimate_the_problem_as_they_change_it: (
        "scheduled",
        "in_training",
    ),
    test_staged_is_one_and_then_the_other: ("staged",),
    test_penalised_and_perturbed_are_of_another_theta_or_of_one_term_more: (
        "penalised",
        "perturbed",
    ),
}


def test_every_estimator_has_a_reference():
    assert sorted(name for names in REFERENCES.values() for name in names) == sorted(
        set(of.__all__) - {"closeness", "flops", "plan", "offloading"}
    )
