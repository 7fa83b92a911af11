"""Tasks without support: batches of examples with the labels that their classes have for good."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta import _check
from jaxmeta._pickle import Function
from jaxmeta.base import Examples, Task
from jaxmeta.tasks._episodes import to_float
from jaxmeta.tasks._pool import Pool
from jaxmeta.tasks._variants import Variants, original


def labelled(pool: Pool, size: int, variants: Variants = original):
    """The sampler of tasks for ordinary supervised learning: an empty support, and a query of
    examples of all classes.

    Examples are drawn uniformly with replacement, each variant as often. Variant v of class c has
    label `c * count + v`.

    Args:
      pool: One split's examples.
      size: Examples in a query.
      variants: As in `jaxmeta.episodes`.

    Returns:
      `key -> Task` with x `[0, ...]` and `[size, ...]`; a pytree, as `jaxmeta.episodes` gives.
      `jaxmeta.bias.pretrained` learns from such tasks.

    >>> from jaxmeta.tasks import pool
    >>> task = labelled(pool(np.arange(6.0)[:, None], np.array([0, 1, 2] * 2)), 4)(
    ...     jax.random.key(0)
    ... )
    >>> task.support.x.shape, (task.query.x[:, 0] % 3 == task.query.y).tolist()
    ((0, 1), [True, True, True, True])
    """
    _check.whole_number("size", size, least=1)
    members, counts = np.asarray(pool.table.members), np.asarray(pool.table.counts)
    held = np.arange(members.shape[2]) < counts[:, :, None]
    classes = np.broadcast_to(np.arange(members.shape[1])[:, None], members.shape)
    return jax.tree_util.Partial(
        _sampling(size, variants),
        pool.inputs,
        jnp.asarray(members[held]),
        jnp.asarray(classes[held]),
    )


@functools.cache
def _sampling(size: int, variants: Variants):
    @Function
    def sample(inputs, members, classes, key):
        drawn = jax.random.randint(key, (size,), 0, len(members) * variants.count)
        place, variant = drawn // variants.count, drawn % variants.count
        query = Examples(
            to_float(jax.vmap(variants.apply)(inputs[members[place]], variant)),
            classes[place] * variants.count + variant,
        )
        return Task(jax.tree.map(lambda leaf: leaf[:0], query), query, jnp.zeros((), int))

    return sample
