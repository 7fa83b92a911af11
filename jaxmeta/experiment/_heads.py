"""A theta learned with one number of ways, used with another."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxmeta.base import Bilevel, Task


def at_other_ways(theta, trained: tuple[Bilevel, Task], wanted: tuple[Bilevel, Task]):
    """Theta with as many outputs in its head as another number of ways needs.

    Labels are dealt anew in every episode, so no output of the head means anything of its own. With
    fewer ways the first outputs are kept. With more, each starts as the mean of those learned,
    which they differ from by accident alone, and the inner steps tell them apart; where a leaf has
    two axes of ways (Meta-Curvature's factor), the mean of its diagonal stands on the diagonal and
    that of the rest beside it.

    Args:
      theta: As learned.
      trained: The bilevel problem it was learned for, and one of its tasks; shapes are enough.
      wanted: Those it is wanted for.

    Returns:
      Theta for `wanted`: the same where no leaf depends on the ways.

    Reference: Ye and Chao, How to train your MAML to excel in few-shot classification, ICLR 2022.
    """
    old, new = (
        jax.eval_shape(bilevel.init, jax.random.key(0), task) for bilevel, task in (trained, wanted)
    )
    return jax.tree.map(_resized, theta, old, new)


def _resized(leaf, old, new):
    axes = [axis for axis, (was, now) in enumerate(zip(old.shape, new.shape)) if was != now]
    if not axes:
        return leaf
    was, now = old.shape[axes[0]], new.shape[axes[0]]
    if now < was:
        return leaf[tuple(slice(now) if axis in axes else slice(None) for axis in range(leaf.ndim))]
    if len(axes) == 1:
        return jnp.broadcast_to(leaf.mean(axes[0], keepdims=True), new.shape).astype(leaf.dtype)
    diagonal = jnp.trace(leaf) / was
    beside = (leaf.sum() - jnp.trace(leaf)) / (was * (was - 1))
    return jnp.where(jnp.eye(now, dtype=bool), diagonal, beside).astype(leaf.dtype)
