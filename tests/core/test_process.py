"""The process, step by step, on one number whose every value is known."""

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
from jaxmeta.bias import free, last_begun, next_one, positive
from jaxmeta.estimator._cost import programs
from jaxmeta.models import Model

KEY = jax.random.key(0)


def number(steps=3, rate=0.5, start=1.0):
    """phi descends 1/2 (phi - support)^2."""

    def loss(key, phi, batch):
        return 0.5 * (phi["w"] - batch) ** 2 + 0 * phi["b"], {
            "seen": phi["w"],
            "noise": jax.random.uniform(key),
        }

    return Learner(
        lambda key, task: {"w": jnp.asarray(start), "b": jnp.asarray(0.0)},
        loss,
        jm.no_penalty,
        optax.sgd(rate),
        steps,
    )


TASK = Task(jnp.asarray(3.0), jnp.asarray(5.0))


def test_a_trajectory_holds_every_step():
    walked = jm.trajectory(KEY, number(), TASK)
    # phi <- phi - (phi - 3) / 2: 1, 2, 2.5, 2.75
    assert walked.start["w"] == 1.0 and walked.end["w"] == 2.75
    np.testing.assert_allclose(walked.path["w"], [2, 2.5, 2.75])
    np.testing.assert_allclose(walked.losses, [2, 0.5, 0.125])
    np.testing.assert_allclose(walked.aux["seen"], [1, 2, 2.5])
    assert len(set(walked.aux["noise"].tolist())) == 3  # a key of its own at each step
    assert jm.adapt(KEY, number(), TASK)["w"] == walked.end["w"]


def test_unread_parts_of_a_trajectory_cost_nothing():
    def learned(read):
        learner = number(steps=5)._replace(
            start=lambda key, task: {"w": jnp.ones(1000), "b": jnp.zeros(())}
        )
        learner = learner._replace(
            loss=lambda key, phi, batch: (0.5 * jnp.sum((phi["w"] - batch) ** 2), {})
        )
        return (
            jax.jit(lambda task: read(jm.trajectory(KEY, learner, task)))
            .lower(TASK)
            .compile()
            .memory_analysis()
        )

    assert (
        learned(lambda walked: walked.end["w"]).temp_size_in_bytes + 4 * 8000
        < learned(
            lambda walked: (walked.end["w"], walked.path["w"].sum(1), walked.path["w"])
        ).output_size_in_bytes
    )


def test_the_outer_objective_may_see_the_trajectory():
    def multi_step(key, learner, trajectory, task):
        losses = jax.vmap(lambda phi: learner.loss(key, phi, task.query)[0])(trajectory.path)
        return losses @ jnp.array([0.1, 0.2, 0.7]), {}

    bilevel = jm.base.Bilevel(jm.initialisation(), number(), multi_step)
    value, slope = jax.value_and_grad(lambda theta: jm.outcome(KEY, bilevel, theta, TASK)[0])(
        number().start(None, None)
    )
    away = np.array([2, 2.5, 2.75]) - 5
    np.testing.assert_allclose(value, (0.5 * away**2) @ [0.1, 0.2, 0.7])
    np.testing.assert_allclose(slope["w"], (away * [0.5, 0.25, 0.125]) @ [0.1, 0.2, 0.7])


@pytest.mark.parametrize(
    "place, sets, used, query",
    [(last_begun, [1.0, 10.0], [1, 10, 10], 10), (next_one, [1.0, 10.0, 100.0], [1, 10, 100], 100)],
)
def test_shared_by_step_gives_each_step_its_own_value_and_keeps_the_last(place, sets, used, query):
    learner = number(steps=3)._replace(
        loss=lambda key, phi, batch: (phi["b"] * phi["w"], {"b": phi["b"]})
    )
    bias = jm.compose(jm.shared(jm.named("b"), steps=2, place=place), jm.initialisation())
    theta = bias.init(KEY, TASK, learner)
    assert theta[0]["b"].shape == (len(sets),) and theta[0]["w"] is None
    theta = ({"b": jnp.array(sets), "w": None}, theta[1])
    shaped = bias.shape(theta, TASK, learner)
    walked = jm.trajectory(KEY, shaped, TASK)
    np.testing.assert_allclose(walked.aux["b"], used)
    np.testing.assert_allclose(walked.path[0]["w"], 1 - 0.5 * np.cumsum(used))
    assert shaped.loss(KEY, walked.end, TASK.query)[1]["b"] == query
    assert shaped.loss(KEY, walked.start, TASK.query)[1]["b"] == 1


@pytest.mark.parametrize("link", [free, positive], ids=["free", "positive"])
def test_step_sizes_by_step_multiply_the_update_and_keep_the_last(link):
    bias = jm.compose(jm.initialisation(), jm.step_sizes(1.0, steps=2, link=link))
    theta = bias.init(KEY, TASK, number())
    theta = (theta[0], link.inverse(jnp.array([1.0, 2.0])))
    path = jm.trajectory(KEY, bias.shape(theta, TASK, number(rate=0.25)), TASK).path["w"]
    np.testing.assert_allclose(path, [1.5, 2.25, 2.625])  # rates 0.25, 0.5, 0.5


def test_context_adapts_and_weights_do_not():
    tasks = problems.classified()
    bilevel = problems.ALGORITHMS["cavia"]().bilevel
    theta = bilevel.init(KEY, problems.one(tasks))
    assert theta["body"]["kernel"].shape[0] == problems.FEATURES + 2
    task = problems.one(tasks)
    phi = jm.adapt(KEY, bilevel.bias.shape(theta, task, bilevel.learner), task)
    assert phi.shape == (2,) and np.abs(phi).min() > 0


@pytest.mark.parametrize("scale", [None, 0.2])
def test_a_representation_of_prototypes_is_protonet(scale):
    task = problems.one(problems.classified())
    encoder = problems.smooth_model(None)
    algorithm = jm.protonet if scale is None else jm.algorithms.scaled_protonet
    bilevel = algorithm(encoder, problems.WAYS).bilevel
    theta = bilevel.init(KEY, task)
    if scale is not None:
        theta = {"log_scale": jnp.log(scale)}, theta[1]
    body = theta if scale is None else theta[1]
    support, query = (encoder.apply(body, part.x) for part in (task.support, task.query))
    means = np.stack([support[task.support.y == way].mean(0) for way in range(problems.WAYS)])
    logits = -(scale or 1) * ((query[:, None] - means[None]) ** 2).sum(-1)
    expected = -np.mean(jax.nn.log_softmax(logits)[np.arange(len(query)), task.query.y])
    np.testing.assert_allclose(jm.outcome(KEY, bilevel, theta, task)[0], expected, rtol=1e-12)


def test_anil_adapts_the_head_of_a_shared_body():
    task, whole, encoder = (
        problems.one(problems.classified()),
        problems.smooth_model(),
        problems.smooth_model(None),
    )
    head = Model(
        lambda key, x: whole.init(key, x)["head"],
        lambda params, x, reference=None: x @ params["kernel"] + params["bias"][None],
    )
    update = optax.sgd(0.3, momentum=0.5)
    anil = jm.anil(encoder, jm.gradient(head, update=update, steps=4)).bilevel
    split = Bilevel(
        jm.compose(jm.shared(jm.named("body")), jm.initialisation()),
        jm.gradient(whole, update=update, steps=4),
    )
    body, first = anil.init(KEY, task)  # {"body": ...} and a kernel with its bias
    first = jax.tree.map(lambda leaf: jax.random.normal(KEY, leaf.shape, leaf.dtype), first)

    def values(bilevel, theta):
        return jax.jit(jax.value_and_grad(lambda theta: jm.outcome(KEY, bilevel, theta, task)[0]))(
            theta
        )

    def apart(body, head):
        nothing = {"kernel": None, "bias": None}
        return {**body, "head": nothing}, {"body": nothing, "head": head}

    value, grads = values(anil, (body, first))
    chex.assert_trees_all_close(
        values(split, apart(body, first)), (value, apart(*grads)), rtol=1e-10
    )


def test_leaves_begin_at_zero_where_they_are_told_to():
    task, model = problems.one(problems.classified()), problems.smooth_model()
    drawn, begun = (
        jm.gradient(model, zero=zero).start(KEY, task) for zero in (None, jm.named("head"))
    )
    assert np.any(drawn["head"]["kernel"]) and not np.any(begun["head"]["kernel"])
    chex.assert_trees_all_equal(begun["body"], drawn["body"])
    with pytest.raises(ValueError, match="at least one leaf .* body/bias"):
        jm.gradient(model, zero=jm.named("haed")).start(KEY, task)


@pytest.mark.parametrize("name", ["anil", "leo", "baseline_plus_plus"])
def test_inner_steps_do_not_embed_the_support_again(name):
    encoder = problems.smooth_model(None)
    bilevel = {
        "anil": lambda: jm.anil(encoder, jm.learner.linear(problems.WAYS, steps=3)),
        "leo": lambda: jm.algorithms.leo(
            encoder, problems.smooth_model(6), problems.smooth_model, problems.WAYS, 0.5, 3, 2
        ),
        "baseline_plus_plus": lambda: jm.algorithms.baseline_plus_plus(
            encoder, 8, problems.WAYS, steps=3
        ),
    }[name]().bilevel
    task = problems.one(problems.classified())
    theta = bilevel.init(KEY, task)
    derivative = jax.make_jaxpr(jax.grad(lambda theta: jm.outcome(KEY, bilevel, theta, task)[0]))(
        theta
    )
    kernel = (
        problems.FEATURES,
        problems.WIDTH,
    )  # the encoder's, which no other part's has the shape of

    def places(jaxpr, inside):  # where that shape is, inside scans or outside
        for equation in jaxpr.eqns:
            yield from (inside for each in equation.outvars if each.aval.shape == kernel)
            for each in programs(list(equation.params.values())):
                yield from places(each, inside or equation.primitive.name == "scan")

    assert set(places(derivative.jaxpr, False)) == {False}


@pytest.mark.parametrize("dimensions", [3, 20], ids=["over dimensions", "over examples"])
def test_ridge_is_the_least_of_its_objective(dimensions):
    rng = np.random.default_rng(0)
    support = Examples(jnp.asarray(rng.normal(size=(8, dimensions))), jnp.arange(8) % 4)
    weights = jm.ridge(4, log_strength=0.7).start(KEY, Task(support, support))
    targets = np.eye(4)[np.asarray(support.y)]

    def objective(weights):
        return jnp.sum((support.x @ weights - targets) ** 2) + np.exp(0.7) * jnp.sum(weights**2)

    np.testing.assert_allclose(jax.grad(objective)(weights), 0, atol=1e-12)


@pytest.mark.slow
def test_inductive_predictions_need_no_other_query():
    model = jm.models.conv4(3, filters=4, blocks=2)
    task = jm.episodes(
        jm.pool(
            np.random.default_rng(0).integers(0, 255, (12, 16, 16, 1)).astype(np.uint8),
            np.repeat(np.arange(3), 4),
        ),
        3,
        1,
        3,
    )(KEY)
    alone = task._replace(query=Examples(task.query.x[:1], task.query.y[:1]))
    learner = jm.gradient(model, lambda logits, examples: (logits.sum(), {"logits": logits}))
    for outer, same in ((jm.inductive(jm.base.query_loss), True), (jm.base.query_loss, False)):
        bilevel = jm.maml(learner, outer=outer).bilevel
        theta = jax.jit(bilevel.init)(KEY, task)
        judge = jax.jit(functools.partial(jm.outcome, KEY, bilevel))
        together, single = (judge(theta, which)[1]["logits"] for which in (task, alone))
        first = 3 if same else 0  # the support comes first where it is the reference
        assert np.allclose(together[first], single[first], atol=1e-6) is same
