"""The mapper's mean is that of the numbers, whatever their dtype, the chunks and the devices."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxmeta as jm

T = 1024
CHUNKS = [1, 4, T]


def mappers():
    return [jm.over_tasks(chunk, mesh) for mesh in (None, jm.task_mesh()) for chunk in CHUNKS]


def mean_of(values):
    return [
        jax.jit(lambda values, over=over: over(lambda theta, one: (one, ()), (), values))(values)[0]
        for over in mappers()
    ]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_mean_of_many_small_numbers_is_rounded_once(dtype):
    values = jnp.asarray(np.random.default_rng(0).uniform(1, 2, size=(T, 3)), dtype)
    right = np.asarray(values, np.float64).mean(0)
    for mean in mean_of({"ones": jnp.ones((T, 3), dtype), "values": values}):
        assert mean["values"].dtype == dtype
        np.testing.assert_array_equal(mean["ones"].astype(float), 1)
        # Half a unit in the last place of its own dtype, and what float32 sums of a thousand
        # numbers lose.
        np.testing.assert_allclose(
            np.asarray(mean["values"], np.float64),
            right,
            rtol=float(jnp.finfo(dtype).eps) / 2 + 1e-5,
        )


def test_a_sum_beyond_the_largest_number_of_its_dtype_has_a_mean():
    for mean in mean_of(
        jnp.full((T,), 1e4, "float16")
    ):  # the sum is 1e7, the largest float16 65504
        assert float(mean) == 1e4


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int32"])
def test_whole_numbers_and_booleans_are_counted(dtype):
    values = jnp.asarray(np.arange(T) % 4 > 0, dtype)
    for mean in mean_of(values):
        assert float(mean) == 0.75 and jnp.issubdtype(mean.dtype, jnp.floating)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
def test_enough_bits_are_left_as_they_are(dtype):
    values = jnp.asarray(np.random.default_rng(0).normal(size=(8, 3)), dtype)
    for chunk in (1, 2, 8):

        def mapped(values, chunk=chunk):
            return jm.over_tasks(chunk)(lambda theta, one: (one, ()), (), values)[0]

        def plain(values, chunk=chunk):
            parts = values.reshape(8 // chunk, chunk, 3)
            if chunk == 8:
                return parts[0].sum(0) / 8
            step = (
                (lambda total, part: (total + part[0], None))
                if chunk == 1
                else (lambda total, part: (total + part.sum(0), None))
            )
            return jax.lax.scan(step, jnp.zeros(3, dtype), parts)[0] / 8

        np.testing.assert_array_equal(jax.jit(mapped)(values), jax.jit(plain)(values))
        assert "convert_element_type" not in str(jax.make_jaxpr(mapped)(values))


def test_gradients_of_tasks_are_averaged_in_enough_bits():
    learner = jm.Learner(
        lambda key, task: jnp.zeros(3, "bfloat16"),
        lambda key, phi, batch: ((phi * batch).sum(), {}),
        jm.no_penalty,
        optax.sgd(0.1),
        1,
    )
    bilevel = jm.Bilevel(jm.initialisation(), learner)
    tasks = jm.Task(jnp.ones((T, 3), "bfloat16"), jnp.ones((T, 3), "bfloat16"), jnp.zeros(T, int))
    for over in mappers():
        grad = (
            jm.unrolled(over=over)
            .estimate(jax.random.key(0), bilevel, jnp.zeros(3, "bfloat16"), tasks, ())[0]
            .grad
        )
        assert grad.dtype == "bfloat16" and grad.tolist() == [1, 1, 1]
