"""Ways through the unrolled process: one derivative, whatever is stored and however inner gradients
are differentiated."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import problems
import pytest

import jaxmeta as jm
from jaxmeta.base import Bilevel, Examples, Learner, Task
from jaxmeta.estimator import (
    constant,
    each_step,
    finite_difference,
    linearising,
    offloading,
    rebuilding,
    recomputing,
    saving,
    segments,
    storing,
)
from jaxmeta.estimator._binomial import schedule

KEY, STEPS = jax.random.key(0), 11
PLANS = {
    "scan": jax.lax.scan,
    "storing": storing,
    "each step": each_step,
    "saving": saving("inner_gradient"),
    "segments": segments(),
    "two levels": segments(2, 3, within=each_step),
    "more segments than steps": segments(50),
    "rebuilding": rebuilding(6),
    "rebuilding, two levels": rebuilding(2, 3),
    "binomial 1": jm.binomial(1),
    "binomial 3": jm.binomial(3),
}
GRADIENTS = {"reverse": jax.grad, "recomputing": recomputing, "linearising": linearising}
# Every gradient under the plain scan, every plan under mixed mode, and some of the rest.
WAYS = [
    ("reverse", "each step"),
    ("reverse", "binomial 3"),
    ("linearising", "scan"),
    ("linearising", "segments"),
    ("linearising", "rebuilding"),
    *(("recomputing", name) for name in PLANS),
]


QUICK = (
    ("linearising", "scan"),
    ("recomputing", "saving"),
    ("recomputing", "two levels"),
    ("recomputing", "binomial 3"),
)


@functools.cache
def setting():
    """Weight decay, momentum, a start and step sizes are learned: theta acts through loss, start
    and update."""
    bias = jm.compose(
        jm.hyperparameters(
            lambda **theta: problems._weight_decayed(**theta)._replace(steps=STEPS),
            log_decay=-2.0,
            momentum=0.4,
        ),
        jm.initialisation(),
        jm.step_sizes(0.7, steps=STEPS),
    )
    bilevel = Bilevel(bias, problems.learner())
    tasks = problems.classified(tasks=2)
    return bilevel, jax.jit(bilevel.init)(KEY, problems.one(tasks)), tasks


def loss(theta, x, y, gradient, plan):
    """The mean outer loss, of theta and of the data."""
    bilevel, _, tasks = setting()
    tasks = tasks._replace(support=tasks.support._replace(x=x), query=tasks.query._replace(x=y))
    return jax.vmap(lambda task: jm.outcome(KEY, bilevel, theta, task, gradient, plan)[0])(
        tasks
    ).mean()


def arguments():
    _, theta, tasks = setting()
    return theta, tasks.support.x, tasks.query.x


def first(of):
    return jax.grad(of, argnums=(0, 1, 2))


def task_by_task(of):
    """Differentiated within the map over tasks instead of around it."""
    bilevel, _, tasks = setting()

    def one(theta, task, gradient, plan):
        grad = jax.grad(
            lambda theta, x: jm.outcome(
                KEY,
                bilevel,
                theta,
                task._replace(support=task.support._replace(x=x)),
                gradient,
                plan,
            )[0],
            argnums=(0, 1),
        )
        return grad(theta, task.support.x)

    gradient, plan = of.keywords["gradient"], of.keywords["plan"]
    return lambda theta, x, y: jax.vmap(lambda task: one(theta, task, gradient, plan))(tasks)


def forward(of):
    return lambda *at: jax.jvp(of, at, jax.tree.map(jnp.ones_like, at))[1]


def second(of):
    return first(lambda *at: optax.tree.norm(first(of)(*at)))


def hessian_product(of):
    return lambda *at: jax.jvp(first(of), at, jax.tree.map(jnp.ones_like, at))[1]


DERIVATIVES = {
    "first": first,
    "task by task": task_by_task,
    "forward": forward,
    "second": second,
    "forward over reverse": hessian_product,
}


@functools.cache
def derivative(kind, gradient, plan):
    of = functools.partial(loss, gradient=GRADIENTS[gradient], plan=PLANS[plan])
    return jax.jit(DERIVATIVES[kind](of))(*arguments())


def cases():
    """First derivatives of every way, the others of one way of each kind; the quick suite keeps the
    former of the latter, the long one has those that the rest imply."""
    for kind in DERIVATIVES:
        for way in WAYS if kind == "first" else (*QUICK, ("reverse", "binomial 3")):
            quick, long = kind == "first" and way in QUICK, kind in ("task by task", "forward")
            marks = () if quick else pytest.mark.long if long else pytest.mark.slow
            yield pytest.param(kind, *way, marks=marks, id=f"{kind}-{way[0]}-{way[1]}")


@pytest.mark.parametrize(("kind", "gradient", "plan"), list(cases()))
def test_every_way_has_the_derivatives_of_reverse_over_reverse(kind, gradient, plan):
    expected = derivative(kind, "reverse", "scan")
    chex.assert_trees_all_close(derivative(kind, gradient, plan), expected, rtol=1e-10, atol=1e-13)
    assert all(np.abs(leaf).max() > 1e-6 for leaf in jax.tree.leaves(expected))


def test_the_derivative_in_theta_and_data_is_the_central_difference():
    at, unravel = jax.flatten_util.ravel_pytree(arguments())
    of = jax.jit(lambda flat: loss(*unravel(flat), recomputing, PLANS["saving"]))
    grad, _ = jax.flatten_util.ravel_pytree(derivative("first", "recomputing", "saving"))
    direction, h = np.random.default_rng(0).normal(size=at.shape), 1e-5
    np.testing.assert_allclose(
        grad @ direction, (of(at + h * direction) - of(at - h * direction)) / (2 * h), rtol=1e-7
    )


def test_finite_differences_are_near_and_get_nearer():
    exact, _ = jax.flatten_util.ravel_pytree(derivative("first", "reverse", "scan"))

    def error(size):
        grad = jax.jit(
            first(functools.partial(loss, gradient=finite_difference(size), plan=jax.lax.scan))
        )(*arguments())
        return np.linalg.norm(jax.flatten_util.ravel_pytree(grad)[0] - exact) / np.linalg.norm(
            exact
        )

    # Central differences: a tenth of the size is a hundredth of the error.
    assert 50 < error(0.1) / error(0.01) < 200


def noisy():
    """Support in single precision, one leaf of phi in it and one in double; dropout from the step's
    key; aux of several kinds, which the outer objective differentiates."""

    def start(key, task):
        return {"w": jnp.asarray([0.3, -0.2, 0.5], jnp.float32), "b": jnp.asarray(0.1, jnp.float64)}

    def criterion(key, phi, batch):
        kept = jax.random.bernoulli(key, 0.7, batch.x.shape)
        x = jnp.where(kept, batch.x, 0)
        wrong = jnp.tanh(x @ phi["w"]).astype(jnp.float64) + phi["b"] - batch.y
        return (wrong**2).mean(), {"drawn": kept.sum(), "size": (phi["w"] ** 2).sum()}

    def outer(key, learner, walked, task):
        value, _ = learner.loss(key, walked.end, task.query)
        return value + walked.losses.sum() + (
            walked.aux["size"] * walked.aux["drawn"].astype(jnp.float32)
        ).mean().astype(jnp.float64), {}

    return Bilevel(
        jm.compose(jm.initialisation(), jm.step_sizes(0.9)),
        Learner(start, criterion, jm.no_penalty, optax.adam(0.05), 5),
        outer,
    )


@pytest.mark.parametrize(
    ("gradient", "plan"),
    [
        (linearising, "scan"),
        *(
            pytest.param(*way, marks=pytest.mark.slow)
            for way in ((recomputing, "saving"), (recomputing, "binomial 3"))
        ),
    ],
)
def test_draws_aux_and_dtypes_that_differ_between_steps(gradient, plan):
    rng = np.random.default_rng(1)
    draw = lambda: Examples(
        jnp.asarray(rng.normal(size=(6, 3)), jnp.float32), jnp.asarray(rng.normal(size=6))
    )
    task, bilevel = Task(draw(), draw()), noisy()
    theta = bilevel.init(KEY, task)

    def of(theta, x, gradient, plan):
        return jm.outcome(
            KEY, bilevel, theta, task._replace(support=task.support._replace(x=x)), gradient, plan
        )[0]

    def slopes(gradient, plan):
        return jax.jit(jax.grad(lambda theta, x: of(theta, x, gradient, plan), (0, 1)))(
            theta, task.support.x
        )

    ours, expected = slopes(gradient, PLANS[plan]), slopes(jax.grad, jax.lax.scan)
    chex.assert_trees_all_equal_shapes_and_dtypes(ours, expected)
    chex.assert_trees_all_close(ours, expected, rtol=2e-5, atol=1e-6)
    assert np.abs(expected[0][0]["b"]) > 1e-3


@pytest.mark.parametrize("gradient", GRADIENTS.values(), ids=GRADIENTS)
def test_adam_at_exactly_zero_gradients_is_not_nan(gradient):
    # A leaf that the loss does not look at: its gradients, and Adam's moments, are zero.
    def criterion(key, phi, batch):
        return ((phi["used"] - batch) ** 2).sum(), {}

    learner = Learner(
        lambda key, task: {"used": jnp.ones(2), "idle": jnp.ones(2)},
        criterion,
        jm.no_penalty,
        optax.adam(0.1),
        3,
    )
    bilevel = Bilevel(jm.initialisation(), learner)
    task = Task(jnp.zeros(2), jnp.zeros(2))
    grad = jax.jit(jax.grad(lambda theta: jm.outcome(KEY, bilevel, theta, task, gradient)[0]))(
        bilevel.init(KEY, task)
    )
    assert np.isfinite(grad["used"]).all()
    np.testing.assert_array_equal(grad["idle"], 0)


def test_what_claims_second_order_is_not_first_order():
    of = functools.partial(loss, gradient=constant, plan=jax.lax.scan)
    held, _ = jax.flatten_util.ravel_pytree(jax.jit(first(of))(*arguments()))
    for gradient in GRADIENTS:
        exact, _ = jax.flatten_util.ravel_pytree(derivative("first", gradient, "scan"))
        assert np.linalg.norm(exact - held) > 0.1 * np.linalg.norm(exact)


@pytest.mark.parametrize("slots", [1, 2, 3, 8])
@pytest.mark.parametrize("steps", [2, 3, 10, 35])
def test_the_binomial_schedule_is_optimal_and_keeps_to_its_slots(steps, slots):
    @functools.cache
    def fewest(steps, slots):
        if steps <= 1:
            return 0
        if slots == 1:
            return steps - 1 + fewest(steps - 1, 1)
        return min(
            first + fewest(first, slots) + fewest(steps - first, slots - 1)
            for first in range(1, steps)
        )

    slots = min(slots, steps - 1)
    legs, ranges = schedule(steps, slots)
    assert sum(high - low for _, low, high in legs) == fewest(steps, slots)
    assert ranges[:, 2].max() <= slots
    stored = {0: 0}  # what a slot has: the carry before this step
    for k in reversed(range(steps)):
        for slot, low, high in legs[ranges[k, 0] : ranges[k, 1]]:
            assert stored[slot] == low
            stored[slot + 1] = high
        assert stored[ranges[k, 2]] == k


def wide(steps, gradient, plan):
    """The compiled meta-gradient of a 1,000-dimensional start, with a rate for each step."""

    def criterion(key, phi, batch):
        return (jnp.tanh(phi * batch) ** 2).sum(), {}

    learner = Learner(
        lambda key, task: jnp.ones(1000),
        criterion,
        jm.no_penalty,
        optax.sgd(0.1, momentum=0.5),
        steps,
    )
    bilevel = Bilevel(jm.compose(jm.initialisation(), jm.step_sizes(1.0, steps=steps)), learner)
    task = Task(jnp.ones(1000), jnp.ones(1000))
    theta = jax.eval_shape(bilevel.init, KEY, task)
    return (
        jax.jit(
            jax.value_and_grad(
                lambda theta: jm.outcome(KEY, bilevel, theta, task, gradient, plan)[0]
            )
        )
        .lower(theta)
        .compile()
        .memory_analysis()
        .temp_size_in_bytes
        / 8000
    )


def test_memory_is_what_the_plans_say():
    # In vectors of phi; a carry is two of them, phi and momentum. The slack is for what a single
    # step needs.
    assert wide(256, recomputing, jax.lax.scan) > 500
    assert 500 < wide(256, recomputing, each_step) < 530
    assert wide(256, recomputing, segments(16, within=each_step)) < 2 * 32 + 20
    assert wide(256, recomputing, segments(4, 4, 4, within=each_step)) < 2 * 16 + 20
    assert wide(64, recomputing, jm.binomial(4)) < 2 * 5 + 20
    assert wide(256, recomputing, jm.binomial(4)) < 2 * 5 + 20


def test_rebuilding_stores_activations_and_few_carries():
    def criterion(key, phi, batch):
        return (jax.nn.relu(batch @ phi) ** 2).sum(), {}

    learner = Learner(
        lambda key, task: jnp.ones((40, 50)),
        criterion,
        jm.no_penalty,
        optax.sgd(0.1, momentum=0.5),
        64,
    )
    bilevel = Bilevel(jm.compose(jm.initialisation(), jm.step_sizes(1.0, steps=64)), learner)
    task = Task(jnp.ones((1, 40)), jnp.ones((1, 40)))
    theta = jax.eval_shape(bilevel.init, KEY, task)

    def carries(plan):
        of = jax.grad(lambda theta: jm.outcome(KEY, bilevel, theta, task, linearising, plan)[0])
        return jax.jit(of).lower(theta).compile().memory_analysis().temp_size_in_bytes / (
            2 * 8 * 40 * 50
        )

    # Momentum at every step is half a carry; rebuilt, there is a carry every 8 steps, 8 steps'
    # momenta, and rows of 50.
    assert carries(storing) > 32
    assert carries(rebuilding()) < 8 + 4 + 64 * 4 * 50 / (2 * 40 * 50) + 6


def test_offloading_says_where_it_cannot():
    kinds = {memory.kind for memory in jax.devices()[0].addressable_memories()}
    if {"device", "pinned_host"} <= kinds:
        PLANS["offloading"] = offloading
        chex.assert_trees_all_close(
            derivative("first", "recomputing", "offloading"),
            derivative("first", "reverse", "scan"),
            rtol=1e-10,
        )
    else:
        with pytest.raises(ValueError, match="take segments"):
            derivative_of = functools.partial(loss, gradient=jax.grad, plan=offloading)
            jax.eval_shape(derivative_of, *arguments())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: segments(0), "a count of segments must be at least 1, got 0"),
        (lambda: rebuilding(0), "a count of segments must be at least 1, got 0"),
        (lambda: jm.binomial(0), "slots must be at least 1, got 0"),
        (lambda: finite_difference(0.0), "size of a finite difference must be above 0, got 0.0"),
        (lambda: jm.auto(0), "budget must be above 0, got 0"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
