"""Queries that see no fellow queries."""

from __future__ import annotations

import jax.numpy as jnp

from jaxmeta.base import Examples, Task


def inductive(outer):
    """An outer objective that judges each query example alone: normalisation sees the support and nothing else.

    Support and query go through the model as one batch in which the support is marked as the reference: its statistics
    normalise the whole batch, and only the query is counted. Without it the query's own statistics are used
    (transductive), as most published MAML numbers do. A query without support has nothing else to be normalised by.

    Args:
      outer: `(key, learner, trajectory, task) -> (value, aux)`, such as `jaxmeta.query_loss`.

    Reference: Bronskill et al., TaskNorm, ICML 2020.
    """

    def judged(key, learner, trajectory, task: Task):
        if not len(task.support.y):
            return outer(key, learner, trajectory, task)
        counts = len(task.support.y), len(task.query.y)
        x, y = (jnp.concatenate(pair) for pair in zip(task.support[:2], task.query[:2]))
        return outer(key, learner, trajectory, task._replace(query=Examples(x, y, jnp.arange(sum(counts)) < counts[0])))

    return judged
