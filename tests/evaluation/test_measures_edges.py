"""Where measures end: labels that are no classes, NaN that would pass for a number, dtypes of few
bits, ends that are not said."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmeta.evaluation as je

KEY = jax.random.key(0)
Z = np.random.default_rng(0).normal(size=(12, 3))
Y = np.arange(12) % 3
KERNEL = np.random.default_rng(1).normal(size=(3, 3))
DISTANCES = np.array([[0, 1, 2], [1, 0, 2], [2, 2, 0.0]])
BY_LABEL = {
    "neural_collapse": lambda y, z=Z: je.neural_collapse(z, y, KERNEL),
    "hierarchical_collapse": lambda y, z=Z: je.hierarchical_collapse(z, y, DISTANCES)[:2],
    "stitching": lambda y, z=Z: je.stitching(lambda r: r, z, Z[:3], y),
}


@pytest.mark.parametrize("label", [-1, 3])
@pytest.mark.parametrize("name", BY_LABEL)
def test_a_label_that_is_no_class_is_refused_or_makes_nan(name, label):
    y = Y.copy()
    y[4] = label
    for known in (y, jnp.asarray(y)):
        with pytest.raises(ValueError, match=f"labels must be from 0 to 2, got {label}"):
            BY_LABEL[name](known)
    assert np.isnan(jax.tree.leaves(jax.jit(BY_LABEL[name])(jnp.asarray(y)))).all()
    assert np.isfinite(jax.tree.leaves(jax.jit(BY_LABEL[name])(jnp.asarray(Y)))).all()


@pytest.mark.parametrize("name", ["neural_collapse", "hierarchical_collapse"])
def test_a_class_without_examples_makes_nan_of_all(name):
    assert np.isnan(jax.tree.leaves(BY_LABEL[name](np.where(Y == 2, 1, Y)))).all()


@pytest.mark.parametrize(
    "measure",
    [
        lambda z: je.neural_collapse(z, Y, KERNEL),
        lambda z: je.neural_collapse(Z, Y, z[:3]),  # NaN in the read-out alone
        lambda z: je.hierarchical_collapse(z, Y, DISTANCES)[:2],
        lambda z: je.stitching(lambda r: r, z, Z[:3], Y),
        lambda z: je.mutual_neighbours(z, Z, 3).value,
        lambda z: je.cka(z, Z),
        lambda z: je.svcca(z, Z),
        lambda z: je.barrier(lambda w: (w * z).sum(), 0.0, 1.0, 3).height,
        lambda z: je.spectrum(KEY, lambda v: (z.T @ z) @ v, jnp.zeros(3), 3),
        lambda z: je.equivariance_error(lambda x: x, lambda x: x + 1, lambda y: y, z),
    ],
)
def test_nan_does_not_pass_for_a_number(measure):
    assert np.isfinite(jax.tree.leaves(measure(jnp.asarray(Z)))).all()
    assert np.isnan(jax.tree.leaves(measure(jnp.asarray(Z).at[1, 1].set(jnp.nan)))).all()


def test_an_example_without_direction_has_no_neighbours():
    assert np.isnan(je.mutual_neighbours(np.where(np.arange(12)[:, None] == 2, 0, Z), Z, 3).value)


NET = {
    "l1": {"kernel": np.array([[1.0, 2.0, 3.0]])},
    "l2": {"kernel": np.array([[4.0], [5.0], [6.0]])},
}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: je.subspace_distance(np.full((3, 2), np.nan), np.eye(3)),
            "operators must be finite",
        ),
        (lambda: je.group_agreement(np.full((3, 2), np.nan), np.arange(3)), "rows must be finite"),
        (
            lambda: je.weight_matching(KEY, NET, jax.tree.map(lambda leaf: leaf * np.nan, NET)),
            "parameters must be finite",
        ),
        (
            lambda: je.permuted(
                {"b": Z[:3, 0]}, {"hidden": np.array([2, 0, 0])}, {"b": ("hidden",)}
            ),
            r"each of its 3 units once",
        ),
        (
            lambda: je.permuted(
                {"b": Z[:3, 0]}, {"hidden": np.array([2, 0, -1])}, {"b": ("hidden",)}
            ),
            r"each of its 3 units once",
        ),
    ],
)
def test_refusals(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_matching_says_whether_it_came_to_an_end():
    moved = {
        "l1": {"kernel": np.array([[3.0, 1.0, 2.0]])},
        "l2": {"kernel": np.array([[6.0], [4.0], [5.0]])},
    }
    assert not je.weight_matching(
        KEY, NET, moved, sweeps=1
    ).converged  # the sweep that gained may not have been the last
    found = je.weight_matching(KEY, NET, moved)
    assert found.converged and found.sweeps == 2


def test_the_eigenvalue_nearest_to_zero_has_its_residual():
    """Indefinite, so that it is neither end; there is an eigenvalue within the residual of it, at
    every number of steps."""
    values = np.concatenate([np.linspace(-2, -0.5, 20), np.linspace(0.1, 3, 20)])
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(40, 40)))[0]
    matrix = jnp.asarray(turn @ np.diag(values) @ turn.T)
    for steps in (4, 12, 40):
        found = je.spectrum(KEY, lambda v: matrix @ v, jnp.zeros(40), steps)
        near = np.abs(np.abs(values) - float(found.smallest)).min()
        assert near <= float(found.smallest_residual) + 1e-12
    np.testing.assert_allclose([found.smallest, found.smallest_residual], [0.1, 0], atol=1e-9)


def test_measures_of_few_bits_are_those_of_the_same_numbers_in_more():
    """bfloat16 numbers are float64 numbers: what is measured of both agrees to float32, not to
    bfloat16's two digits."""
    few, kernel = jnp.asarray(Z, "bfloat16"), jnp.asarray(KERNEL, "bfloat16")
    measures = [
        lambda z, k: je.cka(z, 2 * z[:, :2]),
        lambda z, k: je.svcca(z, z[:, :2]),
        lambda z, k: je.neural_collapse(z, Y, k),
        lambda z, k: je.hierarchical_collapse(z, Y, DISTANCES)[0],
        lambda z, k: je.stitching(lambda r: r, z, z[:3], Y),
        lambda z, k: je.mutual_neighbours(z, k[Y], 3).value,
    ]
    for measure in measures:
        got, want = (
            measure(few, kernel),
            measure(few.astype(jnp.float64), kernel.astype(jnp.float64)),
        )
        assert all(jnp.finfo(leaf.dtype).bits >= 32 for leaf in jax.tree.leaves(got))
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want)):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_an_operator_of_few_bits_has_its_eigenvalues_to_its_own_rounding():
    found = je.spectrum(
        KEY, lambda v: v * jnp.array([1, 2, 4, 8], v.dtype), jnp.zeros(4, "bfloat16"), 4
    )
    np.testing.assert_allclose([found.lowest, found.highest], [1, 8], rtol=0.02)


@pytest.mark.slow
def test_no_tracer_is_kept():
    """JAX's own check: nothing that a program closed over is there when it is made."""
    with jax.checking_leaks():
        for measure in BY_LABEL.values():
            jax.jit(measure)(jnp.asarray(Y))
        for measure in (je.cka, je.svcca, lambda a, b: je.mutual_neighbours(a, b, 3).value):
            jax.jit(jax.grad(lambda z, measure=measure: measure(z, Z)))(jnp.asarray(Z))
        jax.jit(lambda z: je.spectrum(KEY, lambda v: z.T @ (z @ v), jnp.zeros(3), 3))(
            jnp.asarray(Z)
        )
        jax.jit(
            lambda z: je.conditioning(
                KEY, lambda theta: ((z @ theta) ** 2).sum(), lambda phi: phi * 2, jnp.ones(3), 3
            )
        )(Z)
        je.barrier(lambda w: (w * jnp.asarray(Z)).sum(), 0.0, 1.0, 3)
