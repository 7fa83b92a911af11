"""Methods beside references in numpy, written from the papers and their authors' code. Derivatives
of the references are by the complex step, exact to rounding."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import problems
import pytest
import references
from references import KEY, RATE, spread

import jaxmeta as jm
from jaxmeta.base import Algorithm, Bilevel
from jaxmeta.bias import around_one, as_published, as_wide, begun_at, last_begun, next_one
from jaxmeta.models import Model
from jaxmeta.objective import divergence, regularised, squared_distance

D, W = problems.FEATURES, problems.WAYS


def model():
    """Logits of scaled inputs, `(x * scale) W + b`; the scale stands for what normalisation
    learns."""

    def init(key, x):
        return {"b": jnp.zeros(W), "scale": jnp.ones(D), "w": jax.random.normal(key, (D, W))}

    return Model(
        init,
        lambda params, x, reference=None: (
            (x * params["scale"][None]) @ params["w"] + params["b"][None]
        ),
    )


def learner(steps, rate=RATE):
    return jm.gradient(model(), update=optax.sgd(rate), steps=steps)


def task():
    return problems.one(problems.classified())


def logits(phi, x):
    return (x * phi["scale"]) @ phi["w"] + phi["b"]


def loss(phi, batch):
    z = logits(phi, np.asarray(batch.x))
    return -np.mean((z - np.log(np.exp(z).sum(1))[:, None])[np.arange(len(z)), np.asarray(batch.y)])


def slope(phi, batch):
    """The gradient of `loss` by hand, so that it can be differentiated once more."""
    x, z = np.asarray(batch.x), np.exp(logits(phi, np.asarray(batch.x)))
    error = (z / z.sum(1)[:, None] - np.eye(W)[np.asarray(batch.y)]) / len(x)
    return {
        "b": error.sum(0),
        "scale": ((error @ phi["w"].T) * x).sum(0),
        "w": (x * phi["scale"]).T @ error,
    }


def agrees(algorithm, theta, reference, state=None):
    """The estimate of one task beside the reference's value and derivative."""
    one = jax.tree.map(lambda leaf: leaf[:1], problems.classified())
    references.agrees(algorithm, theta, reference, state=state, batch=one)


@pytest.mark.parametrize(
    "place, floor, sets, count",
    [
        (last_begun, 0.03, 3, 3),
        (next_one, 0.0, 4, 1),
        pytest.param(last_begun, 0.03, 3, 1, marks=pytest.mark.long),
    ],
)
def test_maml_plus_plus_is_the_authors(place, floor, sets, count):
    steps, anneal = 3, 4
    algorithm = jm.algorithms.maml_plus_plus(
        learner(steps), jm.named("scale"), anneal, floor=floor, place=place
    )
    theta = spread(algorithm.bilevel.init(KEY, task()))
    assert theta[0]["scale"].shape == (sets, D)

    def reference(theta):
        (shared, (start, _), (rates, _)), total = theta, 0
        phi = dict(start)
        for k in range(steps):
            grads = slope(phi | {"scale": shared["scale"][k]}, task().support)
            phi = {
                name: phi[name]
                if phi[name] is None
                else phi[name] - RATE * rates[name][k] * grads[name]
                for name in phi
            }
            weight = max(1 / steps - count / anneal / steps, floor / steps)
            weight = weight if k < steps - 1 else 1 - (steps - 1) * weight
            total = total + weight * loss(
                phi | {"scale": shared["scale"][k if sets == steps else k + 1]}, task().query
            )
        return total

    one = jax.tree.map(lambda leaf: leaf[:1], problems.classified())
    state = algorithm.estimator.init(KEY, algorithm.bilevel, theta, one)
    taken = jax.jit(
        lambda state: algorithm.estimator.estimate(KEY, algorithm.bilevel, theta, one, state)[1]
    )
    for _ in range(count):
        state = taken(state)
    agrees(algorithm, theta, reference, state=state)


def test_the_number_of_the_step_is_no_part_of_theta():
    algorithm = jm.algorithms.maml_plus_plus(learner(3), jm.named("scale"))
    theta = algorithm.bilevel.init(KEY, task())
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(theta)]
    assert names == ["[0]['scale']", "[1][0]['b']", "[1][0]['w']", "[2][0]['b']", "[2][0]['w']"]
    # Weight decay on theta leaves every step its own set.
    decayed = jax.tree.map(lambda leaf: 0.9999 * leaf, spread(theta))
    grad = jax.grad(lambda theta: jm.outcome(KEY, algorithm.bilevel, theta, task())[0])(decayed)
    assert (np.abs(grad[0]["scale"]).max(1) > 1e-6).all()
    shaped = algorithm.bilevel.bias.shape(decayed, task(), algorithm.bilevel.learner)
    assert np.asarray(jm.adapt(KEY, shaped, task())[1]).tolist() == [3, 3]


def test_counts_go_on_in_windows_and_are_undone_by_reversal():
    """Steps are counted alike wherever learning is taken apart."""
    bias = jm.compose(
        jm.shared(jm.named("scale"), steps=4),
        jm.initialisation(),
        jm.proximal(0.5),
        jm.momentum(0.9),
    )
    bilevel = Bilevel(bias, learner(4))
    tasks = problems.classified()
    theta = spread(bilevel.init(KEY, task()))
    exact, _ = jm.unrolled().estimate(KEY, bilevel, theta, tasks, ())
    for estimator in (jm.reversible(), jm.unrolled(remat=jm.binomial(2)), jm.truncated(4)):
        state = estimator.init(KEY, bilevel, theta, tasks)
        found, _ = jax.jit(lambda theta: estimator.estimate(KEY, bilevel, theta, tasks, state))(
            theta
        )
        for got, expected in zip(jax.tree.leaves(found.grad), jax.tree.leaves(exact.grad)):
            np.testing.assert_allclose(got, expected, atol=1e-6)
    assert np.abs(exact.grad[0]["scale"]).min() > 1e-4


EPS = problems.normal(7, W, 2)


def codes(theta, support):
    """Mean and deviation of the classes' codes, and the features."""
    (encoder, relation), y = (theta["encoder"]["body"], theta["relation"]), np.asarray(support.y)
    features = np.tanh(np.asarray(support.x) @ encoder["kernel"] + encoder["bias"])
    pairs = np.array([np.concatenate([a, b]) for a in features for b in features])
    hidden = np.tanh(pairs @ relation["body"]["kernel"] + relation["body"]["bias"])
    said = (
        (hidden @ relation["head"]["kernel"] + relation["head"]["bias"])
        .reshape(len(y), len(y), -1)
        .mean(1)
    )
    mean, s = np.split(np.array([said[y == way].mean(0) for way in range(W)]), 2, axis=1)
    return mean, np.where(s.real > 0, np.exp(s) - 1, 1e-10)


def leo_reference(noise, judge):
    def reference(theta):
        nets, rates = theta
        support, query = task().support, task().query
        (mean, deviation), head = codes(nets, support), nets["decoder"]["head"]
        z, delta = mean + deviation * noise, np.zeros((W, problems.WIDTH))
        start, body = z, nets["encoder"]["body"]

        def of(batch, weights):  # loss, and its gradient in the weights
            x = np.tanh(np.asarray(batch.x) @ body["kernel"] + body["bias"])
            p = np.exp(x @ weights.T)
            p, own = p / p.sum(1)[:, None], np.eye(W)[np.asarray(batch.y)]
            return -(np.log(p) * own).sum(1).mean(), (p - own).T @ x / len(x)

        for k in range(4):
            slope = of(support, z @ head["kernel"] + head["bias"] + delta)[1]
            if k < 2:
                z = z - rates["latent"] * (slope @ head["kernel"].T)
            else:
                delta = delta - rates["offset"] * slope
        value = of(query, z @ head["kernel"] + head["bias"] + delta)[
            0
        ]  # in the drift the end is held
        divergence = (mean**2 + deviation**2 - 1 - 2 * np.log(deviation)).mean() / 2
        return value + judge * (0.7 * divergence + 3 * ((z.real - start) ** 2).mean())

    return reference


def decoder(outputs):
    return jm.models.mlp((), outputs)


def leo():
    return jm.algorithms.leo(
        problems.smooth_model(None), problems.smooth_model(4), decoder, W, 0.5, 4, 2, 0.7, 3.0, 0.2
    )


def test_leo_is_the_authors():
    evaluated = leo().bilevel
    theta = evaluated.init(KEY, task())
    assert {name: set(np.ravel(leaf).tolist()) for name, leaf in theta[1].items()} == {
        "latent": {0.5},
        "offset": {0.2},
    }
    assert theta[1]["latent"].shape == (1, 2) and theta[1]["offset"].shape == (1, problems.WIDTH)
    theta = spread(theta)
    nets = theta[0]["relation"]["head"]
    theta[0]["relation"]["head"] = nets | {
        "bias": nets["bias"].at[2:].add(0.8)
    }  # so that deviations are above the least
    assert codes(jax.tree.map(np.asarray, theta[0]), task().support)[1].min() > 0.05

    # Evaluation: the mean codes, and the query's loss alone.
    agrees(Algorithm(evaluated, jm.unrolled()), theta, leo_reference(0, 0))
    # Training: codes drawn, and what the codes cost; here with one draw for reference and estimate.
    latent = jm.bias.latent(
        problems.smooth_model(None),
        problems.smooth_model(4),
        decoder,
        W,
        0.7,
        3.0,
        lambda key, mean, deviation: mean + deviation * EPS,
    )
    rates = jm.step_sizes({"latent": 0.5, "offset": 0.2}, each=jm.bias.channel)
    trained = evaluated._replace(bias=jm.compose(latent, rates), outer=regularised())

    agrees(Algorithm(trained, jm.unrolled()), theta, leo_reference(EPS, 1))


def test_leo_draws_codes_in_training_alone():
    algorithm, one = leo(), jax.tree.map(lambda leaf: leaf[:1], problems.classified())
    theta = spread(algorithm.bilevel.init(KEY, task()))
    said = [jm.predict(jax.random.key(seed), algorithm.bilevel, theta, task()) for seed in range(2)]
    np.testing.assert_array_equal(*said)
    losses = jax.jit(
        lambda key: algorithm.estimator.estimate(key, algorithm.bilevel, theta, one, ())[0].loss
    )
    assert len({float(losses(jax.random.key(seed))) for seed in range(3)}) == 3
    mean, deviation = jnp.ones((4000, 2)), jnp.full((4000, 2), 0.5)
    drawn = jm.bias.drawn_code(KEY, mean, deviation)
    np.testing.assert_allclose([drawn.mean(), drawn.std()], [1, 0.5], atol=0.03)
    with pytest.raises(ValueError, match="draws codes for leo's own bias, got another"):
        other = algorithm.bilevel._replace(
            bias=jm.compose(jm.minibatches(2), algorithm.bilevel.bias)
        )
        algorithm.estimator.estimate(KEY, other, theta, one, ())
    with pytest.raises(ValueError, match="an even number of outputs, .* got 3"):
        jm.algorithms.leo(
            problems.smooth_model(None), problems.smooth_model(3), decoder, W
        ).bilevel.init(KEY, task())


@pytest.mark.parametrize(
    "inductive, distance",
    [
        (True, squared_distance),
        (False, divergence),
        pytest.param(True, divergence, marks=pytest.mark.long),
    ],
)
def test_bootstrapped_maml_is_the_papers_and_judged_as_maml(inductive, distance):
    def centred(params, x, reference=None):  # a normalisation, by the rows that it may look at
        own = jnp.ones(len(x)) if reference is None else jnp.asarray(reference, float)
        return model().apply(params, x - (own @ x / own.sum())[None])

    outer = jm.inductive(jm.query_loss) if inductive else jm.query_loss
    low = jm.gradient(Model(model().init, centred), update=optax.sgd(RATE), steps=2)
    algorithm = jm.algorithms.bootstrapped_maml(low, 3, outer=outer, distance=distance)
    start = spread(algorithm.bilevel.init(KEY, task()))
    support, query = (part._replace(x=np.asarray(part.x)) for part in task()[:2])
    query = query._replace(x=query.x - (support if inductive else query).x.mean(0))
    support = support._replace(x=support.x - support.x.mean(0))

    def moved(phi, batch, steps):
        for _ in range(steps):
            grads = slope(phi, batch)
            phi = {name: phi[name] - RATE * grads[name] for name in phi}
        return phi

    def reference(phi):
        end = moved(phi, support, 2)
        held = {name: leaf.real for name, leaf in end.items()}
        target = moved(moved(held, support, 2), query, 1)
        if distance is squared_distance:
            return sum(((end[name] - target[name]) ** 2).sum() for name in end) / 2
        ours, theirs = (np.exp(logits(each, np.asarray(query.x))) for each in (end, target))
        p = theirs / theirs.sum(1)[:, None]
        return (p * (np.log(p) - np.log(ours / ours.sum(1)[:, None]))).sum(1).mean()

    agrees(algorithm, start, reference)
    maml = jm.maml(low, outer=outer).bilevel
    other = task()._replace(query=task().query._replace(x=task().query.x.at[1:].mul(3)))
    assert float(jm.outcome(KEY, algorithm.bilevel, start, task())[0]) == float(
        jm.outcome(KEY, maml, start, task())[0]
    )
    first, again, others = (
        jm.predict(KEY, problem, start, each)[0]
        for problem, each in (
            (algorithm.bilevel, task()),
            (maml, task()),
            (algorithm.bilevel, other),
        )
    )
    np.testing.assert_array_equal(first, again)
    assert (
        np.allclose(first, others, rtol=1e-12) == inductive
    )  # the other queries do not move an inductive prediction


def said(net, seen):
    """Of a net of one hidden layer or more."""
    hidden = seen
    for layer in net["body"].values():
        hidden = hidden @ layer["kernel"] + layer["bias"]
        hidden = np.where(hidden.real > 0, hidden, 0)
    return hidden @ net["head"]["kernel"] + net["head"]["bias"]


def undetached(means):
    return means


@pytest.mark.parametrize(
    "generated, net, through",
    [
        (as_published, as_wide, jax.lax.stop_gradient),
        (around_one, begun_at(0.0), undetached),
        pytest.param(as_published, as_wide, undetached, marks=pytest.mark.long),
    ],
)
def test_alfa_is_the_authors(generated, net, through):
    algorithm = jm.algorithms.alfa(learner(2), net, generated, through)
    theta = spread(algorithm.bilevel.init(KEY, task()))
    if generated is around_one:
        theta[1]["net"]["head"] = jax.tree.map(lambda leaf: leaf + 0.1, theta[1]["net"]["head"])

    def reference(theta):
        phi, generator = theta
        for k in range(2):
            grads = slope(phi, task().support)
            of_grads = np.array([grads[name].mean() for name in grads])
            seen = np.concatenate(
                [
                    of_grads if through is undetached else of_grads.real,
                    [phi[name].mean() for name in phi],
                ]
            )
            alpha, beta = said(generator["net"], seen).reshape(2, -1)
            if generated is as_published:
                alpha, beta = generator["rate"][k] * alpha, 1 - generator["decay"][k] * beta
            else:
                alpha, beta = generator["rate"][k] * (1 + alpha), generator["decay"][k] * (1 + beta)
            phi = {
                name: b * phi[name] - a * RATE * grads[name] for name, a, b in zip(phi, alpha, beta)
            }
        return loss(phi, task().query)

    agrees(algorithm, theta, reference)


@pytest.mark.parametrize(
    "net, through",
    [
        (as_wide, jax.lax.stop_gradient),
        (begun_at(3.0), undetached),
        pytest.param(as_wide, undetached, marks=pytest.mark.long),
    ],
)
def test_l2f_is_the_authors(net, through):
    algorithm = jm.algorithms.l2f(learner(2), net, through)
    theta = spread(algorithm.bilevel.init(KEY, task()))

    def reference(theta):
        phi, generator = theta
        of_grads = np.array([leaf.mean() for leaf in slope(phi, task().support).values()])
        factors = 1 / (
            1 + np.exp(-said(generator, of_grads if through is undetached else of_grads.real))
        )
        phi = {name: factor * phi[name] for name, factor in zip(phi, factors)}
        for _ in range(2):
            grads = slope(phi, task().support)
            phi = {name: phi[name] - RATE * grads[name] for name in phi}
        return loss(phi, task().query)

    agrees(algorithm, theta, reference)


def test_generating_nets_begin_as_they_say():
    """The authors' near the middle; ours where the learner, or the initialisation, is left as it
    is."""
    alfa, l2f = jm.algorithms.alfa(learner(1)).bilevel, jm.algorithms.l2f(learner(1)).bilevel
    theta = alfa.init(KEY, task())
    kernel = theta[1]["net"]["body"]["dense1"]["kernel"]
    assert kernel.shape == (6, 6) and 0.9 * 6**-0.5 < np.abs(kernel).max() <= 6**-0.5
    assert (
        np.ravel(theta[1]["rate"]).tolist() == [1, 1, 1]
        and np.ravel(theta[1]["decay"]).tolist() == [5e-6] * 3
    )
    plain = jm.outcome(KEY, jm.maml(learner(1)).bilevel, theta[0], task())[0]
    ours = jm.algorithms.alfa(learner(1), begun_at(0.0), around_one).bilevel
    net = ours.init(KEY, task())[1]
    np.testing.assert_allclose(jm.outcome(KEY, ours, (theta[0], net), task())[0], plain, rtol=1e-12)
    for begun, least, most in (
        (l2f, 0.3, 0.7),
        (jm.algorithms.l2f(learner(1), begun_at(3.0)).bilevel, 0.95, 0.96),
    ):
        theta = begun.init(KEY, task())
        factors = (
            begun.bias.shape(theta, task(), begun.learner).start(KEY, task())["scale"]
            / theta[0]["scale"]
        )
        assert (least < factors).all() and (factors < most).all()


@pytest.mark.parametrize("ways, scale", [(W, 2), (200, 2), (201, 10)])
def test_cosines_are_scaled_as_in_the_authors_code(ways, scale):
    x, phi = jnp.asarray(problems.normal(4, 5, D)), jnp.asarray(problems.normal(5, ways, D))
    cosines = [
        [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in np.asarray(phi)]
        for a in np.asarray(x)
    ]
    got = jm.learner.cosine(ways).predict(KEY, phi, jm.Examples(x, jnp.zeros(5, int)))
    np.testing.assert_allclose(got, scale * np.array(cosines), rtol=1e-9)


def test_baseline_plus_plus_fine_tunes_as_in_the_authors_code():
    encoder = Model(lambda key, x: {}, lambda params, x, reference=None: x)
    bilevel = jm.algorithms.baseline_plus_plus(
        encoder, 8, W, steps=6, update=jm.learner.dampened_sgd(0.5)
    ).bilevel
    theta = bilevel.init(KEY, task())
    key_start = jax.random.split(KEY)[0]
    w = np.asarray(bilevel.bias.shape(theta, task(), bilevel.learner).start(key_start, task()))
    x, own, held = np.asarray(task().support.x), np.eye(W)[np.asarray(task().support.y)], None
    x = x / np.linalg.norm(x, axis=1)[:, None]
    for _ in range(6):
        norms = np.linalg.norm(w, axis=1)[:, None]
        p = np.exp(2 * x @ (w / norms).T)
        away = 2 * (p / p.sum(1)[:, None] - own).T @ x / len(x)
        grad = (away - (away * w).sum(1)[:, None] * w / norms**2) / norms + 1e-3 * w
        held = grad if held is None else 0.9 * held + (1 - 0.9) * grad
        w = w - 0.5 * held
    shaped = bilevel.bias.shape(theta, task(), bilevel.learner)
    np.testing.assert_allclose(jm.adapt(KEY, shaped, task()), w, rtol=1e-9)

    # In batches of 4, where there is a support; a task without one is the classifier's all the
    # same.
    parts = bilevel._replace(bias=jm.compose(jm.minibatches(4), bilevel.bias))
    ends = [jm.adapt(KEY, parts.bias.shape(((), theta), task(), parts.learner), task()), w]
    assert not np.allclose(*ends)
    bare = task()._replace(support=jax.tree.map(lambda leaf: leaf[:0], task().support))
    assert float(jm.outcome(KEY, parts, ((), theta), bare)[0]) == float(
        jm.outcome(KEY, bilevel, theta, bare)[0]
    )
