"""What a run is made of and what it gives goes to another process by pickle."""

import copy
import pickle
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxmeta as jm

KEY = jax.random.key(0)
POOL = jm.pool(np.arange(60.0).reshape(12, 5) / 60, np.arange(12) % 3)


def again(value):
    return pickle.loads(pickle.dumps(value))


def fit(algorithm, sample, **more):
    return jm.fit(KEY, algorithm, sample, optax.adam(1e-2), 3, tasks=2, **more)


@pytest.fixture(scope="module")
def algorithm():
    return jm.maml(jm.gradient(jm.models.mlp([4], 3)))


def test_a_fitted_is_pickled_with_all_its_arrays(algorithm, tmp_path):
    sample = jm.episodes(POOL, 3, 1, 2)
    fitted = fit(algorithm, sample, validation=sample, episodes=4, folder=tmp_path / "run")
    back = again(fitted)
    chex.assert_trees_all_equal(back.state, fitted.state)
    chex.assert_trees_all_equal(back.theta, fitted.theta)
    assert back[2:] == (
        back.best,
        fitted.history,
        fitted.folder,
        fitted.seconds,
        fitted.compile_seconds,
    )
    assert back.best[:2] == fitted.best[:2]


IMAGES = jm.pool(np.arange(12.0 * 64).reshape(12, 8, 8, 1), np.arange(12) % 3)
SAMPLERS = {
    "episodes": jm.episodes(POOL, 3, 1, 2),
    "turned": jm.episodes(IMAGES, 5, 1, 2, jm.rotations),
    "bent": jm.tasks.augmented(jm.episodes(IMAGES, 3, 1, 2), jm.tasks.warps()),
    "labelled": jm.tasks.labelled(POOL, 4),
    "sinusoids": jm.sinusoids(),
    "quadratics": jm.quadratics(3),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_is_pickled_and_draws_the_same(name):
    pytest.importorskip("cloudpickle")
    sample = SAMPLERS[name]
    chex.assert_trees_all_equal(again(sample)(KEY), sample(KEY))
    chex.assert_trees_all_close(jax.jit(again(sample))(KEY), sample(KEY), rtol=1e-12)


def test_an_algorithm_is_pickled_and_trains_to_the_same(algorithm):
    pytest.importorskip("cloudpickle")
    sample = jm.episodes(POOL, 3, 1, 2)
    chex.assert_trees_all_equal(
        fit(again(algorithm), again(sample)).state, fit(algorithm, sample).state
    )


def test_another_process_takes_it(algorithm, tmp_path):
    pytest.importorskip("cloudpickle")
    theta = algorithm.bilevel.init(KEY, jm.episodes(POOL, 3, 1, 2)(KEY))
    path = tmp_path / "all"
    path.write_bytes(pickle.dumps((algorithm, jm.episodes(POOL, 3, 1, 2), jax.device_get(theta))))
    code = (
        "import jax, pickle, sys; jax.config.update('jax_enable_x64', True)\n"
        "algorithm, sample, theta = pickle.load(open(sys.argv[1], 'rb'))\n"
        "import jaxmeta as jm\n"
        "key = jax.random.key(0)\n"
        "print(float(jm.outcome(key, algorithm.bilevel, theta, sample(key))[0]))"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    expected = jm.outcome(KEY, algorithm.bilevel, theta, jm.episodes(POOL, 3, 1, 2)(KEY))[0]
    assert float(done.stdout) == pytest.approx(float(expected), rel=1e-12)


def test_without_cloudpickle_it_says_what_does(algorithm, monkeypatch):
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    for value, name in {
        algorithm: "Algorithm",
        algorithm.bilevel.learner: "Learner",
        jm.models.mlp([4], 3): "Model",
    }.items():
        with pytest.raises(pickle.PicklingError, match=f"got {name} of such; install cloudpickle"):
            pickle.dumps(value)
    with pytest.raises(pickle.PicklingError, match="got a sampler of such; install cloudpickle"):
        pickle.dumps(jm.episodes(POOL, 3, 1, 2))


def test_a_copy_is_the_same_algorithm(algorithm):
    assert copy.copy(algorithm) is algorithm and copy.deepcopy({"of": algorithm})["of"] is algorithm
    assert jax.tree.structure(copy.deepcopy(jm.Task(jnp.ones(2), None))) == jax.tree.structure(
        jm.Task(jnp.ones(2), None)
    )
