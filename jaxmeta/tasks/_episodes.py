"""N-way K-shot episodes, drawn on the device inside the jitted step.

Axis letters: `G` groups (alphabets, persons), `C` classes, `W` ways, `S` shots, `Q` queries a
class.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from jaxmeta import _check
from jaxmeta._pickle import Function
from jaxmeta.base import Examples, Task
from jaxmeta.tasks._bouts import most_queries, parted
from jaxmeta.tasks._pool import Pool, Table
from jaxmeta.tasks._variants import Variants, original


def episodes(pool: Pool, ways: int, shots: int, queries: int, variants: Variants = original):
    """The sampler of N-way K-shot episodes: classes without replacement, support and query
    disjoint.

    A group is drawn uniformly from those with enough classes, then `ways` of its classes that have
    enough examples, then `shots + queries` examples of each. Labels are 0 to ways - 1 in the order
    drawn.

    Of a pool with bouts, support and query of a class come from different ones: a fair coin gives
    each bout to the support or to the query, given that both get enough; then shots and queries are
    drawn uniformly from the examples of their bouts. Where every example is a bout of its own,
    episodes are as likely as those of a pool without.

    Args:
      pool: One split's examples.
      ways: W, classes in an episode.
      shots: S, support examples a class.
      queries: Q, query examples a class.
      variants: What makes several classes of one, such as `rotations`. Variants of one class may
        meet in an episode.

    Returns:
      `key -> Task` with x `[W * S, ...]` and `[W * Q, ...]`, class by class; a pytree, so that
      jitted functions take the examples as an argument and not as a constant.

    Raises:
      ValueError: If no group has `ways` classes with `shots + queries` examples, in bouts that can
        be parted so.

    References: Vinyals et al., Matching networks, NeurIPS 2016.

    >>> from jaxmeta.tasks import pool
    >>> windows, labels, bouts = np.arange(8.0)[:, None], np.repeat([0, 1], 4), np.arange(8) // 2
    >>> task = episodes(pool(windows, labels, bouts=bouts), ways=2, shots=2, queries=2)(
    ...     jax.random.key(0)
    ... )
    >>> set((task.support.x // 2).ravel().tolist()) & set((task.query.x // 2).ravel().tolist())
    set()
    """
    return jax.tree_util.Partial(
        _sampling(shots, variants), pool, drawer(pool.table, ways, shots, queries, variants)
    )


# One function for all samplers of a setting, so that jitted functions see that two of them differ
# in their arrays alone.
@functools.cache
def _sampling(shots: int, variants: Variants):
    @Function
    def sample(pool: Pool, draw, key):
        drawn = draw(key)
        return task_of(pool.inputs[drawn.members], drawn, shots, variants)

    return sample


class Drawn(NamedTuple):
    """What an episode consists of: `members` `[W, S + Q]` positions, `variants` `[W]`, `group` a
    scalar."""

    members: Int[Array, "W n"]
    variants: Int[Array, " W"]
    group: Int[Array, ""]


def drawer(table: Table, ways: int, shots: int, queries: int, variants: Variants = original):
    """`key -> Drawn`: which examples an episode has, for `episodes` and `stream` alike."""
    for name, value in {"ways": ways, "shots": shots, "queries": queries}.items():
        _check.whole_number(name, value, least=1)
    enough = _queries(table, shots) >= queries
    classes = int(enough.sum(1).max()) * variants.count
    if classes < ways:
        have = f"the largest group has {classes}" if len(enough) > 1 else f"there are {classes}"
        cures = [f"at most {classes} ways"] * (classes > 0) + _fewer(
            table, -(-ways // variants.count), shots
        )
        cure = f"{'take ' if classes else ''}{' or '.join(cures)}" if cures else "give more data"
        need = (
            f"with at least {shots + queries} examples each"
            if table.bouts is None
            else f"of which some bouts hold {shots} examples and the others {queries}"
        )
        raise ValueError(
            f"{ways}-way episodes of {shots} shots and {queries} queries need {ways} classes "
            f"{need}, {have}; {cure}"
        )
    eligible = jnp.asarray(enough & (enough.sum(1, keepdims=True) * variants.count >= ways))
    return jax.tree_util.Partial(_drawing(ways, shots, queries, variants), table, eligible)


def _queries(table: Table, shots: int) -> Int[np.ndarray, "G C"]:
    """The most queries that each class has beside so many shots."""
    return (
        np.asarray(table.counts) - shots
        if table.bouts is None
        else most_queries(np.asarray(table.bouts.sizes), shots)
    )


def _fewer(table: Table, classes: int, shots: int) -> list[str]:
    """What so many classes of some group can serve, in words; nothing where they cannot serve at
    all."""

    def most(shots):
        queries = np.sort(_queries(table, shots), axis=1)[:, ::-1][:, :classes]
        return int(queries.min(1).max()) if queries.shape[1] == classes else 0

    if table.bouts is None:
        return [f"at most {most(0)} shots and queries together"] * (most(0) > 1)
    if most(shots) > 0:
        return [f"at most {most(shots)} queries"]
    both = max((each for each in range(1, shots) if most(each) >= each), default=0)
    return [f"at most {both} shots and as many queries"] * (both > 0)


@functools.cache
def _drawing(ways: int, shots: int, queries: int, variants: Variants):
    @Function
    def draw(table, eligible, key):
        key_group, key_class, key_member = jax.random.split(key, 3)
        group = _without_replacement(key_group, eligible.any(1), 1)[0]
        chosen = _without_replacement(key_class, jnp.repeat(eligible[group], variants.count), ways)
        classes = chosen // variants.count
        held = jnp.arange(table.members.shape[2])[None, :] < table.counts[group, classes][:, None]
        if table.bouts is None:
            places = _without_replacement(key_member, held, shots + queries)
        else:
            places = apart(key_member, held, *(each[group, classes] for each in table.bouts))
        members = jnp.take_along_axis(table.members[group, classes], places, axis=1)
        return Drawn(members, chosen % variants.count, group)

    def apart(key, held, of, sizes):
        """Places `[W, S + Q]` of members of these bouts."""
        uniform = jax.random.uniform(key, (ways, held.shape[1] + sizes.shape[1]), jnp.float32)
        scores, coins = jnp.split(uniform, [held.shape[1]], axis=1)
        sides = jax.vmap(functools.partial(parted, shots=shots, queries=queries))(coins, sizes)
        support = jnp.take_along_axis(sides, of, axis=1)
        return jnp.concatenate(
            [_highest(scores, held & support, shots), _highest(scores, held & ~support, queries)], 1
        )

    return draw


def _without_replacement(
    key, available: Bool[Array, "*rows n"], count: int
) -> Int[Array, "*rows count"]:
    return _highest(jax.random.uniform(key, available.shape, jnp.float32), available, count)


def _highest(scores, available: Bool[Array, "*rows n"], count: int) -> Int[Array, "*rows count"]:
    return jax.lax.top_k(jnp.where(available, scores, -1.0), count)[1]


def task_of(inputs, drawn: Drawn, shots: int, variants: Variants) -> Task:
    """The task of inputs `[W, S + Q, ...]`, as they lie in the pool."""
    inputs = jax.vmap(variants.apply)(inputs, drawn.variants)
    return Task(_numbered(inputs[:, :shots]), _numbered(inputs[:, shots:]), drawn.group)


def _numbered(inputs) -> Examples:
    """Inputs `[W, n, ...]` in a row, labelled 0 to W - 1."""
    inputs = to_float(inputs)
    ways, each = inputs.shape[:2]
    return Examples(
        inputs.reshape(ways * each, *inputs.shape[2:]), jnp.repeat(jnp.arange(ways), each)
    )


def to_float(inputs):
    """Bytes as floats from 0 to 1; floats as they are."""
    return inputs.astype(jnp.float32) / 255 if inputs.dtype == jnp.uint8 else inputs


def sessions(support: Pool, query: Pool, shots: int, queries: int):
    """The sampler of tasks of one group in all classes, learnt in one session and judged in
    another.

    A group is drawn uniformly from those that have enough of every class in both pools. Classes
    keep their numbers, so that a task asks how this person walks, and not which of the classes is
    walking.

    Args:
      support: Examples of one session, recording or day, by group and class.
      query: Examples of another one, of the same groups and classes.
      shots: S, support examples a class.
      queries: Q, query examples a class.

    Returns:
      `key -> Task` as `episodes` gives, with W = C.

    Raises:
      ValueError: If the pools differ in groups or classes, or no group has enough of every class.

    >>> from jaxmeta.tasks import pool
    >>> monday, tuesday = (
    ...     pool(np.full((4, 1), day), np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1]))
    ...     for day in (1, 2)
    ... )
    >>> task = sessions(monday, tuesday, shots=1, queries=1)(jax.random.key(0))
    >>> task.support.x.ravel().tolist(), task.query.x.ravel().tolist(), task.query.y.tolist()
    ([1, 1], [2, 2], [0, 1])
    """
    counts = []
    for name, each, pool in (("shots", shots, support), ("queries", queries, query)):
        _check.whole_number(name, each, least=1)
        counts.append(np.asarray(pool.table.counts))
    if counts[0].shape != counts[1].shape:
        raise ValueError(
            "support and query must be of the same groups and classes, got [G, C] of "
            f"{counts[0].shape} and {counts[1].shape}; make both pools with the same numbers for "
            "persons and classes"
        )
    eligible = (counts[0] >= shots).all(1) & (counts[1] >= queries).all(1)
    if not eligible.any():
        most = [int(each.min(1).max()) for each in counts]
        raise ValueError(
            f"tasks of {shots} shots and {queries} queries need a group with as many of every "
            f"class, got at most {most[0]} and {most[1]}; take fewer, or give more data"
        )
    return jax.tree_util.Partial(_between(shots, queries), support, query, jnp.asarray(eligible))


@functools.cache
def _between(shots: int, queries: int):
    @Function
    def sample(support: Pool, query: Pool, eligible, key):
        key_group, key_support, key_query = jax.random.split(key, 3)
        group = _without_replacement(key_group, eligible, 1)[0]

        def part(key, pool: Pool, each):
            held = (
                jnp.arange(pool.table.members.shape[2])[None, :] < pool.table.counts[group][:, None]
            )
            places = _without_replacement(key, held, each)
            return _numbered(
                pool.inputs[jnp.take_along_axis(pool.table.members[group], places, axis=1)]
            )

        return Task(part(key_support, support, shots), part(key_query, query, queries), group)

    return sample
