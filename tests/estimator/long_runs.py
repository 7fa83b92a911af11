"""Inner runs on which a short horizon misleads: a step size that is too large for what falls fast,
too small for the rest."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxmeta as jm
from jaxmeta.base import Bilevel
from jaxmeta.tasks import Quadratic

KEY = jax.random.key(5)
STEPS, WINDOW, TASKS = 20, 2, 4
THETA = {"log_rate": jnp.log(jnp.asarray(1.6))}


def loss(key, phi, batch):
    away = phi - batch.centre
    return 0.5 * away @ batch.curvature @ away, {}


def learner(log_rate, steps=STEPS):
    """Gradient descent with the step size exp(log_rate), from far out in the flat direction."""
    return jm.Learner(
        lambda key, task: jnp.array([1.0, 4.5], log_rate.dtype),
        loss,
        jm.no_penalty,
        optax.sgd(jnp.exp(log_rate)),
        steps,
    )


def bilevel(steps=STEPS):
    return Bilevel(
        jm.hyperparameters(functools.partial(learner, steps=steps), log_rate=np.log(1.6)),
        learner(jnp.zeros(()), steps),
    )


def at_window_ends(key, learner, walked, task):
    """The outer objective that windows have on average: the loss at the end of each, their mean."""
    ends = jax.tree.map(lambda leaf: leaf[WINDOW - 1 :: WINDOW], walked.path)
    return jax.vmap(lambda phi: learner.loss(key, phi, task.query)[0])(ends).mean(), {}


def tasks(dtype=float, seed=0):
    centres = 0.1 * np.random.default_rng(seed).normal(size=(TASKS, 2))
    one = Quadratic(
        jnp.broadcast_to(jnp.diag(jnp.array([1.0, 0.05], dtype)), (TASKS, 2, 2)),
        jnp.asarray(centres, dtype),
    )
    return jm.Task(one, one, jnp.zeros(TASKS, int))


def random_bilevel(steps):
    """All that a run can carry and draw: momenta, a step count, a random start of what theta does
    not set, a random loss."""

    def start(key, task):
        return {
            "set": jnp.ones_like(task.support.centre),
            "own": jax.random.uniform(key, task.support.centre.shape, task.support.centre.dtype),
        }

    def random_loss(key, phi, batch):
        noise = jax.random.uniform(key, batch.centre.shape, batch.centre.dtype)
        return loss(key, jnp.tanh(phi["set"]) + phi["own"] + 0.1 * noise, batch)

    low = jm.Learner(start, random_loss, jm.no_penalty, optax.sgd(0.3, momentum=0.5), steps)
    return Bilevel(jm.compose(jm.initialisation(jm.named("set")), jm.step_sizes(1.0, steps=2)), low)


def by_hand(steps, before):
    """The derivative in log_rate of the loss after `steps`, mean over the tasks, phi held constant
    up to `before`; and phi.

    `phi <- phi - a A (phi - b)` moves the derivative as `d <- (1 - a A) d - A (phi - b)`.
    """
    rate, curvature, slopes, ends = 1.6, np.array([1.0, 0.05]), [], []
    for centre in np.asarray(tasks().support.centre):
        phi, slope = np.array([1.0, 4.5]), np.zeros(2)
        for step in range(steps):
            force = curvature * (phi - centre)
            slope = (1 - rate * curvature) * slope - force if step >= before else slope
            phi = phi - rate * force
        slopes.append(rate * slope @ (curvature * (phi - centre)))
        ends.append(phi)
    return np.mean(slopes), np.stack(ends)


def memory(estimator, steps):
    """Bytes that the compiled estimate needs beside its arguments, for phi of 1000 numbers."""

    def make(log_rate):
        return learner(log_rate, steps)._replace(
            start=lambda key, task: jnp.ones(1000),
            loss=lambda key, phi, batch: (jnp.sum(jnp.cosh(phi)), {}),
        )

    problem, batch = Bilevel(jm.hyperparameters(make, log_rate=0.0), make(0.0)), tasks()
    state = estimator.init(KEY, problem, THETA, batch)
    step = jax.jit(lambda theta, state: estimator.estimate(KEY, problem, theta, batch, state))
    return step.lower(THETA, state).compile().memory_analysis().temp_size_in_bytes


def over_a_run(estimator, key, steps=STEPS):
    """The mean of the estimates over the windows of one run, theta standing still:
    `(gradient, last state)`."""
    problem, batch = bilevel(steps), tasks()
    key_init, key_run = jax.random.split(key)

    def window(state, key):
        estimate, state = estimator.estimate(key, problem, THETA, batch, state)
        return state, estimate.grad["log_rate"]

    state = estimator.init(key_init, problem, THETA, batch)
    state, grads = jax.lax.scan(window, state, jax.random.split(key_run, steps // WINDOW))
    return grads.mean(), state
