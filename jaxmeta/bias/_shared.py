"""What is shared by all tasks and never moved by the low level."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from jaxmeta import _check
from jaxmeta._pytree import Where, claim, everything, leave, merge
from jaxmeta.base import Bias
from jaxmeta.bias._start import check_claim
from jaxmeta.process import lifted, started


def shared(where: Where = everything, steps: int | None = None) -> Bias:
    """The high level owns the claimed leaves; the low level never sees them (BOIL's head, DARTS' mixture).

    `loss'(key, phi, batch) = loss(key, theta + phi, batch)`, phi being the leaves left over. With `steps` = K theta has
    K + 1 values of every claimed leaf, one for each inner step and one for the end (MAML++'s per-step normalisation);
    learning for longer goes on with the last.

    Args:
      where: Which leaves of phi are claimed, by path.
      steps: None for one value of each leaf, or K for K + 1 of them on a leading axis.

    Returns:
      A `Bias` whose theta is phi with None for unclaimed leaves.

    Raises:
      ValueError: If theta's leaves are not those of the learner's parameters, or `where` means none of them.

    References: Raghu et al., Rapid learning or feature reuse?, ICLR 2020; Antoniou et al., How to train your MAML,
    ICLR 2019.
    """
    if steps is not None:
        _check.whole_number("steps", steps)

    def init(key, task, learner):
        theta = claim(started(key, learner, task), where)
        if steps is None:
            return theta
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (steps + 1, *leaf.shape)), theta)

    def shape(theta, task, learner):
        if steps is not None:
            return _shape_by_step(theta, task, learner)
        check_claim(theta, learner, task, where)

        def start(key, task):
            return leave(learner.start(key, task), where)

        def penalty(phi, phi_0):
            return learner.penalty(merge(theta, phi), merge(theta, phi_0))

        return lifted(learner, lambda phi, batch: (merge(theta, phi), batch))._replace(start=start, penalty=penalty)

    def _shape_by_step(theta, task, learner):
        # The learner is given a clock beside phi: a leaf without gradient that the update moves on by one.
        check_claim(jax.tree.map(lambda leaf: leaf[0], theta), learner, task, where)

        def now(clock):
            step = jnp.minimum(clock, steps).astype(int)
            return jax.tree.map(lambda leaf: leaf[step], theta)

        def start(key, task):
            return leave(learner.start(key, task), where), jnp.zeros(())

        def lift(state, batch):
            phi, clock = state
            return merge(now(clock), phi), batch

        def penalty(state, start):
            return learner.penalty(merge(now(state[1]), state[0]), merge(now(start[1]), start[0]))

        inner = optax.with_extra_args_support(learner.update)

        def move(grads, memory, state=None, **more):
            more = {name: value for name, value in more.items() if name not in ("grad", "value_fn")}
            updates, memory = inner.update(grads[0], memory, None if state is None else state[0], **more)
            return (updates, jnp.ones(())), memory

        update = optax.GradientTransformationExtraArgs(lambda state: inner.init(state[0]), move)
        return lifted(learner, lift)._replace(start=start, penalty=penalty, update=update)

    return Bias(init, shape)
