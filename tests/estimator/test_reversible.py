"""Steps undone in fixed point: the derivative of storing them all, up to the resolution, without
storing any."""

import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import problems
import pytest

import jaxmeta as jm
from jaxmeta.base import Bilevel, Learner, Task
from jaxmeta.estimator._fixed_point import Number, schedule

KEY, DECAY = jax.random.key(0), 0.9


def learner(steps, update=None):
    """A loss that keeps other inputs at every step."""
    low = problems.learner(steps, update or optax.sgd(0.05))

    def loss(key, phi, batch):
        kept = jax.random.bernoulli(key, 0.8, batch.x.shape)
        return low.loss(key, phi, batch._replace(x=jnp.where(kept, batch.x, 0)))

    return low._replace(loss=loss)


def bilevel(steps, *more, update=None, outer=jm.query_loss):
    """Theta acts through the loss, the start, the update and the penalty."""
    bias = jm.compose(
        jm.shared(jm.named("kernel")),
        jm.initialisation(),
        jm.step_sizes(0.7, steps=steps),
        jm.proximal(0.5),
        *more,
    )
    return Bilevel(bias, learner(steps, update), outer)


def estimate(estimator, problem, theta, tasks):
    return estimator.estimate(KEY, problem, theta, tasks, ())[0]


@functools.cache
def setting(dtype, steps=40):
    tasks, problem = problems.classified(dtype, tasks=2), bilevel(steps, jm.momentum(DECAY))
    theta = jax.tree.map(lambda x: x.astype(dtype), jax.jit(problem.init)(KEY, problems.one(tasks)))
    return problem, theta, tasks


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-13), (np.float32, 2e-6)])
def test_it_is_the_derivative_through_stored_steps_and_ends_at_the_bits_of_the_start(
    dtype, tolerance
):
    problem, theta, tasks = setting(dtype)
    both = jax.jit(
        lambda theta, tasks: [
            estimate(estimator, problem, theta, tasks)
            for estimator in (jm.reversible(over=jm.over_tasks(chunk=2)), jm.unrolled())
        ]
    )
    ours, exact = both(theta, tasks)
    chex.assert_trees_all_equal_shapes_and_dtypes(ours.grad, exact.grad)
    for found, right in zip(jax.tree.leaves(ours.grad), jax.tree.leaves(exact.grad), strict=True):
        assert np.linalg.norm(right) > 1e-3 and np.linalg.norm(
            found - right
        ) < tolerance * np.linalg.norm(right)
    np.testing.assert_allclose(ours.info["losses"], exact.info["losses"], rtol=tolerance)
    assert ours.info["exact"].all() and ours.info["inside"].all()
    both(jax.tree.map(lambda x: 0.9 * x, theta), problems.classified(dtype, tasks=2, seed=5))
    assert both._cache_size() == 1


@pytest.mark.slow
def test_second_derivatives_and_forward_mode():
    problem, theta, tasks = setting(np.float64, 5)
    direction = jax.tree.map(
        lambda x: jnp.cos(jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape), theta
    )

    def loss_and_grad(estimator, theta):
        found = estimate(estimator, problem, theta, tasks)
        return found.loss, found.grad

    @jax.jit
    def slopes(theta):
        return [
            jax.jvp(functools.partial(loss_and_grad, way), (theta,), (direction,))[1]
            for way in (jm.reversible(), jm.unrolled())
        ]

    chex.assert_trees_all_close(*slopes(theta), rtol=1e-10, atol=1e-13)


def test_momentum_is_that_of_optax():
    problem, task = bilevel(7), problems.one(problems.classified())
    theta = jax.jit(problem.init)(KEY, task)
    ends = [
        jax.jit(
            lambda theta, problem=problem: jm.adapt(
                KEY, problem.bias.shape(theta, task, problem.learner), task
            )
        )(theta)
        for problem, theta in (
            (bilevel(7, update=optax.sgd(0.05, momentum=DECAY)), theta),
            (bilevel(7, jm.momentum(DECAY)), (*theta, ())),
        )
    ]
    chex.assert_trees_all_equal(*ends)


@pytest.mark.slow
def test_temporary_memory_hardly_grows_with_the_steps():
    def temporary(steps, estimator):
        low = jm.gradient(jm.models.mlp((64,), outputs=3), jm.cross_entropy, optax.sgd(0.05), steps)
        problem, tasks = (
            Bilevel(jm.compose(jm.initialisation(), jm.momentum(DECAY)), low),
            problems.classified(np.float32, 1),
        )
        theta = jax.jit(problem.init)(KEY, problems.one(tasks))
        compiled = (
            jax.jit(lambda theta: estimate(estimator, problem, theta, tasks)).lower(theta).compile()
        )
        return compiled.memory_analysis().temp_size_in_bytes, sum(
            x.nbytes for x in jax.tree.leaves(theta)
        )

    (short, phi), (long, _) = temporary(64, jm.reversible()), temporary(512, jm.reversible())
    # A byte an element every 52.6 steps is all, beside keys and counts.
    assert long - short < (512 - 64) / 52 / 4 * phi + 512 * 64
    assert temporary(512, jm.unrolled())[0] > 10 * long


@pytest.mark.parametrize("decay", [0.02, 0.5, 0.9, 0.999])
def test_blocks_take_every_step_once_and_units_stay_between_1_and_16(decay):
    bounds, scales = schedule(100, decay)
    steps = [
        k for block in bounds for low, high in itertools.pairwise(block) for k in range(low, high)
    ]
    assert steps == list(range(100)) and (scales <= 16).all()
    assert scales.min() >= min(1, 16 * decay) * (1 - 1e-9)


def test_numbers_come_back_to_the_resolution():
    for dtype, resolution in ((np.float32, 4 / 2**30), (np.float64, 4 / 2**62)):
        number, x = Number(jnp.dtype(dtype)), jnp.asarray([0.1, -3.9, 1e-7], dtype)
        back = number.real(number.fixed(x, 4.0), 4.0)
        np.testing.assert_allclose(back, x, rtol=np.finfo(dtype).eps, atol=resolution)


def quadratic(rate, steps=10):
    """`|phi - support|^2 / 2` from 1; the rate decides whether it stays."""

    def loss(key, phi, batch):
        return ((phi - batch) ** 2).sum() / 2, {}

    low = Learner(lambda key, task: jnp.ones(2), loss, jm.no_penalty, optax.sgd(rate), steps)
    return Bilevel(jm.compose(jm.initialisation(), jm.momentum(0.5)), low)


def test_what_leaves_the_sizes_is_told_and_not_a_number():
    tasks = Task(
        jnp.asarray([[0.0, 0.5], [-70.0, 0.0], [jnp.nan, 0.0]]),
        jnp.zeros((3, 2)),
        jnp.zeros(3, int),
    )
    theta = (jnp.ones(2), ())
    info = jax.jit(lambda: estimate(jm.reversible(), quadratic(0.3), theta, tasks).info)()
    assert info["inside"].tolist() == [True, False, False]  # phi on its way to -70, and nan
    assert np.isfinite(info["losses"]).tolist() == [True, False, False]
    info = jax.jit(
        lambda: estimate(jm.reversible(phi=128.0, momenta=128.0), quadratic(0.3), theta, tasks).info
    )()
    assert info["inside"].tolist() == [True, True, False] and info["exact"].all()


def at_path(key, learner, walked, task):
    return walked.losses.sum(), {}


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (bilevel(3), "momentum first, got another; compose momentum"),
        (bilevel(3, jm.momentum(), update=optax.adam(0.1)), "counts alone, got shape"),
        (
            bilevel(
                3, jm.momentum(), update=optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.1))
            ),
            "fails without phi",
        ),
        (bilevel(3, jm.momentum(), outer=at_path), "start and the end alone"),
    ],
)
def test_refusals(problem, message):
    tasks = problems.classified(tasks=2)
    theta = jax.jit(problem.init)(KEY, problems.one(tasks))
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda: estimate(jm.reversible(), problem, theta, tasks))


def test_decays_and_sizes_are_refused():
    for decay in (0, 1.0, -0.5):
        with pytest.raises(ValueError, match="decay of the momenta"):
            jm.momentum(decay)
    with pytest.raises(ValueError, match="momenta, the size"):
        jm.reversible(momenta=0)
