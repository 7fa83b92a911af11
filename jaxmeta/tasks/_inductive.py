"""Queries that see no fellow queries."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta.base import Examples, Task


def inductive(outer):
    """An outer objective that judges each query example alone: normalisation sees the support and
    nothing else.

    Support and query go through the model as one batch in which the support is marked as the
    reference: its statistics normalise the whole batch, and only the query is counted. Examples
    that either part itself marks as reference keep their meaning: of the support they alone are
    looked at, of the query no loss counts them. Without this the query's own statistics are used
    (transductive), as most published MAML numbers do. A query without support has nothing else to
    be normalised by.

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
    """Both in one batch, the support first, as the reference of the query. What normalisation may
    not look at of the support, and what counts nothing of the query, has weight 0. Indices are kept
    where both have them. Labels that are known stay known."""
    parts = support, query
    if support.x.shape[1:] != query.x.shape[1:]:
        raise ValueError(
            "an inductive query is normalised by a support of the same kind of examples, got "
            f"inputs {list(support.x.shape)} of the support and {list(query.x.shape)} of the "
            "query; leave `inductive` out where the support is stacked batches"
        )
    known = not any(isinstance(part.y, jax.core.Tracer) for part in parts)
    x, y = (
        jnp.concatenate([part.x for part in parts]),
        (np if known else jnp).concatenate([part.y for part in parts]),
    )
    weight = index = None
    weights = support.normalising, query.counting
    if any(each is not None for each in weights):
        weight = jnp.concatenate(
            [
                jnp.ones(len(part.y), bool) if each is None else each
                for part, each in zip(parts, weights)
            ]
        )
    if all(part.index is not None for part in parts):
        index = jnp.concatenate([part.index for part in parts])
    return Examples(x, y, np.arange(len(y)) < len(support.y), weight, index)
