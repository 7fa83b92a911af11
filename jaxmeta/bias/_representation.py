"""The space in which the low level learns."""

from __future__ import annotations

from jaxmeta.base import Bias, Examples, Task


def representation(model) -> Bias:
    """The high level owns an encoder f; the low level sees nothing but `f_theta(x)` (ProtoNet, R2-D2).

    `start'(key, (support, query)) = start(key, (f(support), f(query)))`, `loss'(key, phi, batch) = loss(key, phi,
    f(batch))`. Unlike `shared(body)` it also reaches learners whose start is computed from the data.

    Args:
      model: An `(init, apply)` pair, the encoder: `[n, ...] -> [n, D]`. Batches must be `Examples`.

    Returns:
      A `Bias` whose theta is the encoder's parameters.

    Reference: Snell, Swersky and Zemel, Prototypical networks, NeurIPS 2017.
    """

    def init(key, task, learner):
        return model.init(key, task.support.x)

    def shape(theta, task, learner):
        def start(key, task: Task):
            support, query = (embed(model, theta, part) for part in (task.support, task.query))
            return learner.start(key, task._replace(support=support, query=query))

        def loss(key, phi, batch):
            return learner.loss(key, phi, embed(model, theta, batch))

        return learner._replace(start=start, loss=loss)

    return Bias(init, shape)


def embed(model, params, batch: Examples) -> Examples:
    """The examples as an encoder has them."""
    return batch._replace(x=model.apply(params, batch.x, batch.reference))
