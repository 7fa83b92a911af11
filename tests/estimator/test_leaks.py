"""`jax.check_tracer_leaks` is silent on every estimator: nothing that is kept closes over a
tracer."""

import gc

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxmeta as jm
from jaxmeta import estimator as of
from jaxmeta._linear import kept, linear_map
from jaxmeta.base import Bilevel

KEY = jax.random.key(0)
PLAIN = jm.initialisation()
NEAR = jm.compose(PLAIN, jm.proximal(2.0))
# Estimators, and plans and gradients by way of one.
ESTIMATORS = {
    "unrolled": (of.unrolled(), PLAIN),
    "mixed": (of.mixed(), PLAIN),
    "auto": (of.auto(10**8), PLAIN),
    "first_order": (of.first_order(), PLAIN),
    "truncated": (of.truncated(2), PLAIN),
    "truncated afresh": (of.truncated(2, carry=of.afresh), PLAIN),
    "one_step": (of.one_step(), PLAIN),
    "implicit": (of.implicit(), NEAR),
    "implicit direct": (of.implicit(of.direct()), NEAR),
    "implicit neumann": (of.implicit(of.neumann()), NEAR),
    "implicit nystrom": (of.implicit(of.nystrom(4)), NEAR),
    "t1t2": (of.t1t2(), NEAR),
    "sama": (of.sama(), NEAR),
    "forward": (of.forward(of.rademacher(2)), PLAIN),
    "forward basis": (of.forward(of.basis, of.linearising), PLAIN),
    "evolution": (of.evolution(0.1, 2), PLAIN),
    "pes": (of.pes(0.1, 2, 2), PLAIN),
    "nres": (of.nres(0.1, 2, 2), PLAIN),
    "reptile": (of.reptile(), PLAIN),
    "reversible": (of.reversible(), jm.compose(PLAIN, jm.momentum(0.9))),
    "scheduled": (of.scheduled(of.unrolled(), lambda count, bilevel: bilevel), PLAIN),
    "staged": (of.staged([of.first_order(), of.unrolled()], [2]), PLAIN),
    "penalised": (
        of.penalised(of.unrolled(), lambda theta: optax.tree.norm(theta, squared=True)),
        PLAIN,
    ),
    "perturbed": (of.perturbed(of.unrolled()), PLAIN),
    "in_training": (of.in_training(of.unrolled(), lambda bilevel: bilevel), PLAIN),
    "each_step": (of.mixed(of.each_step), PLAIN),
    "saving": (of.mixed(of.saving("inner_gradient")), PLAIN),
    "segments": (of.unrolled(of.segments(2, within=of.each_step)), PLAIN),
    "rebuilding": (of.unrolled(of.rebuilding(2)), PLAIN),
    "binomial": (of.mixed(of.binomial(1)), PLAIN),
    "finite_difference": (of.unrolled(gradient=of.finite_difference()), PLAIN),
    "reverse over reverse": (of.unrolled(gradient=jax.grad), PLAIN),
}
QUICK, MORE = (
    ("unrolled", "mixed", "binomial", "implicit"),
    (
        "auto",
        "truncated",
        "implicit nystrom",
        "sama",
        "forward",
        "pes",
        "reptile",
        "reversible",
        "staged",
        "in_training",
    ),
)


def test_every_estimator_is_looked_at():
    for name in (
        "unrolled",
        "mixed",
        "auto",
        "first_order",
        "truncated",
        "one_step",
        "implicit",
        "t1t2",
        "sama",
        "forward",
        "evolution",
        "pes",
        "nres",
        "reptile",
        "reversible",
        "scheduled",
        "staged",
        "penalised",
        "perturbed",
    ):
        assert name in of.__all__ and name in ESTIMATORS
    makers = {
        name
        for name in of.__all__
        if getattr(getattr(of, name), "__annotations__", {}).get("return") == "Estimator"
    }
    assert makers <= set(ESTIMATORS)


@pytest.fixture
def silent():
    """Within it JAX raises on a leak. What is there already is left out of its collections, which
    would take most time."""
    gc.collect()
    gc.freeze()
    with jax.checking_leaks():
        yield
    gc.unfreeze()


def learner():
    return jm.gradient(jm.models.mlp((4,), outputs=3), steps=4, update=optax.sgd(0.1))


def tasks():
    x, y = (
        jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 5))),
        jnp.tile(jnp.arange(4) % 3, (2, 1)),
    )
    return jm.Task(jm.Examples(x, y), jm.Examples(x, y), jnp.zeros(2, int))


@pytest.mark.parametrize(
    "name",
    [
        name
        if name in QUICK
        else pytest.param(name, marks=pytest.mark.slow if name in MORE else pytest.mark.long)
        for name in ESTIMATORS
    ],
)
def test_no_estimator_keeps_a_tracer(name, silent):
    estimator, bias = ESTIMATORS[name]
    bilevel, batch = Bilevel(bias, learner()), tasks()
    theta = bilevel.init(KEY, jax.tree.map(lambda leaf: leaf[0], batch))
    state = estimator.init(KEY, bilevel, theta, batch)
    found, _ = jax.jit(lambda theta, state: estimator.estimate(KEY, bilevel, theta, batch, state))(
        theta, state
    )
    assert np.isfinite(found.loss)


def test_what_is_made_of_a_function_lives_as_long_as_it_and_no_longer():
    made = []

    @kept
    def make(function, number):
        made.append(number)
        return lambda x: function(x) + number

    def twice(x):
        return 2 * x

    assert make(twice, 1) is make(twice, 1) and make(twice, 2)(3) == 8 and made == [1, 2]
    # A traced program is reused by calls that are not compiled where its maps are the same objects.
    programs = [
        jax.make_jaxpr(lambda x: linear_map(twice, twice, x))(jnp.ones(2)).eqns[0].params["forward"]
        for _ in range(2)
    ]
    assert programs[0] is programs[1]


@pytest.mark.slow
def test_training_and_evaluation_keep_none(silent):
    batch = tasks()
    algorithm = jm.maml(learner())
    sample = jm.episodes(
        jm.pool(np.asarray(batch.support.x).reshape(8, 5), np.arange(8) % 4), 3, 1, 1
    )
    found = jm.fit(KEY, algorithm, sample, optax.sgd(0.1), steps=2, tasks=2)
    jm.evaluation.evaluate(KEY, algorithm.bilevel, found.theta, sample, 2)
    jm.adapt(KEY, learner(), sample(KEY))
    algorithm.estimator.estimate(KEY, algorithm.bilevel, found.theta, batch, ())
