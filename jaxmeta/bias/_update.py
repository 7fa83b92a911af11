"""How the low level moves: learned step sizes and learned preconditioners."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from jaxmeta import _check
from jaxmeta._kronecker import kronecker_identity, kronecker_product
from jaxmeta._pytree import moving
from jaxmeta.base import Bias
from jaxmeta.bias._link import Link, free
from jaxmeta.process import started

# Granularities: from phi (its shapes) to the shapes of what is learned, a prefix of phi's tree.


def scalar(phi: PyTree) -> PyTree:
    """One number for all of phi."""
    dtype = jnp.result_type(*jax.tree.leaves(phi))
    return jax.ShapeDtypeStruct((), dtype)


def leaf(phi: PyTree) -> PyTree:
    """One number a leaf."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((), x.dtype), phi)


def channel(phi: PyTree) -> PyTree:
    """One number for each place of a leaf's last axis, such as a latent dimension or a feature."""
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((*(1 for _ in x.shape[:-1]), *x.shape[-1:]), x.dtype), phi
    )


def element(phi: PyTree) -> PyTree:
    """One number an element."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), phi)


def step_sizes(
    initial: float | PyTree = 1.0,
    each: Callable[[PyTree], PyTree] = scalar,
    steps: int | None = None,
    link: Link = free,
) -> Bias:
    """Learned step sizes: `phi_{k+1} = phi_k + a_k * u_k`, with u_k the learner's own update
    (Meta-SGD, MAML++).

    Args:
      initial: What the factors a start from, a number or numbers for parts of phi. They multiply
        the update: 1 leaves the learner as it is.
      each: `scalar`, `leaf`, `channel` or `element`: what has a factor of its own.
      steps: None for the same factors at all steps, or K for K of them, on a leading axis; learning
        for longer goes on with the last.
      link: `free` (Meta-SGD lets a factor change sign) or `positive`.

    Returns:
      A `Bias` whose theta holds the factors through the link: a scalar, or a tree like phi.

    References: Li et al., Meta-SGD, 2017 (`each=element`); Antoniou et al., How to train your MAML,
    ICLR 2019 (`each=leaf, steps=K`).
    """
    lead = () if steps is None else (_check.whole_number("steps", steps, least=1),)

    def init(key, task, learner):
        phi = moving(jax.eval_shape(lambda task: started(key, learner, task), task))
        return jax.tree.map(
            lambda initial, part: jax.tree.map(
                lambda x: link.inverse(jnp.full((*lead, *x.shape), initial, x.dtype)), part
            ),
            initial,
            each(phi),
        )

    def shape(theta, task, learner):
        inner = optax.with_extra_args_support(learner.update)

        def update(grads, state, phi=None, **more):
            step, memory = state
            updates, memory = inner.update(grads, memory, phi, **more)
            factors = jax.tree.map(link.forward, theta)
            if lead:
                factors = jax.tree.map(lambda x: x[jnp.minimum(step, lead[0] - 1)], factors)
            updates = jax.tree.map(
                lambda a, part: jax.tree.map(lambda u: a.astype(u.dtype) * u, part),
                factors,
                updates,
            )
            return updates, (step + 1, memory)

        def start(phi):
            return jnp.zeros((), int), inner.init(phi)

        return learner._replace(update=optax.GradientTransformationExtraArgs(start, update))

    return Bias(init, shape)


class Family(NamedTuple):
    """A family of linear maps of one leaf's gradient: `init(leaf) -> theta`, the identity, and
    `apply(theta, grad)`."""

    init: Callable[[Array], PyTree]
    apply: Callable[[PyTree, Array], Array]


diagonal = Family(lambda x: jnp.ones(x.shape, x.dtype), lambda theta, grad: theta * grad)
"""A factor for each element."""


kronecker = Family(kronecker_identity, kronecker_product)
"""A Kronecker product of one matrix a mode: filter positions, inputs, outputs (Meta-Curvature)."""


def preconditioner(family: Family = kronecker) -> Bias:
    """A learned linear map of the gradient before the learner's own update:
    `u_k = update(P_theta g_k)`.

    Args:
      family: `kronecker`, with `P g = g x_1 M_positions x_2 M_inputs x_3 M_outputs` for each leaf,
        or `diagonal`.

    Returns:
      A `Bias` whose theta is, for each leaf of phi, the family's parameters; the identity at first.

    Reference: Park and Oliva, Meta-Curvature, NeurIPS 2019.
    """

    def init(key, task, learner):
        return jax.tree.map(
            family.init, moving(jax.eval_shape(lambda task: started(key, learner, task), task))
        )

    def shape(theta, task, learner):
        inner = optax.with_extra_args_support(learner.update)

        def update(grads, state, phi=None, **more):
            grads = jax.tree.map(lambda g, part: family.apply(part, g), grads, theta)
            return inner.update(grads, state, phi, **more)

        return learner._replace(update=optax.GradientTransformationExtraArgs(inner.init, update))

    return Bias(init, shape)
