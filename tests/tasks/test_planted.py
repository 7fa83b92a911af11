"""Planted classes have the covariance of their tree, and at low noise give it back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.cluster.hierarchy as scipy_hierarchy

from jaxmeta.hierarchy._distances import robinson_foulds
from jaxmeta.hierarchy._tree import Tree
from jaxmeta.tasks._planted import planted, planted_examples, planted_means

TREE = Tree.from_nested((((0, 1), (2, 3)), ((4, 5), (6, (7, 8)))))
SCALES = (1.0, 0.7, 0.5, 0.3)


def test_means_have_the_covariance_of_shared_paths():
    keys = jax.random.split(jax.random.key(0), 200)
    means = jax.jit(jax.vmap(lambda key: planted_means(key, TREE, 200, SCALES)))(keys)
    means = np.moveaxis(means, 1, 0).reshape(TREE.size, -1)  # 40000 draws
    scale = np.array([0.0, *SCALES])[list(TREE.depths)]
    expected = TREE.paths @ np.diag(scale**2) @ TREE.paths.T
    np.testing.assert_allclose(
        means @ means.T / means.shape[1], expected, atol=5 * 2.0 / np.sqrt(means.shape[1])
    )
    np.testing.assert_allclose(means.mean(1), 0, atol=0.04)


def test_examples_lie_around_their_classes_and_give_the_tree_back():
    for noise in (0.0, 0.5):
        x, y, *_ = planted_examples(jax.random.key(1), TREE, 40, 256, SCALES, noise)
        classes = np.stack([x[y == label] for label in range(TREE.size)])
        assert np.allclose(classes.std(1, ddof=1).mean(), noise, rtol=0.02)
        linkage = scipy_hierarchy.linkage(classes.mean(1), "average")
        assert robinson_foulds(Tree.from_linkage(linkage), TREE) == 0
    x, y, *_ = planted_examples(jax.random.key(1), TREE, 40, 256, SCALES, 100.0)
    means = np.stack([x[y == label].mean(0) for label in range(TREE.size)])
    assert robinson_foulds(Tree.from_linkage(scipy_hierarchy.linkage(means, "average")), TREE) > 0


def test_tasks_walk_anew_and_share_their_means_between_support_and_query():
    sample = planted(TREE, shots=2, queries=3, dimension=6, noise=0.0)
    tasks = jax.jit(jax.vmap(sample))(jax.random.split(jax.random.key(2), 4))
    assert tasks.support.x.shape == (4, 18, 6) and tasks.query.x.shape == (4, 27, 6)
    np.testing.assert_array_equal(tasks.support.y[0], np.repeat(np.arange(9), 2))
    np.testing.assert_array_equal(tasks.query.y[1], np.repeat(np.arange(9), 3))
    np.testing.assert_array_equal(tasks.support.x[:, ::2], tasks.query.x[:, ::3])
    assert float(jnp.abs(tasks.support.x[0] - tasks.support.x[1]).min()) > 0
    noisy = jax.jit(planted(TREE, shots=2, queries=3, dimension=6, noise=1.0))(jax.random.key(2))
    assert len(np.unique(np.concatenate([noisy.support.x, noisy.query.x]), axis=0)) == 45


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"shots": 0}, "shots must be at least 1"),
        ({"queries": 1.5}, "queries must be a whole number"),
        ({"dimension": 0}, "dimension must be at least 1"),
        ({"noise": -1.0}, "noise must be at least 0"),
        ({"scales": -1.0}, "scales must be a number, or one for each of the tree's 4 depths"),
        ({"scales": (1.0, 1.0)}, "4 depths, and at least 0, got \\(1.0, 1.0\\)"),
    ],
)
def test_refusals(settings, words):
    with pytest.raises(ValueError, match=words):
        planted(TREE, **settings)
    with pytest.raises(ValueError, match="count must be at least 1"):
        planted_examples(jax.random.key(0), TREE, 0)
