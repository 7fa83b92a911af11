"""What is made of a trajectory's end, a part of `jaxmeta.process`: outer loss and predictions."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from jaxmeta import _check
from jaxmeta.base import Bilevel, Examples, Learner, Task, Trajectory, asked


def judged(
    key: Key[Array, ""], bilevel: Bilevel, learner: Learner, walked: Trajectory, task: Task
) -> tuple[Array, Any]:
    """The outer loss of a trajectory, and what came beside it."""
    value, aux = bilevel.outer(key, learner, walked, task)
    return _check.scalar("the outer loss", value), _check.numbers(
        "what an outer objective returns beside its value", aux
    )


def predicted(
    key: Key[Array, ""], bilevel: Bilevel, learner: Learner, walked: Trajectory, task: Task
) -> Array:
    """What the end of a trajectory says of the query, as the outer objective shows it to the
    learner."""
    if learner.predict is None:
        raise ValueError(
            "predictions need a learner that has them, got one whose predict is None; make it "
            "with learner._replace(predict=lambda key, phi, batch: ...), or take "
            "jaxmeta.gradient(model, ...)"
        )
    if isinstance(task.query, Examples) and task.query.y is None:
        like = task.support.y
        axes = like.shape[
            1 + jnp.ndim(task.support.x) - jnp.ndim(task.query.x) :
        ]  # of a target, where batches are stacked too
        task = task._replace(
            query=task.query._replace(y=jnp.zeros((len(task.query.x), *axes), like.dtype))
        )
    queries = jax.tree.leaves(task.query)[0].shape[0]

    said = learner.predict(key, walked.end, asked(bilevel.outer, task))
    return said[
        len(said) - queries :
    ]  # whatever an objective puts beside the query comes before it
