"""What is shared by all tasks and never moved by the low level."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from jaxmeta import _check
from jaxmeta._pytree import Where, claim, everything, leave, merge
from jaxmeta.base import Bias, Count
from jaxmeta.bias._start import check_claim
from jaxmeta.process import lifted, started


def last_begun(count: Count) -> Int[Array, ""]:
    """Step k learns with set k, and where learning ended after it the query is judged with set k
    too: K sets, as in the authors' code of MAML++."""
    return jnp.maximum(count.begun, 1) - 1


def next_one(count: Count) -> Int[Array, ""]:
    """What stands after k steps learns and is judged with set k: K + 1 sets, the last of which is
    the query's own (ours)."""
    return count.done


def shared(
    where: Where = everything, steps: int | None = None, place: Callable = last_begun
) -> Bias:
    """The high level owns the claimed leaves; the low level never sees them (BOIL's head, DARTS'
    mixture).

    `loss'(key, phi, batch) = loss(key, theta + phi, batch)`, phi being the leaves left over. With
    `steps` = K theta has a set of values of every claimed leaf for each inner step (MAML++'s
    per-step normalisation), and phi counts the steps; learning for longer goes on with the last
    set. The low level's steps do not move the sets.

    Args:
      where: Which leaves of phi are claimed, by path.
      steps: None for one value of each leaf, or K for sets on a leading axis.
      place: Which set a part of learning has, by its `jaxmeta.base.Count`: `last_begun`, K sets, or
        `next_one`, K + 1 of them.

    Returns:
      A `Bias` whose theta is phi with None for unclaimed leaves.

    Raises:
      ValueError: If theta's leaves are not those of the learner's parameters, or `where` means none
        of them.

    References: Raghu et al., Rapid learning or feature reuse?, ICLR 2020; Antoniou et al., How to
    train your MAML, ICLR 2019.
    """
    if steps is not None:
        with jax.ensure_compile_time_eval():  # a number, also where the bias is made under jit
            sets = 1 + int(place(Count(_check.whole_number("steps", steps), steps)))

    def init(key, task, learner):
        theta = claim(started(key, learner, task), where)
        if steps is None:
            return theta
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (sets, *leaf.shape)), theta)

    def shape(theta, task, learner):
        if steps is not None:
            return _shape_by_step(theta, task, learner)
        check_claim(theta, learner, task, where)

        def start(key, task):
            return leave(learner.start(key, task), where)

        def penalty(phi, phi_0):
            return learner.penalty(merge(theta, phi), merge(theta, phi_0))

        return lifted(learner, lambda phi, batch: (merge(theta, phi), batch))._replace(
            start=start, penalty=penalty
        )

    def _shape_by_step(theta, task, learner):
        check_claim(jax.tree.map(lambda leaf: leaf[0], theta), learner, task, where)

        def whole(state):
            phi, count = state
            index = jnp.minimum(place(count), sets - 1)
            return merge(jax.tree.map(lambda leaf: leaf[index], theta), phi)

        def start(key, task):
            return leave(learner.start(key, task), where), Count(
                jnp.zeros((), int), jnp.zeros((), int)
            )

        def penalty(state, start):
            return learner.penalty(whole(state), whole(start))

        return lifted(learner, lambda state, batch: (whole(state), batch))._replace(
            start=start, penalty=penalty
        )

    return Bias(init, shape)
