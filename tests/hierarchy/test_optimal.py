"""The exact optimum over hierarchies: against enumeration, other libraries, planted structure."""

import itertools

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from jaxmeta.hierarchy import Tree
from jaxmeta.hierarchy._beam import beam_search
from jaxmeta.hierarchy._cross_fit import (
    cross_fitted,
    nested,
    one_standard_error,
    path_log_probabilities,
    stratified_folds,
)
from jaxmeta.hierarchy._nodes import empirical, lda, ridge
from jaxmeta.hierarchy._optimal import lower_bound, optimal, regret, score, standard_error
from jaxmeta.hierarchy._partitions import all_partitions, binary_partitions, count_nodes
from jaxmeta.hierarchy._scores import node_scores


def trees(names):
    """All nested forms, by where the last name is put: apart from a subtree, or among a node's
    children."""
    if len(names) == 1:
        return [names[0]]

    def put(form, name):
        yield (form, name)
        if isinstance(form, tuple):
            yield (*form, name)
            for place, child in enumerate(form):
                yield from (
                    (*form[:place], changed, *form[place + 1 :]) for changed in put(child, name)
                )

    return [grown for form in trees(names[:-1]) for grown in put(form, names[-1])]


def examples(size=4, count=13, features=3, seed=0):
    """Classes of a binary tree's shape, a few examples of each, not as many of all."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(size), rng.integers(0, size, size * count - size)])
    middles = np.cumsum(rng.normal(size=(size, features)), axis=0)
    return middles[labels] + rng.normal(size=(len(labels), features)), labels


@pytest.fixture(scope="module", params=["ridge", "lda"])
def scored(request):
    learner = {"ridge": ridge(), "lda": lda()}[request.param]
    train, validation = examples(), examples(seed=0, count=9)
    return learner, train, validation, node_scores(learner, train, validation)


@pytest.mark.parametrize("size", [2, 5, 10])
def test_count_of_nodes(size):
    expected = sum(1 for _ in _nodes(size)) if size < 6 else 677_546
    assert count_nodes(size) == expected
    assert count_nodes(size, binary_partitions) == (3**size + 1) // 2 - 2**size
    for k in range(2, size + 1):
        for family in (all_partitions, binary_partitions):
            groups = family.partitions(k)
            assert sum(len(group.blocks) for group in groups) == family.count(k)
            for group in groups:
                assert (group.blocks.sum(axis=1) == 2**k - 1).all() and (group.blocks > 0).all()
                assert ((group.own >> np.arange(k)[:, None]) & 1).all()
                assert len(np.unique(group.blocks, axis=0)) == len(group.blocks)


def _nodes(size):
    for k in range(2, size + 1):
        for subset in itertools.combinations(range(size), k):
            yield from _partitions(list(subset))


def _partitions(items):
    def grow(items):
        if not items:
            yield []
            return
        for rest in grow(items[1:]):
            yield [[items[0]], *rest]
            for place in range(len(rest)):
                yield [*rest[:place], [items[0], *rest[place]], *rest[place + 1 :]]

    return [blocks for blocks in grow(items) if len(blocks) > 1]


def test_every_tree_scores_as_its_classifier_does_and_the_ranking_is_that_of_all(scored):
    learner, train, (x, y), scores = scored
    every = {Tree.from_nested(form): None for form in trees(range(4))}
    assert len(every) == 26
    for tree in every:
        logs = path_log_probabilities(learner, tree, train, x)
        np.testing.assert_allclose(np.exp(logs).sum(axis=1), 1, rtol=1e-10)
        every[tree] = logs[np.arange(len(y)), y].mean()
        assert score(tree, scores) == pytest.approx(every[tree], rel=1e-9)
    ranked = optimal(scores, count=30)
    assert [one.score for one in ranked] == pytest.approx(
        sorted(every.values(), reverse=True), rel=1e-9
    )
    assert {one.tree for one in ranked} == set(every)
    assert regret(ranked[0].tree, scores) == pytest.approx(0, abs=1e-12)
    assert regret(Tree.star(4), scores) == pytest.approx(
        ranked[0].value
    )  # what is maximised is the gain over flat
    binary = node_scores(learner, train, (x, y), binary_partitions)
    best = max((value, tree.nested()) for tree, value in every.items() if len(tree.inner) == 3)
    assert (
        optimal(binary)[0].score == pytest.approx(best[0])
        and optimal(binary)[0].tree.nested() == best[1]
    )
    with pytest.raises(ValueError, match="got one with 4 children over .*; score all_partitions"):
        score(Tree.star(4), binary)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "family"), [(4, all_partitions), (5, binary_partitions)])
def test_the_beam_is_bounded_and_exact_where_it_is_wide(size, family):
    train, validation = examples(size), examples(size, count=9)
    best = optimal(node_scores(lda(), train, validation, family))[0]
    wide = beam_search(lda(), train, validation, width=100, family=family)
    assert (
        wide.tree == best.tree
        and wide.score == pytest.approx(best.score)
        and wide.bound == pytest.approx(wide.score)
    )
    assert wide.nodes == count_nodes(size, family)
    narrow = beam_search(lda(), train, validation, width=1, family=family)
    assert (
        narrow.nodes < wide.nodes
        and narrow.score <= best.score + 1e-12
        and narrow.bound >= best.score - 1e-12
    )


def test_nodes_are_the_models_of_another_library():
    (x, y), (more, _) = examples(3, count=30), examples(3, count=9)
    ours = path_log_probabilities(lda(0.2, empirical), Tree.star(3), (x, y), more)
    theirs = (
        LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.2).fit(x, y).predict_log_proba(more)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    # Two blocks by least squares are discriminant analysis of the two, but for the residual's
    # degrees of freedom.
    ours = path_log_probabilities(
        ridge(0.0, empirical), Tree.from_nested((0, (1, 2))), (x, y), more
    )
    model = LinearDiscriminantAnalysis(solver="lsqr").fit(x, y == 0)
    odds = ours[:, 0] - np.log1p(-np.exp(ours[:, 0]))
    their_odds = model.decision_function(more)
    base = np.log((y == 0).mean() / (y != 0).mean())
    np.testing.assert_allclose(odds - base, (their_odds - base) * (len(y) - 4) / len(y), rtol=1e-6)


@pytest.mark.slow
def test_noise_and_the_choices_that_allow_for_it():
    rng = np.random.default_rng(1)
    labels = np.arange(120) % 4
    middles = np.array([[0, 0], [0, 1.5], [9, 0], [9, 1.5]])
    x = middles[labels] + rng.normal(size=(120, 2))
    folds = stratified_folds(labels, 3)
    scores = cross_fitted(lda(), x, labels, folds)
    assert scores.examples == 120
    flat, best = Tree.star(4), optimal(scores)[0]
    # The paired difference to flat, example by example, by models that did not see the example: its
    # error is at most the sum.
    logs = {tree: np.zeros(120) for tree in (flat, best.tree)}
    for fold in range(3):
        out = folds == fold
        for tree in logs:
            found = path_log_probabilities(lda(), tree, (x[~out], labels[~out]), x[out])
            logs[tree][out] = found[np.arange(out.sum()), labels[out]]
    assert logs[best.tree].mean() == pytest.approx(best.score)
    gains = logs[best.tree] - logs[flat]
    assert gains.mean() == pytest.approx(best.value)
    assert gains.std() / np.sqrt(120) <= standard_error(best.tree, scores) + 1e-12
    one = Tree.from_nested((0, (1, 2, 3)))  # a single node besides flat ones: the sum is the error
    for fold in range(3):
        out = folds == fold
        found = path_log_probabilities(lda(), one, (x[~out], labels[~out]), x[out])
        logs.setdefault(one, np.zeros(120))[out] = found[np.arange(out.sum()), labels[out]]
    assert standard_error(one, scores) == pytest.approx(
        (logs[one] - logs[flat]).std() / np.sqrt(120)
    )
    assert optimal(scores, value=lower_bound(0.0))[0].tree == best.tree
    assert optimal(scores, value=lower_bound(1e3))[0].tree == flat
    assert len(one_standard_error(lda(), [flat, best.tree], x, labels, folds).inner) <= len(
        best.tree.inner
    )
    held = nested(
        lda(),
        x,
        labels,
        {"flat": lambda scores: flat, "best": lambda scores: optimal(scores)[0].tree},
        folds,
        inner=lambda labels: stratified_folds(labels, 3),
    )
    assert held["flat"].log_scores == pytest.approx(logs[flat]) and len(held["best"].trees) == 3
    assert held["best"].hits.mean() > 0.5


def test_refusals():
    x, y = examples(3)
    good = x, y

    def refused(match, train=good, validation=good, **settings):
        with pytest.raises(ValueError, match=match):
            node_scores(lda(), train, validation, **settings)

    refused(
        r"validation must hold examples of every class, got none of \[2\]",
        validation=(x[y < 2], y[y < 2]),
    )
    refused(
        r"validation must hold no class besides \[0, 1\], got \[2\]", train=(x[y < 2], y[y < 2])
    )
    refused(r"train must hold examples of every class, got none of \[3\]", concepts=range(4))
    refused("at least two classes, got \\[0\\]", (x, 0 * y), (x, 0 * y))
    bad = x.copy()
    bad[5, 1] = np.nan
    refused("train must be finite, got nan at example 5, feature 1", (bad, y))
    refused(r"train must be features \[n, d\]", (x[0], y))
    refused("validation must have the 3 features of train, got 2", validation=(x[:, :2], y))
    refused("at most 3 nodes, got 3 classes with 7; use beam_search", most=3)
    refused("every subset .* got none for", (0 * x, y))
    with pytest.raises(
        ValueError, match="at most 2 partitions of all classes, got 3 classes with 3"
    ):
        beam_search(lda(), good, good, most=2)
    with pytest.raises(ValueError, match="take stratified_folds"):
        cross_fitted(lda(), x, y, np.zeros(3))
    with pytest.raises(ValueError, match="shrinkage must be between 0 and 1"):
        lda(2.0)
