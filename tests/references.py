"""What the references in numpy are written with: a net and its gradient by hand, and derivatives by
the complex step, exact to rounding. `jax.tree` goes through trees of arrays here and computes
nothing."""

import functools

import jax
import numpy as np
import problems

KEY, RATE, STEPS, TASKS = jax.random.key(3), 0.3, 3, 2


def tasks():
    return jax.tree.map(lambda leaf: leaf[:TASKS], problems.classified())


def each(tasks):
    """The tasks, one by one, in numpy."""
    return [
        jax.tree.map(lambda leaf: np.asarray(leaf[place]), tasks)
        for place in range(len(jax.tree.leaves(tasks)[0]))
    ]


def over(reference, batch=None):
    """The mean over tasks of `reference(theta, task)`, a function of theta alone."""
    return lambda theta: np.mean(
        [reference(theta, task) for task in each(tasks() if batch is None else batch)], axis=0
    )


# The net of `problems.smooth_model`: one hidden layer of tanh, then a linear map, and a softmax.


def features(body, x):
    return np.tanh(x @ body["kernel"] + body["bias"])


def logits(phi, x):
    return features(phi["body"], x) @ phi["head"]["kernel"] + phi["head"]["bias"]


def shares(z):
    return np.exp(z) / np.exp(z).sum(1)[:, None]


def loss(phi, batch):
    return -np.mean(np.log(shares(logits(phi, batch.x)))[np.arange(len(batch.y)), batch.y])


def slopes(phi, batch):
    """The gradient of `loss` by hand, in phi and in the inputs."""
    hidden, head = features(phi["body"], batch.x), phi["head"]
    error = (shares(logits(phi, batch.x)) - np.eye(len(head["bias"]))[batch.y]) / len(batch.y)
    inner = error @ head["kernel"].T * (1 - hidden**2)
    grads = {
        "body": {"kernel": batch.x.T @ inner, "bias": inner.sum(0)},
        "head": {"kernel": hidden.T @ error, "bias": error.sum(0)},
    }
    return grads, inner @ phi["body"]["kernel"].T


def slope(phi, batch):
    return slopes(phi, batch)[0]


def moved(phi, grads, rate=RATE):
    return jax.tree.map(lambda leaf, grad: leaf - rate * grad, phi, grads)


def descended(phi, batch, steps=STEPS):
    for _ in range(steps):
        phi = moved(phi, slope(phi, batch))
    return phi


def held(tree):
    """Without a derivative."""
    return jax.tree.map(np.real, tree)


# Trees as vectors.


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def like(tree, vector):
    """The vector as such a tree."""
    leaves, structure = jax.tree.flatten(tree)
    ends = np.cumsum([np.size(leaf) for leaf in leaves])[:-1]
    return jax.tree.unflatten(
        structure,
        [part.reshape(np.shape(leaf)) for part, leaf in zip(np.split(vector, ends), leaves)],
    )


def derivative(function, tree):
    """`(f, df/dtree)` of a real function of a tree; of one with values `[n]` the derivative's
    leaves are `[n, ...]`."""
    start, parts = np.array(flat(tree), float), []
    for place in range(len(start)):
        parts.append(
            np.imag(function(like(tree, start + 1e-30j * (np.arange(len(start)) == place)))) / 1e-30
        )
    value = np.real(function(like(tree, start)))
    if np.ndim(value):
        return value, np.array(parts).T  # a Jacobian
    return value, like(tree, np.array(parts))


def hessian(phi, batch):
    return derivative(lambda phi: flat(slope(phi, batch)), phi)[1]


def conjugate(matrix, b, iterations):
    """So many conjugate gradients on `matrix x = b` from 0."""
    x, residual, direction = np.zeros_like(b), b, b
    for _ in range(iterations):
        length = residual @ residual / (direction @ matrix @ direction)
        x, before, residual = (
            x + length * direction,
            residual,
            residual - length * matrix @ direction,
        )
        direction = residual + (residual @ residual) / (before @ before) * direction
    return x


# Beside the package.


def agrees(algorithm, theta, reference, tolerance=1e-9, state=None, batch=None):
    """The estimate beside the reference's value and derivative."""
    same(algorithm, theta, *derivative(reference, theta), tolerance, state, batch)


def same(algorithm, theta, value, grad, tolerance=1e-9, state=None, batch=None, key=KEY):
    """The estimate beside a value and a gradient, relative to its largest number."""
    batch = tasks() if batch is None else batch
    state = (
        algorithm.estimator.init(key, algorithm.bilevel, theta, batch) if state is None else state
    )

    found, gradient, state = compiled(algorithm)(key, theta, batch, state)
    np.testing.assert_allclose(found, value, rtol=tolerance)
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(grad))
    assert jax.tree.structure(gradient) == jax.tree.structure(grad) and largest > 1e-3
    for got, expected in zip(jax.tree.leaves(gradient), jax.tree.leaves(grad)):
        np.testing.assert_allclose(got, expected, atol=tolerance * largest)
    return state


@functools.lru_cache(1)
def compiled(algorithm):
    @jax.jit
    def estimate(key, theta, batch, state):
        found, after = algorithm.estimator.estimate(key, algorithm.bilevel, theta, batch, state)
        return found.loss, found.grad, after  # without the report, which need not be compiled

    return estimate


def spread(tree, seed=0, size=0.1):
    """The tree with every number moved a little, so that none is 0 or 1 by chance of its
    beginning."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: leaf + size * rng.normal(size=leaf.shape), tree)


def started(bilevel, batch=None):
    """A theta of the problem in numpy, no number of which is at its beginning."""
    first = problems.one(tasks() if batch is None else batch)
    return jax.tree.map(np.asarray, spread(jax.jit(bilevel.init)(KEY, first)))
