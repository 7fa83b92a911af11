"""The planner keeps to its budget, by what the compiled program says, and the derivative is the
same."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxmeta as jm
from jaxmeta.base import Bilevel, Learner, Task
from jaxmeta.estimator import each_step, flops, linearising, plan
from jaxmeta.models._small_dots import product

KEY, SIZE, ROWS, STEPS, TASKS = jax.random.key(0), 300, 32, 64, 4


def problem(rows=ROWS, steps=STEPS, count=TASKS):
    def criterion(key, phi, batch):
        return (jnp.tanh(batch @ phi) ** 2).mean(), {}

    learner = Learner(
        lambda key, task: jnp.ones(SIZE),
        criterion,
        jm.no_penalty,
        optax.sgd(0.1, momentum=0.5),
        steps,
    )
    bilevel = Bilevel(jm.compose(jm.initialisation(), jm.step_sizes(1.0, steps=steps)), learner)
    data = jnp.asarray(np.random.default_rng(0).normal(size=(count, rows, SIZE)) / SIZE)
    tasks = Task(data, data + 0.1, jnp.zeros(count, int))
    return bilevel, bilevel.init(KEY, jax.tree.map(lambda x: x[0], tasks)), tasks


@pytest.mark.slow
def test_the_choice_costs_the_least_of_what_fits():
    bilevel, theta, tasks = problem()
    budget = 10**6
    choice = plan(budget, bilevel, theta, tasks)
    assert 0 < choice.bytes <= budget
    run = jax.jit(
        lambda estimator: estimator.estimate(KEY, bilevel, theta, tasks, ())[0].grad,
        static_argnums=0,
    )
    ours = run.lower(jm.auto(budget)).compile()
    stored = run.lower(jm.mixed(gradient=linearising)).compile()
    assert ours.memory_analysis().temp_size_in_bytes < stored.memory_analysis().temp_size_in_bytes
    chex.assert_trees_all_close(ours(), stored(), rtol=1e-10)


def test_fewer_tasks_at_a_time_where_all_of_them_do_not_fit():
    bilevel, theta, tasks = problem(rows=1, steps=1, count=32)
    whole = plan(10**9, bilevel, theta, tasks)
    assert whole.name == "linearised, all stored"
    part = plan(whole.bytes - 1, bilevel, theta, tasks)
    assert (
        part.bytes < whole.bytes
        and part.name.endswith("tasks at a time")
        and part.flops == whole.flops
    )


@pytest.mark.long
def test_where_nothing_fits_the_least_is_told():
    bilevel, theta, tasks = problem()
    with pytest.raises(
        ValueError, match=r"budget of 0.0 MB, got at least \d+\.\d MB \(.*\); give that much"
    ):
        jax.eval_shape(lambda: jm.auto(100).estimate(KEY, bilevel, theta, tasks, ())[0])


def test_flops_are_counted_through_loops_and_derivatives():
    x, w = jax.ShapeDtypeStruct((8, 16), np.float32), jax.ShapeDtypeStruct((16, 16), np.float32)
    one = 2 * 8 * 16 * 16

    def loss(w, x):
        return (jnp.tanh(x @ w) @ w).sum()

    assert flops(loss, w, x) == 2 * one
    # Back: the second product's two transposes, the first's one in w.
    assert flops(jax.grad(loss), w, x) == 5 * one
    assert (
        flops(lambda w, x: jax.lax.scan(lambda c, _: (jnp.tanh(c @ w), None), x, length=7)[0], w, x)
        == 7 * one
    )
    again = flops(
        lambda w, x: jax.grad(
            lambda w: each_step(lambda c, _: (jnp.tanh(c @ w), None), x, jnp.zeros(7))[0].sum()
        )(w),
        w,
        x,
    )
    assert again == 7 * 4 * one  # forward, again, and two transposes
    image, kernel = (
        jax.ShapeDtypeStruct((2, 9, 9, 3), np.float32),
        jax.ShapeDtypeStruct((3, 3, 3, 5), np.float32),
    )
    convolution = flops(
        lambda x, k: jax.lax.conv_general_dilated(
            x, k, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        ),
        image,
        kernel,
    )
    assert convolution == 2 * (2 * 9 * 9 * 5) * (3 * 3 * 3)
    assert flops(product, x, w) == one
    # What stands for the gradient's derivative is looked into.
    step = lambda w, x: (w - 0.1 * linearising(lambda w: loss(w, x))(w)).sum()
    assert flops(jax.grad(step), w, x) > flops(step, w, x)
