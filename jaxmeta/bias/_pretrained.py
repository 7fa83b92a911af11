"""Ordinary learning first, a new head for every task then."""

from __future__ import annotations

from jaxmeta.base import Bias, Learner
from jaxmeta.bias._compose import compose
from jaxmeta.bias._representation import representation
from jaxmeta.bias._shared import shared
from jaxmeta.models import Model


def pretrained(encoder: Model, classifier: Learner) -> Bias:
    r"""A classifier of all classes judges the tasks that have no support; of every other task the low level learns a head of its
    own, on the frozen features (Baseline, Baseline++).

    $$ loss'(\phi, batch) = loss(\phi, f(batch)) \quad\text{with support}, \qquad
       loss'(batch) = loss_C(\theta_{head}, f(batch)),\; K = 0 \quad\text{without} $$

    Nothing can be learned from an empty support, so that a query without one can only be asked for the classes that all tasks
    have in common: pretraining is the bilevel problem of such tasks, from `jaxmeta.tasks.labelled`, and evaluation that of
    episodes, with one theta.

    Args:
      encoder: f, `[n, ...] -> [n, D]`.
      classifier: A learner on features with as many ways as there are classes in training, `jaxmeta.learner.cosine(C)`; its
        start is theta's, its steps are not taken.

    Returns:
      A `Bias` whose theta is the pair of the encoder's parameters and the classifier's phi. What learns from a support is the
      learner that it shapes, on features, from where that starts itself.

    Reference: Chen et al., A closer look at few-shot classification, ICLR 2019.
    """
    body = representation(encoder)
    whole = compose(body, shared())

    def init(key, task, learner):
        return whole.init(key, task._replace(support=task.query), classifier)

    def shape(theta, task, learner):
        if len(task.support.y):
            return body.shape(theta[0], task, learner)
        return whole.shape(theta, task._replace(support=task.query), classifier)._replace(steps=0)

    return Bias(init, shape)
