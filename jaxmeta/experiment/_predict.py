"""Which class a query is taken for, whatever the learner."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxmeta.base import Bilevel, Task
from jaxmeta.process import learned


def predictions(key, bilevel: Bilevel, theta, task: Task, ways: int) -> Int[Array, " n"]:
    """The class of each query example under which the outer objective is least: `argmin_w outer(y_i = w)`."""
    return label_losses(key, bilevel, theta, task, ways).argmin(1)


def probabilities(key, bilevel: Bilevel, theta, task: Task, ways: int) -> Float[Array, "n ways"]:
    """Of each query example the probability of each class, where the outer objective is a mean of `-log p(y_i)`."""
    losses = label_losses(key, bilevel, theta, task, ways)
    return jax.nn.softmax(-len(losses) * losses, axis=1)


def label_losses(key, bilevel: Bilevel, theta, task: Task, ways: int) -> Float[Array, "n ways"]:
    """The outer objective if each query example were of each class: `outer(y_i = w)`, up to a constant an example.

    The objective being a mean over the query, all other labels may stay as they are; and its inputs are not touched, so
    that under vmap they go through the model once.
    """
    learner, walked, key_outer = learned(key, bilevel, theta, task)

    def if_it_were(example, label):
        query = task.query._replace(y=task.query.y.at[example].set(label))
        return bilevel.outer(key_outer, learner, walked, task._replace(query=query))[0]

    examples, labels = jnp.arange(len(task.query.y)), jnp.arange(ways)
    return jax.vmap(lambda i: jax.vmap(lambda w: if_it_were(i, w))(labels))(examples)
