"""What a learner says of unlabelled inputs; learning that goes on; constants among parameters; what
stands beside a loss."""

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

KEY = jax.random.key(0)
PROBLEMS = {name: make().bilevel for name, make in problems.ALGORITHMS.items()} | {
    f"bias: {name}": Bilevel(bias, problems.learner()) for name, bias in problems.BIASES.items()
}
QUICK = ("maml", "cavia", "protonet", "leo", "black_box")


@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in PROBLEMS],
)
def test_predictions_are_what_the_loss_is_made_of(name):
    bilevel, task = PROBLEMS[name], problems.one(problems.classified())
    theta = jax.jit(bilevel.init)(KEY, task)
    theta = jax.tree.map(
        lambda x: x + 0.1 * np.random.default_rng(x.size).normal(size=x.shape), theta
    )

    def both(theta, task):
        learner, walked, key = jm.process.learned(KEY, bilevel, theta, task)
        loss, aux = learner.loss(key, walked.end, task.query)
        return (
            loss,
            aux["values"],
            jm.predict(KEY, bilevel, theta, task._replace(query=task.query._replace(y=None))),
        )

    loss, values, said = jax.jit(both)(theta, task)
    each = -jax.nn.log_softmax(said)[np.arange(len(said)), task.query.y]
    np.testing.assert_allclose(values, each, rtol=1e-9)
    np.testing.assert_allclose(loss, each.mean(), rtol=1e-9)


OUTERS = {
    "inductive": jm.inductive(jm.query_loss),
    "multi_step": jm.objective.multi_step(jnp.asarray([0.5, 0.5])),
    "regularised": jm.objective.regularised(jm.inductive(jm.query_loss)),
    "bootstrapped": jm.objective.bootstrapped(2, outer=jm.inductive(jm.query_loss)),
    "evidence": jm.objective.evidence(),
    "of one's own": lambda key, learner, walked, task: (jnp.sum(walked.end["w"]), {}),
}


@pytest.mark.parametrize("name", OUTERS)
def test_predictions_see_the_batch_that_the_outer_objective_makes(name):
    def apply(params, x, reference=None):  # normalised by the mean of what it may look at
        share = jnp.ones(len(x)) if reference is None else reference.astype(x.dtype)
        return (x - (share @ x / share.sum())[None]) @ params["w"]

    model = jm.models.Model(lambda key, x: {"w": jax.random.normal(key, (x.shape[1], 3))}, apply)
    bilevel = Bilevel(jm.initialisation(), jm.gradient(model, steps=2), OUTERS[name])
    task = problems.one(problems.classified())
    theta = bilevel.init(KEY, task)
    learner, walked, _ = jm.process.learned(KEY, bilevel, theta, task)
    by = task.support.x if name in ("inductive", "regularised", "bootstrapped") else task.query.x
    expected = (task.query.x - by.mean(0)[None]) @ walked.end["w"]
    np.testing.assert_allclose(jm.predict(KEY, bilevel, theta, task), expected, rtol=1e-10)


def test_an_objective_of_ones_own_hands_on_what_it_asks():
    inductive = jm.inductive(jm.query_loss)

    @functools.wraps(inductive)
    def halved(*given):
        value, aux = inductive(*given)
        return value / 2, aux

    task = problems.one(problems.classified())
    assert len(jm.base.asked(halved, task).y) == len(task.support.y) + len(task.query.y)


def test_regression_on_stacked_batches_predicts_without_targets():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 6, 2)))
    task = Task(Examples(x, x @ jnp.ones((2, 1))), Examples(x[0], None))
    bilevel = Bilevel(jm.batch_by_step(), jm.ridge_regression(-20.0))
    np.testing.assert_allclose(
        jm.predict(KEY, bilevel, (), task), x[0] @ jnp.ones((2, 1)), rtol=1e-6
    )


def test_a_learner_that_cannot_say_is_refused():
    learner = Learner(
        lambda key, task: jnp.zeros(()),
        lambda key, phi, b: ((phi - b) ** 2, {}),
        jm.no_penalty,
        optax.sgd(0.1),
        1,
    )
    with pytest.raises(
        ValueError, match="predictions need a learner that has them, .* learner._replace"
    ):
        jm.predict(KEY, jm.maml(learner).bilevel, jnp.zeros(()), Task(jnp.ones(()), jnp.ones(())))


def test_inner_steps_one_at_a_time_are_the_run():
    learner, task = problems.learner(steps=4), problems.one(problems.classified())
    key_start, key_steps = jax.random.split(KEY)
    whole = jm.trajectory(KEY, learner, task)
    position, losses = jm.begin(key_start, learner, task), []
    for k in range(4):
        position, (_, loss, _) = jm.advance(
            jax.random.fold_in(key_steps, k), learner, task, position, 1, before=k
        )
        losses.append(loss[0])
    chex.assert_trees_all_close(
        (position.phi, jnp.stack(losses)), (whole.end, whole.losses), rtol=1e-12
    )


def test_frozen_leaves_are_moved_by_nobody():
    learner, tasks = problems.learner(), problems.classified()
    given = learner.start(jax.random.key(5), problems.one(tasks))
    body = jm.named("body")
    bias = jm.compose(
        jm.fixed(jm.shared(body), jm.take(given, body)),
        jm.fixed(jm.initialisation(), jm.take(given, jm.named("head"))),
        jm.step_sizes(),
    )
    bilevel = Bilevel(bias, learner)
    theta = bilevel.init(KEY, problems.one(tasks))
    assert [leaf.shape for leaf in jax.tree.leaves(theta)] == [()]  # the step size alone is learned
    estimate, _ = jm.unrolled().estimate(KEY, bilevel, theta, tasks, ())
    assert estimate.grad[2] != 0
    walked = jm.trajectory(
        KEY, bias.shape(theta, problems.one(tasks), learner), problems.one(tasks)
    )
    assert all(leaf is None for leaf in walked.end["body"].values())
    chex.assert_trees_all_equal(walked.start["head"], given["head"])


class Counted:
    """A model with a whole number, a flag and a key among its parameters."""

    def __init__(self, plain):
        self.plain = plain

    def init(self, key, x):
        return {
            "net": self.plain.init(key, x),
            "count": jnp.asarray([1, 2]),
            "on": jnp.asarray(True),
            "key": jax.random.key(3),
        }

    def apply(self, params, x, reference=None):
        return (
            jnp.where(params["on"], 1, 2)
            * params["count"][1]
            * self.plain.apply(params["net"], x)
            / 2
        )


ROADS = {
    "unrolled": jm.unrolled(),
    "jax.grad": jm.unrolled(gradient=jax.grad),
    "mixed": jm.mixed(jm.binomial(2)),
    "truncated": jm.truncated(3),
    "forward": jm.forward(jm.estimator.basis),
    "first_order": jm.first_order(),
    "implicit": jm.implicit(jm.cg(3)),
    "sama": jm.sama(),
    "reptile": jm.estimator.reptile(),
    "pes": jm.pes(0.01, 2, 3),
    "penalised": jm.estimator.penalised(
        jm.unrolled(),
        lambda theta: sum(
            jnp.sum(leaf**2) for leaf in jax.tree.leaves(theta) if leaf.dtype == float
        ),
    ),
    "perturbed": jm.estimator.perturbed(jm.unrolled(), scale=0.0),
}


@pytest.mark.parametrize(
    "road",
    [
        road if road in ("unrolled", "implicit") else pytest.param(road, marks=pytest.mark.slow)
        for road in ROADS
    ],
)
def test_whole_numbers_flags_and_keys_among_parameters_are_constants(road):
    plain, tasks = problems.smooth_model(), problems.classified()
    bias = jm.compose(jm.initialisation(), jm.fixed(jm.proximal(2.0)))
    problem, whole = (
        Bilevel(bias, problems.learner(model=model)) for model in (plain, Counted(plain))
    )
    theta = whole.init(KEY, problems.one(tasks))

    def estimate(bilevel, theta):
        state = ROADS[road].init(KEY, bilevel, theta, tasks)
        return jax.jit(lambda theta: ROADS[road].estimate(KEY, bilevel, theta, tasks, state)[0])(
            theta
        )

    expected, found = estimate(problem, (theta[0]["net"], ())), estimate(whole, theta)
    if road not in ("pes",):  # which draws by the number of leaves
        chex.assert_trees_all_close(found.grad[0]["net"], expected.grad[0], rtol=1e-9, atol=1e-14)
        np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-12)
    assert found.grad[0]["count"].tolist() == [0, 0] and not found.grad[0]["on"]
    chex.assert_trees_all_equal_shapes_and_dtypes(found.grad, theta)


@pytest.mark.parametrize(
    "bias",
    [
        jm.step_sizes(each=jm.element),
        jm.preconditioner(),
        jm.bias.adaptive_rates(),
        jm.bias.attenuated(),
        jm.momentum(0.5),
    ],
    ids=["steps", "kronecker", "alfa", "l2f", "momentum"],
)
def test_biases_on_the_update_leave_constants_alone(bias):
    task = problems.one(problems.classified())
    bilevel = Bilevel(
        jm.compose(jm.initialisation(), bias),
        problems.learner(model=Counted(problems.smooth_model())),
    )
    theta = bilevel.init(KEY, task)
    end = jm.adapt(KEY, bilevel.bias.shape(theta, task, bilevel.learner), task)
    assert end["count"].tolist() == [1, 2] and np.any(
        end["net"]["head"]["kernel"] != theta[0]["net"]["head"]["kernel"]
    )


@pytest.mark.parametrize(
    "aux, said",
    [
        ({"n": 3, "b": True, "f": 0.5}, [3, True, 0.5]),
        ({"deep": {"s": "a"}}, "got str at 'deep/s'"),
    ],
)
def test_plain_numbers_beside_a_loss_are_reported_and_words_refused(aux, said):
    learner = Learner(
        lambda key, task: jnp.zeros(3),
        lambda key, phi, b: (jnp.sum((phi - b) ** 2), aux),
        jm.no_penalty,
        optax.sgd(0.1),
        2,
    )
    tasks = Task(jnp.ones((2, 3)), jnp.ones((2, 3)))

    def run():
        return (
            jm.unrolled()
            .estimate(KEY, jm.maml(learner).bilevel, jnp.zeros(3), tasks, ())[0]
            .info["aux"]
        )

    if isinstance(said, str):
        with pytest.raises(ValueError, match=f"must be arrays or numbers, {said}"):
            run()
    else:
        chex.assert_trees_all_close(
            run(), {"n": jnp.full(2, 3), "b": jnp.full(2, True), "f": jnp.full(2, 0.5)}
        )


@pytest.mark.parametrize(
    "tasks, message",
    [
        (Task(jnp.ones((2, 3)), jnp.ones((3, 3))), "here 2, got 'query' that has 3 tasks"),
        (
            Task(Examples(jnp.ones((2, 3)), jnp.ones(())), jnp.ones((2, 3))),
            "got 'support/y' that has no axis of tasks",
        ),
        (Task(jnp.ones((0, 3)), jnp.ones((0, 3))), "at least one task, got none"),
    ],
)
def test_batches_made_by_hand_are_refused_by_the_leaf(tasks, message):
    learner = Learner(
        lambda key, task: jnp.zeros(3),
        lambda key, phi, b: (jnp.sum(phi), {}),
        jm.no_penalty,
        optax.sgd(0.1),
        2,
    )
    for estimator in (jm.unrolled(), jm.truncated(1)):
        with pytest.raises(ValueError, match=message):
            estimator.init(KEY, jm.maml(learner).bilevel, jnp.zeros(3), tasks)
        with pytest.raises(ValueError, match=message):
            estimator.estimate(KEY, jm.maml(learner).bilevel, jnp.zeros(3), tasks, ())
