"""Biases that look at the task's gradients: a small net sees layerwise means and says how to begin or how to move.

Axis letters: `L` leaves of phi.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from jaxmeta import _check
from jaxmeta._pytree import constants, leaves_dtype, merge, moving
from jaxmeta.base import Bias
from jaxmeta.models import Model, mlp
from jaxmeta.process import objective, started


def attenuated(hidden: int = 32) -> Bias:
    r"""Learning to forget: the start is scaled down, leaf by leaf, by what the task's gradient says of it (L2F).

    $$ \phi_0' = \sigma(f_\theta(\overline{\nabla_\phi L(\phi_0)})) \odot \phi_0 $$

    with f a net of two hidden layers on the means of the gradient's leaves, its output begun at 3 (factors of 0.95, ours).

    Args:
      hidden: Width of the net.

    Returns:
      A `Bias` whose theta is the net's parameters. Put it after `initialisation`.

    Reference: Baik et al., Learning to forget for meta-learning, CVPR 2020.
    """
    net = _net(hidden, lambda count: count)

    def init(key, task, learner):
        phi = moving(jax.eval_shape(lambda task: started(key, learner, task), task))
        return _begun(net(phi), key, len(jax.tree.leaves(phi)), 3.0, phi)

    def shape(theta, task, learner):
        def start(key, task):
            key_start, key_loss = jax.random.split(key)
            phi = learner.start(key_start, task)
            moved, fixed = moving(phi), constants(phi)
            grads = jax.grad(lambda at: objective(key_loss, learner, phi, merge(at, fixed), task)[0])(moved)
            factors = jax.nn.sigmoid(net(moved).apply(theta, means(grads)[None])[0])
            return merge(_scaled(moved, factors), fixed)

        return learner._replace(start=start)

    return Bias(init, shape)


def adaptive_rates(hidden: int = 32, steps: int = 1) -> Bias:
    r"""Step sizes and decays that a net generates at every step from gradient and weights (ALFA).

    $$ \phi_{k+1} = \beta_k \odot \phi_k + \alpha_k \odot u_k, \qquad (\alpha_k, \beta_k) = (\alpha^0_k, \beta^0_k) \odot
       (1 + f_\theta(\overline{\nabla_k}, \overline{\phi_k})) $$

    u_k being the learner's own update, alpha and beta one number a leaf, and f a net on the means of the leaves, begun at 0 so
    that learning begins as the learner has it.

    Args:
      hidden: Width of the net.
      steps: K, of the base factors; learning for longer goes on with the last.

    Returns:
      A `Bias` whose theta is `{"net", "rate": [K, L], "decay": [K, L]}`.

    Reference: Baik et al., Meta-learning with adaptive hyperparameters, NeurIPS 2020.
    """
    _check.whole_number("steps", steps, least=1)
    net = _net(hidden, lambda count: 2 * count)

    def init(key, task, learner):
        phi = moving(jax.eval_shape(lambda task: started(key, learner, task), task))
        count = len(jax.tree.leaves(phi))
        base = jnp.ones((steps, count), leaves_dtype(phi))
        return {"net": _begun(net(phi), key, 2 * count, 0.0, phi), "rate": base, "decay": base}

    def shape(theta, task, learner):
        inner = optax.with_extra_args_support(learner.update)

        def update(grads, state, phi=None, **more):
            step, memory = state
            updates, memory = inner.update(grads, memory, phi, **more)
            seen = jnp.concatenate([means(grads), means(phi)])
            rate, decay = 1 + net(phi).apply(theta["net"], seen[None])[0].reshape(2, -1)
            place = jnp.minimum(step, steps - 1)
            moved = _scaled(updates, theta["rate"][place] * rate)
            kept = _scaled(phi, theta["decay"][place] * decay - 1)
            return jax.tree.map(jnp.add, moved, kept), (step + 1, memory)

        return learner._replace(update=optax.GradientTransformationExtraArgs(
            lambda phi: (jnp.zeros((), int), inner.init(phi)), update))

    return Bias(init, shape)


def means(tree: PyTree) -> Float[Array, " L"]:
    """The mean of every leaf."""
    dtype = leaves_dtype(tree)
    return jnp.stack([leaf.mean().astype(dtype) for leaf in jax.tree.leaves(tree)])


def _net(hidden, outputs):
    _check.whole_number("hidden", hidden, least=1)
    return lambda phi: mlp((hidden, hidden), outputs(len(jax.tree.leaves(phi))))


def _begun(model: Model, key, features, bias, phi):
    """Parameters whose output is `bias` whatever the input, in phi's dtype."""
    params = model.init(key, jnp.zeros((1, features)))
    head = {"kernel": jnp.zeros_like(params["head"]["kernel"]), "bias": jnp.full_like(params["head"]["bias"], bias)}
    return jax.tree.map(lambda leaf: leaf.astype(leaves_dtype(phi)), params | {"head": head})


def _scaled(tree, factors):
    leaves, structure = jax.tree.flatten(tree)
    return jax.tree.unflatten(structure, [factor.astype(leaf.dtype) * leaf for factor, leaf in zip(factors, leaves)])
