"""Biases that look at the task's gradients: a small net sees layerwise means and says how to begin
or how to move.

Axis letters: `L` leaves of phi.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from jaxmeta import _check
from jaxmeta._pytree import constants, leaves_dtype, merge, moving
from jaxmeta.base import Bias
from jaxmeta.models import Model, mlp
from jaxmeta.process import objective, started


def as_wide(inputs: int, outputs: int) -> Model:
    """The net of the authors' code: one hidden layer as wide as the input, all begun uniform within
    1 / sqrt(inputs)."""
    plain, bound = mlp((inputs,), outputs), inputs**-0.5

    def init(key, x):
        leaves, structure = jax.tree.flatten(plain.init(key, x))
        keys = jax.random.split(key, len(leaves))
        return jax.tree.unflatten(
            structure,
            [
                jax.random.uniform(own, leaf.shape, leaf.dtype, -bound, bound)
                for own, leaf in zip(keys, leaves)
            ],
        )

    return Model(init, plain.apply)


def begun_at(value: float, hidden: Sequence[int] = (32, 32)) -> Callable[[int, int], Model]:
    """A net whose outputs begin at a value whatever the input (ours): for `attenuated` 3 gives
    factors of 0.95, for `adaptive_rates` with `around_one` 0 leaves learning as the learner has
    it."""

    def net(inputs, outputs):
        plain = mlp(hidden, outputs)

        def init(key, x):
            params = plain.init(key, x)
            return params | {
                "head": {
                    "kernel": jnp.zeros_like(params["head"]["kernel"]),
                    "bias": jnp.full_like(params["head"]["bias"], value),
                }
            }

        return Model(init, plain.apply)

    return net


def attenuated(
    net: Callable[[int, int], Model] = as_wide, through: Callable = jax.lax.stop_gradient
) -> Bias:
    r"""Learning to forget: the start is scaled down, leaf by leaf, by what the task's gradient says
    of it (L2F).

    $$ \phi_0' = \sigma(f_\theta(\overline{\nabla_\phi L(\phi_0)})) \odot \phi_0 $$

    with f a net on the means of the gradient's leaves. Of the authors' code there are the net and
    the gradient without a derivative. It leaves normalisation out of the inner loop, as
    `compose(shared(where), initialisation(), attenuated())` does, and may learn rates besides, as
    `step_sizes(each=leaf, steps=K)` after it.

    Args:
      net: `(inputs, outputs) -> Model`: f, `as_wide`, factors of about 0.5 at first, or
        `begun_at(3.0)` (ours).
      through: What the means go through before they are read: `jax.lax.stop_gradient`, or
        `lambda means: means`, which differentiates the task's gradient once more.

    Returns:
      A `Bias` whose theta is the net's parameters. Put it after `initialisation`.

    Reference: Baik et al., Learning to forget for meta-learning, CVPR 2020.
    """

    def init(key, task, learner):
        phi = moving(jax.eval_shape(lambda task: started(key, learner, task), task))
        count = len(jax.tree.leaves(phi))
        return _begun(net(count, count), key, count, phi)

    def shape(theta, task, learner):
        def start(key, task):
            key_start, key_loss = jax.random.split(key)
            phi = learner.start(key_start, task)
            moved, fixed = moving(phi), constants(phi)
            grads = jax.grad(
                lambda at: objective(key_loss, learner, phi, merge(at, fixed), task)[0]
            )(moved)
            seen = through(means(grads))
            return merge(
                _scaled(
                    moved, jax.nn.sigmoid(net(len(seen), len(seen)).apply(theta, seen[None])[0])
                ),
                fixed,
            )

        return learner._replace(start=start)

    return Bias(init, shape)


class Generated(NamedTuple):
    """How rates and decays follow from their learned bases and what a net says.

    Args:
      bases: What the bases of rate and decay begin at.
      rate: `(base, said) -> alpha`.
      decay: `(base, said) -> beta`, what is kept of phi.
    """

    bases: tuple[float, float]
    rate: Callable[[Array, Array], Array]
    decay: Callable[[Array, Array], Array]


as_published = Generated(
    (1.0, 5e-6), lambda base, said: base * said, lambda base, said: 1 - base * said
)
"""Those of the authors' code: `alpha = a f, beta = 1 - b f`, b begun at 0.0005 times an inner rate
of 0.01."""

around_one = Generated(
    (1.0, 1.0), lambda base, said: base * (1 + said), lambda base, said: base * (1 + said)
)
"""Ours: `alpha = a (1 + f), beta = b (1 + f)`, so that decay is learned as fast as the rate, and
learning begins as the learner has it where f begins at 0."""


def adaptive_rates(
    net: Callable[[int, int], Model] = as_wide,
    steps: int = 1,
    generated: Generated = as_published,
    through: Callable = jax.lax.stop_gradient,
) -> Bias:
    r"""Step sizes and decays that a net generates at every step from gradient and weights (ALFA).

    $$ \phi_{k+1} = \beta_k \odot \phi_k + \alpha_k \odot u_k, \qquad
       \alpha_k = a_k f^\alpha_k, \quad
       \beta_k = 1 - b_k f^\beta_k, \qquad f_k = f_\theta(\overline{\nabla_k}, \overline{\phi_k}) $$

    u_k being the learner's own update, alpha and beta one number a leaf, and f a net on the means
    of the leaves. The authors' inner loop has 5 steps and leaves normalisation alone, as
    `compose(shared(where), initialisation(), adaptive_rates())` does.

    Args:
      net: `(inputs, outputs) -> Model`: f, `as_wide` or, with `around_one`, `begun_at(0.0)`.
      steps: K, of the bases a and b; learning for longer goes on with the last.
      generated: `as_published`, the equation above, or `around_one` (ours). The learned a
        multiplies the learner's rate; in the authors' code it begins at the rate itself:
        `Generated((0.01, 5e-6), ...)` on `optax.sgd(1.0)`.
      through: What the gradient's means go through before they are read, as in `attenuated`.

    Returns:
      A `Bias` whose theta is `{"net", "rate": [K, L], "decay": [K, L]}`.

    Reference: Baik et al., Meta-learning with adaptive hyperparameters, NeurIPS 2020.
    """
    _check.whole_number("steps", steps, least=1)

    def init(key, task, learner):
        phi = moving(jax.eval_shape(lambda task: started(key, learner, task), task))
        count = len(jax.tree.leaves(phi))
        rate, decay = (
            jnp.full((steps, count), base, leaves_dtype(phi)) for base in generated.bases
        )
        return {
            "net": _begun(net(2 * count, 2 * count), key, 2 * count, phi),
            "rate": rate,
            "decay": decay,
        }

    def shape(theta, task, learner):
        inner = optax.with_extra_args_support(learner.update)

        def update(grads, state, phi=None, **more):
            step, memory = state
            updates, memory = inner.update(grads, memory, phi, **more)
            seen = jnp.concatenate([through(means(grads)), means(phi)])
            rate, decay = (
                net(len(seen), len(seen)).apply(theta["net"], seen[None])[0].reshape(2, -1)
            )
            place = jnp.minimum(step, steps - 1)
            moved = _scaled(updates, generated.rate(theta["rate"][place], rate))
            kept = _scaled(phi, generated.decay(theta["decay"][place], decay) - 1)
            return jax.tree.map(jnp.add, moved, kept), (step + 1, memory)

        return learner._replace(
            update=optax.GradientTransformationExtraArgs(
                lambda phi: (jnp.zeros((), int), inner.init(phi)), update
            )
        )

    return Bias(init, shape)


def means(tree: PyTree) -> Float[Array, " L"]:
    """The mean of every leaf."""
    dtype = leaves_dtype(tree)
    return jnp.stack([leaf.mean().astype(dtype) for leaf in jax.tree.leaves(tree)])


def _begun(model: Model, key, features, phi):
    """Parameters in phi's dtype."""
    return jax.tree.map(
        lambda leaf: leaf.astype(leaves_dtype(phi)), model.init(key, jnp.zeros((1, features)))
    )


def _scaled(tree, factors):
    leaves, structure = jax.tree.flatten(tree)
    return jax.tree.unflatten(
        structure, [factor.astype(leaf.dtype) * leaf for factor, leaf in zip(factors, leaves)]
    )
