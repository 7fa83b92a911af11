"""Heads with a vector for every class that learn by gradient steps, on features. Axis letters: `n`
examples, `D` features."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from jaxmeta import _check
from jaxmeta.base import Learner
from jaxmeta.learner._criteria import cross_entropy
from jaxmeta.learner.closed_form import rows, unit
from jaxmeta.process import no_penalty


def linear(
    ways: int, update: optax.GradientTransformation | None = None, steps: int = 1
) -> Learner:
    r"""A linear head without offsets: $logit_w(x) = x^\top \phi_w$.

    Args:
      ways: Number of classes in a task.
      update: Any optax optimiser; default plain gradient descent at 0.1.
      steps: Inner steps, at least 0.

    Returns:
      A `Learner` whose phi is `[ways, D]`, zero at first (labels are dealt anew in every task, so
      that no class should begin preferred), for `Examples` with x `[n, D]`.
    """
    return _weighted(ways, lambda phi, x: x @ phi.T, update, steps, 0.0)


def cosine(
    ways: int,
    scale: float | None = None,
    update: optax.GradientTransformation | None = None,
    steps: int = 1,
) -> Learner:
    r"""A head of directions: $logit_w(x) = a \cos(x, \phi_w)$.

    Args:
      ways: Number of classes in a task.
      scale: a, above 0; None for that of the authors' code, 2 up to 200 ways and 10 above. With 10
        a head of few ways is sure after a step or two, and what it drew at first stays in it.
      update, steps: As in `linear`.

    Returns:
      A `Learner` whose phi is `[ways, D]`, Gaussian of variance 1/D at first, for `Examples` with x
      `[n, D]`; only the directions of its rows count. The authors' rows have a learned norm each
      besides.

    Reference: Chen et al., A closer look at few-shot classification, ICLR 2019.
    """
    scale = (
        (2.0 if ways <= 200 else 10.0) if scale is None else _check.number("scale", scale, above=0)
    )
    return _weighted(ways, lambda phi, x: scale * (unit(x) @ unit(phi).T), update, steps, 1.0)


def dampened_sgd(
    rate: float = 0.01, momentum: float = 0.9, decay: float = 1e-3
) -> optax.GradientTransformation:
    r"""The fine-tuning of Baseline++ in its authors' code: momentum whose gradients are dampened by
    as much.

    $$ m_1 = g_1, \quad m_{k+1} = b\, m_k + (1 - b)\, g_{k+1}, \qquad
       \phi_{k+1} = \phi_k - \eta\, m_{k+1} $$

    Args:
      rate: eta, above 0.
      momentum: b, from 0 to below 1.
      decay: Times phi, added to g.

    Reference: Chen et al., A closer look at few-shot classification, ICLR 2019.
    """

    def init(phi):
        return jnp.zeros((), int), optax.tree.zeros_like(phi)

    def update(grads, state, phi=None):
        count, held = state
        kept = jnp.where(count == 0, 0, momentum)
        held = jax.tree.map(lambda m, g: (kept * m + (1 - kept) * g).astype(g.dtype), held, grads)
        return held, (count + 1, held)

    return optax.chain(
        optax.add_decayed_weights(decay),
        optax.GradientTransformation(init, update),
        optax.scale_by_learning_rate(rate),
    )


def _weighted(ways, logits, update, steps, spread) -> Learner:
    _check.whole_number("ways", ways, least=1)

    def start(key, task):
        x = rows(task.support.x)
        return spread * jax.random.normal(key, (ways, x.shape[1]), x.dtype) / x.shape[1] ** 0.5

    def predict(key, phi, batch):
        return logits(phi, rows(batch.x))

    def loss(key, phi, batch):
        return cross_entropy(predict(key, phi, batch), batch)

    return Learner(
        start,
        loss,
        no_penalty,
        optax.sgd(0.1) if update is None else update,
        steps,
        predict=predict,
    )
