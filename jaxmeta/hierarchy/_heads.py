"""What stands at a node and chooses among its children: closed form or descent, any of it under
vmap.

`n` examples, `d` features, `A` children, padded to the most that a node has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from jaxmeta import _check
from jaxmeta.models import mlp

_LEAST = 1e-6  # of a share and of a residual variance


class Head(NamedTuple):
    """A node's model.

    Args:
      fit: `(key, z [n, ...], targets [n, A], weights [n], mask [A]) -> params`. Targets are an
        example's shares in the children, one-hot in a tree; weights are 0 for examples that are not
        under the node and sum to the number of those that are; the mask is False where there is no
        child.
      logits: `(params, z, mask) -> [n, A]`; where the mask is False, anything finite.
    """

    fit: Callable
    logits: Callable


def masked(logits: Float[Array, "*n A"], mask: Bool[Array, " A"]) -> Float[Array, "*n A"]:
    """The logits with what is no child far down; finite, so that derivatives are too."""
    return jnp.where(jnp.broadcast_to(mask, logits.shape), logits, -1e30)


def cross_entropy(logits, targets, mask):
    """`-sum_a targets_a log softmax(logits)_a` of every example, in nats."""
    return optax.softmax_cross_entropy(masked(logits, mask), targets)


def hinge(logits, targets, mask):
    """`max(0, 1 + the best wrong child's logit - the best right one's)`, the multi-class SVM of
    Crammer and Singer."""
    right = jnp.where(targets > 0, logits, -1e30).max(axis=-1)
    wrong = jnp.where(targets > 0, -1e30, masked(logits, mask)).max(axis=-1)
    return jnp.maximum(0.0, 1 + wrong - right)


# Frozen dataclasses below: equal settings are equal (one compiled program) and pickle.


@dataclass(frozen=True)
class _Ridge:
    penalty: float
    temperature: float

    def __call__(self, key, z, targets, weights, mask):
        z = z.reshape(z.shape[0], -1)
        examples, features = weights.sum(), z.shape[1]
        share = weights / jnp.maximum(examples, 1)
        mean, prior = share @ z, share @ targets
        root = jnp.sqrt(share)[:, None]
        left, right = root * (z - mean[None]), root * (targets - prior[None])
        trace = (left**2).sum()
        strength = jnp.where(trace > 0, self.penalty * trace / features, 1.0)
        if z.shape[0] < features:  # the smaller of the two systems
            gram = left @ left.T
            inverse = jnp.linalg.inv(gram + strength * jnp.eye(z.shape[0], dtype=z.dtype))
            coefficients = left.T @ (inverse @ right)
        else:
            gram = left.T @ left
            inverse = jnp.linalg.inv(gram + strength * jnp.eye(features, dtype=z.dtype))
            coefficients = inverse @ (left.T @ right)
        fitted = left @ coefficients
        free = 1 + (inverse * gram).sum()
        variance = ((right - fitted) ** 2).sum(0) * examples / jnp.maximum(examples - free, 1)
        prior = jnp.clip(prior, _LEAST, 1 - _LEAST)
        apart = (fitted * right).sum(0) / (prior * (1 - prior))
        children = mask.sum()
        slope = (children - 1) / (children * self.temperature * jnp.maximum(variance, _LEAST))
        # A score is prior + (z - mean) W; midway between its means inside and outside the child is
        # prior + (1/2 - prior) apart.
        offset = jnp.log(prior) - slope * (mean @ coefficients + (0.5 - prior) * apart)
        return {"kernel": coefficients * slope[None], "bias": offset}


def _affine(params, z, mask):
    return z.reshape(z.shape[0], -1) @ params["kernel"] + params["bias"][None]


def ridge_head(penalty: float = 1e-2, temperature: float = 1.0) -> Head:
    """Ridge regression on the children's indicators, in closed form; the logits are linear.

    The same rule from scores to logits as the exact optimum's `ridge` nodes: with two children and
    no penalty, linear discriminant analysis.

    Args:
      penalty: In units of the mean variance of a feature, above 0.
      temperature: A factor that flattens the logits.
    """
    _check.number("penalty", penalty, above=0)
    _check.number("temperature", temperature, above=0)
    return Head(_Ridge(penalty, temperature), _affine)


@dataclass(frozen=True)
class _Descent:
    make: Callable
    criterion: Callable
    update: optax.GradientTransformation | None
    steps: int
    batch: int | None

    def __call__(self, key, z, targets, weights, mask):
        start, drawing = jax.random.split(key)
        model = self.make(mask.shape[0])
        update = optax.adam(1e-2) if self.update is None else self.update
        params = model.init(start, z[:1])
        below = jnp.cumsum(weights)

        def loss(params, z, targets, weights):
            values = self.criterion(model.apply(params, z), targets, mask)
            return (values * weights).sum() / jnp.maximum(weights.sum(), _LEAST)

        def step(carry, key):
            params, state = carry
            if self.batch is None:
                drawn = z, targets, weights
            else:  # from the node's own examples, by weight, however few they are
                places = below[-1] * (1 - jax.random.uniform(key, (self.batch,), below.dtype))
                picked = jnp.searchsorted(below, places)
                drawn = z[picked], targets[picked], jnp.ones_like(places)
            grad = jax.grad(loss)(params, *drawn)
            change, state = update.update(grad, state, params)
            return (optax.apply_updates(params, change), state), None

        return jax.lax.scan(
            step, (params, update.init(params)), jax.random.split(drawing, self.steps)
        )[0][0]


@dataclass(frozen=True)
class _Applied:
    make: Callable

    def __call__(self, params, z, mask):
        return self.make(mask.shape[0]).apply(params, z)


@dataclass(frozen=True)
class _Dense:
    hidden: tuple[int, ...]

    def __call__(self, outputs: int):
        return mlp(self.hidden, outputs)


def descent_head(
    make: Callable,
    criterion: Callable = cross_entropy,
    update: optax.GradientTransformation | None = None,
    steps: int = 300,
    batch: int | None = None,
) -> Head:
    """Any model by gradient descent: a node's own encoder is part of its model.

    Args:
      make: `outputs -> Model`.
      criterion: `(logits [n, A], targets [n, A], mask [A]) -> [n]`: `cross_entropy` or `hinge`.
      update: Default `optax.adam(1e-2)`.
      steps: Updates.
      batch: Examples an update, drawn with replacement by weight from those under the node, so that
        a step costs as much at a small node as at the root; default: all of them, weighted.
    """
    _check.whole_number("steps", steps, least=1)
    if batch is not None:
        _check.whole_number("batch", batch, least=1)
    return Head(_Descent(make, criterion, update, steps, batch), _Applied(make))


def linear_head(
    criterion: Callable = cross_entropy,
    update: optax.GradientTransformation | None = None,
    steps: int = 300,
    batch: int | None = None,
) -> Head:
    """A linear model by gradient descent: logistic regression, or with `hinge` a support vector
    machine (decay weights by `optax.adamw`). A hinge's probabilities are the softmax of its
    margins, not calibrated."""
    return descent_head(_Dense(()), criterion, update, steps, batch)


def network_head(
    hidden: tuple[int, ...] = (32,),
    criterion: Callable = cross_entropy,
    update: optax.GradientTransformation | None = None,
    steps: int = 300,
    batch: int | None = None,
) -> Head:
    """A small multilayer perceptron of its own at every node."""
    return descent_head(_Dense(tuple(hidden)), criterion, update, steps, batch)
