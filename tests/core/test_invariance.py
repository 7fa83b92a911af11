"""What the predictions of a method cannot depend on: the names of the classes, the order of the
support, the other queries where it is inductive, and the lengths of features where a head looks at
directions alone."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import problems
import pytest

import jaxmeta as jm
from jaxmeta._registry import resolved
from jaxmeta.experiment import METHODS
from jaxmeta.models import Model

KEY = jax.random.key(4)
TO = np.array([2, 0, 1])  # class c is renamed TO[c]
FROM = np.argsort(TO)

# Gradient methods whose high level has learned a start for every output: renamed, the outputs'
# parameters are to go along. Of these two the first axis is of nodes or of steps.
BY_OUTPUT = (
    "alfa",
    "anil",
    "boil",
    "bootstrapped_maml",
    "cavia",
    "fomaml",
    "imaml",
    "l2f",
    "maml",
    "maml_plus_plus",
    "meta_curvature",
    "meta_sgd",
    "msr",
    "reptile",
    "soft_tree_maml",
    "t_net",
    "tree_maml",
)
LEADING = {"maml_plus_plus": 1, "tree_maml": 1}
# Heads made of the support: nothing is to be renamed.
OF_THE_SUPPORT = (
    "leo",
    "local_matching_net",
    "matching_net",
    "metaoptnet",
    "proto_maml",
    "protonet",
    "r2d2",
    "relation_net",
    "scaled_protonet",
)
# Its head is drawn anew for every task: the draw is to go along.
DRAWN = ("baseline_plus_plus",)
# They read a sequence, by weights of their own for every label and in an order of their own.
READING = ("black_box", "snail")


@pytest.fixture(params=problems.ALGORITHMS, scope="module")
def member(request):
    name = request.param
    bilevel, task = problems.ALGORITHMS[name]().bilevel, problems.one(problems.classified())
    theta = jax.jit(bilevel.init)(KEY, task)
    theta = jax.tree.map(
        lambda x: x + 0.1 * np.random.default_rng(x.size).normal(size=x.shape), theta
    )
    return types.SimpleNamespace(
        name=name, bilevel=bilevel, theta=theta, task=task, predict=predicting(bilevel)
    )


def predicting(bilevel):
    return jax.jit(lambda theta, task: jm.predict(KEY, bilevel, theta, task))


def same(one, other):
    assert np.ptp(other, axis=1).max() > 1e-3  # they say something
    np.testing.assert_allclose(
        jax.nn.log_softmax(one), jax.nn.log_softmax(other), rtol=1e-8, atol=1e-8
    )


def renamed(task):
    return task._replace(
        support=task.support._replace(y=jnp.asarray(TO)[task.support.y]),
        query=task.query._replace(y=jnp.asarray(TO)[task.query.y]),
    )


def of_outputs(theta, lead):
    """Every axis of the head's leaves that counts classes, in the order of the new names."""

    def one(path, leaf):
        for axis in range(lead, leaf.ndim) if "'head'" in jax.tree_util.keystr(path) else ():
            leaf = (
                leaf[(slice(None),) * axis + (FROM,)] if leaf.shape[axis] == problems.WAYS else leaf
            )
        return leaf

    return jax.tree_util.tree_map_with_path(one, theta)


def of_draws(bias):
    def shape(theta, task, learner):
        shaped = bias.shape(theta, task, learner)
        return shaped._replace(start=lambda key, task: shaped.start(key, task)[FROM])

    return bias._replace(shape=shape)


def test_every_method_is_looked_at():
    assert sorted({*BY_OUTPUT, *OF_THE_SUPPORT, *DRAWN, *READING}) == sorted(
        {*jm.algorithms.__all__, *READING}
    )


def test_predictions_follow_the_names_of_the_classes(member):
    if member.name in READING:
        pytest.skip("it has weights of its own for every label, and learns to be indifferent")
    theta, predict = member.theta, member.predict
    if member.name in BY_OUTPUT:
        theta = of_outputs(theta, LEADING.get(member.name, 0))
        moved = [
            np.abs(a - b).max()
            for a, b in zip(jax.tree.leaves(theta), jax.tree.leaves(member.theta))
        ]
        assert max(moved) > 1e-2
    if member.name in DRAWN:
        predict = predicting(member.bilevel._replace(bias=of_draws(member.bilevel.bias)))
    same(predict(theta, renamed(member.task))[:, TO], member.predict(member.theta, member.task))


def test_the_order_of_the_support_does_not_matter(member):
    if member.name in READING:
        pytest.skip("it takes the examples one after the other")
    order = np.random.default_rng(0).permutation(len(member.task.support.y))
    shuffled = member.task._replace(
        support=jax.tree.map(lambda leaf: leaf[order], member.task.support)
    )
    same(member.predict(member.theta, shuffled), member.predict(member.theta, member.task))


def raw():
    return Model(lambda key, x: {}, lambda params, x, reference=None: x)


@pytest.mark.parametrize(
    "bilevel",
    [
        jm.algorithms.matching_net(raw(), problems.WAYS).bilevel,
        jm.algorithms.baseline_plus_plus(raw(), 8, problems.WAYS, steps=3).bilevel,
    ],
    ids=["matching_net", "baseline_plus_plus"],
)
def test_where_angles_count_lengths_do_not(bilevel, rng):
    task = problems.one(problems.classified())
    longer = [
        part._replace(x=part.x * rng.uniform(0.1, 10, size=(len(part.x), 1))) for part in task[:2]
    ]
    theta, predict = bilevel.init(KEY, task), predicting(bilevel)
    same(predict(theta, task._replace(support=longer[0], query=longer[1])), predict(theta, task))


def normalising(outputs):
    """A net whose inputs are normalised by the examples that it may look at, with a scale that is
    learned."""
    net = problems.smooth_model(outputs)

    def init(key, x):
        made = net.init(key, x)
        return made | {"body": made["body"] | {"norm": {"scale": jnp.ones(x.shape[-1], x.dtype)}}}

    def apply(params, x, reference=None):
        own = (jnp.ones(len(x)) if reference is None else jnp.asarray(reference, x.dtype))[:, None]
        mean = (own * x).sum(0) / own.sum()
        deviation = jnp.sqrt((own * (x - mean[None]) ** 2).sum(0) / own.sum() + 1e-3)
        return net.apply(
            params,
            (x - mean[None]) / deviation[None] * params["body"]["norm"]["scale"][None],
            reference,
        )

    return Model(init, apply)


def among_others(name, outer):
    """What the method of the table says of the first query, and what when all others are
    replaced."""
    method = METHODS[name]
    level = types.SimpleNamespace(
        ways=problems.WAYS,
        rate=method.inner_rate[0],
        steps=min(method.inner_steps, 2),
        classes=8,
        shots=2,
    )
    bilevel = resolved(method.build)(normalising, level, None, outer).bilevel
    task = problems.one(problems.classified())
    theta = jax.jit(bilevel.init)(KEY, task)
    theta = jax.tree.map(
        lambda x: x + 0.1 * np.random.default_rng(x.size).normal(size=x.shape), theta
    )
    other = task._replace(
        query=task.query._replace(x=task.query.x.at[1:].set(5 - 3 * task.query.x[1:][::-1]))
    )
    predict = predicting(bilevel)
    return predict(theta, task)[:1], predict(theta, other)[:1]


@pytest.mark.parametrize("name", METHODS)
def test_the_other_queries_do_not_matter_to_an_inductive_method(name):
    same(*among_others(name, jm.inductive(jm.query_loss)))


def test_they_do_where_a_query_is_normalised_by_its_fellows():
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        same(*among_others("maml", jm.query_loss))
