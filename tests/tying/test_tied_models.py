"""Models and biases under a tying: of every framework, at every node, and metalearned along a
tree."""

import chex
import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import problems
import pytest
from flax import nnx as fnnx

import jaxmeta as jm
import jaxmeta.tying as jt
from jaxmeta import models
from jaxmeta._pytree import named
from jaxmeta.algorithms import tree_maml
from jaxmeta.base import Algorithm, Bilevel
from jaxmeta.bias import hierarchical
from jaxmeta.estimator import penalised
from jaxmeta.hierarchy import Tree

KEY = jax.random.key(2)
TREE = Tree.from_nested((0, (1, (2, 3))))  # 4 concepts, the root 4, (1, (2, 3)) 5, (2, 3) 6
X = np.random.default_rng(0).normal(size=(4, 5, 3))  # 4 nodes
TYING = jt.applied(
    {lambda path: path.endswith(("kernel", "weight")): jt.low_rank(4, 1)},
    jt.along_tree(TREE, nodes=range(4)),
)


@pytest.mark.parametrize(
    "model",
    [
        models.linen(nn.Sequential([nn.Dense(4), nn.tanh, nn.Dense(2)])),
        models.nnx(lambda rngs: fnnx.Linear(3, 2, rngs=rngs)),
        models.equinox(lambda key: eqx.nn.MLP(3, 2, 4, 1, key=key)),
    ],
    ids=["linen", "nnx", "equinox"],
)
def test_every_framework_is_a_loop_over_the_nodes(model):
    tied = jt.tied(model, TYING)
    phi = jax.jit(tied.init)(KEY, X)
    phi = jax.tree.map(
        lambda leaf: leaf + 0.1 * np.random.default_rng(leaf.size).normal(size=leaf.shape), phi
    )

    @jax.jit
    def both(phi):
        loop = [model.apply(jt.at_node(TYING, phi, node), X[node]) for node in range(4)]
        return tied.apply(phi, X), jnp.stack(loop)

    chex.assert_trees_all_close(*both(phi), rtol=1e-6)
    chunked = jax.jit(jt.tied(model, TYING, jm.over_tasks(chunk=1)).apply)(phi, X)
    np.testing.assert_allclose(chunked, both(phi)[0], rtol=1e-6)
    with pytest.raises(ValueError, match=r"4 nodes, \[4, n, ...\], got shape \(3, 5, 3\)"):
        tied.apply(phi, X[:3])


def test_layers_and_cross_stitches():
    w = jnp.asarray(np.random.default_rng(1).normal(size=(3, 3)))
    x = jnp.asarray(X[0])
    out = jax.jit(lambda w: jt.scan_layers(lambda w, x: x @ w, jt.universal(4).expand(w), x))(w)
    np.testing.assert_allclose(out, x @ np.linalg.matrix_power(w, 4), rtol=1e-10)
    unit = jt.cross_stitch(4, own=0.7)
    alpha = unit.init(KEY, jnp.asarray(X))
    np.testing.assert_allclose(alpha.sum(1), 1)
    np.testing.assert_allclose(unit.apply(alpha, X)[0], 0.7 * X[0] + 0.1 * X[1:].sum(0), rtol=1e-12)
    np.testing.assert_allclose(unit.apply(jnp.eye(4), X), X)


def tasks_at(nodes):
    tasks = problems.classified(tasks=4)
    return jax.tree.map(lambda leaf: leaf[: len(nodes)], tasks)._replace(node=jnp.array(nodes))


def estimated(algorithm, theta, tasks):
    estimator = algorithm.estimator
    return jax.jit(
        lambda theta, tasks: estimator.estimate(KEY, algorithm.bilevel, theta, tasks, ())[0]
    )(theta, tasks)


def test_tree_maml_reaches_the_nodes_on_the_path_and_no_others():
    algorithm = tree_maml(problems.learner(), TREE, strength=0.0)
    tasks = tasks_at([2, 2])
    theta = jax.jit(algorithm.bilevel.init)(KEY, problems.one(tasks))
    estimate = estimated(algorithm, theta, tasks)
    for leaf in jax.tree.leaves(estimate.grad):
        rows = np.abs(leaf).reshape(7, -1).max(1) > 0
        assert rows.tolist() == TREE.paths[2].tolist()
        chex.assert_trees_all_close(
            leaf[2], leaf[4], leaf[5], leaf[6]
        )  # the sum passes the gradient on to each alike


def test_a_shared_tying_is_maml_and_penalties_add():
    tasks, learner = tasks_at([0, 3, 1, 3]), problems.learner(update=optax.sgd(0.2))
    plain = jm.maml(learner)
    theta = jax.jit(plain.bilevel.init)(KEY, problems.one(tasks))
    expected = estimated(plain, theta, tasks)
    shared = Algorithm(
        Bilevel(hierarchical(jm.initialisation(), jt.shared(4)), learner), jm.unrolled()
    )
    chex.assert_trees_all_close(estimated(shared, theta, tasks), expected, rtol=1e-12)

    def decay(theta):
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(theta)) / 2

    got = estimated(Algorithm(plain.bilevel, penalised(jm.unrolled(), decay, 0.3)), theta, tasks)
    np.testing.assert_allclose(got.loss, expected.loss + 0.3 * decay(theta), rtol=1e-12)
    np.testing.assert_allclose(got.info["penalty"], 0.3 * decay(theta), rtol=1e-12)
    chex.assert_trees_all_close(
        got.grad, jax.tree.map(lambda a, b: a + 0.3 * b, expected.grad, theta), rtol=1e-10
    )


def test_a_node_that_is_not_there_is_refused_while_tracing():
    bias = hierarchical(jm.initialisation(), jt.shared(4))
    task, learner = problems.one(problems.classified()), problems.learner()
    with pytest.raises(ValueError, match="node must be from 0 to 3, got 4"):
        bias.shape(bias.init(KEY, task, learner), task._replace(node=4), learner)


def seen(theta, x):
    """A loss that is not linear in anything."""
    return sum(jnp.sum(jnp.tanh(leaf * jnp.sum(x))) for leaf in jax.tree.leaves(theta))


ALL, CHUNKS, DEVICES = (
    jm.over_tasks(),
    jm.over_tasks(2),
    jm.over_tasks(1, jm.task_mesh(jax.devices()[:2])),
)


@pytest.mark.parametrize(
    ("make", "over"),
    [
        (lambda: TYING, ALL),
        (lambda: TYING, DEVICES),
        (lambda: jt.shared(4), CHUNKS),
        (lambda: jt.shared(4), DEVICES),
        (
            lambda: jt.applied(
                {
                    named("kernel"): jt.stacked(
                        jt.by_index(np.arange(6).reshape(3, 2) % 4), jt.low_rank(4, 1)
                    )
                },
                jt.by_group([0, 1, 1, 0]),
            ),
            CHUNKS,
        ),
        (lambda: jt.compose(jt.identity(), jt.along_tree_learned(TREE, nodes=range(4))), CHUNKS),
        (lambda: jt.branching(Tree.from_nested(((0, 1), (2, 3))), lambda path: 1), CHUNKS),
        (lambda: jt.templates(4, 2), DEVICES),
    ],
    ids=[
        "applied",
        "applied, devices",
        "shared",
        "shared, devices",
        "stacked",
        "whole",
        "branching",
        "templates",
    ],
)
def test_the_gradient_node_by_node_is_the_gradient(make, over):
    tying = make()
    phi = jax.jit(tying.init)(
        KEY,
        {"kernel": jnp.asarray(np.random.default_rng(1).normal(size=(3, 2))), "bias": jnp.ones(2)},
    )

    def mean(phi):
        return jnp.mean(jax.vmap(seen)(tying.expand(phi), jnp.asarray(X)))

    chex.assert_trees_all_close(
        jax.jit(jt.value_and_grad(seen, tying, over))(phi, jnp.asarray(X)),
        jax.jit(jax.value_and_grad(mean))(phi),
        rtol=1e-10,
        atol=1e-12,
    )


def test_data_of_another_number_of_nodes_is_refused():
    with pytest.raises(ValueError, match=r"each of the 4 nodes, \[4, ...\], got shape \(3,\)"):
        jt.value_and_grad(seen, jt.free(4))(jnp.ones(4), jnp.ones(3))


@pytest.mark.parametrize(
    ("make", "expansions"),
    [
        (lambda: jt.free(16), 0),
        (lambda: jt.shared(16), 0),
        (
            lambda: jt.along_tree(
                Tree.from_nested(tuple((4 * g, 4 * g + 1, 4 * g + 2, 4 * g + 3) for g in range(4))),
                nodes=range(16),
            ),
            1,
        ),
        (lambda: jt.templates(16, 3), 1),
        (lambda: jt.low_rank(16, 2), 1),
    ],
    ids=["free", "shared", "along_tree", "templates", "low_rank"],
)
def test_a_step_holds_the_free_parameters_and_one_expansion(make, expansions):
    """Beyond what goes in and comes out: so many arrays of the size of T(phi), by the compiler's
    plan."""
    tying, width = make(), 128
    model = models.mlp([width], width)
    x = jax.ShapeDtypeStruct((16, 2, width), jnp.float32)
    one = jax.eval_shape(model.init, KEY, x.update(shape=(2, width)))
    phi = jax.eval_shape(tying.init, KEY, one)
    step = jt.value_and_grad(
        lambda theta, x: jnp.mean(model.apply(theta, x) ** 2), tying, jm.over_tasks(1)
    )
    memory = jax.jit(step).lower(phi, x).compile().memory_analysis()
    expansion = 16 * sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(one))
    assert memory.temp_size_in_bytes < (expansions + 0.3) * expansion
