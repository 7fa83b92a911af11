"""Affinities against their definitions, worked by hand or by another road."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats

from jaxmeta.base import Examples
from jaxmeta.hierarchy import (
    _affinity,
    _autoencoder,
    _class_data,
    _confusion,
    _embedding,
    _lookahead,
    _one_vs_rest,
    _performance,
    _task2vec,
    _transfer,
    _transfer_runs,
    _transferability,
)
from jaxmeta.models import Model, mlp
from jaxmeta.parallel import over_tasks

KEY = jax.random.key(0)


def planted(n=40, features=8, seed=0):
    """Four concepts, 0 and 1 near one another and in one plane, 2 and 3 in another; held-out
    examples too."""
    rng = np.random.default_rng(seed)
    planes = np.eye(features)[:4].reshape(2, 2, features)
    y = np.tile(np.arange(4), 2 * n)
    axes = np.eye(features)[4:7]
    centres = 3 * axes[[0, 0, 1, 1]] + 0.2 * np.array([[1], [-1], [1], [-1]]) * axes[2]
    x = centres[y] + np.einsum("nk,nkd->nd", rng.normal(size=(8 * n, 2)), planes[y // 2])
    x += 0.2 * rng.normal(size=x.shape)
    return Examples(x[: 4 * n], y[: 4 * n]), Examples(x[4 * n :], y[4 * n :])


# The transfer affinity

SCALAR = _autoencoder.Autoencoder(
    *(
        Model(
            lambda key, x, start=start: {"w": jnp.full((1, 1), start)},
            lambda params, x, reference=None: x @ params["w"],
        )
        for start in (1.0, 0.5)
    )
)
RATE = 0.05
ONE_STEP = _transfer.Training(1, 1, 2, optax.sgd(RATE))


def stepped(w, v, x2):
    """One step of gradient descent on (v w x - x)^2, where x^2 is x2."""
    error = 2 * (v * w - 1) * x2
    return w - RATE * error * v, v - RATE * error * w


def test_transfers_by_hand():
    train = Examples(np.array([1.0, 1.0, -2.0, 2.0, 3.0])[:, None], np.array([0, 0, 1, 1, 2]))
    held = Examples(np.array([1.0, 4.0, 2.0, 0.0, 1.0])[:, None], np.array([0, 0, 1, 2, 2]))
    squares, judged, variance = (
        np.array([1.0, 4.0, 9.0]),
        np.array([8.5, 4.0, 0.5]),
        np.array([2.25, 0.0, 0.25]),
    )
    got = _transfer.transfers(KEY, train, held, (1, 2), SCALAR, ONE_STEP)
    encoders = [stepped(1.0, 0.5, x2) for x2 in squares]
    np.testing.assert_allclose(
        got.own, [(w * v - 1) ** 2 * scale for (w, v), scale in zip(encoders, judged)], rtol=1e-12
    )
    np.testing.assert_allclose(got.curves[:, 0], 0.25 * squares, rtol=1e-12)

    def loss(w, target):
        w, v = stepped(w, 0.5, squares[target])
        return (w * v - 1) ** 2 * judged[target]

    expected = np.array([[loss(encoders[i][0], j) for j in range(3)] for i in range(3)])
    for budget in range(2):  # examples of a concept have one square, so a budget changes nothing
        np.testing.assert_allclose(got.losses[budget], expected, rtol=1e-12)
        np.testing.assert_allclose(
            got.scratch[budget], [loss(1.0, j) for j in range(3)], rtol=1e-12
        )
    np.testing.assert_allclose(got.variance, variance)

    for budget, spent in enumerate((0.5, 1.0)):
        np.testing.assert_allclose(
            _performance.scored(got, alpha=3.0, beta=1.0)[budget],
            (3 * np.clip(1 - expected / got.scratch[budget][None], 0, 1) + spent) / 4,
            rtol=1e-12,
        )


def test_transfers_are_those_of_a_loop_whatever_the_budget_or_group():
    train, held = planted()
    train = Examples(train.x[:-12], train.y[:-12])
    training, models = _transfer.Training(3, 4, 5), _autoencoder.dense_autoencoder(8, 6, 3)
    groups = [(0, 1), (2, 0), (3, 1)]
    got = _transfer.transfers(KEY, train, held, (2, 30, 90, 99), models, training, groups)
    compiled = _transfer_runs.learn._cache_size()
    _transfer.transfers(jax.random.key(1), train, held, (2, 30, 90, 99), models, training, groups)
    assert _transfer_runs.learn._cache_size() == compiled
    assert got.losses.shape == (4, 4, 3) and got.losses.dtype == np.float64
    np.testing.assert_array_equal(
        got.losses[2], got.losses[3]
    )  # 37 examples a concept, so run once
    assert (
        len(_transfer_runs.all_runs(KEY, [37] * 4, (2, 30, 90, 99), groups)[0].start) == 3 * 3 * 5
    )
    assert (abs(got.losses[0] - got.losses[1]) > 1e-6).all()

    shuffle, encoding, moving = jax.random.split(KEY, 3)
    data = _transfer._shuffled(shuffle, _class_data.by_class(train))
    apart = _class_data.by_class(held)

    @jax.jit
    def update(params, state, x):
        def loss(params):
            code = models.encoder.apply(params["encoder"], x)
            return ((models.decoder.apply(params["decoder"], code) - x) ** 2).mean()

        updates, state = training.optimiser.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state, loss(params)

    def learned(start, key, targets, budget, steps):
        begin, draw = jax.random.split(key)
        cast = jax.tree.map(
            lambda leaf: leaf.astype(float), models.decoder.init(begin, jnp.zeros((1, 3)))
        )
        params = {"encoder": start, "decoder": cast}
        state = training.optimiser.init(params)
        for row in np.asarray(jax.random.uniform(draw, (steps, 5))) * len(targets):
            picks = [
                (targets[int(u)], int((u % 1) * min(budget, data.counts[targets[int(u)]])))
                for u in row
            ]
            params, state, _ = update(params, state, np.stack([data.x[pick] for pick in picks]))
        judged = [float(update(params, state, apart.x[j][: apart.counts[j]])[2]) for j in targets]
        return params["encoder"], np.mean(judged)

    keys = jax.random.split(encoding, 4)
    fresh = [
        jax.tree.map(lambda leaf, i=i: leaf[i], _transfer_runs.fresh(models, keys, data))
        for i in range(4)
    ]
    trained, own = zip(*[learned(fresh[i], keys[i], [i], 99, 3) for i in range(4)])
    np.testing.assert_allclose(got.own, own, rtol=1e-9)
    for g, key in enumerate(jax.random.split(moving, 3)):
        for b, budget in enumerate((2, 30)):
            np.testing.assert_allclose(
                got.losses[b, 1, g], learned(trained[1], key, groups[g], budget, 4)[1], rtol=1e-9
            )
            np.testing.assert_allclose(
                got.scratch[b, g],
                learned(fresh[groups[g][0]], key, groups[g], budget, 4)[1],
                rtol=1e-9,
            )


def test_a_chunk_keeps_to_the_memory():
    train, held = planted(n=20, features=64)
    data, apart = _class_data.by_class(train), _class_data.by_class(held)
    models, training = _autoencoder.dense_autoencoder(64, 48, 16), _transfer.Training(2, 2, 8)
    starts = _transfer_runs.fresh(models, jax.random.split(KEY, 4), data)
    runs, where = _transfer_runs.all_runs(KEY, data.counts, (5, 10, 15), [[c] for c in range(4)])
    assert len(runs.start) == 60 and np.unique(where).size == 60
    runs = runs._replace(start=runs.start % 4)
    used = {}
    for memory in (2**20, 2**23):
        mapper = over_tasks(_transfer_runs.chunk(starts, data, apart, training, memory))
        program = _transfer_runs.learn.lower(
            starts, data, apart, runs, models, training, 2, mapper, False
        ).compile()
        used[memory] = program.memory_analysis().temp_size_in_bytes
        assert used[memory] < 1.5 * memory
    assert used[2**23] > 3 * used[2**20]  # and uses it


def test_performances_and_examples_needed():
    losses = np.array([[[4.0, 1.0], [2.0, 3.0]], [[1.0, 1.0], [2.0, 0.5]]])
    moved = _transfer.Transfers(
        losses,
        np.array([[4.0, 4.0], [2.0, 0.5]]),
        np.array([8.0, 2.0]),
        (1, 4),
        ((0,), (1,)),
        None,
        None,
    )
    np.testing.assert_allclose(_performance.scored(moved, beta=0.0)[0], [[0.0, 0.75], [0.5, 0.25]])
    exponential = _performance.exponential(2.0)
    for performance, row in (
        (_performance.explained_variance, [0.5, 0.5]),
        (exponential, np.exp([-2.0, -0.5])),
    ):
        np.testing.assert_allclose(_performance.scored(moved, performance, beta=0.0)[0, 0], row)
    # Targets 2 and 0.5: 0 -> 0 needs 4 examples, 1 -> 0 one; none or all reach 0.5 but 1 -> 1, by
    # four.
    np.testing.assert_allclose(
        _performance.examples_needed(moved, alpha=0.0), [[0.0, 0.0], [0.75, 0.0]]
    )
    np.testing.assert_allclose(
        _performance.examples_needed(moved, beta=0.0), [[0.5, 0.0], [0.0, 0.0]]
    )


# The others


def test_lookahead_is_its_definition(rng):
    body = mlp((5,), None, jnp.tanh)
    x = rng.normal(size=(6, 3))
    shared = body.init(KEY, x)
    heads = _one_vs_rest.Heads(jnp.asarray(rng.normal(size=(5, 3))), jnp.zeros(3))

    @jax.jit
    def losses(shared, heads):
        return _one_vs_rest.balanced_losses(heads(body.apply(shared, x)).reshape(3, 2, 3))

    got = jax.jit(lambda: _lookahead.lookahead(losses, shared, heads, 0.3))()
    logits = np.asarray(heads(body.apply(shared, x)))
    own = np.arange(3).repeat(2)[:, None] == np.arange(3)
    by_hand = [
        (
            np.log1p(np.exp(-logits[own[:, j], j])).mean()
            + np.log1p(np.exp(logits[~own[:, j], j])).mean()
        )
        / 2
        for j in range(3)
    ]
    np.testing.assert_allclose(losses(shared, heads), by_hand, rtol=1e-6)
    for i in range(3):
        grad = jax.grad(lambda shared, i=i: losses(shared, heads)[i])(shared)
        after = losses(jax.tree.map(lambda p, g: p - 0.3 * g, shared, grad), heads)
        np.testing.assert_allclose(got[i], 1 - after / losses(shared, heads), atol=1e-6)


def test_units_of_no_use_to_either_task_count_for_nothing(rng):
    alive = rng.uniform(0.1, 1, size=(3, 5))
    dead = np.concatenate([alive, np.zeros((3, 20))], 1)
    np.testing.assert_allclose(
        _task2vec.fisher_affinity(dead), _task2vec.fisher_affinity(alive), rtol=1e-12
    )
    one, other = (alive[i] / (alive[0] + alive[1]) for i in range(2))
    cosine = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
    np.testing.assert_allclose(_task2vec.fisher_affinity(dead)[0, 1], cosine, rtol=1e-12)


def test_fisher_by_hand(rng):
    """A linear probe f_c = (x W) v_c has the gradient x_d v_ck at W_dk."""
    x, y = rng.normal(size=(30, 3)), np.arange(30) % 3
    weights = rng.normal(size=(3, 2))
    linear = Model(None, lambda params, x, reference=None: x @ params["w"])
    got = _task2vec.fisher_embedding(Examples(x, y), linear, {"w": jnp.asarray(weights)}, 0.1)
    codes = np.concatenate([x @ weights, np.ones((30, 1))], 1)
    for c in range(3):
        share = np.where(y == c, 1 / 10, 1 / 20) / 2

        def objective(w, own=(y == c), share=share):
            logit = codes @ w
            return (
                share @ (np.logaddexp(0, logit) - own * logit)
                + 0.05 * w[:2] @ w[:2]
                + 0.5e-4 * w[2] ** 2
            )

        v = scipy.optimize.minimize(objective, np.zeros(3), tol=1e-12).x
        p = scipy.special.expit(codes @ v)
        by_hand = [(share * p * (1 - p)) @ (x**2).mean(1) * v[k] ** 2 for k in range(2)]
        np.testing.assert_allclose(got[c], by_hand, rtol=1e-4)


@pytest.mark.parametrize(
    ("n", "d", "rank", "signal", "scale"),
    [
        (40, 3, 3, 0.5, 1.0),
        (12, 20, 12, 3.0, 1.0),
        (20, 20, 20, 1.0, 1.0),
        (30, 8, 2, 0.5, 1.0),
        (25, 40, 5, 3.0, 1.0),
        (40, 3, 3, 0.0, 1.0),
        (50, 4, 4, 3.0, 1e3),
        (50, 4, 4, 0.5, 1e-3),
    ],
)
def test_log_me_is_the_evidence_of_a_gaussian_at_its_maximum(n, d, rank, signal, scale):
    """Against a maximisation over both precisions from many starts, the density being scipy's."""
    rng = np.random.default_rng(n + rank)
    features = (
        rng.normal(size=(n, rank)) @ rng.normal(size=(rank, d))
        if rank < min(n, d)
        else rng.normal(size=(n, d))
    )
    labels = (signal * features[:, 0] + 0.5 * rng.normal(size=n) > 0).astype(int)
    features = scale * features

    def loss(logs, y):
        cov = np.eye(n) * np.exp(-logs[1]) + features @ features.T * np.exp(-logs[0])
        return -scipy.stats.multivariate_normal(np.zeros(n), cov, allow_singular=True).logpdf(y) / n

    def best(y):
        ends = [
            scipy.optimize.minimize(
                loss, start, (y,), method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-13}
            ).fun
            for alpha in (-3.0, 1.0, 6.0, 30.0)
            for start in [(alpha + 2 * np.log(scale), 1.0)]
        ]
        return -min(ends)

    want = np.mean([best((labels == label).astype(float)) for label in (0, 1)])
    assert _transferability.log_me(features, labels) == pytest.approx(want, abs=1e-9)


def test_log_me_of_an_exact_fit_and_of_nothing_is_a_number():
    """Noise of 1e-12 of the labels' mean square is the least; features that are 0 leave the noise
    alone."""
    labels = np.arange(6) % 2
    nothing = -0.5 * np.log(2 * np.pi * np.e * 0.5)
    assert _transferability.log_me(np.zeros((6, 2)), labels) == pytest.approx(nothing, abs=1e-12)
    exact = _transferability.log_me(np.eye(2)[labels], labels)
    assert 0 < exact < -0.5 * np.log(2 * np.pi * np.e * 0.5e-12)


def test_leep_of_hard_predictions_is_nce_and_h_score_of_one_class_mean_each(rng):
    source, labels = np.array([0, 0, 1, 1, 1, 2]), np.array([0, 1, 1, 1, 0, 0])
    hard = np.eye(3)[source]
    by_hand = (2 * np.log(1 / 2) + 2 * np.log(2 / 3) + np.log(1 / 3) + 0) / 6
    assert _transferability.nce(source, labels) == pytest.approx(by_hand)
    assert _transferability.leep(hard, labels) == pytest.approx(by_hand)
    # Two classes: the between-class covariance has rank one, p q delta' S^-1 delta.
    x = (
        rng.normal(size=(50, 3)) * np.array([[1.0, 2.0, 3.0]]) + np.arange(50)[:, None] % 2
    )  # a sphere is shrunk wholly
    y = np.arange(50) % 2
    delta = x[y == 1].mean(0) - x[y == 0].mean(0)
    expected = 0.25 * delta @ np.linalg.solve(np.cov(x.T, bias=True), delta)
    assert _transferability.h_score(x, y, _transferability.empirical) == pytest.approx(expected)
    assert 0 < _transferability.h_score(x, y) < expected
    got = _transferability.transferability_affinity(
        KEY, _transferability.nce, np.stack([y, 1 - y]), y
    )
    np.testing.assert_allclose(got, 0, atol=1e-12)


def test_linear_transfer_by_scikit_learn():
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LinearRegression

    train, held = planted(n=15)
    got = _embedding.linear_transfer_affinity(KEY, train, held, 2, strength=1e-10)
    for i in range(4):
        encoder = PCA(2).fit(train.x[train.y == i])
        for j in range(4):
            x, h = train.x[train.y == j], held.x[held.y == j]
            left = h - LinearRegression().fit(encoder.transform(x), x).predict(encoder.transform(h))
            np.testing.assert_allclose(
                got[i, j], max(0, 1 - (left**2).sum() / ((h - x.mean(0)) ** 2).sum()), rtol=1e-6
            )


def test_distances_of_embeddings():
    train, _ = planted()
    euclid, mahalanobis = (
        _embedding.class_means(train, scale)
        for scale in (_embedding.unchanged, _embedding.whitened)
    )
    from scipy.spatial.distance import cdist
    from sklearn.covariance import ledoit_wolf

    np.testing.assert_allclose(
        -_embedding.embedding_affinity(KEY, euclid), cdist(euclid, euclid), atol=1e-12
    )
    within = ledoit_wolf(train.x - euclid[train.y], assume_centered=True)[0]
    np.testing.assert_allclose(
        -_embedding.embedding_affinity(KEY, mahalanobis),
        cdist(euclid, euclid, "mahalanobis", VI=np.linalg.inv(within)),
        atol=1e-6,
    )


def test_964_concepts_in_flat_memory():
    """Temporaries do not grow as C^2: doubling the concepts no more than doubles them."""
    used = {}
    for concepts in (482, 964):
        rows = jax.ShapeDtypeStruct((concepts, 64), np.float32)
        distances = _embedding._distances.lower(rows).compile().memory_analysis()
        data = _class_data.ByClass(
            jax.ShapeDtypeStruct((concepts, 10, 64), np.float32),
            jax.ShapeDtypeStruct((concepts,), np.int32),
        )
        linear = (
            _embedding.linear_transfers.lower(data, data, 4, np.float32(1e-3))
            .compile()
            .memory_analysis()
        )
        used[concepts] = np.array([distances.temp_size_in_bytes, linear.temp_size_in_bytes])
    assert (used[964] <= 2.1 * used[482] + 4096).all()
    assert used[964][0] < 964 * 64 * 4 * 2


@pytest.mark.parametrize("name", ["transfer", "linear", "confusion", "means"])
def test_planted_pairs_are_found(name):
    train, held = planted()
    affinity = {
        "transfer": lambda: _performance.transfer_affinity(
            KEY,
            train,
            held,
            30,
            _performance.explained_variance,
            autoencoder=_autoencoder.Autoencoder(mlp((), 2), mlp((), 8)),
            training=_transfer.Training(200, 40, 16, optax.sgd(0.2, 0.9)),
        ),
        "linear": lambda: _embedding.linear_transfer_affinity(KEY, train, held, 2),
        "confusion": lambda: _confusion.confusion_affinity(KEY, train),
        "means": lambda: _embedding.embedding_affinity(KEY, _embedding.class_means(train)),
    }[name]()
    assert np.where(np.eye(4), -np.inf, affinity).argmax(0).tolist() == [1, 0, 3, 2], affinity


@pytest.mark.parametrize(
    "affinity",
    [
        lambda train: _lookahead.lookahead_affinity(KEY, train, mlp((8,), None), 6, 3, shots=4),
        lambda train: _task2vec.task2vec_affinity(KEY, train, mlp((8,), None), steps=2, shots=4),
    ],
)
def test_trained_ones_compile_once_and_are_finite(affinity):
    train, _ = planted(n=10)
    train = Examples(train.x.astype(np.float32), train.y)
    first = affinity(train)
    assert first.shape == (4, 4) and np.isfinite(first).all() and first.dtype == np.float32


# Refusals


@pytest.mark.parametrize(
    "x, y, says",
    [
        ([[1.0], [2.0]], [0, 2], "none for 'sit'"),
        ([[1.0], [2.0], [np.nan]], [0, 1, 2], "example 2 of concept 'run'"),
        ([[1.0], [2.0]], [0, 3], "from 0 to 2, got 3"),
        ([[1.0]], [0, 1], "1 examples and 2 labels"),
        ([[1.0], [2.0]], [0.0, 1.0], "must be integers"),
    ],
)
def test_bad_data(x, y, says):
    with pytest.raises(ValueError, match=says):
        _class_data.by_class(Examples(np.array(x), np.array(y)), ["walk", "sit", "run"])


def test_other_refusals():
    train, held = planted(n=3)
    one = Examples(train.x, np.zeros_like(train.y))
    with pytest.raises(ValueError, match="at least two concepts, got 1"):
        _transfer.transfers(KEY, one, one)
    with pytest.raises(ValueError, match="none for 2"):
        _transfer.transfers(KEY, train, Examples(held.x[held.y != 2], held.y[held.y != 2]))
    for bad, says in (
        ({"budgets": (5, 5)}, "must ascend"),
        ({"budgets": (0,)}, "at least 1"),
        ({"groups": [[0], [1, 2]]}, r"sizes \[1, 2\]"),
        ({"groups": [[0, 7]]}, r"got \(0, 7\)"),
    ):
        with pytest.raises(ValueError, match=says):
            _transfer.transfers(KEY, train, held, **bad)
    with pytest.raises(ValueError, match="from concept 0 to concept 1"):
        _affinity.symmetrised([[0.0, np.nan], [1.0, 0.0]])
    with pytest.raises(ValueError, match=r"got shape \(2, 3\)"):
        _affinity.to_distance(np.ones((2, 3)))
    with pytest.raises(ValueError, match="symmetric affinity"):
        _affinity.to_distance([[0.0, 0.5], [1.0, 0.0]])
    with pytest.raises(ValueError, match="top must be at least"):
        _affinity.to_distance([[0.0, 2.0], [2.0, 0.0]], top=1.0)
    with pytest.raises(ValueError, match="take fewer folds"):
        _confusion.held_out_scores(KEY, train, folds=4)
