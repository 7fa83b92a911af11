"""Support and query from different bouts.

Windows cut from one stretch of a recording share samples, and all of them its circumstances: a
query that lies beside a support window measures memory (Hammerla and Plötz, UbiComp 2015). So a
bout serves one side of an episode alone.

Axis letters: `B` bouts of a class, `S` shots, `Q` queries.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

_NEVER = -1e30  # log-probability of what cannot be; finite, so that differences are numbers


def most_queries(sizes: Int[np.ndarray, "*cells B"], shots: int) -> Int[np.ndarray, "*cells"]:
    """The most examples that can be left for the query where whole bouts of these sizes give the
    support `shots`.

    Negative where all of them are too few for the support alone.

    >>> most_queries(np.array([[3, 4, 4], [11, 0, 0]]), 2).tolist()
    [8, 0]
    """

    def left(sizes):
        totals = 1  # bit t is set where some of the bouts hold t examples together
        for size in sizes.tolist():
            totals |= totals << size
        enough = totals >> shots
        fewest = shots + (enough & -enough).bit_length() - 1
        return int(sizes.sum()) - fewest if enough else -1

    return np.apply_along_axis(left, -1, sizes)


def parted(
    uniform: Float[Array, " B"], sizes: Int[Array, " B"], shots: int, queries: int
) -> Bool[Array, " B"]:
    """Which bouts are the support's: a fair coin each, given that they hold `shots` examples and
    the others `queries`.

    With l_b(s, q) the log-probability that both have enough in the end where they have s and q
    before bout b of n_b examples, l_b(s, q) = log((exp l_{b+1}(s + n_b, q) + exp l_{b+1}(s, q +
    n_b)) / 2), s counted up to S and q up to Q; the coins then fall one after another, each with
    the probability that what comes after it allows. `uniform` are drawn from [0, 1).
    """
    have = jnp.arange(shots + 1), jnp.arange(queries + 1)

    def before(after, size):
        support, query = (
            after[jnp.minimum(have[0] + size, shots)],
            after[:, jnp.minimum(have[1] + size, queries)],
        )
        return jnp.logaddexp(support, query) - math.log(2), jax.nn.sigmoid(support - query)

    end = jnp.full((shots + 1, queries + 1), _NEVER, jnp.float32).at[shots, queries].set(0)
    _, chances = jax.lax.scan(before, end, sizes, reverse=True)  # [B, S + 1, Q + 1]

    def toss(have, bout):
        size, chance, coin = bout
        support = coin < chance[have]
        more = jnp.minimum(have[0] + size, shots), jnp.minimum(have[1] + size, queries)
        return (jnp.where(support, more[0], have[0]), jnp.where(support, have[1], more[1])), support

    nothing = jnp.zeros((), sizes.dtype)
    return jax.lax.scan(toss, (nothing, nothing), (sizes, chances, uniform))[1]
