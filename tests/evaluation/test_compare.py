"""The comparison of estimators says of each what is known of it in advance."""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import problems
import pytest

import jaxmeta as jm
from jaxmeta import report
from jaxmeta.base import Bilevel, Learner, Task
from jaxmeta.estimator import gaussian, reptile
from jaxmeta.tasks import quadratic_learner

KEY = jax.random.key(2)


@pytest.fixture(scope="module")
def comparison():
    tasks = problems.batch(jm.quadratics(5), tasks=3)
    bilevel = Bilevel(
        jm.compose(jm.initialisation(), jm.fixed(jm.proximal(2.0))), quadratic_learner(0.3, 60)
    )
    theta = bilevel.init(KEY, problems.one(tasks))
    estimators = {
        "unrolled": jm.unrolled(),
        "mixed": jm.mixed(jm.binomial(2)),
        "first order": jm.first_order(),
        "implicit": jm.implicit(jm.cg(6)),
        "forward": jm.forward(gaussian(2)),
        "reptile": reptile(),
    }
    refusing = {"truncated": jm.truncated(7)}
    return jm.compare(KEY, estimators | refusing, bilevel, theta, tasks, draws=64, rounds=2)


def test_exact_ones_are_exact_and_others_as_far_off_as_they_are(comparison):
    road = {each.name: each for each in comparison.roads}
    for name in ("unrolled", "mixed", "implicit"):
        assert road[name].cosine > 1 - 1e-12 and road[name].relative_error < 1e-9
        assert road[name].variance < 1e-20
    assert road["first order"].relative_error > 0.1 and road["first order"].bias == pytest.approx(
        road["first order"].relative_error
    )
    # Directions v with E vv' = I: E|vv'g - g|^2 = (D + 1)|g|^2, over two directions and three tasks
    # of unlike gradients.
    assert 0.3 < road["forward"].variance < 6
    assert road["forward"].bias < 4 * np.sqrt(road["forward"].variance / 64)
    for each in comparison.roads[:-1]:
        assert each.milliseconds > 0 and each.compile_seconds > 0 and each.bytes >= 0


def test_a_refusal_is_told(comparison):
    assert comparison.roads[-1].refusal.startswith("the steps of a learner must be a multiple")


def test_it_prints_as_a_table_and_draws(comparison, tmp_path):
    lines = str(comparison).splitlines()
    assert len(lines) == 8 and lines[1].startswith("unrolled") and "refused" in lines[-1]
    figure, axes = plt.subplots()
    report.draw_comparison(axes, comparison)
    assert {text.get_text().split("\n")[0] for text in axes.texts} == {
        each.name for each in comparison.roads[:-1]
    }
    plt.close(figure)
    with pytest.raises(ValueError, match="got none"):
        report.draw_comparison(axes, comparison._replace(roads=comparison.roads[-1:]))


@pytest.mark.parametrize("what", ["draws", "rounds"])
def test_refusals(what):
    with pytest.raises(ValueError, match=f"{what} must be at least 1, got 0"):
        jm.compare(
            KEY,
            {},
            jm.base.Bilevel(jm.initialisation(), None),
            None,
            jm.Task(None, None),
            **{what: 0},
        )


def test_draws_are_summed_in_float32():
    # 300 gradients that are exactly 1: a sum in bfloat16 stays at 256.
    ones = jnp.ones((2, 3), jnp.bfloat16)
    low = Learner(
        lambda key, task: jnp.zeros(3, jnp.bfloat16),
        lambda key, phi, batch: ((phi * batch).sum(), {}),
        jm.no_penalty,
        optax.sgd(0.1),
        1,
    )
    (road,) = jm.compare(
        KEY,
        {"first order": jm.first_order()},
        Bilevel(jm.initialisation(), low),
        jnp.zeros(3, jnp.bfloat16),
        Task(ones, ones, jnp.zeros(2, int)),
        draws=300,
        rounds=1,
    ).roads
    assert road.bias == 0 and road.variance == 0 and road.cosine == pytest.approx(1)
