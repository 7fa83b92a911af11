"""The space in which the low level learns."""

from __future__ import annotations

from jaxmeta.base import Bias, Examples, Task


def representation(model) -> Bias:
    """The high level owns an encoder f; the low level sees nothing but `f_theta(x)` (ProtoNet, R2-D2).

    `start'(key, (support, query)) = start(key, (f(support), f(query)))`, `loss'(key, phi, batch) = loss(key, phi,
    f(batch))`. Unlike `shared(body)` it also reaches learners whose start is computed from the data, and f sees the support
    once, however many inner steps look at it.

    Args:
      model: An `(init, apply)` pair, the encoder: `[n, ...] -> [n, D]`. Batches must be `Examples`.

    Returns:
      A `Bias` whose theta is the encoder's parameters.

    Reference: Snell, Swersky and Zemel, Prototypical networks, NeurIPS 2017.
    """

    def init(key, task, learner):
        return model.init(key, task.support.x)

    def shape(theta, task, learner):
        embedded = embedder(model, theta, task)

        def start(key, task: Task):
            return learner.start(key, task._replace(support=embedded(task.support), query=embedded(task.query)))

        def loss(key, phi, batch):
            return learner.loss(key, phi, embedded(batch))

        return learner._replace(start=start, loss=loss)

    return Bias(init, shape)


def embedder(model, params, task: Task):
    """`embed` for the parts of one task: `batch -> Examples`. The support is embedded here and not again: an inner step, inside
    a scan, would do it each time it looks, and in the derivative as often again."""
    support = embed(model, params, task.support)

    def embedded(batch: Examples) -> Examples:
        return support if batch is task.support else embed(model, params, batch)

    return embedded


def embed(model, params, batch: Examples) -> Examples:
    """The examples as an encoder has them."""
    return batch._replace(x=model.apply(params, batch.x, batch.reference))
