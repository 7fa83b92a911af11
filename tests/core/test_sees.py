"""What a step sees of the support: its place in the process, and that every bias leaves it
there."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import problems
import pytest

import jaxmeta as jm
from jaxmeta.base import Bilevel, Learner, Task

KEY = jax.random.key(0)
PROBLEMS = {name: make().bilevel for name, make in problems.ALGORITHMS.items()} | {
    f"bias: {name}": Bilevel(bias, problems.learner()) for name, bias in problems.BIASES.items()
}
# A shift of what every step sees: what a bias with a theta of its own is judged by here.
SHIFT = jm.seen(
    lambda theta, key, support, step: support._replace(x=support.x + theta[None]),
    lambda key, task, learner: jnp.zeros(task.support.x.shape[-1]),
)
ORDERS = {
    "before": lambda bias: jm.compose(SHIFT, bias),
    "after": lambda bias: jm.compose(bias, SHIFT),
}
TEN = [
    "maml",
    "anil",
    "protonet",
    "r2d2",
    "meta_sgd",
    "maml_plus_plus",
    "cavia",
    "l2f",
    "leo",
    "bias: tied",
]


def shifted(name, order):
    """The outer loss as a function of the shift and the rest of theta, and where the two are."""
    bilevel, task = PROBLEMS[name], problems.one(problems.classified())
    bilevel = bilevel._replace(bias=ORDERS[order](bilevel.bias))
    theta = jax.tree.map(
        lambda leaf: jnp.asarray(np.random.default_rng(leaf.size).normal(size=leaf.shape)),
        jax.eval_shape(bilevel.init, KEY, task),
    )
    place = 0 if order == "before" else 1

    def loss(shift):
        parts = (shift, theta[1]) if place == 0 else (theta[0], shift)
        return jm.outcome(KEY, bilevel, parts, task)[0]

    return loss, theta[place]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in TEN[:4] else pytest.mark.slow) for name in PROBLEMS],
)
def test_the_derivative_in_what_is_seen_is_there_whatever_the_bias(name, order):
    loss, shift = shifted(name, order)
    program = jax.jit(jax.grad(loss)).lower(shift).as_text()
    signature = program[program.index("@main(") :].split("\n")[0]
    assert "%arg0" in signature  # what a result does not depend on is no argument of the program


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", TEN)
def test_the_derivative_in_what_is_seen_is_the_difference(name, order):
    loss, shift = shifted(name, order)
    loss = jax.jit(loss)
    slope = jax.jit(jax.grad(loss))(shift)
    direction, h = np.array([0.7, -0.4]), 1e-5
    difference = (loss(shift + h * direction) - loss(shift - h * direction)) / (2 * h)
    np.testing.assert_allclose(slope @ direction, difference, rtol=1e-6)
    assert abs(difference) > 1e-4


def followed(steps, rate=0.5, momentum=False):
    """phi follows batches: phi <- phi + rate (batch - phi)."""
    update = optax.sgd(rate)
    learner = Learner(
        lambda key, task: jnp.zeros(2),
        lambda key, phi, b: (0.5 * jnp.sum((phi - b) ** 2), {}),
        jm.no_penalty,
        update,
        steps,
    )
    biases = [jm.batch_by_step(), jm.initialisation(), *([jm.momentum(0.5)] if momentum else [])]
    return Bilevel(jm.compose(*biases), learner)


def batches(steps, tasks=2):
    rng = np.random.default_rng(3)
    return Task(
        jnp.asarray(rng.normal(size=(tasks, steps, 2))),
        jnp.asarray(rng.normal(size=(tasks, 2))),
        jnp.zeros(tasks, int),
    )


def test_step_k_sees_batch_k_and_start_and_end_the_first_and_the_last():

    learner = Learner(
        lambda key, task: task.support[0],
        lambda key, phi, b: ((phi - b[0]) ** 2, {}),
        jm.no_penalty,
        optax.sgd(0.5),
        3,
    )._replace(sees=lambda key, support, step: support * (1 + step))
    walked = jm.trajectory(KEY, learner, Task(jnp.ones(1), None))
    assert walked.start == 1 and walked.path.tolist() == [
        1,
        2,
        3,
    ]  # each step goes all the way to what it sees
    value, _ = jm.objective.evidence()(KEY, learner, walked, Task(jnp.ones(1), None))
    np.testing.assert_allclose(value, (3 - 4) ** 2 + np.log(2) / 2)  # the end sees 1 + 3


@pytest.mark.parametrize(
    "estimator",
    [
        jm.unrolled(jm.each_step),
        jm.unrolled(jm.segments(2)),
        jm.unrolled(jm.binomial(2)),
        jm.unrolled(jm.rebuilding(2)),
        jm.mixed(),
        jm.unrolled(gradient=jax.grad),
        jm.truncated(6),
        jm.forward(jm.estimator.basis),
    ],
    ids=[
        "each_step",
        "segments",
        "binomial",
        "rebuilding",
        "mixed",
        "jax.grad",
        "truncated",
        "forward",
    ],
)
def test_every_road_knows_the_number_of_the_step(estimator):
    bilevel, tasks = followed(6), batches(6)
    theta = ((), jnp.array([0.3, -0.2]))
    state = estimator.init(KEY, bilevel, theta, tasks)
    estimate, _ = estimator.estimate(KEY, bilevel, theta, tasks, state)
    phi = np.tile(theta[1], (2, 1))
    for k in range(6):
        phi = phi + 0.5 * (np.asarray(tasks.support)[:, k] - phi)
    np.testing.assert_allclose(
        estimate.info["losses"], 0.5 * ((phi - tasks.query) ** 2).sum(1), rtol=1e-12
    )
    np.testing.assert_allclose(
        estimate.grad[1], 0.5**6 * (phi - np.asarray(tasks.query)).mean(0), rtol=1e-10
    )


def test_windows_count_on_from_one_to_the_next():
    bilevel, tasks, theta = followed(6), batches(6), ((), jnp.array([0.3, -0.2]))
    estimator = jm.truncated(2)
    state = estimator.init(KEY, bilevel, theta, tasks)
    for _ in range(3):
        estimate, state = estimator.estimate(KEY, bilevel, theta, tasks, state)
    whole, _ = jm.unrolled().estimate(KEY, bilevel, theta, tasks, ())
    np.testing.assert_allclose(estimate.info["losses"], whole.info["losses"], rtol=1e-12)
    afresh, _ = jm.truncated(2, jm.estimator.afresh).estimate(KEY, bilevel, theta, tasks, ())
    np.testing.assert_allclose(afresh.info["losses"], whole.info["losses"], rtol=1e-12)


def test_steps_that_are_undone_see_what_they_saw():
    bilevel, tasks, theta = (
        followed(6, 0.1, momentum=True),
        batches(6),
        ((), jnp.array([0.3, -0.2]), ()),
    )
    undone, _ = jm.reversible().estimate(KEY, bilevel, theta, tasks, ())
    stored, _ = jm.unrolled().estimate(KEY, bilevel, theta, tasks, ())
    assert undone.info["exact"].all()
    np.testing.assert_allclose(undone.grad[1], stored.grad[1], rtol=1e-6)


def test_an_implicit_end_looks_at_what_the_end_sees():
    pull = jm.seen(
        lambda theta, key, support, step: support + theta, lambda key, task, learner: jnp.zeros(2)
    )
    learner = followed(60).learner
    bilevel = Bilevel(jm.compose(pull), learner)
    tasks = batches(6)._replace(support=batches(6).support[:, 0])
    theta = (jnp.array([0.1, 0.2]),)
    estimate, _ = jm.implicit(jm.estimator.direct()).estimate(KEY, bilevel, theta, tasks, ())
    away = tasks.support + theta[0][None] - tasks.query  # the end is what is seen
    np.testing.assert_allclose(estimate.grad[0], away.mean(0), rtol=1e-9)


def test_a_bias_that_replaces_the_learner_keeps_what_it_sees():
    doubled = jm.seen(lambda theta, key, support, step: 2 * support)
    more = jm.seen(lambda theta, key, support, step: support + 1)
    made = jm.hyperparameters(
        lambda rate: followed(1).learner._replace(update=optax.sgd(rate)), rate=1.0
    )
    learner = jm.compose(doubled, made, more).shape(
        ((), {"rate": 1.0}, ()), None, followed(1).learner
    )
    chex.assert_trees_all_close(
        jm.adapt(KEY, learner, Task(jnp.array([3.0, 4.0]), None)), jnp.array([7.0, 9.0])
    )


def test_what_is_seen_draws_without_changing_what_the_loss_draws():
    def loss(key, phi, b):
        return jnp.sum(phi * b), {"noise": jax.random.uniform(key)}

    learner = Learner(
        lambda key, task: jax.random.normal(key, (2,)), loss, jm.no_penalty, optax.sgd(0.1), 3
    )
    task, looks = (
        Task(jnp.ones(2), None),
        jm.seen(lambda theta, key, support, step: support + jax.random.normal(key, (2,))),
    )
    plain, noisy = (
        jm.trajectory(KEY, each, task) for each in (learner, looks.shape((), task, learner))
    )
    chex.assert_trees_all_equal((plain.aux, plain.start), (noisy.aux, noisy.start))
    assert len(np.unique(np.diff(noisy.path, axis=0))) == 4  # another draw at each step


def test_minibatches_are_parts_of_the_support():
    task = problems.one(problems.classified())
    learner = jm.minibatches(2).shape((), task, problems.learner())
    rows = {tuple(row) for row in np.asarray(task.support.x)}
    for step in range(3):
        seen = learner.sees(jax.random.key(step), task.support, step)
        assert seen.x.shape[0] == 2 and {tuple(row) for row in np.asarray(seen.x)} <= rows
    present = task.support._replace(weight=jnp.asarray([1.0, 0.0, 2.0, 0.0, 0.0, 0.5]))
    parts = np.stack(
        [learner.sees(jax.random.key(step), present, step).weight for step in range(20)]
    )
    assert (parts > 0).all() and len(np.unique(parts)) == 3
    with pytest.raises(ValueError, match="at most its 6 examples, got 7"):
        jm.minibatches(7).shape((), task, problems.learner()).sees(KEY, task.support, 0)


@pytest.mark.parametrize(
    "bias",
    [
        jm.initialisation(),
        jm.compose(jm.shared(jm.named("head")), jm.initialisation()),
        jm.context(2),
        jm.compose(jm.initialisation(), jm.step_sizes(each=jm.element)),
        jm.compose(jm.initialisation(), jm.bias.attenuated()),
    ],
    ids=["initialisation", "shared", "context", "step sizes", "attenuated"],
)
def test_a_model_is_made_for_one_batch_of_stacked_ones(bias):
    task = problems.one(problems.classified())
    stacked = task._replace(support=jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), task.support))
    one, more = (
        Bilevel(each, problems.learner()) for each in (bias, jm.compose(jm.batch_by_step(), bias))
    )
    theta = one.init(KEY, task)
    chex.assert_trees_all_equal_shapes(more.init(KEY, stacked)[1], theta)
    values = jax.jit(
        lambda theta: (
            jm.outcome(KEY, one, theta, task)[0],
            jm.outcome(KEY, more, ((), theta), stacked)[0],
        )
    )(theta)
    np.testing.assert_allclose(*values, rtol=1e-12)  # the same batch at every step
