"""Scores on a tree and distances between trees: worked by hand on the published trees, and by brute
force on others."""

import itertools
from fractions import Fraction

import jax
import networkx
import numpy as np
import pytest
import scipy.cluster.hierarchy as scipy_hierarchy

from jaxmeta.hierarchy._count import sample, sample_binary
from jaxmeta.hierarchy._distances import (
    cophenetic_correlation,
    dasgupta_cost,
    robinson_foulds,
    triplet_agreement,
    triplet_kappa,
    triplet_table,
)
from jaxmeta.hierarchy._metrics import (
    accuracy_by_level,
    h_loss,
    hierarchical_f1,
    lca_height,
    node_accuracy,
    node_gains,
    normalised_h_loss,
    scores,
    sibling_costs,
    unit_costs,
)
from jaxmeta.hierarchy._tree import Tree

# The trees of METHODS 2.8: 1 still, 2 walk, 3 run, 4 bike, 5 car, 6 bus, 7 train, 8 subway.
A = Tree.from_nested((1, ((2, 3, 4), (5, 6), (7, 8))))
B = Tree.from_nested((1, ((2, 3), (4, 5, 6), (7, 8))))
C = Tree.from_nested((1, (2, 3, 4, (5, 6), (7, 8))))
D = Tree.from_nested(((2, 3, 4), (1, (5, 6), (7, 8))))
HICLASS = (0.6538461538461539, 0.6071428571428571, 0.6296296296296297, *3 * [0.6333333333333333])


def leaves(*concepts):
    return np.array(concepts) - 1


TRIPLES = [frozenset(triple) for triple in itertools.combinations(range(1, 9), 3)]


def apart(tree, triple):
    """The pair that some clade holds without the third, else nothing."""
    return next((clade & triple for clade in tree.clades if len(clade & triple) == 2), None)


def predictions(rng, tree, count=200):
    y_true, y_pred = rng.integers(0, tree.size, (2, count))
    return y_true, np.where(rng.random(count) < 0.5, y_true, y_pred)


def ancestors(tree, leaf):
    """The leaf and what is above it, the root left out."""
    graph = tree.networkx()
    return (networkx.ancestors(graph, leaf) | {leaf}) - {tree.root}


# Of predictions


@pytest.mark.parametrize(
    "true, predicted, cost",
    [
        (2, 3, Fraction(1, 9)),
        (5, 6, Fraction(1, 6)),
        (2, 5, Fraction(1, 3)),
        (1, 2, Fraction(1)),
        (8, 8, Fraction(0)),
    ],
)
def test_normalised_h_loss_of_the_published_tree(true, predicted, cost):
    for pair in [(true, predicted), (predicted, true)]:
        assert normalised_h_loss(A, *leaves(*pair)[:, None]) == pytest.approx(
            float(cost), abs=1e-15
        )


def test_h_loss_is_its_definition_and_with_unit_costs_twice_the_error(rng):
    for seed in range(4):
        tree = sample(jax.random.key(seed), 9)
        y_true, y_pred = predictions(rng, tree)
        costs = rng.uniform(size=tree.nodes)
        total = 0.0
        for true, predicted in zip(y_true, y_pred):
            ours, theirs = ancestors(tree, true), ancestors(tree, predicted)
            total += sum(
                costs[node]
                for node in ours ^ theirs
                if tree.parents[node] == tree.root or tree.parents[node] in ours & theirs
            )
        assert h_loss(tree, y_true, y_pred, costs) == pytest.approx(total / len(y_true))
        assert h_loss(tree, y_true, y_pred, unit_costs(tree)) == pytest.approx(
            2 * np.mean(y_true != y_pred)
        )
        # Children share their parent's cost, so the leaves' costs sum to the root's.
        assert sibling_costs(tree)[: tree.size].sum() == pytest.approx(1.0)


def test_hierarchical_f1_is_its_definition(rng):
    for seed in range(4):
        tree = sample(jax.random.key(seed), 8)
        y_true, y_pred = predictions(rng, tree)
        sets = [
            (ancestors(tree, predicted), ancestors(tree, true))
            for true, predicted in zip(y_true, y_pred)
        ]
        both, alpha, beta = (
            np.array(sizes) for sizes in zip(*((len(a & b), len(a), len(b)) for a, b in sets))
        )
        precision, recall = both.sum() / alpha.sum(), both.sum() / beta.sum()
        np.testing.assert_allclose(
            hierarchical_f1(tree, y_true, y_pred),
            [
                precision,
                recall,
                2 * precision * recall / (precision + recall),
                np.mean(both / alpha),
                np.mean(both / beta),
                np.mean(2 * both / (alpha + beta)),
            ],
        )


def test_hierarchical_f1_is_that_of_hiclass():
    """Of hiclass 5.0.8: its own examples (tests/test_metrics.py and the docstring of f1), and what
    it printed on tree A.

    Its paths have nodes with one child; a sibling that no path uses stands beside each here.
    """
    crossed = Tree.from_nested((((("4", "-4"), ("6", "-6")), "-2"), "-1"))
    y_true = np.array(
        [crossed.leaf("4"), crossed.leaf("6")]
    )  # [1, 2, 3, 4], [1, 2, 5, 6] against the other way round
    assert hierarchical_f1(crossed, y_true, y_true[::-1])[:3] == (0.5, 0.5, 0.5)
    assert hierarchical_f1(crossed, y_true, y_true) == (1,) * 6
    chains = Tree.from_nested(tuple(((f"{name}", f"{name}-"), f"{name}--") for name in "258"))
    y_true, y_pred = ([chains.leaf(name) for name in names] for names in ("25", "28"))
    assert (
        tuple(hierarchical_f1(chains, y_true, y_pred)) == (0.5,) * 6
    )  # [0, 1, 2], [3, 4, 5]; [0, 1, 2], [6, 7, 8]
    assert tuple(hierarchical_f1(chains, y_true[::-1], y_pred[:1] * 2))[:3] == (0.5,) * 3
    assert hierarchical_f1(Tree.star(4), [0, 1], [2, 3]) == (0,) * 6
    found = hierarchical_f1(A, [0, 1, 1, 2, 3, 4, 4, 5, 6, 7], [0, 1, 2, 4, 0, 4, 5, 6, 6, 1])
    np.testing.assert_allclose(found, HICLASS, rtol=1e-14)


def test_scores_worked_by_hand():
    # Still right; walk as run; walk as car; bus right; train as still.
    y_true, y_pred = leaves(1, 2, 2, 6, 7), leaves(1, 3, 5, 6, 1)
    found = scores(A, y_true, y_pred)
    assert found.accuracy == pytest.approx(2 / 5)
    assert found.h_loss == pytest.approx((1 / 9 + 1 / 3 + 1) / 5)
    assert (
        found.lca_height == lca_height(A, y_true, y_pred) == pytest.approx((0 + 1 + 2 + 0 + 3) / 5)
    )
    assert found.overlap.precision == pytest.approx((1 + 2 + 1 + 3 + 0) / (1 + 3 + 3 + 3 + 1))
    assert found.overlap.recall == pytest.approx(7 / (1 + 3 + 3 + 3 + 3))
    assert found.overlap.macro_f1 == pytest.approx((1 + 2 / 3 + 1 / 3 + 1 + 0) / 5)
    np.testing.assert_allclose(found.by_level, [4 / 5, 3 / 5, 2 / 5])
    # The root sees all and sends one wrong; {2..8} sees three; {2,3,4} one, wrong; {5,6} one,
    # right; {7,8} none.
    assert [
        tuple(A.concepts[leaf] for leaf in np.flatnonzero(A.members[node])) for node in A.inner[2:]
    ] == [(2, 3, 4), (5, 6), (7, 8)]
    np.testing.assert_array_equal(found.nodes.count, [5, 3, 1, 1, 0])
    np.testing.assert_allclose(found.nodes.accuracy, [4 / 5, 2 / 3, 0, 1, np.nan])
    assert str(found).startswith("accuracy 0.4000, hierarchical F1 0.5833")
    assert lca_height(
        Tree(A.parents, A.concepts, np.array(A.heights) * 2), y_true, y_pred
    ) == pytest.approx(12 / 5)


def test_gains_worked_by_hand():
    y_true = leaves(1, 2, 2, 6)
    gains = node_gains(A, y_true, leaves(1, 2, 3, 1), leaves(2, 3, 5, 5))
    # Root: the tree is right on 3 of 4, flat on 3 (still as walk is wrong). {2..8}: 2 of 3 against
    # 2 (walk as car is wrong). {2,3,4}: 1 of 2 against 0. {5,6}: bus has left it, and flat takes it
    # for car. {7,8} has no example.
    np.testing.assert_array_equal(gains.count, [4, 3, 2, 1, 0])
    np.testing.assert_allclose(gains.gain, [0, 0, 1 / 2, 0, np.nan])
    assert (node_gains(A, y_true, y_true, y_true).gain[:4] == 0).all()


def test_levels_nodes_and_accuracy_agree(rng):
    for seed in range(4):
        tree = sample(jax.random.key(seed), 9)
        y_true, y_pred = predictions(rng, tree)
        levels, nodes = accuracy_by_level(tree, y_true, y_pred), node_accuracy(tree, y_true, y_pred)
        assert (
            levels[-1] == np.mean(y_true == y_pred)
            and (np.diff(levels) <= 0).all()
            and len(levels) == max(tree.depths)
        )
        for accuracy, count, node in zip(*nodes, tree.inner):
            here = tree.members[node][y_true] & tree.members[node][y_pred]
            right = sum(
                (tree.members[child][y_true] & tree.members[child][y_pred]).sum()
                for child in tree.children[node]
            )
            assert count == here.sum() and (
                accuracy == right / count if count else np.isnan(accuracy)
            )
        assert nodes.count[0] == len(y_true) and nodes.accuracy[0] == pytest.approx(levels[0])


@pytest.mark.parametrize(
    "make, words",
    [
        (
            lambda: scores(A, [0.0], [0]),
            "y_true must be a vector of leaf numbers, got shape \\(1,\\) and dtype float64",
        ),
        (lambda: scores(A, [0], [[0]]), "y_pred must be a vector"),
        (lambda: scores(A, np.zeros(0, int), np.zeros(0, int)), "got shape \\(0,\\)"),
        (lambda: scores(A, [0, 8], [0, 1]), "y_true must be leaves of the tree, 0 to 7, got 8"),
        (lambda: scores(A, [0], [-1]), "y_pred must be leaves of the tree, 0 to 7, got -1"),
        (lambda: scores(A, [0, 1], [0]), "one entry an example, got 2 and 1"),
        (lambda: scores(Tree.star(1), [0], [0]), "at least two concepts, got 1"),
        (
            lambda: h_loss(A, [0], [0], [1.0]),
            "costs must be \\[13\\], one a node, got shape \\(1,\\)",
        ),
        (lambda: robinson_foulds(A, Tree.star("ab")), "over the data's concepts"),
        (lambda: triplet_kappa(Tree.star(2), Tree.star(2)), "at least three concepts"),
        (
            lambda: cophenetic_correlation(A, np.ones((3, 3))),
            "other must be \\[8, 8\\].* got shape \\(3, 3\\)",
        ),
        (
            lambda: dasgupta_cost(Tree.star(2), [[0, np.nan], [0, 0]]),
            "must be finite, got nan at \\[0, 1\\]",
        ),
        (
            lambda: dasgupta_cost(Tree.star(2), [[0, 1], [2, 0]]),
            "must be symmetric, got 1.0 and 2.0 at \\[0, 1\\]",
        ),
    ],
)
def test_refusals(make, words):
    with pytest.raises(ValueError, match=words):
        make()


# Of trees


# By hand. Clades below the root: A {2..8} {2,3,4} {5,6} {7,8}; B {2..8} {2,3} {4,5,6} {7,8}; C
# {2..8} {5,6} {7,8}; D {2,3,4} {1,5..8} {5,6} {7,8}. Of 56 triples C leaves open the 3 * 4 = 12 of
# A that have two of {2,3,4} and one of 5..8.
@pytest.mark.parametrize(
    "a, b, distance",
    [
        (A, A, 0),
        (A, B, 4 / 8),
        (A, C, 1 / 7),
        (A, D, 2 / 8),
        (B, C, 3 / 7),
        (C, D, 3 / 7),
        (A, Tree.star(range(1, 9)), 1),
        (Tree.star(3), Tree.star(3), 0),
    ],
)
def test_robinson_foulds_of_the_published_trees(a, b, distance):
    assert robinson_foulds(a, b) == robinson_foulds(b, a) == distance


def test_triples_of_the_published_trees():
    np.testing.assert_array_equal(
        triplet_table(A, C), [[13, 0, 0, 0], [12, 2, 0, 0], [0, 0, 0, 0], [0, 0, 0, 29]]
    )
    assert triplet_agreement(A, C) == 44 / 56
    assert triplet_kappa(A, C) == pytest.approx(
        635 / 971
    )  # chance 14 * 2 + 29 * 29 + 13 * 25 of 56^2
    for a, b in itertools.product([A, B, C, D], repeat=2):
        assert (
            triplet_agreement(a, b)
            == sum(apart(a, triple) == apart(b, triple) for triple in TRIPLES) / 56
        )
        assert (triplet_kappa(a, b) == 1) == (a is b)


def test_kappa_is_one_of_equal_trees_and_near_nothing_of_random_ones():
    keys = jax.random.split(jax.random.key(0), (80, 2))
    pairs = [(sample(a, 9), sample(b, 9)) for a, b in keys]
    kappas = np.array([triplet_kappa(a, b) for a, b in pairs])
    assert abs(kappas.mean()) < 4 * kappas.std() / np.sqrt(len(kappas)) + 0.02
    assert all(triplet_kappa(a, a) == 1 and triplet_agreement(b, b) == 1 for a, b in pairs[:20])
    assert triplet_kappa(Tree.star(4), Tree.star(4)) == 1


def test_cophenetic_correlation_is_that_of_linkages(rng):
    tree, other = (sample_binary(jax.random.key(seed), 10) for seed in (0, 1))
    ours, theirs = (scipy_hierarchy.cophenet(each.linkage()) for each in (tree, other))
    assert cophenetic_correlation(tree, other) == pytest.approx(np.corrcoef(ours, theirs)[0, 1])
    points = rng.normal(size=(10, 4))
    distances = np.linalg.norm(points[:, None] - points, axis=-1)
    linkage = scipy_hierarchy.linkage(points, "average")
    expected = scipy_hierarchy.cophenet(linkage, distances[np.triu_indices(10, 1)])[0]
    assert cophenetic_correlation(Tree.from_linkage(linkage), distances) == pytest.approx(expected)
    assert cophenetic_correlation(tree, tree) == pytest.approx(1)
    assert np.isnan(cophenetic_correlation(Tree.star(4), Tree.star(4))) and np.isnan(
        cophenetic_correlation(Tree.star(1), Tree.star(1))
    )
    assert cophenetic_correlation(
        Tree.from_nested((1, (2, 3))), np.array([[0, 3, 2], [3, 0, 1], [2, 1, 0]])
    ) == pytest.approx(np.corrcoef([2, 2, 1], [3, 2, 1])[0, 1])


def test_dasgupta_cost(rng):
    weights = rng.uniform(size=(8, 8))
    weights = weights + weights.T
    for tree in (A, B, C, D):
        graph = tree.networkx()
        expected = sum(
            weights[i, j] * tree.members[networkx.lowest_common_ancestor(graph, i, j)].sum()
            for i, j in itertools.combinations(range(8), 2)
        )
        assert dasgupta_cost(tree, weights) == pytest.approx(expected)
    # Of a clique every binary tree costs (n^3 - n) / 3, and the flat one n^2 (n - 1) / 2.
    assert dasgupta_cost(sample_binary(jax.random.key(0), 8), np.ones((8, 8))) == (8**3 - 8) / 3
    assert dasgupta_cost(Tree.star(8), np.ones((8, 8))) == 8 * 8 * 7 / 2
