"""Weights: of examples, where weight 0 is as good as absence, and of tasks; labels that are no
class, classes without support."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import problems
import pytest

import jaxmeta as jm
from jaxmeta.base import Bilevel, Examples, Task
from jaxmeta.learner import (
    cosine,
    linear,
    local_matching,
    matching,
    mean_ridge,
    prototypes,
    ridge,
    ridge_regression,
    support_vectors,
)

KEY = jax.random.key(0)
HEADS = {
    "prototypes": prototypes,
    "ridge": ridge,
    "mean ridge": mean_ridge,
    "ridge over dimensions": lambda ways: jm.representation(first(2)).shape(
        (), episode(), ridge(ways)
    ),
    "matching": matching,
    "local matching": local_matching,
    "support vectors": support_vectors,
    "linear": lambda ways: linear(ways, optax.sgd(0.5), 3),
    "cosine": lambda ways: cosine(ways, update=optax.sgd(0.5), steps=3),
    "gradient": lambda ways: jm.gradient(
        problems.smooth_model(ways), update=optax.sgd(0.3), steps=2
    ),
}
SOLVED = [name for name in HEADS if name not in ("linear", "cosine", "gradient")]


def first(count):
    return jm.models.Model(lambda key, x: (), lambda params, x, reference=None: x[:, :count])


def episode(classes=(0, 0, 0, 1, 1, 2), seed=0):
    rng = np.random.default_rng(seed)
    support = Examples(jnp.asarray(rng.normal(size=(len(classes), 4))), jnp.asarray(classes))
    return Task(
        support,
        Examples(jnp.asarray(rng.normal(size=(5, 4))), jnp.asarray([0, 1, 2, 2, 1])),
        jnp.zeros((), int),
    )


def padded(examples, count, label=0, value=7.0):
    """The examples and so many more of weight 0."""
    x, y = examples.x, examples.y
    return Examples(
        jnp.concatenate([x, jnp.full((count, *x.shape[1:]), value)]),
        jnp.concatenate([y, jnp.full((count, *y.shape[1:]), label, y.dtype)]),
        weight=jnp.arange(len(x) + count) < len(x),
    )


def learned(learner, task, query=None):
    query = task.query if query is None else query
    return learner.loss(KEY, jm.trajectory(KEY, learner, task).end, query)


# Compiled: op by op is slow. What is refused is run without.
judged = jax.jit(learned, static_argnums=0)


@pytest.mark.parametrize("label", [0, -1, 9])
@pytest.mark.parametrize("head", HEADS)
def test_weight_zero_is_absence_in_support_and_query(head, label):
    learner, task = HEADS[head](3), episode()
    value, aux = judged(learner, task)
    more = task._replace(support=padded(task.support, 3, label), query=padded(task.query, 2, label))
    found, beside = judged(learner, more)
    np.testing.assert_allclose([found, beside["accuracy"]], [value, aux["accuracy"]], rtol=1e-10)


@pytest.mark.parametrize("head", HEADS)
def test_whole_weights_are_repetitions(head):
    task, times = episode(), np.array([1, 2, 1, 3, 1, 2])
    support = task.support
    weighted = task._replace(support=support._replace(weight=jnp.asarray(times, float)))
    repeated = task._replace(
        support=Examples(jnp.repeat(support.x, times, axis=0), jnp.repeat(support.y, times))
    )
    np.testing.assert_allclose(
        *(judged(HEADS[head](3), each)[0] for each in (weighted, repeated)), rtol=1e-9
    )


@pytest.mark.parametrize("head", [*SOLVED, "relation"])
def test_a_task_of_fewer_classes_goes_with_those_of_more(head):
    if head == "relation":
        bias = jm.bias.comparison(problems.smooth_model(None), problems.smooth_model(1), 3)
        theta = bias.init(KEY, episode(), None)
        learners = [
            jm.bias.comparison(problems.smooth_model(None), problems.smooth_model(1), ways).shape(
                theta, episode(), prototypes(3)
            )
            for ways in (3, 5)
        ]
    else:
        learners = [HEADS[head](ways) for ways in (3, 5)]
    values = [judged(learner, episode()) for learner in learners]
    chex.assert_trees_all_close(*values, rtol=1e-9)
    scores = learners[1].predict(KEY, jm.adapt(KEY, learners[1], episode()), episode().query)
    assert np.isneginf(scores[:, 3:]).all() and np.isfinite(scores[:, :3]).all()


@pytest.mark.parametrize("head", SOLVED)
def test_a_query_of_a_class_without_support_counts_nothing_and_is_told(head):
    task, learner = episode(), HEADS[head](4)
    asked = task._replace(query=task.query._replace(y=jnp.asarray([0, 3, 2, 3, 1])))
    value, aux = judged(learner, asked)
    known = np.array([0, 2, 4])
    alone, _ = judged(learner, asked, Examples(asked.query.x[known], asked.query.y[known]))
    assert aux["unsupported"].tolist() == [False, True, False, True, False]
    np.testing.assert_allclose(value, alone, rtol=1e-10)
    slope = jax.jit(
        jax.grad(lambda x: learned(learner, asked._replace(support=asked.support._replace(x=x)))[0])
    )(task.support.x)
    assert np.isfinite(slope).all() and np.any(slope)


@pytest.mark.parametrize(
    "head",
    [
        "prototypes",
        "ridge",
        "mean ridge",
        "ridge over dimensions",
        "matching",
        "linear",
        "gradient",
    ],
)
def test_the_derivative_in_the_weights_is_the_difference_at_zero_as_well(head):
    task, learner = episode(), HEADS[head](3)
    weight = jnp.asarray([1.0, 0.5, 0.0, 1.0, 2.0, 1.0])

    @jax.jit
    def value(weight):
        return learned(learner, task._replace(support=task.support._replace(weight=weight)))[0]

    direction, h = np.array([0.3, -0.2, 0.9, 0.1, 0.4, -0.5]), 1e-6
    difference = (value(weight + h * direction) - value(weight - h * direction)) / (2 * h)
    np.testing.assert_allclose(jax.jit(jax.grad(value))(weight) @ direction, difference, rtol=1e-6)


def test_a_criterion_is_a_mean_by_weight_and_leaves_the_values_beside_it():
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)))
    y, weight = jnp.asarray([0, 2, 1, 1]), jnp.asarray([1.0, 0.0, 3.0, 2.0])
    each = -jax.nn.log_softmax(logits)[jnp.arange(4), y]
    value, aux = jm.cross_entropy(logits, Examples(None, y, weight=weight))
    np.testing.assert_allclose(value, each @ weight / 6, rtol=1e-12)
    np.testing.assert_allclose(aux["values"], each, rtol=1e-12)
    np.testing.assert_allclose(aux["accuracy"], ((logits.argmax(1) == y) @ weight) / 6)
    assert jm.cross_entropy(logits, Examples(None, y, weight=0 * weight))[0] == 0
    squares, aux = jm.squared_error(
        logits, Examples(None, jnp.zeros((4, 3)), jnp.arange(4) == 0, weight)
    )
    np.testing.assert_allclose(
        squares, (logits**2).mean(1)[1:] @ weight[1:] / 5, rtol=1e-12
    )  # a reference counts in none


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_that_is_no_class_is_refused_where_known_and_nan_under_jit(label):
    logits, y = jnp.zeros((2, 3)), jnp.asarray([0, label])
    with pytest.raises(ValueError, match=f"from 0 to 2 for 3 classes, got {label}; number"):
        jm.cross_entropy(logits, Examples(None, y))
    value, aux = jax.jit(lambda y: jm.cross_entropy(logits, Examples(None, y)))(y)
    assert np.isnan(value) and np.isnan(aux["accuracy"])
    task = episode()
    wrong = task._replace(support=task.support._replace(y=task.support.y.at[1].set(label)))
    for head in HEADS:
        with pytest.raises(ValueError, match=f"got {label}"):
            learned(HEADS[head](3), wrong)
        assert np.isnan(judged(HEADS[head](3), wrong)[0]), head


def test_normalisation_looks_at_what_is_there():
    model = jm.models.conv1d(3, 4)
    task = episode()
    windows = Examples(
        jnp.asarray(np.random.default_rng(1).normal(size=(6, 16, 2)), jnp.float32), task.support.y
    )
    learner = jm.gradient(model, update=optax.sgd(0.1), steps=1)
    query = jax.tree.map(lambda leaf: leaf[1:4], windows)
    plain = judged(learner, Task(windows, query))[0]
    fewer = judged(learner, Task(padded(windows, 4), padded(query, 2)))[0]
    np.testing.assert_allclose(plain, fewer, rtol=1e-5)
    uneven = windows._replace(weight=jnp.asarray([0.1, 3.0, 1.0, 1.0, 1.0, 0.2]))
    params = model.init(KEY, windows.x)
    chex.assert_trees_all_close(
        learner.predict(KEY, params, windows),
        learner.predict(KEY, params, uneven),
        rtol=1e-4,
        atol=1e-5,
    )


def test_tasks_of_unequal_ways_and_shots_are_one_batch_and_one_program():
    tasks = [episode(), episode((0, 0, 1)), episode((0, 1, 2, 3), seed=4)]
    tasks[1] = tasks[1]._replace(query=Examples(tasks[1].query.x[:2], jnp.asarray([0, 1])))
    batch = jax.tree.map(
        lambda *leaves: jnp.stack(leaves),
        *(
            Task(
                padded(t.support, 6 - len(t.support.y)), padded(t.query, 5 - len(t.query.y)), t.node
            )
            for t in tasks
        ),
    )
    bilevel = jm.protonet(problems.smooth_model(None), 4).bilevel
    theta = bilevel.init(KEY, problems.one(batch))
    estimate, _ = jax.jit(lambda theta: jm.unrolled().estimate(KEY, bilevel, theta, batch, ()))(
        theta
    )
    alone = [
        jax.jit(
            jax.value_and_grad(lambda theta, task=task: jm.outcome(KEY, bilevel, theta, task)[0])
        )(theta)
        for task in tasks
    ]
    np.testing.assert_allclose(estimate.info["losses"], [loss for loss, _ in alone], rtol=1e-10)
    chex.assert_trees_all_close(
        estimate.grad, jax.tree.map(lambda *g: sum(g) / 3, *(grad for _, grad in alone)), rtol=1e-9
    )


ESTIMATORS = {
    "unrolled": jm.unrolled,
    "first_order": lambda over: jm.first_order(over),
    "truncated": lambda over: jm.truncated(3, over=over),
    "forward": lambda over: jm.forward(jm.estimator.basis, over=over),
    "evolution": lambda over: jm.evolution(0.01, 2, over=over),
    "implicit": lambda over: jm.implicit(jm.cg(3), over=over),
    "reptile": lambda over: jm.estimator.reptile(over),
}


# Weights act before the mapper: it is the same for all estimators.
WAYS_OVER = {"at once": {}, "by chunk": {"chunk": 1}, "over devices": {"chunk": 1, "mesh": 2}}


@pytest.mark.parametrize(
    "name, over",
    [
        *(("unrolled", over) for over in WAYS_OVER),
        ("truncated", "at once"),
        *(
            pytest.param(
                name,
                "over devices",
                marks=pytest.mark.slow if name == "implicit" else pytest.mark.long,
            )
            for name in ESTIMATORS
            if name != "unrolled"
        ),
    ],
)
def test_weights_of_tasks_are_those_of_the_mean(name, over):
    over = WAYS_OVER[over]
    over = dict(over, mesh=jm.task_mesh()) if "mesh" in over else over
    bias = jm.compose(jm.initialisation(), jm.fixed(jm.proximal(2.0)))
    bilevel, tasks = Bilevel(bias, problems.learner()), problems.classified()
    theta, estimator = (
        bilevel.init(KEY, problems.one(tasks)),
        ESTIMATORS[name](over=jm.over_tasks(**over)),
    )
    weight = jnp.asarray([1.0, 0.0, 3.0, 2.0])
    state = estimator.init(KEY, bilevel, theta, tasks)

    def of(weight):
        return estimator.estimate(KEY, bilevel, theta, tasks._replace(weight=weight), state)[0]

    compiled = jax.jit(of)
    found, each = compiled(weight), [compiled(jnp.eye(4)[place]) for place in range(4)]
    for share, one in zip(weight, each):  # a task's own estimate is the mean of it alone
        assert share == 0 or np.isfinite(one.loss)
    chex.assert_trees_all_close(
        found.grad,
        jax.tree.map(
            lambda *leaves: sum(w * leaf for w, leaf in zip(weight, leaves)) / 6,
            *(one.grad for one in each),
        ),
        rtol=1e-9,
        atol=1e-14,
    )
    np.testing.assert_allclose(found.loss, weight @ found.info["losses"] / 6, rtol=1e-12)
    chex.assert_trees_all_close(compiled(jnp.full(4, 2.0)).grad, jax.jit(of)(None).grad, rtol=1e-9)


def test_a_task_of_weight_zero_is_not_seen():
    tasks = problems.classified()
    broken = tasks._replace(
        query=tasks.query._replace(x=tasks.query.x.at[1].set(jnp.nan)),
        weight=jnp.asarray([1.0, 0, 1, 1]),
    )
    bilevel = jm.maml(problems.learner()).bilevel
    theta = bilevel.init(KEY, problems.one(tasks))
    estimated = jax.jit(lambda tasks: jm.unrolled().estimate(KEY, bilevel, theta, tasks, ()))
    estimate, _ = estimated(broken)
    assert np.isfinite(estimate.loss) and all(
        np.isfinite(leaf).all() for leaf in jax.tree.leaves(estimate.grad)
    )
    none, _ = estimated(tasks._replace(weight=jnp.zeros(4)))
    assert none.loss == 0 and not any(np.any(leaf) for leaf in jax.tree.leaves(none.grad))


@pytest.mark.parametrize("n, d", [(6, 3), (4, 6)])
def test_ridge_on_vectors_is_the_least_of_its_objective(n, d):
    rng = np.random.default_rng(0)
    support = Examples(
        jnp.asarray(rng.normal(size=(n, d))),
        jnp.asarray(rng.normal(size=(n, 2))),
        weight=jnp.asarray(rng.uniform(0, 2, n)).at[0].set(0.0),
    )
    phi = jm.adapt(KEY, ridge_regression(0.3), Task(support, support))

    def objective(phi):
        errors = ((support.x @ phi["kernel"] + phi["bias"][None] - support.y) ** 2).sum(1)
        return errors @ support.weight + np.exp(0.3) * jnp.sum(phi["kernel"] ** 2)

    chex.assert_trees_all_close(
        jax.grad(objective)(phi), jax.tree.map(jnp.zeros_like, phi), atol=1e-11
    )
    with pytest.raises(ValueError, match="real targets .* take ridge"):
        jm.adapt(KEY, ridge_regression(), episode())
    with pytest.raises(
        ValueError, match="labels that are integers, got dtype float64; .*ridge_regression"
    ):
        jm.adapt(KEY, ridge(1), Task(support, support))


@pytest.mark.parametrize("name", ["proto_maml", "leo"])
def test_starts_made_of_class_means_do_not_shrink_with_the_weights(name):
    task = episode()
    light = task._replace(support=task.support._replace(weight=jnp.full(6, 0.1)))
    bilevel = problems.ALGORITHMS[name]().bilevel
    theta = bilevel.init(KEY, task)
    outcome = jax.jit(lambda task: jm.outcome(KEY, bilevel, theta, task)[0])
    np.testing.assert_allclose(outcome(light), outcome(task), rtol=1e-10)


def test_padding_that_is_nearer_than_the_support_takes_no_share_of_the_attention():
    x = jnp.asarray([[-1.0, 0.0], [-1.0, 0.1], [1.0, 0.0]], jnp.float32)
    query, learner = Examples(x[2:], jnp.asarray([1])), matching(2, scale=200.0)
    values = [
        judged(learner, Task(support, query))[0]
        for support in (
            Examples(x[:2], jnp.asarray([0, 1])),
            Examples(x, jnp.asarray([0, 1, 0]), weight=jnp.asarray([1.0, 1.0, 0.0])),
        )
    ]
    np.testing.assert_allclose(*values, rtol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_ridge_of_few_bits_is_solved_in_more(dtype):
    task, few = (
        episode(),
        jax.tree.map(lambda leaf: leaf.astype(dtype) if leaf.dtype == float else leaf, episode()),
    )
    found = jm.adapt(KEY, ridge(3), few)
    assert found.dtype == dtype
    np.testing.assert_allclose(found.astype(float), jm.adapt(KEY, ridge(3), task), atol=0.02)


def test_weights_below_zero_are_refused_where_known():
    weight = jnp.asarray([1.0, -1.0])
    for criterion in (
        jm.cross_entropy,
        lambda logits, batch: jm.squared_error(logits[:, 0], batch._replace(y=jnp.zeros(2))),
    ):
        with pytest.raises(
            ValueError, match="weights of examples must be numbers from 0 up, got -1.0; give 0"
        ):
            criterion(jnp.zeros((2, 3)), Examples(None, jnp.zeros(2, int), weight=weight))
    tasks = problems.classified(tasks=2)._replace(weight=weight)
    bilevel = jm.maml(problems.learner()).bilevel
    with pytest.raises(ValueError, match="weights of tasks must be numbers from 0 up, got -1.0"):
        jm.unrolled().estimate(KEY, bilevel, bilevel.init(KEY, problems.one(tasks)), tasks, ())


def test_weights_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"one number for each of the 2, got shape \(2, 1\)"):
        jm.squared_error(
            jnp.ones((2, 1)), Examples(None, jnp.zeros((2, 1)), None, jnp.ones((2, 1)))
        )


def normalised(ways=3):
    """A linear map, normalised by the batch."""
    norm = jm.models.batch_norm()

    def init(key, x):
        norm = {"scale": jnp.ones(ways), "offset": jnp.zeros(ways)}
        return {"kernel": jax.random.normal(key, (x.shape[1], ways)), "norm": norm}

    return jm.models.Model(
        init,
        lambda params, x, reference=None: norm.apply(
            {"params": params["norm"]}, x @ params["kernel"], reference
        ),
    )


def test_what_is_marked_as_reference_counts_in_no_inductive_loss_and_alone_normalises():
    task, learner = episode(), jm.gradient(normalised(), update=optax.sgd(0.5), steps=0)
    bilevel = jm.maml(learner, outer=jm.inductive(jm.query_loss)).bilevel
    theta = bilevel.init(KEY, task)
    seen = jnp.asarray([True, True, False, True, True, False])
    marked = task._replace(
        support=task.support._replace(reference=seen),
        query=task.query._replace(reference=jnp.arange(5) < 2),
    )
    alone = task._replace(
        support=jax.tree.map(lambda leaf: leaf[seen], task.support),
        query=jax.tree.map(lambda leaf: leaf[2:], task.query),
    )
    judged = jax.jit(
        jax.value_and_grad(lambda theta, task: jm.outcome(KEY, bilevel, theta, task)[0])
    )
    chex.assert_trees_all_close(judged(theta, marked), judged(theta, alone), rtol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize(
    "outer", [jm.query_loss, jm.inductive(jm.query_loss)], ids=["transductive", "inductive"]
)
def test_padding_images_changes_neither_the_loss_nor_its_derivative_through_learning(outer):
    rng = np.random.default_rng(
        0
    )  # the first block has the moments of its patches, the second those of its outputs
    parts = [
        Examples(jnp.asarray(rng.normal(size=(count, 5, 5, 1))), jnp.arange(count) % 3)
        for count in (5, 4)
    ]
    bilevel = jm.maml(
        jm.gradient(jm.models.conv4(3, 4, blocks=2), update=optax.sgd(0.1), steps=1), outer=outer
    ).bilevel
    theta = bilevel.init(KEY, Task(*parts))
    plain, more = (
        jax.jit(
            jax.value_and_grad(lambda theta, task=task: jm.outcome(KEY, bilevel, theta, task)[0])
        )(theta)
        for task in (Task(*parts), Task(padded(parts[0], 3), padded(parts[1], 2)))
    )
    chex.assert_trees_all_close(more, plain, rtol=1e-5, atol=1e-6)
