"""Ordinary learning first, a new head for every task then."""

from __future__ import annotations

import jax.numpy as jnp

from jaxmeta.base import Bias, Learner
from jaxmeta.bias._compose import compose
from jaxmeta.bias._representation import representation
from jaxmeta.bias._shared import shared
from jaxmeta.models import Model


def pretrained(encoder: Model, classifier: Learner) -> Bias:
    r"""A classifier of all classes judges the tasks that have no support; of every other task the
    low level learns a head of its own, on the frozen features (Baseline, Baseline++).

    $$ loss'(\phi, batch) = loss(\phi, f(batch)) \quad\text{with support}, \qquad
       loss'(batch) = loss_C(\theta_{head}, f(batch)),\; K = 0 \quad\text{without} $$

    Nothing can be learned from an empty support, so that a query without one can only be asked for
    the classes that all tasks have in common: pretraining is the bilevel problem of such tasks,
    from `jaxmeta.tasks.labelled`, and evaluation that of episodes, with one theta.

    Args:
      encoder: f, `[n, ...] -> [n, D]`.
      classifier: A learner on features with as many ways as there are classes in training,
        `jaxmeta.learner.cosine(C)`; its start is theta's, its steps are not taken.

    Returns:
      A `Bias` whose theta is the pair of the encoder's parameters and the classifier's phi. What
      learns from a support is the learner that it shapes, on features, from where that starts
      itself.

    Reference: Chen et al., A closer look at few-shot classification, ICLR 2019.
    """
    body = representation(encoder)
    whole = compose(body, shared())

    def asked(task):
        return task._replace(support=task.query)

    def init(key, task, learner):
        return whole.init(key, asked(task), classifier)

    def shape(theta, task, learner):
        if len(task.support.y):
            return body.shape(theta[0], task, learner)
        judge = whole.shape(theta, asked(task), classifier)

        def loss(key, phi, batch):  # models need not bear a batch of no examples
            return (
                judge.loss(key, phi, batch) if len(batch.y) else (jnp.zeros((), batch.x.dtype), {})
            )

        # Nothing is seen of a support that is not there.
        return judge._replace(
            start=lambda key, task: judge.start(key, asked(task)), loss=loss, steps=0, sees=None
        )

    return Bias(init, shape)
