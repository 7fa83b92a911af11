"""Methods beside references in numpy, written from the papers and their authors' code. Derivatives of the references are by the
complex step, exact to rounding."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import problems
import pytest

import jaxmeta as jm
from jaxmeta.base import Bilevel
from jaxmeta.bias import last_begun, next_one
from jaxmeta.models import Model

KEY, RATE, D, W = jax.random.key(3), 0.3, problems.FEATURES, problems.WAYS


def model():
    """Logits of scaled inputs, `(x * scale) W + b`; the scale stands for what normalisation learns."""

    def init(key, x):
        return {"b": jnp.zeros(W), "scale": jnp.ones(D), "w": jax.random.normal(key, (D, W))}

    return Model(init, lambda params, x, reference=None: (x * params["scale"][None]) @ params["w"] + params["b"][None])


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
    return {"b": error.sum(0), "scale": ((error @ phi["w"].T) * x).sum(0), "w": (x * phi["scale"]).T @ error}


def derivative(f, tree):
    """`(f, df/dtree)` of a real function of a tree of arrays."""
    leaves, structure = jax.tree.flatten(jax.tree.map(np.asarray, tree))
    grads = []
    for place, leaf in enumerate(leaves):
        grad = np.zeros(leaf.shape)
        for index in np.ndindex(leaf.shape):
            moved = leaf.astype(complex)
            moved[index] += 1e-30j
            grad[index] = f(jax.tree.unflatten(structure, [*leaves[:place], moved, *leaves[place + 1:]])).imag / 1e-30
        grads.append(grad)
    return f(jax.tree.unflatten(structure, leaves)), jax.tree.unflatten(structure, grads)


def agrees(algorithm, theta, reference, tolerance=1e-9, state=None):
    """The estimate of one task beside the reference's value and derivative, relative to the largest gradient."""
    one = jax.tree.map(lambda leaf: leaf[:1], problems.classified())
    state = algorithm.estimator.init(KEY, algorithm.bilevel, theta, one) if state is None else state
    found, _ = jax.jit(lambda theta: algorithm.estimator.estimate(KEY, algorithm.bilevel, theta, one, state))(theta)
    value, grad = derivative(reference, theta)
    np.testing.assert_allclose(found.loss, value, rtol=tolerance)
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(grad))
    assert jax.tree.structure(found.grad) == jax.tree.structure(grad) and largest > 1e-3
    for got, expected in zip(jax.tree.leaves(found.grad), jax.tree.leaves(grad)):
        np.testing.assert_allclose(got, expected, atol=tolerance * largest)


def spread(tree, seed=0, size=0.1):
    """The tree with every number moved a little, so that none is 0 or 1 by chance of its beginning."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: leaf + size * rng.normal(size=leaf.shape), tree)


@pytest.mark.parametrize("place, floor, sets", [(last_begun, 0.03, 3), (next_one, 0.0, 4)])
@pytest.mark.parametrize("count", [1, 3])
def test_maml_plus_plus_is_the_authors(place, floor, sets, count):
    steps, anneal = 3, 4
    algorithm = jm.algorithms.maml_plus_plus(learner(steps), jm.named("scale"), anneal, floor=floor, place=place)
    theta = spread(algorithm.bilevel.init(KEY, task()))
    assert theta[0]["scale"].shape == (sets, D)

    def reference(theta):
        (shared, (start, _), (rates, _)), total = theta, 0
        phi = dict(start)
        for k in range(steps):
            grads = slope(phi | {"scale": shared["scale"][k]}, task().support)
            phi = {name: phi[name] if phi[name] is None else phi[name] - RATE * rates[name][k] * grads[name] for name in phi}
            weight = max(1 / steps - count / anneal / steps, floor / steps)
            weight = weight if k < steps - 1 else 1 - (steps - 1) * weight
            total = total + weight * loss(phi | {"scale": shared["scale"][k if sets == steps else k + 1]}, task().query)
        return total

    one = jax.tree.map(lambda leaf: leaf[:1], problems.classified())
    state = algorithm.estimator.init(KEY, algorithm.bilevel, theta, one)
    for _ in range(count):
        _, state = algorithm.estimator.estimate(KEY, algorithm.bilevel, theta, one, state)
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
    bias = jm.compose(jm.shared(jm.named("scale"), steps=4), jm.initialisation(), jm.proximal(0.5), jm.momentum(0.9))
    bilevel = Bilevel(bias, learner(4))
    tasks = problems.classified()
    theta = spread(bilevel.init(KEY, task()))
    exact, _ = jm.unrolled().estimate(KEY, bilevel, theta, tasks, ())
    for estimator in (jm.reversible(), jm.unrolled(remat=jm.binomial(2)), jm.truncated(4)):
        state = estimator.init(KEY, bilevel, theta, tasks)
        found, _ = jax.jit(lambda theta: estimator.estimate(KEY, bilevel, theta, tasks, state))(theta)
        for got, expected in zip(jax.tree.leaves(found.grad), jax.tree.leaves(exact.grad)):
            np.testing.assert_allclose(got, expected, atol=1e-6)
    assert np.abs(exact.grad[0]["scale"]).min() > 1e-4
