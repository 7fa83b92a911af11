"""A small model at every node under a tying: trained, its length and strength chosen, tested. `N`
nodes."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxmeta import tying as jt
from jaxmeta._pytree import named
from jaxmeta.experiment.node_data import NodeData, Part
from jaxmeta.experiment.tyings import Layout, tying_of
from jaxmeta.models import mlp

RATE, CHECKS, STRENGTHS = 0.01, 10, (0.01, 0.1, 1.0)


class Trained(NamedTuple):
    """Test accuracy of what validation chose, how many steps and which strength of the penalty that
    was, and m."""

    accuracy: float
    steps: int
    strength: float
    free: int


def train_under(
    scheme: str, data: NodeData, tree, seed: int, steps: int = 300, hidden: int = 32, settings=None
) -> Trained:
    r"""Trains all nodes together by Adam on the mean loss, penalty and all, and tests what
    validation prefers.

    $$ \tfrac1n \sum_c \sum_i \ell(\theta_c; x_{ci}, y_{ci}) + \tfrac{s}{n}\, p(\phi), \qquad
       \theta = T(\phi) $$

    The strength s, of 0.01, 0.1 and 1 where the scheme prefers anything, and the number of steps, a
    tenth of them or several, are those of the best accuracy in validation. Every scheme is chosen
    alike.

    Args:
      scheme: By name, of `SCHEMES`.
      data: Of `node_data`.
      tree: Over the nodes.
      seed: Of where training begins.
      steps: At most; a multiple of 10.
      hidden: Units of each of the two hidden layers.
      settings: Of the scheme, as text.
    """
    model = mlp((hidden, hidden), data.outputs)
    example = model.init(jax.random.key(seed), jnp.asarray(data.train.x[0]))
    layout = Layout(tree, example)
    if data.own:
        own = named(*data.own)
        rest = tying_of(scheme, layout._replace(example=_without(example, data.own)), settings)
        tying = jt.applied({own: jt.free(layout.nodes)}, rest=rest)
    else:
        tying = tying_of(scheme, layout, settings)
    everyone, total = jt.tied(model, tying), float(data.train.weight.sum())
    update = optax.adam(RATE)

    def loss(theta, part: Part):
        each = optax.softmax_cross_entropy_with_integer_labels(model.apply(theta, part.x), part.y)
        return jnp.sum(part.weight * each) * (layout.nodes / total)

    learn = jt.value_and_grad(loss, tying)

    @jax.jit
    def run(phi, strength, train, validation, test):
        def step(carry, _):
            phi, state = carry
            grad = jax.tree.map(
                lambda a, b: a + strength / total * b,
                learn(phi, train)[1],
                jax.grad(tying.penalty)(phi),
            )
            moves, state = update.update(grad, state, phi)
            return (optax.apply_updates(phi, moves), state), None

        def check(carry, _):
            carry, _ = jax.lax.scan(step, carry, length=steps // CHECKS)
            return carry, [
                data.accuracy(everyone.apply(carry[0], part.x), part) for part in (validation, test)
            ]

        return jax.lax.scan(check, (phi, update.init(phi)), length=CHECKS)[1]

    phi = tying.init(jax.random.key(seed), example)
    parts = jax.tree.map(jnp.asarray, (data.train, data.validation, data.test))
    moved = jax.tree.map(
        lambda leaf: leaf + jax.random.normal(jax.random.key(seed), leaf.shape), phi
    )
    strengths = STRENGTHS if jnp.any(tying.penalty(moved) != 0) else (0.0,)
    found = np.array(
        [run(phi, strength, *parts) for strength in strengths]
    )  # [strengths, 2, CHECKS]
    place, check = np.unravel_index(found[:, 0].argmax(), found[:, 0].shape)
    return Trained(
        float(found[place, 1, check]),
        int(check + 1) * (steps // CHECKS),
        strengths[place],
        sum(leaf.size for leaf in jax.tree.leaves(phi)),
    )


def _without(example, own):
    return {name: leaf for name, leaf in example.items() if name not in own}
