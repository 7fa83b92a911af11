"""Structure that the high level owns: learners on a tying's free parameters, by the bias `tied`."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxmeta as jm
import jaxmeta.tying as jt
from jaxmeta.bias import tied

KEY = jax.random.key(7)
RNG = np.random.default_rng(7)


def regression(width=4, steps=2, weight=0.0):
    """A learner of a square kernel W, y = x W, and a task for it."""

    def start(key, task):
        return {"kernel": jax.random.normal(key, (width, width))}

    def loss(key, theta, batch):
        return jnp.mean((batch.x @ theta["kernel"] - batch.y) ** 2), {}

    def penalty(theta, theta_0):
        return weight * jnp.sum(theta["kernel"] ** 2)

    x = RNG.normal(size=(2, 6, width))
    y = RNG.normal(size=(2, 6, width))
    support, query = (jm.Examples(jnp.asarray(a), jnp.asarray(b)) for a, b in zip(x, y))
    return jm.Learner(start, loss, penalty, optax.sgd(0.1), steps), jm.Task(support, query)


def test_tied_to_nothing_is_the_learner():
    learner, task = regression(weight=0.3)
    bias = jm.compose(tied(jt.identity()), jm.initialisation())
    plain = jm.initialisation()
    theta = plain.init(KEY, task, learner)
    run = jax.jit(lambda: (jm.adapt(KEY, bias.shape(((), theta), task, learner), task),
                           jm.adapt(KEY, plain.shape(theta, task, learner), task)))
    chex.assert_trees_all_close(*run(), rtol=1e-12)


def test_penalties_add_and_look_back_to_the_start():
    learner, task = regression(weight=0.3)
    learner = learner._replace(penalty=lambda theta, theta_0: jnp.sum((theta["kernel"] - theta_0["kernel"]) ** 2))
    tying = jt.mixture(2, 0.5)
    shaped = tied(tying).shape((), task, learner)
    phi_0 = shaped.start(KEY, task)
    phi = jax.tree.map(lambda leaf: leaf + 0.1, phi_0)
    np.testing.assert_allclose(shaped.penalty(phi, phi_0), 16 * 0.1**2 + tying.penalty(phi), rtol=1e-10)
