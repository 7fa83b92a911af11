import itertools
import json
import pathlib
import pickle
import shutil

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import learner, lines, sample, train

import jaxmeta as jm
from jaxmeta.training import restore_theta


def test_resume_gives_the_same_numbers_bit_for_bit(tmp_path):
    straight = train(tmp_path / "straight", 32)
    train(tmp_path / "parts", 16)
    resumed = train(tmp_path / "parts", 32, resume=True)
    chex.assert_trees_all_equal(
        resumed.state, straight.state
    )  # theta, the optimiser's state, the step
    chex.assert_trees_all_equal(resumed.best, straight.best)
    assert lines(tmp_path / "parts") == lines(tmp_path / "straight")
    timeless = [
        {k: v for k, v in r.items() if k not in ("seconds", "tasks_per_second")}
        for r in resumed.history
    ]
    assert timeless == lines(tmp_path / "parts")
    assert len(json.loads((tmp_path / "parts" / "environment.json").read_text())["resumed"]) == 1


def test_resume_off_the_grid_of_lines(tmp_path):
    straight = train(tmp_path / "straight", 16, validation=None)
    train(tmp_path / "parts", 6, validation=None)
    assert lines(tmp_path / "parts")[-1]["step"] == 6
    resumed = train(tmp_path / "parts", 16, validation=None, resume=True)
    chex.assert_trees_all_equal(resumed.state, straight.state)
    assert lines(tmp_path / "parts") == lines(tmp_path / "straight")


def test_resume_where_nothing_is_starts(tmp_path):
    assert int(train(tmp_path / "new", 4, resume=True).state.step) == 4
    assert (
        int(train(tmp_path / "new", 4, resume=True).state.step) == 4
    )  # and where all is done does nothing


def test_an_estimator_with_state_is_restored(tmp_path):
    plain = jm.estimator.unrolled()

    def estimate(key, bilevel, theta, tasks, state):
        result, _ = plain.estimate(key, bilevel, theta, tasks, ())
        noise = jax.random.normal(state["key"])
        grad = jax.tree.map(lambda g: g + noise, result.grad)
        return result._replace(grad=grad), {
            "key": jax.random.split(state["key"])[0],
            "count": state["count"] + 1,
        }

    estimator = jm.Estimator(
        lambda key, *rest: {"key": key, "count": np.zeros((), np.int32)}, estimate
    )
    algorithm = jm.maml(learner())._replace(estimator=estimator)
    straight = train(tmp_path / "a", 16, algorithm=algorithm)
    train(tmp_path / "b", 8, algorithm=algorithm)
    resumed = train(tmp_path / "b", 16, algorithm=algorithm, resume=True)
    assert int(resumed.state.estimator["count"]) == 16
    chex.assert_trees_all_equal(resumed.state.theta, straight.state.theta)
    assert (
        jax.random.key_data(resumed.state.estimator["key"])
        == jax.random.key_data(straight.state.estimator["key"])
    ).all()


def test_what_is_no_number_of_theta_comes_back_as_it_was_from_checkpoints_and_pickles(tmp_path):
    plain, keys = learner(), jax.random.split(jax.random.key(5, impl="rbg"), 2)
    fixed = {
        "count": jnp.asarray(3),
        "flag": jnp.asarray([True, False]),
        "bytes": jnp.arange(2, dtype=jnp.uint8),
        "key": jax.random.key(7),
        "keys": keys,
    }
    algorithm = jm.maml(plain._replace(start=lambda key, task: {**plain.start(key, task), **fixed}))
    first = train(tmp_path, 1, algorithm=algorithm)
    resumed = train(tmp_path, 2, algorithm=algorithm, resume=True)
    shapes = jax.eval_shape(lambda: first.theta)
    for theta in (
        first.theta,
        resumed.theta,
        resumed.state.theta,
        restore_theta(tmp_path, shapes),
        pickle.loads(pickle.dumps(resumed)).theta,
    ):
        chex.assert_trees_all_equal({name: theta[name] for name in fixed}, fixed)


def test_a_grain_stream_goes_on_where_it_was(tmp_path):
    values = np.random.default_rng(0).normal(size=(40,)).astype(np.float32)
    algorithm = jm.maml(learner())
    stream = jm.stream(
        list(values), np.repeat(np.arange(4), 10), ways=2, shots=2, queries=2, tasks=3
    )
    straight = train(tmp_path / "a", 8, sample=stream, algorithm=algorithm, steps_per_call=3)
    train(tmp_path / "b", 4, sample=stream, algorithm=algorithm, steps_per_call=3)
    resumed = train(
        tmp_path / "b", 8, sample=stream, algorithm=algorithm, steps_per_call=3, resume=True
    )
    chex.assert_trees_all_equal(resumed.state, straight.state)
    assert lines(tmp_path / "a") == lines(tmp_path / "b")
    configuration = json.loads((tmp_path / "a" / "configuration.json").read_text())
    assert configuration["fit"]["tasks"] == 3


def test_any_iterable_of_batches_is_read_again(tmp_path):
    batches = [
        jax.device_get(jax.vmap(sample)(jax.random.split(jax.random.key(i), 3))) for i in range(8)
    ]
    straight = train(tmp_path / "a", 8, sample=batches)
    train(tmp_path / "b", 4, sample=iter(batches))
    chex.assert_trees_all_equal(
        train(tmp_path / "b", 8, sample=batches, resume=True).state, straight.state
    )
    with pytest.raises(ValueError, match="must last as long as training, got 8 batches"):
        train(None, 9, sample=batches)
    assert int(train(None, 9, sample=itertools.cycle(batches)).state.step) == 9


def test_the_last_two_and_the_best_are_kept(tmp_path):
    fitted = train(tmp_path, 48, checkpoint_every=4, metric="loss", log_every=100)
    kept = sorted(int(path.name) for path in (tmp_path / "checkpoints").iterdir())
    assert kept[-2:] == [44, 48] and set(kept) <= {44, 48, fitted.best.step} | {
        json.loads((tmp_path / "checkpoints" / "44" / "record" / "metadata").read_text())["best"][
            "step"
        ]
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "run"
    train(folder, 16, steps_per_call=8)
    straight = train(folder.parent / "straight", 24, steps_per_call=8)
    return folder, straight


def _files(folder):
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("harm", ["half", "empty", "missing"])
@pytest.mark.filterwarnings("ignore:the best checkpoint:UserWarning")
def test_every_file_of_a_checkpoint_harmed_in_turn(run, tmp_path, harm):
    """Whatever is harmed, the checkpoint before is restored, bit for bit, and that is said."""
    from jaxmeta.training import _checkpoint

    folder, straight = run
    good = _checkpoint.load(folder, 8, straight.state).state
    files = _files(folder / "checkpoints" / "16")
    assert len(files) > 8
    for file in files:
        copy = tmp_path / str(file).replace("/", "_")
        shutil.copytree(folder / "checkpoints", copy / "checkpoints")
        path = copy / "checkpoints" / "16" / file
        if harm == "missing":
            path.unlink()
        else:
            path.write_bytes(
                path.read_bytes()[: path.stat().st_size // 2] if harm == "half" else b""
            )
        with pytest.warns(UserWarning, match="checkpoint of step 16 .* damaged .* step 8 is tried"):
            restored = _checkpoint.newest(copy, straight.state)
        chex.assert_trees_all_equal(restored.state, good)
        assert (copy / "checkpoints" / "16.damaged").is_dir()


def _largest(folder):
    return max(
        (path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size
    )


@pytest.mark.filterwarnings("ignore:the best checkpoint:UserWarning")
def test_a_run_resumes_from_the_checkpoint_before_a_damaged_one(run, tmp_path):
    folder, straight = run
    copy = shutil.copytree(folder, tmp_path / "run")
    path = _largest(copy / "checkpoints" / "16")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.warns(UserWarning, match="step 8 is tried instead"):
        resumed = train(copy, 24, steps_per_call=8, resume=True)
    chex.assert_trees_all_equal(resumed.state, straight.state)
    assert lines(copy) == lines(folder.parent / "straight")
    for step in ("8", "16", "24"):
        for path in (copy / "checkpoints" / step).rglob("*"):
            if path.is_file():
                path.write_bytes(b"")
    with (
        pytest.raises(ValueError, match="whole checkpoint"),
        pytest.warns(UserWarning, match="is damaged"),
    ):
        restore_theta(copy, straight.theta)
    with pytest.warns(UserWarning) as said:
        again = train(copy, 24, steps_per_call=8, resume=True)
    assert "step 24" in str(said[0].message) and "training starts from the beginning" in str(
        said[-1].message
    )
    chex.assert_trees_all_equal(again.state, straight.state)
    assert lines(copy) == lines(folder.parent / "straight")


def test_another_configuration_is_refused(run, tmp_path):
    folder, _ = run
    copy = shutil.copytree(folder, tmp_path / "run")
    with pytest.raises(ValueError, match=r"made with fit.tasks = 4, got 5"):
        train(copy, 24, resume=True, tasks=5)
    with pytest.raises(ValueError, match=r"made with ways = nothing, got 5"):
        train(copy, 24, resume=True, configuration={"ways": 5})
    with pytest.raises(ValueError, match=r"made with fit.key = \[0, 0\], got \[0, 7\]"):
        train(copy, 24, resume=True, key=7)
    with pytest.raises(
        ValueError, match=r"made with fit.theta.1/0 = nothing, got float64\[\]|fit.theta"
    ):
        train(copy, 24, resume=True, algorithm=jm.meta_sgd(learner()))
    (copy / "configuration.json").write_text('{"fit"')
    with pytest.raises(ValueError, match=r"damaged .*configuration.json"):
        train(copy, 24, resume=True)
    (copy / "configuration.json").unlink()
    with pytest.raises(ValueError, match="is from another configuration: 'theta"):
        train(copy, 24, resume=True, algorithm=jm.meta_sgd(learner()))
    with pytest.raises(ValueError, match="already holds a run; resume it with resume=True"):
        train(copy, 24)


def test_a_folder_that_cannot_be_written_is_refused_before_compiling(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "eval_shape", None)
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", pathlib.Path("/proc/jaxmeta")):
        with pytest.raises(ValueError, match="folder must be one that can be written"):
            train(folder, 4)
