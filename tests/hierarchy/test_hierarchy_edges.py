"""Where hierarchies end: leaves that there are not, NaN that would decide, searches that stop,
dtypes of few bits."""

import gc

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize

import jaxmeta.hierarchy as jh
from jaxmeta.base import Examples
from jaxmeta.hierarchy import _classifier, _optimal, _task2vec
from jaxmeta.models import Model, mlp

KEY = jax.random.key(0)
TREE = jh.Tree.from_nested((0, (1, 2)))
DAG = jh.Dag.from_nested(((0, 1), (1, 2)))
X = np.array([[0.0], [0.1], [4.0], [4.2], [6.0], [6.1]])
Y = np.array([0, 0, 1, 1, 2, 2])
LOGITS = np.random.default_rng(0).normal(size=(6, 3))
HALF = np.log(np.array([[[0.5, 0.5], [0.2, 0.8]]] * 6))


# Leaves and labels

BY_LEAF = {
    "hierarchical_cross_entropy": lambda y: jh.hierarchical_cross_entropy(
        TREE, jnp.asarray(HALF), y
    ),
    "soft_tree_loss": lambda y: jh.soft_tree_loss(TREE, jnp.asarray(LOGITS), y),
    "fit_nodes": lambda y: jh.fit_nodes(
        KEY, jnp.asarray(X), y, jnp.ones(6), jh.layout(TREE), head=jh.ridge_head()
    ),
}


@pytest.mark.parametrize("leaf", [-1, 3])
@pytest.mark.parametrize("name", BY_LEAF)
def test_a_leaf_that_is_not_there_is_refused_or_makes_nan(name, leaf):
    y = Y.copy()
    y[2] = leaf
    for known in (y, jnp.asarray(y)):
        with pytest.raises(ValueError, match=f"must be from 0 to 2, got {leaf}"):
            BY_LEAF[name](known)
    found = jax.jit(BY_LEAF[name])(jnp.asarray(y))
    if name == "fit_nodes":  # the root is trained on all examples
        assert all(np.isnan(leaf[0]).all() for leaf in jax.tree.leaves(found))
    else:
        assert np.isnan(found).tolist() == [False, False, True, False, False, False]
    chosen = jax.jit(BY_LEAF[name])(jnp.asarray(Y))
    assert np.isfinite(np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(chosen)])).all()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: jh.confusion_counts([0, -1], [0, 1], 2), "y_true must be from 0 to 1, got -1"),
        (lambda: jh.confusion_counts([0, 1], [0, 2], 2), "y_pred must be from 0 to 1, got 2"),
        (lambda: jh.confusion_counts([0, 1], [0], 2), "one entry an example"),
        (
            lambda: jh.confusion_affinity(None, Examples(X, Y), np.array([0, 0, 1, -1, 2, 2])),
            "y_pred must be from 0 to 2, got -1",
        ),
        (
            lambda: jh.node_encoding(lambda params, x: x, np.ones((3, 2)), np.array([0, 3])),
            "chosen must be from 0 to 2, got 3",
        ),
        (
            lambda: jh.node_encoding(lambda params, x: x, np.ones((3, 2)), np.array([0, -1])),
            "chosen must be from 0 to 2, got -1",
        ),
        (
            lambda: jh.recursive_regularisation(TREE, jnp.ones((1, 4, 2))),
            r"weights must be \[2, d, 2\]",
        ),
        (lambda: jh.orthogonality(TREE, jnp.ones((1, 4, 2))), r"weights must be \[2, d, 2\]"),
        (
            lambda: jh.scores(TREE, Y, np.array([0, 0, 1, 1, 2, -1])),
            "got -1; number concepts as tree.leaf does",
        ),
        (lambda: jh.class_means(Examples(X, Y - 1)), "labels must be from 0 to 1, got -1"),
        (lambda: jh.class_means(Examples(X, np.where(Y == 1, 2, Y))), "got none for 1"),
        (
            lambda: jh.cluster(
                KEY, X, Y, clusterer=lambda seed, x, weights, clusters: np.full(len(x), -1)
            ),
            "a clusterer's labels must be from 0 to 1, got -1",
        ),  # as clusterers name noise
    ],
)
def test_refusals_of_indices(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_higher_order_encoders_refuse_a_class_without_examples():
    dense = Model(lambda key, x: jnp.ones((1, 1)), lambda w, x, reference=None: x @ w)
    encoding = jh.Encoding(dense.apply, jnp.ones((2, 1, 1)))
    for y, words in (
        (np.where(Y == 2, 1, Y), "none for 2"),
        (Y + 1, "labels must be from 0 to 2, got 3"),
    ):
        with pytest.raises(ValueError, match=words):
            jh.higher_order(
                KEY, TREE, jh.Autoencoder(dense, dense), encoding, X, y, optax.sgd(0.1), 1
            )


def test_held_out_examples_of_a_class_that_training_lacks_are_refused():
    """Among the sorted classes 3 would be found where 2 stands."""
    labels = np.concatenate([np.tile([0, 1, 2], 4), np.tile([0, 1, 3], 4)])
    features = np.random.default_rng(0).normal(size=(24, 2))
    folds = np.repeat([1, 0], 12)  # first trained on 0, 1, 3, and judged on 0, 1, 2
    with pytest.raises(ValueError, match=r"of the classes trained on, \[0, 1, 3\], got \[2\]"):
        jh.one_standard_error(jh.lda(), [jh.Tree.star([0, 1, 3])], features, labels, 1 - folds)


def test_examples_of_weight_0_are_not_there_and_other_weights_are_refused():
    padded = Examples(
        np.concatenate([X, [[np.nan]]]), np.append(Y, 7), weight=np.append(np.ones(6), 0)
    )
    np.testing.assert_array_equal(jh.class_means(padded), jh.class_means(Examples(X, Y)))
    looked = Examples(X, Y, reference=np.arange(6) == 1)
    np.testing.assert_array_equal(
        jh.class_means(looked), jh.class_means(Examples(np.delete(X, 1, 0), np.delete(Y, 1)))
    )
    for weight in (0.5, -1.0, np.nan):
        with pytest.raises(
            ValueError, match=f"count alike, of weight 1, or not at all, of weight 0, got {weight}"
        ):
            jh.class_means(padded._replace(weight=np.append(np.ones(6), weight)))


# NaN decides nothing


@pytest.mark.parametrize(
    "decode",
    [jh.greedy, jh.most_probable, jh.beam(1), jh.beam(2)],
    ids=["greedy", "most", "one", "two"],
)
@pytest.mark.parametrize("hierarchy", [TREE, DAG], ids=["tree", "dag"])
def test_an_example_of_which_a_node_says_nan_has_no_leaf(decode, hierarchy):
    rows = len(hierarchy.inner)
    logs = np.log(np.full((3, rows, 2), 0.5))
    logs[:, 0] = np.log([0.1, 0.9])
    logs[1, 0] = np.nan
    found = jax.jit(lambda logs: decode(hierarchy, logs))(jnp.asarray(logs))
    assert found[1] == -1 and (np.delete(found, 1) >= 0).all()


def test_nan_beside_the_way_of_greedy_does_not_matter():
    logs = np.log(np.array([[[0.9, 0.1], [0.5, 0.5]]]))
    logs[0, 1] = np.nan
    assert jh.greedy(TREE, jnp.asarray(logs)).tolist() == [0]
    assert jh.most_probable(TREE, jnp.asarray(logs)).tolist() == [-1]


def test_nodes_that_are_certain_have_leaves_of_probability_0_and_no_nan():
    certain = jnp.log(jnp.array([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]]))
    np.testing.assert_array_equal(
        jh.path_product(TREE, certain), jnp.log(jnp.array([[1.0, 0, 0], [0, 1, 0]]))
    )
    assert jh.most_probable(TREE, certain).tolist() == jh.greedy(TREE, certain).tolist() == [0, 1]
    np.testing.assert_array_equal(jh.hierarchical_cross_entropy(TREE, certain, np.array([0, 1])), 0)
    assert jh.hierarchical_cross_entropy(TREE, certain, np.array([1, 1])).tolist() == [np.inf, 0]


def test_models_that_diverge_predict_nothing():
    head = jh.linear_head(update=optax.scale(np.inf), steps=3)
    with pytest.raises(ValueError, match="every node's model must be finite"):
        jh.HierarchicalClassifier(head=head, tree=(0, (1, 2))).fit(X, Y)
    model = jh.HierarchicalClassifier(tree=(0, (1, 2))).fit(X, Y)
    model.params_ = jax.tree.map(lambda leaf: np.full_like(leaf, np.inf), model.params_)
    for ask in (model.predict, model.predict_proba):
        with pytest.raises(
            ValueError, match="every node's probabilities must be numbers, got NaN for example 0"
        ):
            ask(X * 0)


def test_scores_that_are_nan_choose_no_tree():
    scores = iter([0.5, np.nan, 0.1])
    with pytest.raises(ValueError, match="a score must be a number, got NaN for the tree"):
        jh.alternate(
            KEY,
            TREE,
            lambda key, tree: (tree, next(scores)),
            lambda was: jh.sample(jax.random.key(was.nodes), 3),
            3,
        )
    found = jh.node_scores(jh.lda(), (X + LOGITS[:, :1] / 10, Y), (X, Y))
    with pytest.raises(
        ValueError, match="values of nodes must be numbers, got NaN among those over 2 classes"
    ):
        jh.optimal(found, value=lambda scores: tuple(gain * np.nan for gain in scores.gains))


CONSTANT = np.column_stack([X, np.ones(6)])  # without a penalty, no solution


@pytest.mark.parametrize(
    "search",
    [
        lambda learner, examples: jh.node_scores(learner, examples, examples),
        lambda learner, examples: jh.beam_search(learner, examples, examples),
        lambda learner, examples: jh.path_log_probabilities(learner, TREE, examples, examples[0]),
    ],
    ids=["node_scores", "beam_search", "path_log_probabilities"],
)
def test_a_node_without_a_solution_is_refused_whatever_searches(search):
    with pytest.raises(ValueError, match="must have a solution, got none for"):
        search(jh.ridge(penalty=0.0), (CONSTANT, Y))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: jh.cluster(KEY, X, Y, spread=np.nan), "spread must be at least -inf, got nan"),
        (
            lambda: jh.cluster(KEY, X, Y, threshold=np.nan),
            "threshold must be at least -inf, got nan",
        ),
        (
            lambda: jh.lance_williams(
                1 - np.eye(3), jh.Scheme(lambda i, j, k: (np.nan, 0.5, 0.0, 0.0))
            ),
            "finite distances, got nan",
        ),
        (
            lambda: jh.jointly(TREE, mlp((4,), None), optax.sgd(0.1), 1, batch=0),
            "batch must be at least 1",
        ),
        (
            lambda: jh.lookahead_affinity(KEY, Examples(X, Y), mlp((4,), None), 2, 1, shots=0),
            "shots must be at least 1",
        ),
        (
            lambda: jh.transfers(
                KEY, Examples(X, Y), Examples(X, Y), training=jh.Training(batch=0)
            ),
            "batch of training must be at least",
        ),
    ],
)
def test_refusals_of_what_would_be_nan(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_held_out_scores_that_are_nan_confuse_nobody():
    from sklearn.dummy import DummyRegressor

    class Broken(DummyRegressor):
        def predict(self, X):
            return super().predict(X) * np.nan

    with pytest.raises(ValueError, match="held-out scores must be finite"):
        jh.confusion_affinity(KEY, Examples(X, Y), estimator=Broken(), folds=2)


def test_a_transfer_that_diverged_needs_no_number_of_examples():
    losses = np.ones((2, 3, 3))
    losses[0, 1, 2] = np.nan  # at the smaller budget, while the larger one reaches the target
    moved = jh.Transfers(
        losses, np.ones((2, 3)), np.ones(3), (1, 2), ((0,), (1,), (2,)), None, None
    )
    found = jh.examples_needed(moved)
    assert np.isnan(found).sum() == 1 and np.isnan(found[1, 2])
    assert np.isnan(jh.examples_needed(moved, target_loss=np.array([1, np.nan, 1]))[:, 1]).all()


# Iterations that go on to their end


@pytest.mark.parametrize(
    ("scale", "strength"), [(1.0, 1e-2), (1.0, 1e-8), (1e3, 1e-2), (1e-2, 1e-6)]
)
@pytest.mark.parametrize("apart", [0.0, 4.0])
def test_logistic_heads_are_at_their_minimum(scale, strength, apart):
    """A strictly convex loss: its gradient, with all its digits, is 0 there, in units of what its
    terms are."""
    rng = np.random.default_rng(int(10 * apart))
    y = np.arange(40) % 5 == 0
    features = rng.normal(size=(40, 4))
    features[:, 0] += apart * y
    features = np.concatenate([scale * features, np.ones((40, 1))], axis=1)
    weights = np.where(y, 1 / y.sum(), 1 / (~y).sum()) / 2
    w = np.asarray(jax.jit(_task2vec._logistic)(features, y.astype(float), weights, strength))
    side = 2 * y - 1
    terms = features * (weights * side * scipy.special.expit(-side * (features @ w)))[:, None]
    ridge = strength * np.array([1, 1, 1, 1, 1e-3]) * w
    assert (np.abs(ridge - terms.sum(0)) <= 1e-6 * (np.abs(terms).sum(0) + np.abs(ridge))).all()


def test_a_probe_that_says_nan_embeds_nothing():
    broken = Model(lambda key, x: jnp.ones((1, 2)), lambda w, x, reference=None: x @ w * jnp.nan)
    embedding = jh.fisher_embedding(Examples(X, Y), broken, jnp.ones((1, 2)))
    assert np.isnan(embedding).all()
    with pytest.raises(ValueError, match="an affinity must be finite"):
        jh.fisher_affinity(embedding)


# Few bits


def test_half_precision_is_summed_in_more():
    """Sums of 1,000 examples of 200 are beyond the largest float16; float16 numbers are float64
    numbers."""
    x = np.random.default_rng(0).uniform(190, 210, size=(2000, 3)).astype(np.float16)
    y = np.arange(2000) % 2
    means = jh.class_means(Examples(x, y))
    np.testing.assert_allclose(
        means, [x[y == label].astype(float).mean(0) for label in (0, 1)], rtol=1e-5
    )
    scores = [
        jh.node_scores(jh.lda(), (x.astype(kind), y), (x.astype(kind), y)).flat[-1]
        for kind in (np.float16, np.float64)
    ]
    np.testing.assert_allclose(*scores, rtol=1e-2)


def test_distances_of_few_bits_are_those_of_the_same_numbers_in_more():
    rows = jnp.asarray(300 + np.arange(6.0).reshape(3, 2) * 8, "bfloat16")
    np.testing.assert_allclose(
        jh.embedding_affinity(None, rows),
        jh.embedding_affinity(None, rows.astype(float)),
        rtol=1e-6,
    )
    np.testing.assert_allclose(
        jh.fisher_affinity(rows), jh.fisher_affinity(rows.astype(float)), rtol=1e-6
    )
    half = np.full((2, 2), 6e4, np.float16)  # whose sum is beyond the largest
    np.testing.assert_array_equal(jh.symmetrised(half), half)


def test_examples_of_a_node_are_counted_in_enough_bits():
    """600 examples of class 0 and 2 of each other; counted in bfloat16 they would be 256, and
    classes would not weigh alike."""
    y = np.concatenate([np.zeros(600, int), [1, 1, 2, 2]])
    x = jnp.asarray(np.random.default_rng(0).normal(size=(604, 2)), "bfloat16")
    head = jh.Head(lambda key, z, targets, weights, mask: weights, None)
    found = _classifier.fitted(
        KEY,
        x,
        y,
        jnp.ones(604, "float32"),
        jh.layout(TREE),
        (),
        head=head,
        weighting=_classifier.by_class,
        encode=_classifier._identity,
    )
    np.testing.assert_allclose(
        [found[0][y == label].sum() for label in range(3)], 604 / 3, rtol=1e-2
    )


def test_fisher_information_is_added_up_in_enough_bits():
    """2,000 examples alike: the mean of their equal parts, not what a running bfloat16 total stops
    at."""
    x, y = np.ones((2000, 1)), np.arange(2000) % 2
    linear = Model(
        lambda key, x: {"w": jnp.ones((1, 2))},
        lambda params, x, reference=None: x.astype(params["w"].dtype) @ params["w"],
    )
    few, many = (
        jh.fisher_embedding(Examples(x, y), linear, {"w": jnp.ones((1, 2), dtype)})
        for dtype in ("bfloat16", "float64")
    )
    np.testing.assert_allclose(few, many, rtol=0.05)


# What is kept


def test_scores_are_not_kept_beyond_their_use():
    before = len(_optimal._BEST)
    scores = jh.node_scores(jh.lda(), (X + LOGITS[:, :1] / 10, Y), (X, Y))
    assert jh.regret(jh.optimal(scores)[0].tree, scores) == 0 and len(_optimal._BEST) == before + 1
    del scores
    gc.collect()
    assert len(_optimal._BEST) == before


@pytest.mark.long
def test_no_tracer_is_kept():
    """JAX's own check: nothing that a program closed over is there when it is made."""
    body, examples = mlp((4,), None), Examples(X.astype(np.float32), Y)
    with jax.checking_leaks():
        for made in (
            jh.classifier(TREE, jh.ridge_head()),
            jh.classifier(TREE, jh.linear_head(steps=2, batch=2)),
            jh.jointly(TREE, body, optax.sgd(0.1), 2),
        ):
            logs = made.log_probabilities(made.fit(KEY, X, Y), jnp.asarray(X))
            for decode in (jh.greedy, jh.most_probable, jh.beam(2)):
                jax.jit(lambda logs, decode=decode: decode(TREE, logs))(logs)
        jax.jit(jax.grad(lambda logits: jh.soft_tree_loss(TREE, logits, Y).sum()))(
            jnp.asarray(LOGITS)
        )
        jh.lookahead_affinity(KEY, examples, body, 2, 1, shots=2)
        jh.task2vec_affinity(KEY, examples, body, steps=1, shots=2)
        jh.transfers(
            KEY, examples, examples, (1, 2), jh.dense_autoencoder(1, 4, 2), jh.Training(1, 1, 2)
        )
        jh.beam_search(jh.lda(), (X + LOGITS[:, :1] / 10, Y), (X, Y))
