"""Learning by gradient steps."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from jaxmeta import _check
from jaxmeta._pytree import Where, claim, merge
from jaxmeta.base import Learner
from jaxmeta.learner._criteria import cross_entropy
from jaxmeta.process import no_penalty

_RATE = "the rate is the update's: update=optax.sgd(0.01)"


@_check.takes(
    {"model": _check.model},
    loss="it is called criterion",
    lr=_RATE,
    learning_rate=_RATE,
    rate=_RATE,
    optimizer="it is called update",
    optimiser="it is called update",
    inner_steps="it is called steps",
)
def gradient(
    model,
    criterion=cross_entropy,
    update: optax.GradientTransformation | None = None,
    steps: int = 1,
    penalty=no_penalty,
    zero: Where | None = None,
) -> Learner:
    """A model that learns by gradient steps:
    `phi <- phi + update(d/d(phi) [criterion(f_phi(x), y) + penalty])`.

    Args:
      model: A `jaxmeta.models.Model`, the pair of `init(key, x) -> phi` and
        `apply(phi, x, reference) -> y`.
      criterion: `(prediction, examples) -> (scalar, aux)`, such as `cross_entropy` or
        `squared_error`.
      update: Any optax optimiser; default plain gradient descent at 0.1.
      steps: Inner steps, at least 0.
      penalty: `(phi, phi_0) -> scalar`.
      zero: Which leaves begin at zero instead of as the model draws them, by path; None for none.
        `named("head")` where labels are dealt anew in every task, so that no class begins
        preferred.

    Returns:
      A `Learner` whose batches are `Examples`.

    Raises:
      ValueError: For a model, criterion or update that is none; when it starts, where `zero` means
        none of the model's leaves.
    """
    if not callable(criterion):
        raise ValueError(
            "gradient takes as its criterion a function (prediction, examples) -> (scalar, aux), "
            f"got {_check.told(criterion)}; give for example jaxmeta.cross_entropy"
        )
    update = optax.sgd(0.1) if update is None else update
    _check.optimiser("gradient", update)

    def start(key, task):
        phi = model.init(key, task.support.x)
        return phi if zero is None else merge(jax.tree.map(jnp.zeros_like, claim(phi, zero)), phi)

    def predict(key, phi, batch):
        return model.apply(phi, batch.x, batch.normalising)

    def loss(key, phi, batch):
        return criterion(predict(key, phi, batch), batch)

    return Learner(start, loss, penalty, update, steps, predict=predict)
