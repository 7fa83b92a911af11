"""Augmented episodes: what is changed, by which draws, and what warps keep."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmeta as jm
from jaxmeta.tasks import augmented, warps


@pytest.fixture
def drawing():
    image = np.zeros((28, 28, 1), np.float32)
    image[6:22, 13:15] = image[12:14, 8:20] = 1
    return jnp.asarray(image)


def test_every_example_is_changed_by_a_draw_of_its_own_and_nothing_else_is():
    sample = jm.episodes(
        jm.pool(np.zeros((40, 3), np.float32), np.arange(40) % 4), ways=3, shots=2, queries=3
    )
    changed = augmented(sample, lambda key, x: x + jax.random.uniform(key, x.shape, x.dtype))
    task = jax.jit(changed)(jax.random.key(0))
    values = np.concatenate([task.support.x, task.query.x]).ravel()
    assert len(values) == len(set(values.tolist())) == 45
    plain = sample(jax.random.split(jax.random.key(0), 3)[0])
    np.testing.assert_array_equal(task.query.y, plain.query.y)
    assert task.node == plain.node


def test_warps_of_no_strength_change_nothing_and_of_shift_alone_move(drawing):
    still = warps(turn=0, stretch=0, shear=0, shift=0, bend=0, pen=0)
    np.testing.assert_allclose(still(jax.random.key(0), drawing), drawing, atol=1e-5)
    moved = warps(turn=0, stretch=0, shear=0, shift=3, bend=0, pen=0)(jax.random.key(1), drawing)
    rows = jnp.arange(28.0, dtype=jnp.float32)
    for axis in (0, 1):
        before, after = (
            float((image.sum((1 - axis, 2)) @ rows) / image.sum()) for image in (drawing, moved)
        )
        assert 0.01 < abs(before - after) < 3
    assert moved.sum() == pytest.approx(float(drawing.sum()), rel=1e-5)


def test_warps_differ_by_key_stay_images_and_keep_their_dtype(drawing):
    many = jax.vmap(warps(), (0, None))(jax.random.split(jax.random.key(0), 64), drawing)
    assert many.dtype == drawing.dtype and float(many.min()) >= 0 and float(many.max()) <= 1 + 1e-6
    distances = jnp.abs(many[:, None] - many[None]).mean((2, 3, 4)) + jnp.eye(64)
    assert float(distances.min()) > 1e-3
    ink = np.asarray(many.sum((1, 2, 3)) / drawing.sum())
    assert 0.5 < ink.min() and ink.max() < 2.5


def test_refusals():
    with pytest.raises(ValueError, match="bend must be at least 0, got -1"):
        warps(bend=-1)


def test_the_same_warps_are_the_same_function():
    assert warps(turn=0.2) is warps(turn=0.2)
