import json
import warnings

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from compilations import counted
from small import draw, learner, lines, sample, train

import jaxmeta as jm
from jaxmeta.training import (
    Event,
    Metric,
    fit,
    metric,
    outer_adam,
    restore_theta,
    save_theta,
    silent,
)


def test_fit_reaches_the_mean_task_and_says_what_it_did(tmp_path):
    events = []
    fitted = fit(
        jax.random.key(0),
        jm.maml(learner(rate=0.01, steps=1)),
        sample,
        outer_adam(0.1, 200),
        200,
        tasks=16,
        validation=sample,
        episodes=20,
        folder=tmp_path,
        configuration={"ways": 5},
        progress=events.append,
    )
    assert abs(float(fitted.theta["slope"]) - 1.0) < 0.1 and int(fitted.state.step) == 200
    assert fitted.best.value == max(
        r["accuracy"] for r in fitted.history if r["split"] == "validation"
    )
    assert [event.kind for event in events[:2]] == ["start", "compiled"] and events[
        -1
    ].kind == "end"
    assert {"train", "validation", "checkpoint"} <= {event.kind for event in events}
    assert fitted.compile_seconds > 0 and fitted.seconds > 0
    record = next(record for record in fitted.history if record["split"] == "train")
    assert list(record) == ["step", "split", "accuracy", "loss", "tasks_per_second", "seconds"]
    assert json.loads((tmp_path / "configuration.json").read_text())["ways"] == 5
    environment = json.loads((tmp_path / "environment.json").read_text())
    assert (
        environment["versions"]["jax"] == jax.__version__
        and environment["devices"] == jax.device_count()
    )
    assert list((tmp_path / "tensorboard").iterdir())
    chex.assert_trees_all_equal(restore_theta(tmp_path, fitted.theta), fitted.theta)
    chex.assert_trees_all_equal(
        restore_theta(tmp_path, fitted.theta, best=False), fitted.state.theta
    )


def test_theta_is_handed_on_without_what_training_needs(tmp_path):
    theta = {"slope": jnp.float32(2), "layers": [jnp.arange(3.0, dtype=jnp.float32)]}
    target = save_theta(tmp_path / "given", theta, {"ways": 5})
    chex.assert_trees_all_equal(restore_theta(tmp_path / "given", theta), theta)
    assert json.loads((tmp_path / "given" / "configuration.json").read_text()) == {"ways": 5}
    with pytest.raises(ValueError, match="the folder must be new or empty"):
        save_theta(tmp_path / "given", theta, {})
    next(
        path for path in target.rglob("*") if path.is_file() and path.stat().st_size > 20
    ).write_bytes(b"damaged")
    with (
        pytest.raises(ValueError, match="whole checkpoint"),
        pytest.warns(UserWarning, match="damaged"),
    ):
        restore_theta(tmp_path / "given", theta)


def test_the_steps_are_those_of_a_plain_loop():
    algorithm, optimiser, key = jm.maml(learner()), optax.adam(0.01), jax.random.key(5)
    fitted = fit(key, algorithm, sample, optimiser, 5, tasks=3, steps_per_call=2)
    key_start, key_steps, _ = jax.random.split(key, 3)
    task = sample(jax.random.split(key_start, 3)[0])
    theta = algorithm.bilevel.init(jax.random.split(key_start)[0], task)
    estimator = jax.jit(
        lambda *given: algorithm.estimator.estimate(given[0], algorithm.bilevel, *given[1:], ())
    )
    state = optimiser.init(theta)
    for step in range(5):
        key_tasks, key_estimate = jax.random.split(jax.random.fold_in(key_steps, step))
        tasks = jax.vmap(sample)(jax.random.split(key_tasks, 3))
        estimate, _ = estimator(key_estimate, theta, tasks)
        updates, state = optimiser.update(estimate.grad, state, theta)
        theta = optax.apply_updates(theta, updates)
    chex.assert_trees_all_close(fitted.state.theta, theta, rtol=1e-12)


def test_calls_compile_once_and_fetch_once(tmp_path, monkeypatch, caplog):
    fetches, calls = [], []
    fetch = jax.device_get

    def watch(event: Event):
        calls.extend([event] if event.kind == "train" else [])
        if event.kind == "compiled":
            jax.config.update("jax_transfer_guard", "disallow")
            jax.config.update("jax_log_compiles", True)
            monkeypatch.setattr(jax, "device_get", lambda tree: fetches.append(1) or fetch(tree))

    try:
        # Lengths 4, 3, 4, 3, ...: cut by the logs, and never compiled for.
        fit(
            jax.random.key(0),
            jm.maml(learner()),
            sample,
            optax.adam(0.01),
            28,
            tasks=4,
            log_every=7,
            steps_per_call=4,
            progress=watch,
        )
    finally:
        jax.config.update("jax_transfer_guard", "allow")
        jax.config.update("jax_log_compiles", False)
    assert [event.step for event in calls] == [
        2,
        4,
        6,
        7,
        8,
        10,
        12,
        14,
        16,
        18,
        20,
        21,
        22,
        24,
        26,
        28,
    ]
    assert len(fetches) == len(calls)
    assert not [record for record in caplog.records if "Compiling" in record.getMessage()]


def test_the_pace_does_not_change_the_numbers(tmp_path):
    one = train(tmp_path / "one", 12, steps_per_call=1)
    many = train(tmp_path / "many", 12)
    chex.assert_trees_all_equal(one.state, many.state)
    assert lines(tmp_path / "one") == lines(tmp_path / "many")


def test_tasks_shared_out_over_devices_give_the_same(tmp_path):
    over = jm.over_tasks(mesh=jm.task_mesh())
    algorithm = jm.maml(learner(), over=over)
    train(
        tmp_path / "a", 8, algorithm=algorithm, over=over, episodes=5
    )  # on two devices 6 are run, one is dropped
    apart = train(tmp_path / "a", 16, algorithm=algorithm, over=over, episodes=5, resume=True)
    alone = train(tmp_path / "b", 16, episodes=5)
    chex.assert_trees_all_close(apart.state, alone.state, rtol=1e-9)
    chex.assert_trees_all_close(apart.theta, alone.theta, rtol=1e-9)


def test_no_steps_and_no_inner_steps():
    none = train(None, 0)
    assert int(none.state.step) == 0 and none.history == [] and none.best is None
    still = train(None, 8, algorithm=jm.maml(learner(steps=0)))
    assert np.isfinite(still.history[-1]["loss"])


def test_a_plain_function_is_a_sampler():
    chex.assert_trees_all_equal(
        train(None, 4, sample=lambda key: draw(jnp.full((), 0.3), key)).state, train(None, 4).state
    )


def test_metric_chooses_the_best():
    assert metric("query_error").better(1.0, 2.0) and metric("accuracy").better(2.0, 1.0)
    worst = train(None, 24, metric=Metric("loss", lambda new, old: new > old))
    losses = {r["step"]: r["loss"] for r in worst.history if r["split"] == "validation"}
    assert worst.best.value == max(losses.values()) == losses[worst.best.step]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"steps": -1}, "steps must be at least 0"),
        ({"tasks": 0}, "tasks must be at least 1"),
        ({"validate_every": 0}, "validate_every must be at least 1"),
        ({"steps_per_call": 0.5}, "steps_per_call must be a whole number"),
        ({"metric": "f1"}, "metric must be one of .*accuracy.* got 'f1'"),
        ({"sample": 3}, "sample must be a function key -> Task or an iterable"),
        ({"validation": 3}, "sample must be a function key -> Task"),
    ],
)
def test_bad_arguments_are_refused_before_compiling(change, sentence, tmp_path, monkeypatch):
    # Samplers are small programs of their own.
    monkeypatch.setattr("jaxmeta.training._loop.compiled_steps", None)
    with pytest.raises(ValueError, match=sentence):
        train(tmp_path, **{"steps": 4, "validation": sample, **change})


def test_a_loss_that_returns_a_vector_is_refused_and_leaves_no_run(tmp_path):
    def loss(key, phi, batch):
        return phi["slope"] * batch.x, {}

    with pytest.raises(ValueError, match="must be a real scalar"):
        train(tmp_path, 4, algorithm=jm.maml(learner()._replace(loss=loss)))
    assert not (tmp_path / "configuration.json").exists()


def test_an_optimiser_that_asks_for_the_value():
    with warnings.catch_warnings():
        fitted = fit(
            jax.random.key(0),
            jm.maml(learner()),
            sample,
            optax.chain(optax.adam(0.01), optax.contrib.reduce_on_plateau()),
            3,
            tasks=2,
            progress=silent,
        )
    assert int(fitted.state.step) == 3


@pytest.mark.parametrize(
    "estimator", [jm.unrolled, lambda: jm.truncated(1)], ids=["unrolled", "truncated"]
)
def test_a_fit_of_equal_settings_compiles_nothing(estimator):
    """All is built anew: learner, algorithm, optimiser and a plain function as the sampler."""

    def once(key):
        algorithm = jm.maml(learner())._replace(estimator=estimator())
        return train(
            None, 8, sample=lambda key: draw(jnp.full((), 0.3), key), algorithm=algorithm, key=key
        )

    first = once(0)
    with counted() as compiled:
        again = once(0)
        assert compiled() == 0
        other = once(1)
        assert compiled() == 0
    chex.assert_trees_all_equal(again.state, first.state)
    assert float(other.theta["slope"]) != float(first.theta["slope"])


def test_a_fit_of_other_settings_is_not_taken_for_it():
    slow, fast = (train(None, 4, algorithm=jm.maml(learner(rate=rate))) for rate in (0.01, 0.2))
    assert float(slow.theta["slope"]) != float(fast.theta["slope"])


def test_a_fit_begins_from_given_parameters(tmp_path):
    algorithm = jm.maml(learner())
    drawn = train(None, 0, algorithm=algorithm).theta
    chex.assert_trees_all_equal(
        train(None, 4, algorithm=algorithm, theta=jax.device_get(drawn)).state,
        train(None, 4, algorithm=algorithm).state,
    )
    start = {"slope": np.float32(2), "offset": np.float64(-1)}
    begun = train(None, 0, algorithm=algorithm, theta=start)
    chex.assert_trees_all_equal_dtypes(begun.theta, drawn)
    assert (float(begun.theta["slope"]), float(begun.theta["offset"])) == (2.0, -1.0)


def test_a_resumed_run_goes_on_from_its_checkpoint_whatever_it_began_from(tmp_path):
    start = {"slope": 2.0, "offset": -1.0}
    straight = train(tmp_path / "straight", 16, theta=start)
    train(tmp_path / "parts", 8, theta=start)
    assert (
        json.loads((tmp_path / "parts" / "configuration.json").read_text())["fit"]["start"]
        == "given"
    )
    with pytest.raises(ValueError, match="made with fit.start = given, got nothing"):
        train(tmp_path / "parts", 16, resume=True)
    resumed = train(tmp_path / "parts", 16, resume=True, theta={"slope": 9.0, "offset": 9.0})
    chex.assert_trees_all_equal(resumed.state, straight.state)
    train(tmp_path / "drawn", 8)
    assert "start" not in json.loads((tmp_path / "drawn" / "configuration.json").read_text())["fit"]


@pytest.mark.parametrize(
    ("theta", "sentence"),
    [
        (
            {"slope": np.zeros(2), "offset": 0.0},
            r"theta at 'slope' must have shape \(\), got \(2,\); give what bilevel.init",
        ),
        ({"slope": 0.0}, "theta must have a leaf at 'offset', of shape .*, got none"),
        ({"slope": np.nan, "offset": 0.0}, "theta at 'slope' must be finite, got NaN or infinity"),
        ({"slope": 1j, "offset": 0.0}, "theta at 'slope' must be float64, got complex128"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(theta, sentence, tmp_path):
    with pytest.raises(ValueError, match=sentence):
        train(tmp_path, 4, theta=theta)
    assert not (tmp_path / "configuration.json").exists()


def test_whole_numbers_and_keys_in_theta_are_constants_of_training():
    plain = learner()

    def start(key, task):
        return {**plain.start(key, task), "counts": jnp.array([1, 2]), "key": jax.random.key(7)}

    def run(start):
        optimiser = optax.adamw(0.1, weight_decay=0.5)
        return fit(
            jax.random.key(0), jm.maml(plain._replace(start=start)), sample, optimiser, 4, tasks=4
        )

    fitted = run(start)
    assert fitted.theta["counts"].tolist() == [1, 2] and fitted.theta["key"] == jax.random.key(7)
    assert fitted.theta["slope"] == run(plain.start).theta["slope"]
    with pytest.raises(ValueError, match="theta at 'counts' must be int64, got float64"):
        fit(
            jax.random.key(0),
            jm.maml(plain._replace(start=start)),
            sample,
            optax.adam(0.1),
            4,
            tasks=4,
            theta={**fitted.theta, "counts": np.ones(2)},
        )
