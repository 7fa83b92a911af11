import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from compilations import counted

import jaxmeta as jm
from jaxmeta import _episodes
from jaxmeta.evaluation import curve, evaluate, interval, paired_difference


def _sample(key):
    centre = jax.random.normal(key, (3,))
    return jm.Task(centre, centre + 1.0)


def _learner(steps=2):
    def loss(key, phi, batch):
        return ((phi - batch) ** 2).sum(), {"near": ((phi - batch) ** 2).sum() < 1.0, "vector": phi}

    return jm.Learner(lambda key, task: jnp.zeros(3), loss, jm.no_penalty, optax.sgd(0.1), steps)


_key, _theta = jax.random.key(3), jnp.ones(3)
_bilevel = jm.maml(_learner()).bilevel


def test_evaluate_is_the_loop_over_episodes():
    result = evaluate(_key, _bilevel, _theta, _sample, 7)
    assert sorted(result.values) == ["loss", "near"]  # the vector is no metric
    for episode, key in enumerate(jax.random.split(_key, 7)):
        key_task, key_process = jax.random.split(key)
        value, _ = jm.outcome(key_process, _bilevel, _theta, _sample(key_task))
        np.testing.assert_allclose(result.values["loss"][episode], value, rtol=1e-12)
    mean, half, count = result.summary["loss"]
    np.testing.assert_allclose(
        (mean, half),
        (result.values["loss"].mean(), 1.96 * result.values["loss"].std(ddof=1) / np.sqrt(7)),
    )
    assert count == 7


def test_blocks_devices_and_chunks_change_nothing(monkeypatch):
    whole = evaluate(_key, _bilevel, _theta, _sample, 25)
    apart = evaluate(_key, _bilevel, _theta, _sample, 25, over=jm.over_tasks(mesh=jm.task_mesh()))
    monkeypatch.setattr(_episodes, "_BLOCK", 200)
    blocks = evaluate(_key, _bilevel, _theta, _sample, 25, over=jm.over_tasks(chunk=2))
    for other in (apart, blocks):
        chex.assert_trees_all_close(whole.values, other.values, rtol=1e-12)


def test_a_second_evaluation_compiles_nothing():
    """Nor does that of an equal problem, made anew."""

    def once(key, theta):
        return evaluate(key, jm.maml(_learner()).bilevel, theta, lambda key: _sample(key), 4)

    first, theta, another = once(_key, _theta), 2 * np.ones(3), jax.random.key(9)
    with counted() as compiled:
        again = once(_key, _theta)
        other = evaluate(another, _bilevel, theta, _sample, 4)
        assert compiled() == 0
    np.testing.assert_array_equal(again.values["loss"], first.values["loss"])
    assert not np.array_equal(other.values["loss"], first.values["loss"])


def test_curve_is_the_evaluation_at_every_number_of_steps():
    walked = curve(_key, _bilevel, _theta, _sample, 5, steps=4)
    assert walked.values["loss"].shape == (5, 5) and len(walked.summary["loss"]) == 5
    for steps in range(5):
        point = evaluate(_key, _bilevel, _theta, _sample, 5, steps=steps)
        np.testing.assert_allclose(
            walked.values["loss"][:, steps], point.values["loss"], rtol=1e-12
        )
        np.testing.assert_allclose(walked.summary["loss"][steps], point.summary["loss"], rtol=1e-12)


def test_steps_hold_whatever_the_bias_makes_of_the_learner():
    bias = jm.Bias(lambda *given: (), lambda theta, task, learner: learner._replace(steps=9))
    bilevel = jm.Bilevel(jm.compose(jm.initialisation(), bias), _learner())
    theta = bilevel.init(_key, _sample(_key))
    same = jm.Bilevel(jm.initialisation(), _learner(0))
    np.testing.assert_array_equal(
        evaluate(_key, bilevel, theta, _sample, 3, steps=0).values["loss"],
        evaluate(_key, same, theta[0], _sample, 3).values["loss"],
    )


def test_the_arrays_of_a_sampler_are_arguments():
    sampler = jax.tree_util.Partial(
        lambda data, key: jm.Task(data[0], data[1]), jnp.arange(6.0).reshape(2, 3)
    )
    settings = {"bilevel": _bilevel, "episodes": 2, "over": _episodes.default_over, "steps": None}
    text = (
        jax.jit(functools.partial(_episodes.outcomes, **settings))
        .lower(_key, _theta, sampler)
        .as_text()
    )
    assert "tensor<2x3xf64>" in text and "dense<[[0.0" not in text


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"episodes": 0}, "episodes must be at least 1"),
        ({"steps": -1}, "steps must be at least 0"),
        ({"sample": [1]}, "sample must be a function"),
    ],
)
def test_bad_arguments(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        evaluate(_key, _bilevel, _theta, **{"sample": _sample, "episodes": 4, **change})


def test_the_interval_covers_19_times_in_20():
    means = [interval(row) for row in np.random.default_rng(0).normal(size=(2000, 100))]
    covered = np.mean([abs(mean) < half for mean, half, _ in means])
    assert abs(covered - 0.95) < 0.015


def test_statistics():
    first, second = np.array([0.9, 0.1, 0.5]), np.array([0.8, 0.1, 0.3])
    difference = paired_difference(first, second)
    np.testing.assert_allclose(difference, interval(first - second))
    assert interval([2.0]) == (2.0, np.inf, 1)
    assert np.isnan(interval([np.inf, 1.0]).half)
    with pytest.raises(ValueError, match="one number an episode"):
        interval([])
    with pytest.raises(ValueError, match="same episodes"):
        paired_difference([1.0], [1.0, 2.0])


def test_episodes_count_by_the_weights_of_their_tasks():
    learner = jm.Learner(
        lambda key, task: jnp.zeros(()),
        lambda key, phi, b: (phi + b, {}),
        jm.no_penalty,
        optax.sgd(0.0),
        1,
    )

    def sample(key):
        on = jax.random.bernoulli(key)
        value = jax.random.normal(key)
        return jm.Task(value, jnp.where(on, value, jnp.nan), weight=jnp.where(on, 1.0, 0.0))

    bilevel = jm.maml(learner).bilevel
    found = evaluate(jax.random.key(0), bilevel, jnp.zeros(()), sample, episodes=40)
    there = found.values["loss"][np.isfinite(found.values["loss"])]
    assert 5 < len(there) < 35 and found.summary["loss"].count == len(there)
    np.testing.assert_allclose(found.summary["loss"], interval(there), rtol=1e-12)
    np.testing.assert_allclose(
        curve(jax.random.key(0), bilevel, jnp.zeros(()), sample, 40, 1).summary["loss"][1],
        found.summary["loss"],
        rtol=1e-12,
    )
    values, weight = np.array([1.0, 2.0, 4.0]), np.array([2.0, 1.0, 1.0])
    mean, half, count = interval(values, weight)
    assert (mean, count) == (2.0, 3)
    np.testing.assert_allclose(half, 1.96 * np.sqrt((2 * 1 + 0 + 4) / 4 / (16 / 6 - 1)), rtol=1e-12)
    assert np.isnan(interval(values, 0 * weight).mean)
    np.testing.assert_allclose(
        interval(values, 1e-200 * weight), interval(values, weight), rtol=1e-12
    )
    assert interval(values, [1.0, 1e-20, 0.0]) == (1.0, np.inf, 2)  # as good as a single value
    for wrong, words in (
        ([1.0, -1.0, 1.0], "from 0 up, got -1.0"),
        ([1.0, np.nan, 1.0], "got nan"),
        ([1.0, 1.0], "shape .2,."),
    ):
        with pytest.raises(ValueError, match=words):
            interval(values, wrong)
