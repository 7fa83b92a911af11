"""Heads and readers against references in numpy, each from its paper's equations: same weights and
data, same probabilities."""

import jax
import jax.numpy as jnp
import numpy as np
import problems
import pytest

import jaxmeta as jm
from jaxmeta.learner import mean_ridge

KEY, WAYS = jax.random.key(3), problems.WAYS


def encoded(theta, x):
    return np.tanh(x @ theta["body"]["kernel"] + theta["body"]["bias"])


def one_hot(y):
    return np.eye(WAYS)[y]


def softmax(scores):
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    return shares / shares.sum(-1, keepdims=True)


def means(x, y):
    return np.array([x[y == way].mean(0) for way in range(WAYS)])


def protonet(theta, x, y, q):
    x, q = encoded(theta, x), encoded(theta, q)
    return -((q[:, None] - means(x, y)[None]) ** 2).sum(-1)


def scaled_protonet(theta, x, y, q):
    hyper, body = theta
    return np.exp(hyper["log_scale"]) * protonet(body, x, y, q)


def matching_net(theta, x, y, q):
    x, q = encoded(theta, x), encoded(theta, q)
    cosines = q @ x.T / np.linalg.norm(q, axis=1)[:, None] / np.linalg.norm(x, axis=1)[None]
    return np.log(softmax(10 * cosines) @ one_hot(y))


def relation_net(theta, x, y, q):
    sums = one_hot(y).T @ encoded(theta["encoder"], x)
    net = theta["comparator"]
    pairs = np.array(
        [[np.concatenate([each, one]) for each in sums] for one in encoded(theta["encoder"], q)]
    )
    return (encoded(net, pairs) @ net["head"]["kernel"] + net["head"]["bias"])[..., 0]


def r2d2(theta, x, y, q):
    hyper, body = theta
    x, q = encoded(body, x), encoded(body, q)
    w = np.linalg.solve(
        x.T @ x + np.exp(hyper["log_strength"]) * np.eye(x.shape[1]), x.T @ one_hot(y)
    )
    return np.exp(hyper["log_scale"]) * q @ w + hyper["offset"]


def r2d2_code(theta, x, y, q):
    hyper, body = theta
    n, x, q = len(x), encoded(body, x), encoded(body, q)
    x, q = (np.concatenate([part, np.ones((len(part), 1))], 1) for part in (x, q))
    x, targets = x / n**0.5, one_hot(y) / n**0.5
    w = x.T @ np.linalg.solve(x @ x.T + np.exp(hyper["log_strength"]) * np.eye(n), targets)
    return np.exp(hyper["log_scale"]) * q @ w + hyper["offset"]


def metaoptnet(theta, x, y, q):
    """By 20,000 sweeps of exact steps in two variables of one example, as sequential minimal
    optimisation takes them."""
    hyper, body = theta
    x, q, cost = encoded(body, x), encoded(body, q), np.exp(hyper["log_cost"])
    alpha, gram, most = np.zeros((len(x), WAYS)), x @ x.T, cost * one_hot(y)
    for _ in range(20_000):
        moved = 0
        for i in range(len(x)):
            slope = gram[i] @ alpha - one_hot(y)[i]
            up, down = np.where(alpha[i] < most[i], slope, np.inf).argmin(), slope.argmax()
            step = min((slope[down] - slope[up]) / (2 * gram[i, i]), most[i, up] - alpha[i, up])
            alpha[i, up], alpha[i, down] = alpha[i, up] + step, alpha[i, down] - step
            moved = max(moved, step)
        if moved < 1e-15:
            break
    return np.exp(hyper["log_scale"]) * q @ x.T @ alpha


def dense(layer, x):
    return x @ layer["kernel"] + layer["bias"]


def sequences(theta, x, y, q):
    """Each query at the end of the support."""
    support = np.concatenate([encoded(theta["encoder"], x), np.zeros((len(x), 1)), one_hot(y)], 1)
    return [
        np.concatenate([support, [[*one, 1, *np.zeros(WAYS)]]])
        for one in encoded(theta["encoder"], q)
    ]


def black_box(theta, x, y, q):
    """One pre-norm block of two heads, of width 6, read at the query's place."""
    body, logits = theta["reader"]["body"], []
    block = jax.tree.map(lambda leaf: leaf[0], body["blocks"])

    def norm(layer, h):
        centred = h - h.mean(1, keepdims=True)
        return (
            centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-5) * layer["scale"]
            + layer["offset"]
        )

    for h in sequences(theta, x, y, q):
        h = dense(body["dense"], h)
        queries, keys, values = (
            dense(block["dense1"], norm(block["norm1"], h))
            .reshape(len(h), 3, 2, 3)
            .transpose(1, 2, 0, 3)
        )
        read = [softmax(a @ b.T / 3**0.5) @ c for a, b, c in zip(queries, keys, values)]
        h = h + dense(block["dense2"], np.concatenate(read, 1))
        u = dense(block["dense3"], norm(block["norm2"], h))
        h = h + dense(
            block["dense4"], u / 2 * (1 + np.tanh((2 / np.pi) ** 0.5 * (u + 0.044715 * u**3)))
        )
        logits.append(dense(theta["reader"]["head"], norm(body["norm"], h))[-1])
    return np.array(logits)


def snail(theta, x, y, q):
    """Attention, one block of two dilations, attention."""
    body, logits = theta["reader"]["body"], []

    def attend(layer, h):
        q, k, v = np.split(dense(layer, h), [2, 4], axis=1)
        scores = np.where(np.tril(np.ones((len(h), len(h)))) > 0, q @ k.T / 2**0.5, -np.inf)
        return np.concatenate([h, softmax(scores) @ v], 1)

    for h in sequences(theta, x, y, q):
        h = attend(body["dense0"], h)
        for name, dilation in (("dense1", 1), ("dense2", 2)):
            before = np.concatenate([np.zeros((dilation, h.shape[1])), h[:-dilation]])
            u, v = np.split(dense(body[name], np.concatenate([before, h], 1)), 2, axis=1)
            h = np.concatenate([h, np.tanh(u) / (1 + np.exp(-v))], 1)
        logits.append(dense(theta["reader"]["head"], attend(body["dense3"], h))[-1])
    return np.array(logits)


def made(name, *reader, **more):
    return getattr(jm.algorithms, name)(problems.smooth_model(None), *reader, WAYS, **more).bilevel


MADE = {
    name: problems.ALGORITHMS[name]().bilevel
    for name in (
        "protonet",
        "scaled_protonet",
        "matching_net",
        "relation_net",
        "r2d2",
        "metaoptnet",
        "snail",
    )
} | {
    "r2d2_code": made("r2d2", head=mean_ridge),
    "black_box": made(
        "black_box", jm.models.in_context_transformer(WAYS, width=6, blocks=1, heads=2)
    ),
}


@pytest.mark.parametrize("name", MADE)
def test_predictions_are_those_of_the_paper_s_equations(name, rng):
    bilevel, task = MADE[name], problems.one(problems.classified())
    theta = jax.jit(bilevel.init)(KEY, task)
    theta = jax.tree.map(lambda leaf: leaf + 0.1 * rng.normal(size=leaf.shape), theta)
    learner = bilevel.bias.shape(theta, task, bilevel.learner)
    phi = jax.jit(lambda task: jm.adapt(KEY, learner, task))(task)
    found = np.asarray(learner.predict(KEY, phi, task.query))
    theta, x, y, query = jax.tree.map(
        np.asarray, (theta, task.support.x, task.support.y, task.query.x)
    )
    if name in ("black_box", "snail"):  # phi is the support in the order that was drawn
        drawn = (
            np.abs(phi[:, None, : problems.WIDTH] - encoded(theta["encoder"], x)[None])
            .sum(2)
            .argmin(1)
        )
        assert sorted(drawn) == list(range(len(x)))
        x, y = x[drawn], y[drawn]
    np.testing.assert_allclose(
        softmax(found), softmax(globals()[name](theta, x, y, query)), rtol=1e-9, atol=1e-10
    )


def test_a_transformer_in_context_is_indifferent_to_the_order_and_says_labels_as_they_are_given(
    rng,
):
    bilevel, task = MADE["black_box"], problems.one(problems.classified())
    theta = jax.tree.map(lambda leaf: leaf.astype(float), bilevel.init(KEY, task))
    renaming = np.array([1, 2, 0])
    reader = theta["reader"]
    embedding = reader["body"]["dense"][
        "kernel"
    ]  # a reader whose labels are renamed on the way in and out
    labels = jnp.arange(WAYS) + problems.WIDTH + 1
    embedding = embedding.at[labels].set(embedding[labels[renaming]])
    head = jax.tree.map(lambda leaf: leaf[..., renaming], reader["head"])
    body = reader["body"] | {"dense": reader["body"]["dense"] | {"kernel": embedding}}
    other = theta | {"reader": {"body": body, "head": head}}
    renamed = task._replace(
        support=task.support._replace(y=jnp.asarray(np.argsort(renaming))[task.support.y])
    )
    plain = jm.predict(KEY, bilevel, theta, task)
    turned = task._replace(support=jax.tree.map(lambda leaf: leaf[::-1], task.support))
    np.testing.assert_allclose(jm.predict(KEY, bilevel, theta, turned), plain, atol=1e-12)
    np.testing.assert_allclose(
        jm.predict(KEY, bilevel, other, renamed), plain[:, renaming], atol=1e-12
    )
