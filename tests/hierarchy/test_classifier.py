"""The hierarchical classifier against plain loops, closed forms, scikit-learn's rules."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from jaxmeta.hierarchy import (
    Tree,
    _classifier as nodes,
    _confusion,
    _decoding as decoding,
    _heads as heads,
    _joint,
    _refinement,
    _soft_tree,
)
from jaxmeta.hierarchy._autoencoder import dense_autoencoder
from jaxmeta.hierarchy._dag import Dag
from jaxmeta.hierarchy._derivation import confusion_tree, embedding_tree
from jaxmeta.hierarchy._sklearn import HierarchicalClassifier
from jaxmeta.models import Model, mlp

KEY = jax.random.key(1)
TREE = Tree.from_nested(((0, 1), (2, (3, 4, 5))))
IDENTITY = Model(lambda key, x: {}, lambda params, x, reference=None: x)


def examples(counts=(9, 12, 7, 15, 8, 10), features=4, seed=0):
    random = np.random.default_rng(seed)
    y = np.repeat(np.arange(len(counts)), counts)
    return 1.5 * random.normal(size=(len(counts), features))[y] + random.normal(
        size=(len(y), features)
    ), y


X, Y = examples()
FAST = dict(update=optax.adam(0.1), steps=30)
HEADS = {
    "ridge": heads.ridge_head(0.1),
    "softmax": heads.linear_head(**FAST),
    "svm": heads.linear_head(heads.hinge, **FAST),
    "network": heads.network_head((5,), **FAST),
    "in batches": heads.linear_head(batch=8, **FAST),
}


def log_probabilities(tree, n=7, seed=0):
    arrays = nodes.layout(tree)
    logits = jax.random.normal(jax.random.key(seed), (n, *arrays.mask.shape))
    return jax.vmap(nodes.log_softmax, in_axes=(1, 0), out_axes=1)(logits, jnp.asarray(arrays.mask))


@pytest.mark.parametrize(
    "head, weighting",
    [
        ("ridge", nodes.by_example),
        ("ridge", nodes.by_child),
        *((head, nodes.by_class) for head in HEADS),
    ],
)
def test_nodes_together_are_nodes_one_by_one(head, weighting):
    """Each on its own examples only, relabelled, without padding of children: the same model."""
    learner = HEADS[head]
    made = nodes.classifier(TREE, learner, weighting=weighting)
    params = made.fit(KEY, X, Y)
    together = made.log_probabilities(params, X)
    keys = jax.random.split(KEY, 4)
    for row, node in enumerate(TREE.inner):
        below = TREE.children[node]
        under = TREE.members[node][Y]
        child = TREE.members[list(below)].argmax(axis=0)[Y[under]]
        group = {
            nodes.by_example: np.zeros_like(child),
            nodes.by_class: Y[under],
            nodes.by_child: child,
        }[weighting]
        weights = 1 / np.bincount(group)[group]
        weights = weights * under.sum() / weights.sum()
        targets, mask = np.eye(len(below))[child], np.ones(len(below), bool)
        if head == "ridge":  # no start to draw, so padding must not matter
            alone = jax.jit(learner.fit)(keys[row], X[under], targets, weights, mask)
        else:
            shares = jnp.asarray(nodes.layout(TREE).shares)[row][Y]
            full = np.zeros(len(Y))
            full[under] = weights
            mask = nodes.layout(TREE).mask[row]
            alone = jax.jit(learner.fit)(keys[row], jnp.asarray(X), shares, jnp.asarray(full), mask)
        np.testing.assert_allclose(
            nodes.log_softmax(learner.logits(alone, X, mask), mask)[:, : len(below)],
            together[:, row, : len(below)],
            rtol=1e-8,
            atol=1e-8,
        )
    total = jnp.exp(decoding.path_product(TREE, together)).sum(axis=1)
    np.testing.assert_allclose(total, 1.0, rtol=1e-6)
    assert (np.asarray(decoding.most_probable(TREE, together)) == Y).mean() > 0.6


def test_ridge_of_two_classes_is_linear_discriminant_analysis():
    x, y = examples((20, 20), 3)
    made = nodes.classifier(Tree.star(2), heads.ridge_head(1e-12))
    ours = made.log_probabilities(made.fit(KEY, x, y), x)[:, 0]
    theirs = LinearDiscriminantAnalysis().fit(x, y).decision_function(x)
    np.testing.assert_allclose(
        ours[:, 1] - ours[:, 0], 0.9 * theirs, rtol=1e-8
    )  # residuals have 40 - 3 - 1 degrees of freedom
    wide = np.concatenate(
        [x, np.random.default_rng(0).normal(size=(40, 60))], axis=1
    )  # more features than examples
    twice = np.concatenate([wide, wide]), np.concatenate([y, y])
    small, large = (nodes.classifier(Tree.star(2), heads.ridge_head(1.0)) for _ in range(2))
    kernel = [
        np.asarray(each.fit(KEY, *data)["kernel"])[0, :, 0]
        for each, data in ((small, (wide, y)), (large, twice))
    ]
    np.testing.assert_allclose(
        kernel[0] / np.linalg.norm(kernel[0]), kernel[1] / np.linalg.norm(kernel[1]), atol=1e-9
    )


def test_a_star_is_the_flat_softmax_classifier():
    head, star = HEADS["softmax"], Tree.star(6)
    made = nodes.classifier(star, head)
    ours = decoding.path_product(star, made.log_probabilities(made.fit(KEY, X, Y), X))
    model, update = mlp((), 6), optax.adam(0.1)

    @jax.jit
    def flat(key):
        start, _ = jax.random.split(key)
        params = model.init(start, X[:1])
        loss = lambda params: optax.softmax_cross_entropy_with_integer_labels(
            model.apply(params, X), jnp.asarray(Y)
        ).mean()

        def step(carry, _):
            change, state = update.update(jax.grad(loss)(carry[0]), carry[1])
            return (optax.apply_updates(carry[0], change), state), None

        params, _ = jax.lax.scan(step, (params, update.init(params)), length=30)[0]
        return jax.nn.log_softmax(model.apply(params, X))

    np.testing.assert_allclose(ours, flat(jax.random.split(KEY, 1)[0]), rtol=1e-8)


def test_padding_changes_nothing_and_another_tree_compiles_nothing():
    head, weights = heads.ridge_head(0.123), np.ones(len(Y))
    compiled = []
    for tree in (TREE, Tree.star(6), Tree.from_nested((0, (1, (2, (3, (4, 5))))))):
        padded = nodes.layout(tree, nodes=5, arity=6)
        before = nodes.fitted._cache_size()
        params = nodes.fit_nodes(KEY, jnp.asarray(X), jnp.asarray(Y), weights, padded, head=head)
        compiled.append(nodes.fitted._cache_size() - before)
        found = nodes.node_log_probabilities(params, X, padded.mask, head=head)[
            :, : len(tree.inner)
        ]
        made = nodes.classifier(tree, head)
        plain = made.log_probabilities(made.fit(KEY, X, Y), X)
        np.testing.assert_allclose(
            decoding.path_product(tree, found), decoding.path_product(tree, plain), rtol=1e-8
        )
    assert compiled == [1, 0, 0]
    with pytest.raises(ValueError, match="arity must be at least 3, got 2"):
        nodes.layout(TREE, arity=2)


@pytest.mark.parametrize("tree", [TREE, Tree.star(5), Tree.from_nested((0, (1, (2, (3, 4)))))])
def test_decoding_is_what_a_walk_finds(tree):
    values = log_probabilities(tree)
    product, greedy = decoding.path_product(tree, values), decoding.greedy(tree, values)
    for example in range(len(values)):
        node, logs = tree.root, {tree.root: 0.0}
        for row, inner in enumerate(tree.inner):
            for column, child in enumerate(tree.children[inner]):
                logs[child] = logs[inner] + float(values[example, row, column])
        while node >= tree.size:
            node = tree.children[node][int(values[example, node - tree.size].argmax())]
        assert greedy[example] == node
        np.testing.assert_allclose(
            product[example], [logs[leaf] for leaf in range(tree.size)], rtol=1e-6
        )
    np.testing.assert_array_equal(decoding.beam(1)(tree, values), greedy)
    np.testing.assert_array_equal(decoding.beam(tree.size)(tree, values), product.argmax(axis=1))
    np.testing.assert_allclose(
        _joint.hierarchical_cross_entropy(tree, values, jnp.full(7, 2)), -product[:, 2], rtol=1e-6
    )
    with pytest.raises(ValueError, match="a row for every inner node"):
        decoding.greedy(tree, values[:, :0])


def test_a_class_under_two_nodes_learns_and_is_found_on_both_ways():
    dag = Dag.from_nested(((0, 1), (1, 2)))
    arrays = nodes.layout(dag)
    assert arrays.shares[0, 1].tolist() == [0.5, 0.5]
    x = np.random.default_rng(0).normal(size=(90, 2)) * 0.3 + np.repeat(
        [[-3, 0], [0, 3], [3, 0]], 30, axis=0
    )
    y = np.repeat([0, 1, 2], 30)
    made = nodes.classifier(dag, heads.linear_head(steps=100))
    values = made.log_probabilities(made.fit(KEY, x, y), x)
    np.testing.assert_allclose(
        jnp.exp(decoding.path_product(dag, values)).sum(axis=1), 1.0, rtol=1e-6
    )
    for decode in (decoding.greedy, decoding.most_probable, decoding.beam(2)):
        assert (np.asarray(decode(dag, values)) == y).mean() > 0.95


def test_penalties_by_hand():
    weights = jax.random.normal(KEY, (4, 3, 3)) * nodes.layout(TREE).mask[:, None]
    w = [np.asarray(each)[:, : len(TREE.children[node])] for each, node in zip(weights, TREE.inner)]
    # Preorder: the root, (0, 1), (2, (3, 4, 5)), (3, 4, 5).
    pairs = [(1, 0), (2, 0), (3, 0), (3, 2)]
    assert float(_joint.orthogonality(TREE, weights)) == pytest.approx(
        sum(((w[t].T @ w[a]) ** 2).sum() for t, a in pairs)
    )
    assert float(_joint.orthogonality(Tree.star(3), weights[:1])) == 0
    up = {1: w[0][:, :1], 2: w[0][:, 1:], 3: w[2][:, 1:]}
    expected = (w[0] ** 2).sum() + sum(((w[t] - parent) ** 2).sum() for t, parent in up.items())
    assert float(_joint.recursive_regularisation(TREE, weights)) == pytest.approx(expected / 2)
    values = log_probabilities(TREE)
    halved = _joint.hierarchical_cross_entropy(
        TREE, values, jnp.full(7, 4), lambda depth: 0.5**depth
    )
    path = [values[:, 0, 1], 0.5 * values[:, 2, 1], 0.25 * values[:, 3, 1]]
    np.testing.assert_allclose(halved, -sum(path), rtol=1e-6)


def test_joint_training_learns_an_encoder_and_heeds_penalties():
    def fitted(**options):
        made = _joint.jointly(TREE, mlp((8,), None), optax.adam(0.03), 80, **options)
        params = made.fit(KEY, X, Y)
        values = made.log_probabilities(params, X)
        return params, float(_joint.hierarchical_cross_entropy(TREE, values, jnp.asarray(Y)).mean())

    plain, loss = fitted()
    tied, other = fitted(
        penalty=lambda tree, w: 0.1 * _joint.orthogonality(tree, w),
        batch=32,
        weighting=nodes.by_class,
    )
    assert loss < 0.5 < np.log(6) and other < np.log(6)
    assert _joint.orthogonality(TREE, tied["kernel"]) < 0.3 * _joint.orthogonality(
        TREE, plain["kernel"]
    )


def test_equal_joint_classifiers_share_programs():
    update = optax.sgd(0.1)
    for seed in range(2):
        made = _joint.jointly(Tree.star(6), mlp((3,), None), update, 2)
        made.log_probabilities(made.fit(jax.random.key(seed), X, Y), X)
        compiled = (
            compiled
            if seed
            else (_joint._trained._cache_size(), _joint._log_probabilities._cache_size())
        )
    assert (_joint._trained._cache_size(), _joint._log_probabilities._cache_size()) == compiled


def test_soft_tree_by_hand():
    logits = np.random.default_rng(0).normal(size=(5, 6))
    values = _soft_tree.soft_tree(TREE, jnp.asarray(logits))

    def softmax(row):
        return np.exp(row) / np.exp(row).sum()

    for row, value in zip(logits, decoding.path_product(TREE, values)):
        top = softmax([row[:2].mean(), row[2:].mean()])
        right = softmax([row[2], row[3:].mean()])
        leaves = [
            *top[0] * softmax(row[:2]),
            top[1] * right[0],
            *top[1] * right[1] * softmax(row[3:]),
        ]
        np.testing.assert_allclose(np.exp(value), leaves, rtol=1e-6)
        loss = _soft_tree.soft_tree_loss(TREE, jnp.asarray(row[None]), jnp.array([4]), 0.5)
        np.testing.assert_allclose(
            loss, [-np.log(softmax(row)[4]) - 0.5 * np.log(leaves[4])], rtol=1e-6
        )
    slope = jax.grad(lambda z: _soft_tree.soft_tree_loss(TREE, z, jnp.arange(5)).sum())(
        jnp.asarray(logits)
    )
    assert jnp.isfinite(slope).all() and jnp.abs(slope).min() > 0


def test_encoders_of_nodes():
    affinity = np.random.default_rng(0).uniform(size=(6, 6))
    chosen = _refinement.first_order(TREE, affinity)
    for row, node in enumerate(TREE.inner):
        under = np.flatnonzero(TREE.members[node])
        totals = {
            source: sum(affinity[source, other] for other in under if other != source)
            for source in under
        }
        assert chosen[row] == max(totals, key=totals.get)
    auto = dense_autoencoder(4, 6, 3)
    encoders = jax.vmap(lambda key: auto.encoder.init(key, X[:1]))(jax.random.split(KEY, 6))
    first = _refinement.node_encoding(auto.encoder.apply, encoders, chosen)
    second = _refinement.higher_order(KEY, TREE, auto, first, X, Y, optax.adam(1e-2), 5)
    for encoding in (first, second):
        made = nodes.classifier(TREE, heads.ridge_head(), encoding)
        values = made.log_probabilities(made.fit(KEY, X, Y), X)
        for row in [2]:
            z = auto.encoder.apply(jax.tree.map(lambda leaf: leaf[row], encoding.params), X)
            alone = nodes.classifier(TREE, heads.ridge_head())
            np.testing.assert_allclose(
                values[:, row], alone.log_probabilities(alone.fit(KEY, z, Y), z)[:, row], rtol=1e-6
            )


def test_alternation_comes_to_rest_or_goes_round():
    a, b, c = (Tree.from_nested(nested) for nested in ((0, (1, 2)), ((0, 1), 2), (1, (0, 2))))
    go = {a: b, b: c, c: b}
    train = lambda key, tree: (tree, {a: 3.0, b: 1.0, c: 2.0}[tree])
    found = _refinement.alternate(KEY, a, train, go.get)
    assert (found.period, found.tree, found.trees, found.scores) == (
        2,
        a,
        (a, b, c),
        (3.0, 1.0, 2.0),
    )
    rest = _refinement.alternate(KEY, a, train, (go | {c: c}).get)
    assert (rest.period, rest.tree) == (1, c)
    assert _refinement.alternate(KEY, a, train, go.get, rounds=2).period == 0
    with pytest.raises(ValueError, match=r"lacks \[2\]"):
        _refinement.alternate(KEY, a, train, lambda was: Tree.star(2))


def test_alternation_on_held_out_confusion():
    held, truth = examples((40,) * 6, seed=0)

    def train(key, tree):
        made = nodes.classifier(tree, heads.ridge_head())
        guess = decoding.most_probable(tree, made.log_probabilities(made.fit(key, X, Y), held))
        return _confusion.confusion_counts(truth, guess, 6), (np.asarray(guess) == truth).mean()

    found = _refinement.alternate(KEY, Tree.star(6), train, confusion_tree, rounds=6)
    assert found.period >= 0 and len(found.trees) == len(set(found.trees)) == len(found.scores)


@pytest.mark.parametrize(
    "y, message",
    [
        (np.array([0, 0, 2]), "none for 1"),
        (np.array([0, 1, 3]), "got 3 at example 2"),
        (np.array([0.0, 1, 2]), "integers"),
    ],
)
def test_fitting_refuses(y, message):
    for made in (
        nodes.classifier(Tree.star(3), heads.ridge_head()),
        _joint.jointly(Tree.star(3), IDENTITY, optax.sgd(1.0), 1),
    ):
        with pytest.raises(ValueError, match=message):
            made.fit(KEY, np.zeros((3, 2)), y)


def test_one_class_is_refused():
    with pytest.raises(ValueError, match="at least two classes"):
        nodes.classifier(Tree.star(1), heads.ridge_head())


# Scikit-learn


@pytest.mark.slow
@parametrize_with_checks([HierarchicalClassifier()])
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


def test_estimator_in_pipelines_searches_and_pickles():
    x, y = load_digits(return_X_y=True)
    names = np.array(["zero", "one", "two", "three"])
    x, y = x[y < 4][:240], names[y[y < 4][:240]]
    model = make_pipeline(
        StandardScaler(), HierarchicalClassifier(tree=(("zero", "one"), ("two", "three")))
    )
    model.fit(x, y)
    assert model.score(x, y) > 0.95
    proba = model.predict_proba(x)
    np.testing.assert_allclose(proba.sum(axis=1), 1.0)
    assert (model.classes_[proba.argmax(axis=1)] == model.predict(x)).all()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict_proba(x), proba)
    assert clone(model)[-1].get_params() == model[-1].get_params()
    programs = nodes.fitted._cache_size()
    search = GridSearchCV(
        model,
        {
            "hierarchicalclassifier__head": [heads.ridge_head(0.1), heads.ridge_head(10.0)],
            "hierarchicalclassifier__tree": [None, (("zero", "three"), ("two", "one"))],
        },
        cv=3,
        error_score="raise",
    ).fit(x, y)
    assert search.best_score_ > 0.9
    # Folds of nearly one size and trees of one shape share a program; what differs is the head and
    # the whole set's size.
    assert nodes.fitted._cache_size() <= programs + 8
    derived = HierarchicalClassifier(
        tree=lambda x, y: embedding_tree([x[y == c].mean(0) for c in range(4)])
    ).fit(x, y)
    assert derived.tree_ == HierarchicalClassifier().fit(x, y).tree_
    greedy = HierarchicalClassifier(
        tree=derived.tree_, decode=decoding.greedy, weighting=nodes.by_class
    ).fit(x, y)
    assert greedy.score(x, y) > 0.95


@pytest.mark.parametrize(
    "tree, message",
    [
        ((0, (1, 3)), r"lacks \[2\] and has \[3\]"),
        (Tree.star(2), r"lacks \[2\]"),
        (lambda x, y: Tree.star(2), r"lacks \[2\]"),
    ],
)
def test_estimator_refuses_a_tree_over_other_classes(tree, message):
    x, y = examples((5, 5, 5))
    with pytest.raises(ValueError, match=message):
        HierarchicalClassifier(tree=tree).fit(x, y)
    with pytest.raises(ValueError, match="one class, np.int64|one class, 0"):
        HierarchicalClassifier().fit(x, np.zeros(len(x), int))


def test_estimator_heeds_weights():
    x, y = examples()
    weights = np.random.default_rng(0).integers(0, 4, len(y))
    weighted = HierarchicalClassifier().fit(x, y, weights)
    repeated = HierarchicalClassifier().fit(np.repeat(x, weights, 0), np.repeat(y, weights))
    assert weighted.tree_ == repeated.tree_
    np.testing.assert_allclose(weighted.predict_proba(x), repeated.predict_proba(x), rtol=1e-6)
    with pytest.raises(ValueError, match="none of 3"):
        HierarchicalClassifier().fit(x, y, (y != 3).astype(float))
