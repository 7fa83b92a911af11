"""Methods by their own definitions: heads by dual steps against another solver, objectives and
schedules by hand."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import problems
import pytest
from sklearn.svm import LinearSVC

import jaxmeta as jm
from jaxmeta.base import Bilevel
from jaxmeta.estimator import scheduled, staged
from jaxmeta.evaluation import curve
from jaxmeta.experiment import METHODS, Configuration, at_evaluation, build, complete
from jaxmeta.learner import local_matching, matching, support_vectors
from jaxmeta.objective import annealed_weights, bootstrapped, multi_step
from jaxmeta.tasks import labelled, quadratic_adapted, quadratic_learner

KEY = jax.random.key(5)


def drawn(n=12, dimensions=5):
    rng = np.random.default_rng(0)
    y = np.arange(n) % 3
    return jm.Examples(
        jnp.asarray(rng.normal(size=(n, dimensions)) + 0.8 * np.eye(3, dimensions)[y]),
        jnp.asarray(y),
    )


def test_support_vectors_are_those_of_another_solver():
    support = drawn()
    learner = support_vectors(3, log_cost=np.log(0.7))
    phi = jax.jit(lambda task: learner.start(KEY, task))(jm.Task(support, support))
    other = LinearSVC(
        multi_class="crammer_singer", fit_intercept=False, C=0.7, tol=1e-10, max_iter=100_000
    )
    other.fit(np.asarray(support.x), np.asarray(support.y))
    np.testing.assert_allclose(phi, other.coef_.T, atol=1e-6)


def test_matching_attends_to_the_support():
    support, query = drawn(6), drawn(4)._replace(y=jnp.array([0, 2, 1, 1]))
    learner = matching(3, scale=2.0)
    value, _ = learner.loss(KEY, learner.start(KEY, jm.Task(support, query)), query)
    total = 0
    for x, y in zip(np.asarray(query.x), np.asarray(query.y)):
        cosines = [x @ s / np.linalg.norm(x) / np.linalg.norm(s) for s in np.asarray(support.x)]
        shares = np.exp(2 * np.array(cosines)) / np.exp(2 * np.array(cosines)).sum()
        total -= np.log(shares[np.asarray(support.y) == y].sum()) / 4
    np.testing.assert_allclose(value, total, rtol=1e-9)


def places(n, seed, shape=(3, 4), c=2):
    return np.random.default_rng(seed).normal(size=(n, *shape, c))


def test_places_are_matched_with_places_nearby():
    """The head of local_matching_net, by its formula."""
    support, labels = places(5, 0), np.array([0, 1, 2, 0, 1])
    query, targets = places(4, 1), np.array([2, 0, 1, 1])
    learner = local_matching(3, reach=1)
    value, _ = jax.jit(lambda s, q: learner.loss(KEY, learner.start(KEY, jm.Task(s, q)), q))(
        jm.Examples(jnp.asarray(support), jnp.asarray(labels)),
        jm.Examples(jnp.asarray(query), jnp.asarray(targets)),
    )
    at = list(np.ndindex(3, 4))

    def near(p):
        return [q for q in at if max(abs(p[0] - q[0]), abs(p[1] - q[1])) <= 1]

    def density(x, y, p, q):
        return np.exp(-((x[p] - y[q]) ** 2).sum())

    losses = []
    for x, target in zip(query, targets):
        logits = []
        for way in range(3):
            members = support[labels == way]
            explained = np.mean(
                [
                    np.log(np.mean([sum(density(x, s, p, q) for q in near(p)) for s in members]))
                    for p in at
                ]
            )
            found = np.mean(
                [np.log(sum(density(x, s, p, q) for p in near(q))) for s in members for q in at]
            )
            logits.append(explained + found)
        losses.append(np.log(np.exp(logits).sum()) - logits[target])
    np.testing.assert_allclose(value, np.mean(losses), rtol=1e-9)


@pytest.mark.parametrize("reach, same", [(3, True), (1, False)])
def test_with_all_places_in_reach_place_does_not_count(reach, same):
    support, query = (jm.Examples(jnp.asarray(places(3, seed)), jnp.arange(3)) for seed in (0, 1))
    mixed = query._replace(
        x=query.x.reshape(3, 12, 2)[:, np.random.default_rng(2).permutation(12)].reshape(
            query.x.shape
        )
    )
    learner = local_matching(3, reach)
    phi = learner.start(KEY, jm.Task(support, query))
    assert np.isclose(learner.loss(KEY, phi, query)[0], learner.loss(KEY, phi, mixed)[0]) == same


def test_places_in_bfloat16_are_matched_as_they_are_in_float32():
    support, query = (
        jm.Examples(jnp.asarray(places(6, seed), jnp.bfloat16), jnp.arange(6) % 3)
        for seed in (0, 1)
    )
    learner = local_matching(3)

    def loss(dtype):
        s, q = (part._replace(x=part.x.astype(dtype)) for part in (support, query))
        return learner.loss(KEY, learner.start(KEY, jm.Task(s, q)), q)[0]

    np.testing.assert_allclose(loss(jnp.bfloat16), loss(jnp.float32), rtol=1e-5)


def test_matching_places_needs_features():
    support = jm.Examples(jnp.ones(3), jnp.arange(3))
    with pytest.raises(
        ValueError, match=r"local_matching needs inputs \[n, ..., c\], got shape \(3,\)"
    ):
        local_matching(3).start(KEY, jm.Task(support, support))


def quadratic(steps):
    tasks = problems.batch(jm.quadratics(4), tasks=2)
    return problems.one(tasks), tasks, quadratic_learner(0.2, steps)


def test_every_step_is_judged_by_its_weight():
    task, _, learner = quadratic(3)
    theta, weights = jnp.arange(4.0), jnp.array([0.5, 0.0, 2.0])

    def at(steps, outer=jm.query_loss):
        return jm.outcome(
            KEY, Bilevel(jm.initialisation(), learner._replace(steps=steps), outer), theta, task
        )[0]

    np.testing.assert_allclose(at(3, multi_step(weights)), 0.5 * at(1) + 2 * at(3), rtol=1e-12)
    with pytest.raises(ValueError, match="a weight for each of the 4 inner steps, got shape"):
        at(4, multi_step(weights))
    np.testing.assert_allclose(annealed_weights(4, 7.0), [0, 0, 0, 1])
    np.testing.assert_allclose(annealed_weights(4, -1.0), np.full(4, 0.25))


def test_a_bootstrap_draws_the_end_to_where_more_steps_lead():
    task, _, learner = quadratic(2)
    theta = jnp.arange(4.0)
    bilevel = Bilevel(jm.initialisation(), learner, bootstrapped(3))
    grad = jax.grad(lambda theta: jm.outcome(KEY, bilevel, theta, task)[0])(theta)
    end = quadratic_adapted(theta, task, 0.2, 2)
    further = quadratic_adapted(theta, task, 0.2, 4)
    target = quadratic_adapted(further, task._replace(support=task.query), 0.2, 1)
    contraction = np.linalg.matrix_power(np.eye(4) - 0.2 * np.asarray(task.support.curvature), 2)
    np.testing.assert_allclose(grad, contraction.T @ (end - target), rtol=1e-10)
    with pytest.raises(ValueError, match="steps of the bootstrap must be at least 1"):
        bootstrapped(0)


def test_stages_follow_one_another_and_schedules_count():
    _, tasks, learner = quadratic(2)
    theta, bilevel = jnp.arange(4.0), jm.maml(learner).bilevel
    stages = [jm.first_order(), jm.unrolled()]
    estimator = scheduled(
        staged(stages, [2]),
        lambda count, bilevel: bilevel._replace(outer=multi_step(annealed_weights(2, count / 4))),
    )
    state = estimator.init(KEY, bilevel, theta, tasks)
    estimate = jax.jit(lambda state: estimator.estimate(KEY, bilevel, theta, tasks, state))
    for count in range(4):
        got, state = estimate(state)
        outer = multi_step(annealed_weights(2, count / 4))
        expected, _ = stages[count >= 2].estimate(
            KEY, bilevel._replace(outer=outer), theta, tasks, ()
        )
        chex.assert_trees_all_close(got, expected, rtol=1e-12)
    assert estimate._cache_size() == 1
    with pytest.raises(ValueError, match="2 estimators need 1 ascending boundaries"):
        staged(stages, [3, 2])


def test_a_head_begins_at_prototypes():
    task = problems.one(problems.classified())
    learner = problems.learner(steps=0)
    algorithm = jm.algorithms.proto_maml(learner, problems.smooth_model(None))
    theta = algorithm.bilevel.init(KEY, task)
    proto = jm.protonet(problems.smooth_model(None), problems.WAYS)
    got = jm.outcome(KEY, algorithm.bilevel, theta, task)
    np.testing.assert_allclose(
        got[0], jm.outcome(KEY, proto.bilevel, {"body": theta[0]["body"]}, task)[0], rtol=1e-10
    )
    with pytest.raises(ValueError, match="a linear head at 'tail'"):
        bias = jm.bias.prototype_head(problems.smooth_model(None), "tail")
        bias.shape((), task, learner).start(KEY, task)


@pytest.mark.slow
def test_a_transformer_reads_the_support_in_any_order():
    task = problems.one(problems.classified())
    reader = jm.models.in_context_transformer(problems.WAYS, width=8, blocks=1, heads=2)
    algorithm = jm.algorithms.black_box(problems.smooth_model(None), reader, problems.WAYS)
    theta = algorithm.bilevel.init(KEY, task)
    turned = task._replace(support=jax.tree.map(lambda leaf: leaf[::-1], task.support))
    values = [jm.outcome(KEY, algorithm.bilevel, theta, each)[0] for each in (task, turned)]
    np.testing.assert_allclose(*values, rtol=1e-6)
    assert (
        float(
            optax.tree.norm(
                jax.grad(lambda theta: jm.outcome(KEY, algorithm.bilevel, theta, task)[0])(theta)
            )
        )
        > 1e-3
    )


def test_a_reader_that_knows_places_is_given_another_order_for_each_task():
    places = jm.models.Model(
        lambda key, x: (), lambda params, x, reference=None: x[:, 0, -problems.WAYS :]
    )  # the first label
    bilevel = jm.algorithms.snail(problems.smooth_model(None), problems.WAYS, places).bilevel
    task = problems.one(problems.classified())
    theta = bilevel.init(KEY, task)
    first = jax.vmap(lambda key: jm.predict(key, bilevel, theta, task)[0])(
        jax.random.split(KEY, 300)
    )
    np.testing.assert_allclose(first.mean(0), 1 / problems.WAYS, atol=0.1)
    assert (first.sum(1) == 1).all()


def test_a_warp_shapes_the_gradients_and_does_not_move():
    task, learner = (
        problems.one(problems.classified()),
        problems.learner(steps=1, update=optax.sgd(0.3)),
    )
    t_net, maml = jm.algorithms.t_net(learner).bilevel, jm.maml(learner).bilevel
    theta = t_net.init(KEY, task)
    tying, warps, (free, rest) = theta
    plain = jax.tree.map(
        lambda kernel, other: other if kernel is None else kernel,
        free["free"],
        rest,
        is_leaf=lambda leaf: leaf is None,
    )
    np.testing.assert_array_equal(
        jm.outcome(KEY, t_net, theta, task)[0], jm.outcome(KEY, maml, plain, task)[0]
    )

    # A step in V is one in W = V T whose gradient is multiplied by T T': Meta-Curvature with this
    # matrix for the outputs.
    rng = np.random.default_rng(0)
    warps = jax.tree.map(lambda matrix: matrix + 0.3 * rng.normal(size=matrix.shape), warps)
    shaped = t_net.bias.shape((tying, warps, (free, rest)), task, learner)
    end = jm.adapt(KEY, shaped, task)
    assert len(jax.tree.leaves(end)) == len(
        jax.tree.leaves(plain)
    )  # of the warps nothing is left to the low level
    matrices = {name: warps[0]["structure"][name]["kernel"][0] for name in plain}
    warped = {
        name: layer | {"kernel": layer["kernel"] @ matrices[name].T}
        for name, layer in plain.items()
    }
    metric = {
        name: {
            "kernel": (jnp.eye(len(layer["kernel"])), matrices[name] @ matrices[name].T),
            "bias": (jnp.eye(layer["bias"].size),),
        }
        for name, layer in plain.items()
    }
    curved = Bilevel(jm.compose(jm.initialisation(), jm.preconditioner()), learner)
    np.testing.assert_allclose(
        jm.outcome(KEY, t_net, (tying, warps, (free, rest)), task)[0],
        jm.outcome(KEY, curved, (warped, metric), task)[0],
        rtol=1e-12,
    )


def values(bilevel, theta, task):
    """The outer loss and its derivative."""
    return jax.jit(jax.value_and_grad(lambda theta: jm.outcome(KEY, bilevel, theta, task)[0]))(
        theta
    )


@pytest.mark.slow
def test_pretraining_is_ordinary_learning_and_fine_tuning_leaves_the_body():
    encoder, classes = problems.smooth_model(None), 5
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(classes), 4)
    pool = jm.pool(
        rng.normal(size=(classes, problems.FEATURES))[y] + rng.normal(size=(20, problems.FEATURES)),
        y,
    )
    sample = labelled(pool, 7)
    task = sample(KEY)
    bilevel = jm.algorithms.baseline_plus_plus(encoder, classes, problems.WAYS, steps=3).bilevel
    theta = jax.jit(bilevel.init)(KEY, task)
    assert task.support.x.shape == (0, problems.FEATURES) and theta[1].shape == (
        classes,
        problems.WIDTH,
    )

    def ordinary(theta):
        features = encoder.apply(theta[0], task.query.x)
        cosines = jax.vmap(
            lambda x: jax.vmap(lambda w: x @ w / jnp.linalg.norm(x) / jnp.linalg.norm(w))(theta[1])
        )(features)
        return optax.softmax_cross_entropy_with_integer_labels(2 * cosines, task.query.y).mean()

    for outer in (jm.query_loss, jm.inductive(jm.query_loss)):
        got = values(bilevel._replace(outer=outer), theta, task)
        chex.assert_trees_all_close(got, jax.value_and_grad(ordinary)(theta), rtol=1e-8, atol=1e-12)

    episode = problems.one(problems.classified())
    tuned, (body, head) = values(bilevel, theta, episode)
    assert not np.any(head)  # of the old head nothing is left
    plain = Bilevel(
        jm.representation(encoder), jm.learner.cosine(problems.WAYS, 2.0, optax.sgd(1.0), 3)
    )
    chex.assert_trees_all_close((tuned, body), values(plain, theta[0], episode), rtol=1e-12)


def test_every_record_says_what_of_it_is_ours():
    silent = [name for name, method in METHODS.items() if not method.ours]
    assert silent == ["boil"]  # as published
    for name, method in METHODS.items():
        assert method.ours[-1:] in ("", ".") and len(method.ours) < 250, name


def test_batches_hold_every_class_under_its_own_label():
    images = np.zeros((6, 4, 4, 1), np.uint8)
    images[np.arange(6), 0, np.arange(6) % 3, 0] = 51  # a class is where its mark stands
    task = jax.jit(labelled(jm.pool(images, np.arange(6) % 3), 600, jm.rotations))(KEY)
    back = jax.vmap(lambda image, turn: jm.rotations.apply(image, (4 - turn) % 4))(
        task.query.x, task.query.y % 4
    )
    np.testing.assert_array_equal(back[:, 0, :, 0].argmax(1), task.query.y // 4)
    assert float(task.query.x.max()) == pytest.approx(0.2)
    assert np.bincount(task.query.y, minlength=12).min() > 25  # 50 are expected
    with pytest.raises(ValueError, match="size must be at least 1"):
        labelled(jm.pool(images, np.arange(6) % 3), 0)


def test_a_configuration_pretrains_on_batches_and_is_judged_on_episodes():
    dataset = jm.data.load("digits")
    configuration = complete(
        Configuration(
            algorithm="baseline_plus_plus",
            data="digits",
            ways=2,
            rotations=True,
            model="mlp",
            width=4,
            inner_steps=2,
            evaluation_steps=2,
        ),
        dataset,
    )
    made = build(configuration, dataset)
    batch = made.sample(KEY)
    assert configuration.classes == 4 * len(dataset.splits["train"]) and len(batch.support.y) == 0
    assert int(batch.query.y.max()) >= len(
        dataset.splits["train"]
    )  # labels of all classes and not an episode's
    theta = jax.jit(made.algorithm.bilevel.init)(KEY, batch)
    assert theta[1].shape == (configuration.classes, 4)
    judged = at_evaluation(configuration, theta, made.test.bilevel)
    chex.assert_trees_all_equal(judged, theta)
    values = curve(KEY, made.test.bilevel, judged, made.test.sample, episodes=4, steps=2).values[
        "accuracy"
    ]
    assert values.shape == (4, 3) and ((0 <= values) & (values <= 1)).all()
