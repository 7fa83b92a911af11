"""The space in which the low level learns."""

from __future__ import annotations

from jaxmeta import _check
from jaxmeta.base import Bias, Examples, Task
from jaxmeta.process import lifted


@_check.takes({"model": _check.model})
def representation(model) -> Bias:
    """The high level owns an encoder f; the low level sees nothing but `f_theta(x)` (ProtoNet,
    R2-D2).

    `start'(key, (support, query)) = start(key, (f(support), f(query)))`,
    `loss'(key, phi, batch) = loss(key, phi, f(batch))`. Unlike `shared(body)` it also reaches
    learners whose start is computed from the data, and f sees the support once, however many inner
    steps look at it.

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
            return learner.start(
                key, task._replace(support=embedded(task.support), query=embedded(task.query))
            )

        return lifted(learner, lambda phi, batch: (phi, embedded(batch)))._replace(start=start)

    return Bias(init, shape)


def embedder(model, params, task: Task):
    """`embed` for the parts of one task: `batch -> Examples`. The support is embedded here and not
    again: an inner step, inside a scan, would do it each time it looks, and in the derivative as
    often again. What a step sees of the support is embedded anew where its inputs are others, or
    what normalisation looks at."""
    given, support = task.support, embed(model, params, task.support)

    def embedded(batch: Examples) -> Examples:
        same = (
            batch.x is given.x
            and batch.reference is given.reference
            and batch.weight is given.weight
        )
        return batch._replace(x=support.x) if same else embed(model, params, batch)

    return embedded


def embed(model, params, batch: Examples) -> Examples:
    """The examples as an encoder has them."""
    return batch._replace(x=model.apply(params, batch.x, batch.normalising))
