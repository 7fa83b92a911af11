"""Compiled programs: compiled once for all functions that come to the same, and never taken for
another."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from compilations import counted
from jax.sharding import Mesh, PartitionSpec

import jaxmeta as jm
from jaxmeta._programs import Program, run, shared

KEY = jax.random.key(0)


def learner(steps=3, rate=0.25, loss=lambda phi, batch: ((phi - batch) ** 2).sum(), size=4):
    """A new one at each call, as a bias shapes them."""
    return jm.Learner(
        lambda key, task: jnp.zeros(size),
        lambda key, phi, batch: (loss(phi, batch), {}),
        jm.no_penalty,
        optax.sgd(rate),
        steps,
    )


def task(value=1.0):
    return jm.Task(jnp.full((4,), value), None)


def end(value, steps=3, rate=0.25):
    """phi_K of `learner` in closed form."""
    return value * (1 - (1 - 2 * rate) ** steps)


def test_an_eager_adapt_compiles_once_for_equal_shapes():
    jm.adapt(KEY, learner(), task())
    with counted() as compiled:
        for value in (2.0, -3.0):
            batch = jnp.full((4,), value)
            np.testing.assert_allclose(
                jm.adapt(KEY, learner(), jm.Task(batch, None)), end(value), rtol=1e-15
            )
        assert compiled() <= 1  # jnp.full of the batch itself


def test_a_learner_shaped_anew_compiles_nothing_and_learns_from_its_own_theta():
    bias, batch = jm.compose(jm.initialisation(), jm.step_sizes(1.0)), task()
    numbers = ((0.0, 1.0), (1.0, 0.5), (3.0, 2.0))
    thetas = [(jnp.full(4, start), jnp.full(4, rate)) for start, rate in numbers]

    def adapted(theta):
        return jm.adapt(KEY, bias.shape(theta, batch, learner()), batch)

    adapted(thetas[0])
    with counted() as compiled:
        ends = [adapted(theta) for theta in thetas]
        assert compiled() == 0
    for (start, rate), found in zip(numbers, ends):
        np.testing.assert_allclose(found, 1 + (start - 1) * (1 - 2 * 0.25 * rate) ** 3, rtol=1e-14)


def test_scalars_of_theta_are_arguments_too():
    def adapted(rate):
        shaped = learner(loss=lambda phi, batch: rate * ((phi - batch) ** 2).sum())
        return jm.adapt(KEY, shaped, batch)

    batch, rates = task(), [jnp.asarray(rate) for rate in (1.0, 0.5, 2.0)]
    adapted(rates[0])
    with counted() as compiled:
        ends = [adapted(rate) for rate in rates[1:]]
        assert compiled() == 0
    for rate, found in zip(rates[1:], ends):
        np.testing.assert_allclose(found, end(1.0, rate=0.25 * float(rate)), rtol=1e-15)


def test_an_eager_adapt_keeps_one_phi(monkeypatch):
    programs, compile_ = [], jax.stages.Lowered.compile
    monkeypatch.setattr(
        jax.stages.Lowered,
        "compile",
        lambda *given: programs.append(compile_(*given)) or programs[-1],
    )
    jm.adapt(
        KEY, learner(steps=1000, size=1000, loss=lambda phi, batch: ((phi - 1) ** 2).sum()), task()
    )
    (program,) = programs
    memory = program.memory_analysis()
    assert (
        memory.temp_size_in_bytes + memory.output_size_in_bytes < 10 * 8 * 1000
    )  # the path would be 1,000 times phi


def test_under_a_transformation_adapt_is_what_it_was():
    def by(process):
        def of(value):
            return process(KEY, learner(), jm.Task(value * jnp.ones(4), None)).sum()

        return of

    ours, plain = by(jm.adapt), by(lambda *given: jm.trajectory(*given).end)
    assert str(jax.make_jaxpr(ours)(2.0)) == str(jax.make_jaxpr(plain)(2.0))
    assert str(jax.make_jaxpr(lambda: ours(2.0))()) == str(jax.make_jaxpr(lambda: plain(2.0))())
    for transform, given in (
        (jax.jit, 2.0),
        (jax.grad, 2.0),
        (jax.vmap, jnp.arange(3.0)),
        (jax.jacfwd, 2.0),
        (lambda of: jax.vmap(jax.grad(of)), jnp.arange(3.0)),
    ):
        np.testing.assert_array_equal(transform(ours)(given), transform(plain)(given))
    np.testing.assert_allclose(jax.grad(ours)(2.0), 4 * end(1.0), rtol=1e-15)


def test_a_tracer_that_the_learner_closes_over_is_differentiated():
    def of(target):
        return jm.adapt(
            KEY, learner(loss=lambda phi, batch: ((phi - target) ** 2).sum()), task()
        ).sum()

    np.testing.assert_allclose(jax.grad(of)(2.0), 4 * end(1.0), rtol=1e-15)
    np.testing.assert_allclose(
        jax.vmap(of)(jnp.arange(3.0)), 4 * end(1.0) * np.arange(3), rtol=1e-15
    )


def test_within_a_trace_nothing_is_computed():
    with counted() as compiled:
        jax.eval_shape(lambda: jm.adapt(KEY, learner(steps=17), jm.Task(np.ones(4), None)))
        assert compiled() == 0


def test_a_start_that_looks_at_values_runs_as_it_is_written():
    def start(key, task):
        return jnp.zeros(int(task.support.sum()))

    odd = learner(loss=lambda phi, batch: ((phi - 1) ** 2).sum())._replace(start=start)
    np.testing.assert_allclose(jm.adapt(KEY, odd, task()), np.full(4, end(1.0)), rtol=1e-15)
    with jax.disable_jit():
        np.testing.assert_allclose(
            jm.adapt(KEY, learner(), task()), np.full(4, end(1.0)), rtol=1e-15
        )


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
def test_numbers_that_are_looked_for_are_found(bad):
    """With JAX's own error, which names the operation."""
    odd = learner(loss=lambda phi, batch: (bad * phi).sum())
    assert not np.isfinite(jm.adapt(KEY, odd, task())).any()
    look = jax.debug_nans if np.isnan(bad) else jax.debug_infs
    with look(True), pytest.raises(FloatingPointError):
        jm.adapt(KEY, odd, task())


def test_programs_that_call_back_are_not_taken_for_each_other():
    def calling(number):
        return run(
            lambda: jax.pure_callback(lambda: np.float64(number), jax.ShapeDtypeStruct((), float))
        )

    assert [float(calling(number)) for number in (1, 2, 3)] == [1, 2, 3]


def test_what_is_compiled_in_tells_programs_apart():
    def adding(constant):
        return Program(lambda x: x + jnp.asarray(constant), jnp.zeros(3))(jnp.ones(3))

    for constant in (np.arange(3.0), np.ones(3), np.full(3, 1 + 1e-15)):
        np.testing.assert_array_equal(adding(constant), 1 + constant)


def test_weak_types_are_told_apart():
    weak, strong = jnp.asarray(2.0), jnp.ones(())
    assert weak.weak_type and not strong.weak_type
    assert [run(lambda x=x: x * 2).weak_type for x in (weak, strong, weak)] == [True, False, True]


def test_a_shared_function_is_traced_anew_where_jax_is_configured_otherwise():
    @shared
    def double(x, times):
        return times * x + jnp.zeros(())  # of the default dtype

    x = np.ones(3, np.float32)
    assert double(x, times=2).dtype == jnp.float64
    with jax.enable_x64(False):
        assert double(x, times=2).dtype == jnp.float32
    with counted() as compiled:
        np.testing.assert_array_equal(double(2 * x, times=2), 4 * x)
        assert compiled() == 0
    np.testing.assert_array_equal(jax.jit(lambda x: double(x, times=3))(x), 3 * x)
    for device in jax.devices():
        assert double(jax.device_put(x, device), times=2).devices() == {device}


def test_donation_is_told_apart():
    x = jnp.ones(1000)
    keeping = Program(lambda x: 2 * x, x)
    giving = Program(lambda x: 2 * x, x, donate=(0,))
    keeping(x)
    assert not x.is_deleted()
    giving(x)
    assert x.is_deleted()


def test_devices_are_told_apart():
    for device in (*jax.devices(), *jax.devices()):
        x = jax.device_put(jnp.ones(3), device)
        assert run(lambda x=x: 2 * x).devices() == {device}
        with jax.default_device(device):
            assert run(lambda: 3 * jnp.ones(3)).devices() == {device}


def test_meshes_of_the_same_axes_are_told_apart():
    one, other = (Mesh(np.array(devices), "t") for devices in (jax.devices(), jax.devices()[::-1]))
    for mesh in (one, other, one):

        def double(x, mesh=mesh):
            part = PartitionSpec("t")
            return jax.shard_map(lambda x: 2 * x, mesh=mesh, in_specs=part, out_specs=part)(x)

        doubled = Program(double, jnp.arange(4.0))(jnp.arange(4.0))
        np.testing.assert_array_equal(doubled, 2 * np.arange(4.0))
        assert [shard.device for shard in doubled.addressable_shards] == list(
            doubled.sharding._device_assignment
        )
        assert doubled.sharding.mesh == mesh


PROCESS = """
import sys
import jax, jax.numpy as jnp
import jaxmeta as jm
hits = []
jax.monitoring.register_event_listener(
    lambda name, **more: hits.append(name) if name.endswith("cache_hits") else None
)
jax.jit(lambda x: x + 1)(1.0)  # before the cache is asked for
assert str(jm.cache(sys.argv[1])) == sys.argv[1]
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.jit(lambda x: jnp.sin(x) * 3)(2.0)
print(len(hits))
"""


def test_the_next_process_loads_what_this_one_compiled(tmp_path):
    alone = {
        name: value for name, value in os.environ.items() if "CACHE" not in name
    }  # the tests' own cache is another

    def process():
        done = subprocess.run(
            [sys.executable, "-c", PROCESS, tmp_path / "kept"],
            capture_output=True,
            text=True,
            env=alone | {"JAX_PLATFORMS": "cpu"},
        )
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    assert process() == 0
    assert any((tmp_path / "kept").iterdir())
    assert process() == 1


def test_the_cache_is_by_default_where_the_data_are(tmp_path, monkeypatch):
    before = {
        name: getattr(jax.config, name)
        for name in ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    }
    monkeypatch.setenv("JAXMETA_CACHE", str(tmp_path))
    try:
        assert jm.cache() == tmp_path / "compiled"
        assert jax.config.jax_compilation_cache_dir == str(tmp_path / "compiled")
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
