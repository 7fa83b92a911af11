"""Learning by gradient steps."""

from __future__ import annotations

import optax

from jaxmeta.base import Learner
from jaxmeta.learner._criteria import cross_entropy
from jaxmeta.process import no_penalty


def gradient(model, criterion=cross_entropy, update: optax.GradientTransformation | None = None,
             steps: int = 1, penalty=no_penalty) -> Learner:
    """A model that learns by gradient steps: `phi <- phi + update(d/d(phi) [criterion(f_phi(x), y) + penalty])`.

    Args:
      model: `(init, apply)`, as `jaxmeta.models` makes them: `init(key, x) -> phi`, `apply(phi, x, reference) -> y`.
      criterion: `(prediction, examples) -> (scalar, aux)`, such as `cross_entropy` or `squared_error`.
      update: Any optax optimiser; default plain gradient descent at 0.1.
      steps: Inner steps, at least 0.
      penalty: `(phi, phi_0) -> scalar`.

    Returns:
      A `Learner` whose batches are `Examples`.
    """
    def start(key, task):
        return model.init(key, task.support.x)

    def loss(key, phi, batch):
        return criterion(model.apply(phi, batch.x, batch.reference), batch)

    return Learner(start, loss, penalty, optax.sgd(0.1) if update is None else update, steps)
