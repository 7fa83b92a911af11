"""Weights of tasks: through estimators that wrap others and carry a state, through streams, and
where a step fails."""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import problems
import pytest

import jaxmeta as jm
import jaxmeta.estimator as je
from jaxmeta.base import Bilevel

KEY = jax.random.key(0)
WRAPPED = {
    "scheduled": lambda: je.scheduled(je.pes(0.1, 2, 1), lambda count, bilevel: bilevel),
    "staged": lambda: je.staged([jm.first_order(), je.one_step()], [1]),
    "perturbed": lambda: je.perturbed(jm.truncated(3, je.afresh), jax.random.normal, 0.1),
    "beside another": lambda: jm.truncated(1, against=jm.unrolled()),
    "nres": lambda: je.nres(0.1, 2, 1),
    "sama": je.sama,
    "t1t2": je.t1t2,
    "reversible": je.reversible,
}


@pytest.mark.parametrize(
    "name",
    [
        name if name in ("scheduled", "staged") else pytest.param(name, marks=pytest.mark.slow)
        for name in WRAPPED
    ],
)
def test_estimators_that_wrap_others_and_carry_a_state_have_means_by_weight_in_every_window(name):
    bias = jm.compose(
        jm.initialisation(), *([jm.momentum(0.6)] if name == "reversible" else [jm.proximal(2.0)])
    )
    bilevel, tasks, estimator = (
        Bilevel(bias, problems.learner(update=optax.sgd(0.3))),
        problems.classified(),
        WRAPPED[name](),
    )
    theta = bilevel.init(KEY, problems.one(tasks))
    state = estimator.init(KEY, bilevel, theta, tasks)

    @jax.jit
    def windows(weight):
        unseen = (weight == 0)[:, None, None]
        given = tasks._replace(
            weight=weight, query=tasks.query._replace(x=jnp.where(unseen, jnp.nan, tasks.query.x))
        )
        first, held = estimator.estimate(KEY, bilevel, theta, given, state)
        second, _ = estimator.estimate(KEY, bilevel, theta, given, held)
        return [(each.loss, each.grad) for each in (first, second)]

    weight = jnp.asarray([1.0, 0.0, 3.0, 2.0])
    means = jax.tree.map(
        lambda *leaves: sum(w * leaf for w, leaf in zip(weight, leaves)) / 6,
        *(windows(jnp.eye(4)[place]) for place in range(4)),
    )
    chex.assert_trees_all_close(windows(weight), means, rtol=1e-9, atol=1e-14)


def test_a_penalty_on_theta_is_added_once_whatever_tasks_weigh():
    tasks = problems.classified()
    bilevel = jm.maml(problems.learner()).bilevel
    theta = bilevel.init(KEY, problems.one(tasks))

    def penalty(theta):
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(theta))

    def of(estimator):
        return jax.jit(
            lambda weight: estimator.estimate(
                KEY, bilevel, theta, tasks._replace(weight=weight), ()
            )[0]
        )

    plain, whole, weight = (
        of(jm.unrolled()),
        of(je.penalised(jm.unrolled(), penalty, 0.1)),
        jnp.asarray([5.0, 0.0, 3.0, 2.0]),
    )
    for given in (weight, 0 * weight):
        without, found = plain(given), whole(given)
        np.testing.assert_allclose(found.loss, without.loss + 0.1 * penalty(theta), rtol=1e-12)
        chex.assert_trees_all_close(
            found.grad, jax.tree.map(lambda g, t: g + 0.2 * t, without.grad, theta), rtol=1e-12
        )


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_the_mean_over_tasks_has_the_bits_of_the_losses_whatever_those_of_the_weights(dtype):
    tasks, weight = problems.classified(), jnp.asarray([1.0, 2.0, 4.0, 0.0])
    bilevel = jm.maml(problems.learner(steps=1)).bilevel
    theta = bilevel.init(KEY, problems.one(tasks))
    of = jax.jit(
        lambda weight: jm.unrolled().estimate(
            KEY, bilevel, theta, tasks._replace(weight=weight), ()
        )[0]
    )
    chex.assert_trees_all_close(
        of(weight.astype(dtype)).grad, of(weight).grad, rtol=1e-12, atol=1e-15
    )


def streamed(**more):
    while True:
        yield jax.tree.map(np.asarray, problems.classified())._replace(**more)


ALGORITHM = jm.maml(problems.learner(steps=1))


def trained(sample, steps=1, algorithm=ALGORITHM):
    return jm.fit(KEY, algorithm, sample, optax.sgd(0.1), steps, progress=lambda event: None)


def test_one_node_or_weight_for_all_tasks_of_a_stream_is_each_ones():
    each = streamed(weight=np.full(4, 2.0), node=np.zeros(4, int))
    chex.assert_trees_all_equal(trained(streamed(weight=2.0, node=0)).theta, trained(each).theta)
    later = itertools.chain(
        itertools.islice(streamed(weight=np.ones(4)), 1), streamed(weight=-np.ones(4))
    )
    with pytest.raises(ValueError, match="weights of tasks must be numbers from 0 up, got -1.0"):
        trained(later, steps=2)
    with pytest.raises(ValueError, match="a sampler gives Tasks, got int"):
        trained(iter([1]))


@pytest.mark.parametrize("estimator", [jm.unrolled(), je.one_step()], ids=["unrolled", "one_step"])
def test_a_task_that_is_not_seen_is_not_blamed_for_a_step_that_is_not_finite(estimator):
    x = np.array(problems.classified().query.x)
    x[1:3] = np.nan
    query = problems.classified().query._replace(x=x)
    algorithm = ALGORITHM._replace(estimator=estimator)
    with pytest.raises(
        jm.training.NonFinite, match="in task 2 of the meta-batch; the task's 'query/x' holds NaN"
    ) as caught:
        trained(streamed(query=query, weight=np.array([1.0, 0.0, 3.0, 2.0])), algorithm=algorithm)
    assert caught.value.tasks == [2]
