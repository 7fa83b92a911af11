"""Which class a query is taken for."""

from __future__ import annotations

import jax
from jaxtyping import Array, Float, Int

from jaxmeta.base import Bilevel, Task
from jaxmeta.process import predict


def predictions(key, bilevel: Bilevel, theta, task: Task) -> Int[Array, " n"]:
    """The class of each query example: that of its largest logit."""
    return predict(key, bilevel, theta, task).argmax(1)


def probabilities(key, bilevel: Bilevel, theta, task: Task) -> Float[Array, "n ways"]:
    """Of each query example the probability of each class, by a softmax of what the learner
    predicts."""
    return jax.nn.softmax(predict(key, bilevel, theta, task), axis=1)


def label_losses(key, bilevel: Bilevel, theta, task: Task) -> Float[Array, "n ways"]:
    """Of each query example `-log p` of each class."""
    return -jax.nn.log_softmax(predict(key, bilevel, theta, task), axis=1)
