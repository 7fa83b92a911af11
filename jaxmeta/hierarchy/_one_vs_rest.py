"""A shared body with one logistic head a concept, each against all others; what lookahead and
Task2Vec look at.

Axis letters: `C` concepts, `s` examples of each in a batch, `h` features of the body.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from jaxmeta import _check
from jaxmeta.base import Examples
from jaxmeta.hierarchy._class_data import ByClass, by_class
from jaxmeta.models import Model


class Heads(NamedTuple):
    """One linear head a concept: `logits = h weights + offsets`."""

    weights: Float[Array, "h C"]
    offsets: Float[Array, " C"]

    def __call__(self, features):
        return features @ self.weights + self.offsets[None]


def balanced_losses(logits: Float[Array, "C s C"]) -> Float[Array, " C"]:
    """Every head's cross-entropy in nats, its own concept counting as much as all others together.

    >>> import jax.numpy as jnp
    >>> balanced_losses(jnp.zeros((3, 5, 3))).round(3).tolist()  # log 2
    [0.693..., 0.693..., 0.693...]
    """
    concepts = logits.shape[0]
    own = jnp.eye(concepts, dtype=logits.dtype)[:, None]
    away = (1 - own) * jax.nn.softplus(logits)
    return ((own * jax.nn.softplus(-logits)).sum(0) + away.sum(0) / (concepts - 1)).mean(0) / 2


def fit_heads(
    key,
    examples: Examples,
    body: Model,
    steps: int,
    shots: int,
    optimiser: optax.GradientTransformation,
    every: int,
    watch: Callable,
):
    """Trains body and heads on the sum of all heads' losses, in one program.

    Args:
      key: Draws parameters and batches.
      examples: Of all concepts.
      body: `[n, ...] -> [n, h]`.
      steps: Updates, a multiple of every.
      shots: Examples of each concept an update.
      optimiser: Of body and heads.
      every: Updates between two looks.
      watch: `(losses, shared, heads) -> kept`, before the first update and each time, on the batch
        of the update.

    Returns:
      `(shared, heads, kept [steps / every, ...])`.
    """
    if steps < 1 or every < 1 or steps % every:
        raise ValueError(f"steps must be a multiple of every, got {steps} and {every}")
    _check.whole_number("shots", shots, least=1)
    data = by_class(examples)
    return _fit(key, data, body, steps, shots, optimiser, every, watch)


@functools.partial(
    jax.jit, static_argnames=("body", "steps", "shots", "optimiser", "every", "watch")
)
def _fit(key, data: ByClass, body, steps, shots, optimiser, every, watch):
    begin, head, draw = jax.random.split(key, 3)
    concepts = data.x.shape[0]
    shared = jax.tree.map(lambda leaf: leaf.astype(data.x.dtype), body.init(begin, data.x[:, 0]))
    width = jax.eval_shape(body.apply, shared, data.x[:, 0]).shape[1]
    heads = Heads(
        jax.random.normal(head, (width, concepts), data.x.dtype) / width**0.5,
        jnp.zeros(concepts, data.x.dtype),
    )

    def batch_losses(key):
        rows = (jax.random.uniform(key, (concepts, shots)) * data.counts[:, None]).astype(int)
        rows = jnp.minimum(rows, data.counts[:, None] - 1)
        x = jnp.take_along_axis(data.x, rows.reshape(concepts, shots, *(1,) * (data.x.ndim - 2)), 1)
        x = x.reshape(-1, *x.shape[2:])
        return lambda shared, heads: balanced_losses(
            heads(body.apply(shared, x)).reshape(concepts, shots, concepts)
        )

    def update(carry, key):
        (shared, heads), state = carry
        losses = batch_losses(key)
        grads = jax.grad(lambda params: losses(*params).sum())((shared, heads))
        updates, state = optimiser.update(grads, state, (shared, heads))
        return (optax.apply_updates((shared, heads), updates), state), ()

    def look(carry, keys):
        kept = watch(batch_losses(keys[0]), *carry[0])
        return jax.lax.scan(update, carry, keys)[0], kept

    keys = jax.random.split(draw, (steps // every, every))
    carry, kept = jax.lax.scan(look, ((shared, heads), optimiser.init((shared, heads))), keys)
    return *carry[0], kept
