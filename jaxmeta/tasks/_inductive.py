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

    def asks(task: Task):
        return join(task.support, task.query) if len(task.support.y) else task.query

    def judged(key, learner, trajectory, task: Task):
        return outer(key, learner, trajectory, task._replace(query=asks(task)))

    judged.asks = asks
    return judged


def join(support: Examples, query: Examples) -> Examples:
    """Both in one batch, the support first, as the reference of the query. Weights are 1 where only the other has some; indices
    are kept where both have them."""
    parts = support, query
    x, y = (jnp.concatenate([part[field] for part in parts]) for field in (0, 1))
    weight = index = None
    if any(part.weight is not None for part in parts):
        weight = jnp.concatenate([jnp.ones(len(part.y), x.dtype) if part.weight is None else part.weight for part in parts])
    if all(part.index is not None for part in parts):
        index = jnp.concatenate([part.index for part in parts])
    return Examples(x, y, jnp.arange(len(y)) < len(support.y), weight, index)
