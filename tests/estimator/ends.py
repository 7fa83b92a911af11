"""Quadratics that a proximal term holds to their start: where learning ends there, in closed form,
in numpy."""

import functools

import jax
import numpy as np
import problems

import jaxmeta as jm
from jaxmeta.base import Bilevel
from jaxmeta.bias import free
from jaxmeta.tasks import quadratic_learner

KEY, RATE, D, T = jax.random.key(3), 0.5, 5, 4
STRENGTH = 1.5
# Away from 0 in every element.
THETA = np.linspace(-1.0, 1.5, D)
NEAR = jm.compose(jm.initialisation(), jm.proximal(STRENGTH, link=free))
HELD = jm.compose(jm.initialisation(), jm.fixed(jm.proximal(STRENGTH)))


@functools.cache
def tasks():
    return problems.batch(jm.quadratics(D), tasks=T)


def each(function):
    """What a function makes of every task, in numpy: `[T, ...]`."""
    return np.stack(
        [function(jax.tree.map(lambda leaf: np.asarray(leaf[i]), tasks())) for i in range(T)]
    )


def reached(task, strength=STRENGTH):
    """phi*, and the Hessian there: `(A + s) phi* = A b + s theta`."""
    hessian = task.support.curvature + strength * np.eye(D)
    return np.linalg.solve(
        hessian, task.support.curvature @ task.support.centre + strength * THETA
    ), hessian


def asked(task, phi):
    """The derivative of the query's loss in phi."""
    return task.query.curvature @ (phi - task.query.centre)


def descended(task, steps):
    """Where gradient descent from theta is, the proximal term in its objective."""
    end, hessian = reached(task)
    return end + np.linalg.matrix_power(np.eye(D) - RATE * hessian, steps) @ (THETA - end)


def estimate(estimator, bilevel, theta, tasks):
    state = estimator.init(KEY, bilevel, theta, tasks)
    return jax.jit(lambda theta: estimator.estimate(KEY, bilevel, theta, tasks, state)[0])(theta)


def on_quadratics(estimator, steps=200, theta=(THETA, ()), bias=HELD, **more):
    return estimate(
        estimator, Bilevel(bias, quadratic_learner(RATE, steps)._replace(**more)), theta, tasks()
    )
