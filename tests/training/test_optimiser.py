"""The outer optimisers: what a first step is, and where the rate goes."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxmeta.training import outer_adam, outer_muon

THETA = {"filter": jnp.zeros((3, 3, 4, 8)), "head": jnp.zeros((8, 5)), "offset": jnp.zeros(8)}
GRAD = jax.tree.map(lambda leaf: jax.random.normal(jax.random.key(leaf.size), leaf.shape), THETA)


def first(optimiser):
    return optimiser.update(GRAD, optimiser.init(THETA), THETA)[0]


def test_muon_moves_filters_by_nearly_orthogonal_matrices_and_all_else_as_nadam_would():
    rate = 0.01
    moved = first(outer_muon(rate, clip=None))
    strengths = np.linalg.svd(moved["filter"].reshape(36, 8), compute_uv=False) / (
        0.2 * rate * np.sqrt(36)
    )
    assert (
        0.6 < strengths.min() and strengths.max() < 1.3
    )  # five steps of Newton and Schulz come no nearer to 1
    assert np.ptp(np.linalg.svd(GRAD["filter"].reshape(36, 8), compute_uv=False)) > 2
    towards = jnp.vdot(moved["filter"], GRAD["filter"])
    assert towards < 0
    nadam = first(optax.nadam(rate / 5))
    for name in ("head", "offset"):
        np.testing.assert_allclose(moved[name], nadam[name], rtol=1e-5)


@pytest.mark.parametrize("make", [outer_adam, outer_muon])
def test_the_rate_falls_to_zero_and_a_huge_gradient_counts_as_one_of_the_largest_norm(make):
    def moves(clip, scale):
        optimiser, found = make(0.1, steps=4, clip=clip), []
        state = optimiser.init(THETA)
        for step in range(
            5
        ):  # the second gradient is the large one: Adam's first step knows no scale
            grad = jax.tree.map(lambda leaf: leaf * (scale if step == 1 else 1e-3), GRAD)
            moved, state = optimiser.update(grad, state, THETA)
            found.append(np.asarray(moved["offset"]))
        return found

    plain = moves(None, 1e-3)
    sizes = [float(np.abs(each).max()) for each in plain]
    assert all(later < earlier for earlier, later in itertools.pairwise(sizes)) and sizes[-1] == 0
    largest = 1.0 / float(optax.tree.norm(GRAD))
    for a, b in zip(moves(1.0, 1e6), moves(None, largest)):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-9)
