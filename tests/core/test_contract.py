"""The contract that every algorithm and every bias passes by being listed in `problems`."""

import types

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import problems
import pytest

import jaxmeta as jm
from jaxmeta.base import Algorithm, Bilevel

MEMBERS = (
    problems.ALGORITHMS
    | {
        f"bias: {name}": lambda over=None, bias=bias: Algorithm(
            Bilevel(bias, problems.learner()), jm.unrolled(over=over)
        )
        for name, bias in problems.BIASES.items()
    }
    | {
        "reversible": lambda over=None: Algorithm(
            Bilevel(problems.BIASES["momentum"], problems.learner(update=optax.sgd(0.3))),
            jm.reversible(over=over),
        )
    }
)
KEY = jax.random.key(0)


# Scope "module" runs all tests of one member before the next: its one compiled estimate serves them
# all. These are within members that stay.
WITHIN = {
    f"bias: {name}"
    for name in (
        "initialisation",
        "shared body",
        "step sizes an element",
        "kronecker",
        "context",
        "representation",
        "initialisation of the head",
        "step size",
        "fixed proximal",
        "diagonal",
        "momentum",
    )
}


@pytest.fixture(
    params=[
        pytest.param(name, marks=pytest.mark.long) if name in WITHIN else name for name in MEMBERS
    ],
    scope="module",
)
def member(request):
    return made(request.param)


def made(name):
    make = MEMBERS[name]
    algorithm = make()
    tasks = problems.classified()
    theta = jax.jit(algorithm.bilevel.init)(KEY, problems.one(tasks))
    # Away from symmetric points, where a wrong derivative may happen to be zero.
    theta = jax.tree.map(
        lambda x: x + 0.1 * np.random.default_rng(x.size).normal(size=x.shape), theta
    )
    state = state_of(algorithm, theta, tasks)
    compiled = jax.jit(
        lambda theta, tasks: estimate(make(jm.over_tasks(chunk=4)), theta, tasks, state)
    )
    return types.SimpleNamespace(
        name=name, make=make, theta=theta, tasks=tasks, state=state, compiled=compiled
    )


def state_of(algorithm, theta, tasks):
    return algorithm.estimator.init(KEY, algorithm.bilevel, theta, tasks)


def estimate(algorithm, theta, tasks, state):
    return algorithm.estimator.estimate(KEY, algorithm.bilevel, theta, tasks, state)[0]


def test_every_public_algorithm_and_bias_is_a_member():
    assert set(jm.algorithms.__all__) == set(problems.ALGORITHMS)


def test_theta_is_a_plain_pytree(member):
    def plain(tree):
        if isinstance(tree, (dict, list, tuple)):
            return all(map(plain, tree.values() if isinstance(tree, dict) else tree))
        return tree is None or isinstance(tree, jax.Array)

    algorithm = member.make()
    theta = jax.jit(algorithm.bilevel.init)(KEY, problems.one(member.tasks))
    assert plain(theta)
    chex.assert_trees_all_equal_structs(theta, member.theta)
    assert all(leaf.dtype == jnp.float64 for leaf in jax.tree.leaves(theta))


def test_directional_derivatives_agree_with_central_differences(member):
    tree = member.compiled(member.theta, member.tasks).grad
    chex.assert_trees_all_equal_shapes_and_dtypes(tree, member.theta)
    if member.name in problems.INEXACT:
        pytest.skip(
            "no derivative of the outer loss by definition; its own definition is tested on "
            "quadratics"
        )
    theta, unravel = jax.flatten_util.ravel_pytree(member.theta)
    grad, _ = jax.flatten_util.ravel_pytree(tree)

    def loss(flat):
        return member.compiled(unravel(flat), member.tasks).loss

    for seed in range(3):
        direction = np.random.default_rng(seed).normal(size=theta.shape)
        h = 1e-5
        difference = (loss(theta + h * direction) - loss(theta - h * direction)) / (2 * h)
        np.testing.assert_allclose(grad @ direction, difference, rtol=1e-6)
    assert np.abs(grad).max() > 1e-4


def test_the_second_call_does_not_recompile(member):
    before = member.compiled._cache_size()
    member.compiled(jax.tree.map(lambda x: x * 1.1, member.theta), problems.classified(seed=7))
    assert member.compiled._cache_size() == max(before, 1)


# Op by op is slow; the others' parts are in these.
@pytest.mark.parametrize(
    "name",
    [
        "maml",
        "protonet",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("maml_plus_plus", "tree_maml", "leo", "metaoptnet")
        ),
    ],
)
def test_jit_is_no_jit(name):
    algorithm, tasks = MEMBERS[name](jm.over_tasks(chunk=4)), problems.classified()
    theta = jax.jit(algorithm.bilevel.init)(KEY, problems.one(tasks))
    state = state_of(algorithm, theta, tasks)
    compiled = jax.jit(lambda theta: estimate(algorithm, theta, tasks, state))(theta)
    chex.assert_trees_all_close(
        compiled, estimate(algorithm, theta, tasks, state), rtol=1e-11, atol=1e-12
    )


# What differs in how it is mapped over tasks; biases and heads are within what is mapped.
@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "maml",
        "fomaml",
        "reptile",
        "imaml",
        "maml_plus_plus",
        "bootstrapped_maml",
        "tree_maml",
        "soft_tree_maml",
        "leo",
        "protonet",
        "baseline_plus_plus",
        "reversible",
    ],
)
def test_chunked_and_sharded_tasks_are_all_at_once(name):
    assert jax.device_count() == 2
    member = made(name)
    over = jm.over_tasks(
        chunk=1, mesh=jm.task_mesh()
    )  # two tasks on each device, one after the other
    part = jax.jit(lambda theta: estimate(member.make(over), theta, member.tasks, member.state))(
        member.theta
    )
    chex.assert_trees_all_close(
        part, member.compiled(member.theta, member.tasks), rtol=1e-11, atol=1e-12
    )


@pytest.mark.slow
def test_float32_is_kept(member):
    tasks = problems.classified(np.float32)
    theta = jax.tree.map(lambda x: x.astype(jnp.float32), member.theta)
    result = jax.eval_shape(member.compiled, theta, tasks)
    chex.assert_trees_all_equal_shapes_and_dtypes(result.grad, theta)
    assert result.loss.dtype == jnp.float32


@pytest.mark.parametrize(
    "name",
    [
        "r2d2",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("maml", "bias: step sizes an element")
        ),
    ],
)
def test_gradient_of_the_meta_gradient(name):
    algorithm, tasks = MEMBERS[name](jm.over_tasks(chunk=2)), problems.classified()
    theta, unravel = jax.flatten_util.ravel_pytree(algorithm.bilevel.init(KEY, problems.one(tasks)))
    direction = np.random.default_rng(5).normal(size=theta.shape)

    def slope(flat):
        grad = estimate(algorithm, unravel(flat), tasks, ()).grad
        return jax.flatten_util.ravel_pytree(grad)[0] @ direction

    slope, second, h = jax.jit(slope), jax.jit(jax.grad(slope))(theta), 1e-5
    difference = (slope(theta + h * direction) - slope(theta - h * direction)) / (2 * h)
    np.testing.assert_allclose(second @ direction, difference, rtol=1e-5)
