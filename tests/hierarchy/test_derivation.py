"""Derivations against scipy, hand-worked cases, and trees that were planted."""

import jax
import numpy as np
import pytest
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import pdist, squareform

from jaxmeta.hierarchy import Tree, _agglomeration, _clustering, _derivation
from jaxmeta.hierarchy._agglomeration import (
    agglomerate,
    contract,
    flexible,
    lance_williams,
    linkage_tree,
)
from jaxmeta.hierarchy._dag import Dag

KEY = jax.random.key(0)
SCHEMES = ["single", "complete", "average", "weighted", "ward", "centroid", "median"]
SHL = Tree.from_nested((1, ((2, 3, 4), (5, 6), (7, 8))))


@pytest.mark.parametrize("name", SCHEMES)
def test_the_general_update_is_scipys(name):
    points = pdist(np.random.default_rng(0).normal(size=(25, 6)))
    ours = lance_williams(squareform(points), getattr(_agglomeration, name))
    np.testing.assert_allclose(ours, linkage(points, name), atol=1e-9)


def test_flexible_without_beta_is_weighted_and_with_it_is_another():
    distance = squareform(pdist(np.random.default_rng(1).normal(size=(12, 3))))
    np.testing.assert_allclose(
        lance_williams(distance, flexible(0.0)), lance_williams(distance, _agglomeration.weighted)
    )
    # By hand: 0 and 1 are joined at 1; then (1 - b)/2 (4 + 2) + b 1.
    assert lance_williams([[0, 1, 4], [1, 0, 2], [4, 2, 0]], flexible(-0.5))[1, 2] == pytest.approx(
        4.0
    )
    assert linkage_tree([[0, 1, 4], [1, 0, 2], [4, 2, 0]], flexible(-0.5)).nested() == ((0, 1), 2)


def test_fused_levels_give_back_a_tree_of_any_arity():
    """Affinities that fall with the height of the lowest common ancestor are an ultrametric, ties
    and all."""
    affinity = -np.array(SHL.heights)[SHL.ancestors]
    for name in ("single", "complete", "average", "weighted"):
        found = agglomerate(
            affinity, getattr(_agglomeration, name), fuse=1e-9, concepts=SHL.concepts
        )
        assert found == SHL
    assert agglomerate(affinity, fuse=10.0).nested() == Tree.star(8).nested()
    assert agglomerate(affinity).nodes == 15  # binary, where nothing is fused
    noisy = affinity + 0.3 * np.random.default_rng(2).uniform(size=(8, 8))
    assert agglomerate(noisy, fuse=0.4, concepts=SHL.concepts) == SHL
    one_way = np.triu(noisy) + np.tril(affinity.min() - np.ones((8, 8)), -1)
    assert agglomerate(one_way, how=np.maximum, fuse=0.4, concepts=SHL.concepts) == SHL


def test_contract_keeps_heights_and_goes_up_chains():
    chain = Tree.from_nested((0, (1, (2, (3, 4)))))
    assert contract(chain, lambda parent, child: child in (2, 3)).nested() == (0, 1, 2, (3, 4))
    assert contract(chain, lambda parent, child: child in (2, 3)).heights == (0,) * 5 + (4, 1)
    assert contract(chain, lambda parent, child: False) == chain


@pytest.mark.parametrize(
    "affinity, message",
    [
        ([[1, np.nan], [0, 1]], "got nan from concept 0 to concept 1"),
        (np.ones((2, 3)), r"got shape \(2, 3\)"),
        ([[1.0]], "over two concepts or more"),
    ],
)
def test_agglomerate_refuses(affinity, message):
    with pytest.raises(ValueError, match=message):
        agglomerate(affinity)


@pytest.mark.parametrize(
    "distance, message",
    [
        ([[0, 1, 1], [1, 0, -2], [1, -2, 0]], "at least 0, got -2.0 between concepts 1 and 2"),
        ([[0, 1, 1], [1, 0, 2], [1, 3, 0]], "symmetric, got 2.0 between concepts 1 and 2"),
        ([[0, 1], [1, 5]], "0 on the diagonal, got 5.0 between concepts 1 and 1"),
        ([[0, np.inf], [np.inf, 0]], "finite, got inf between concepts 0 and 1"),
    ],
)
def test_linkage_refuses(distance, message):
    with pytest.raises(ValueError, match=message):
        linkage_tree(distance)
    with pytest.raises(ValueError, match=message):
        lance_williams(distance, flexible())


def test_confusion_and_last_layer():
    # F is rows over their sums: 1 - (F + F')/2 is 0.75 for (0, 1), 0.95 for (1, 2), 1 for (0, 2).
    tree = _derivation.confusion_tree([[6, 4, 0], [2, 16, 2], [0, 0, 5]], concepts="abc")
    assert tree.nested() == (("a", "b"), "c")
    np.testing.assert_allclose(sorted(tree.heights)[3:], [1 - 0.25, 0.975])
    vectors = np.random.default_rng(3).normal(size=(9, 4))
    assert _derivation.nbdt_tree(vectors) == Tree.from_linkage(linkage(vectors, "ward"))
    with pytest.raises(ValueError, match="no example of 'b'"):
        _derivation.confusion_tree([[1, 0], [0, 0]], concepts="ab")
    with pytest.raises(ValueError, match="got -1.0 in row 0, column 1"):
        _derivation.confusion_tree([[1, -1], [0, 1]])
    with pytest.raises(ValueError, match="for concept 1"):
        _derivation.nbdt_tree([[1.0], [np.nan]])


def test_best_of_draws_as_many_as_it_may_and_keeps_the_best():
    seen = []
    found = _derivation.best_of(KEY, "abcd", 40, lambda tree: seen.append(tree) or -tree.nodes)
    assert (
        len(seen) == len(found.scores) == 40
        and found.tree == Tree.star("abcd")
        and found.score == -5
    )
    again = _derivation.best_of(KEY, "abcd", 40, lambda tree: -tree.nodes)
    np.testing.assert_array_equal(again.scores, found.scores)
    with pytest.raises(ValueError, match="NaN for the tree"):
        _derivation.best_of(KEY, 3, 2, lambda tree: np.nan)
    with pytest.raises(ValueError, match="trials must be at least 1"):
        _derivation.best_of(KEY, 3, 0, lambda tree: 0.0)


def test_cohesion_and_dispersion_by_hand():
    table = [[2, 2, 4], [0, 3, 0]]
    np.testing.assert_allclose(_clustering.cohesion(table), [0.5, 1.0])
    np.testing.assert_allclose(_clustering.dispersion(table), [1.5 * np.log(2) / np.log(3), 0.0])


def planted(scales, each=12, noise=0.1):
    """Examples of 8 classes of a balanced binary tree, the two sides of a node apart along a
    direction of their own."""
    random = np.random.default_rng(4)
    y = np.repeat(np.arange(8), each)
    x = noise * random.normal(size=(len(y), 7))
    for depth, scale in enumerate(scales):
        x[np.arange(len(y)), 2**depth - 1 + (y >> (3 - depth))] += scale * np.where(
            (y >> (2 - depth)) & 1, 1, -1
        )
    return x, y


def test_clustering_finds_the_planted_tree():
    x, y = planted((8.0, 3.0, 1.0))
    found = _clustering.cluster(KEY, x, y, most=2, seeds=3, concepts="abcdefgh")
    assert found.nested() == ((("a", "b"), ("c", "d")), (("e", "f"), ("g", "h")))
    assert _clustering.cluster(KEY, x, y, most=2, seeds=3, concepts="abcdefgh") == found
    assert (
        _clustering.cluster(KEY, x, y, threshold=1.0).nested() == Tree.star(8).nested()
    )  # J is at most 1
    assert Dag.from_tree(found) == _clustering.cluster_overlapping(
        KEY, x, y, 0.6, most=2, seeds=3, concepts="abcdefgh"
    )


def test_a_class_that_is_in_two_places_has_two_parents():
    x = np.concatenate(
        [np.repeat([[0.0], [1.0], [10.0], [11.0]], 10, 0), np.repeat([[0.5], [10.5]], 5, 0)]
    )
    x = x + 0.01 * np.random.default_rng(5).normal(size=x.shape)
    y = np.repeat([0, 1, 2, 3, 4], 10)
    dag = _clustering.cluster_overlapping(KEY, x, y, 0.3, most=2, threshold=0.3)
    assert dag.path_counts == (1, 1, 1, 1, 2)
    assert dag.members[list(dag.children[dag.root])].tolist() in (
        [[True, True, False, False, True], [False, False, True, True, True]],
        [[False, False, True, True, True], [True, True, False, False, True]],
    )


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(y=np.array([0, 0, 2])), "none for 1"),
        (dict(y=np.zeros(3, int)), "two concepts"),
        (dict(x=np.full((3, 1), np.nan)), "NaN or infinity in example 0"),
        (dict(most=1), "most must be at least 2"),
    ],
)
def test_clustering_refuses(change, message):
    given = dict(x=np.zeros((3, 1)), y=np.array([0, 1, 1])) | change
    with pytest.raises(ValueError, match=message):
        _clustering.cluster(KEY, **given)
    with pytest.raises(ValueError, match=message):
        _clustering.cluster_overlapping(KEY, **given)
