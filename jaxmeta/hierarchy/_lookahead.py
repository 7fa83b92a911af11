"""Lookahead affinity (TAG): does a step for one concept help another? Axis letter: `C` concepts."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from jaxmeta import _check
from jaxmeta.base import Examples
from jaxmeta.hierarchy._affinity import checked_affinity
from jaxmeta.hierarchy._one_vs_rest import fit_heads
from jaxmeta.models import Model

_ADAM = optax.adam(1e-3)


def lookahead(losses: Callable, shared: PyTree, heads: PyTree, rate: float) -> Float[Array, "C C"]:
    r"""What one step of gradient descent for a source, on the shared parameters alone, saves of a
    target's loss.

    $$ Z_{i \to j} = 1 - \frac{L_j(\theta_s
       - \eta\, \nabla_s L_i,\ \theta_j)}{L_j(\theta_s,\ \theta_j)} $$

    Args:
      losses: `(shared, heads) -> [C]`, all concepts' losses on one batch, each positive.
      shared: The parameters that all concepts share.
      heads: Those that they do not.
      rate: Length of the step, eta.

    Returns:
      `[source, target]`; C gradients and C^2 losses in one program. C copies of the shared
      parameters are held.

    >>> import jax.numpy as jnp
    >>> lookahead(lambda s, h: (s - h) ** 2, jnp.array(0.0), jnp.array([1.0, -1.0]), 0.25).tolist()
    [[0.75, -1.25], [-1.25, 0.75]]

    Paper: Fifty et al., Efficiently identifying task groupings for multi-task learning, NeurIPS
    2021.
    """
    grads = jax.jacrev(losses)(shared, heads)
    moved = jax.vmap(
        lambda grad: losses(jax.tree.map(lambda x, g: x - rate * g, shared, grad), heads)
    )(grads)
    return 1 - moved / losses(shared, heads)[None]


@functools.lru_cache  # the same function for the same rate, so that programs are compiled once
def _watch(rate):
    return functools.partial(lookahead, rate=rate)


def lookahead_affinity(
    key,
    examples: Examples,
    body: Model,
    steps: int = 200,
    every: int = 10,
    rate: float = 0.1,
    shots: int = 16,
    optimiser: optax.GradientTransformation = _ADAM,
) -> Float[Array, "C C"]:
    """The mean lookahead over the training of a shared body with a logistic head for every concept
    against the rest.

    Heads of concepts, rather than of tasks, and batches with equally many of each concept are ours;
    the lookahead is plain gradient descent, whatever the optimiser.

    Args:
      key: Draws parameters and batches.
      examples: x `[n, ...]`, y `[n]`, 0 to C-1.
      body: `[n, ...] -> [n, h]`, for instance `mlp((64,), None)`.
      steps: Updates of training, a multiple of every.
      every: Updates between lookaheads.
      rate: Length of the lookahead's step.
      shots: Examples of each concept in a batch.
      optimiser: What trains body and heads.

    Returns:
      `[source, target]`, at most 1; below 0 where a step for the source harms the target.

    Raises:
      ValueError: for what `by_class` refuses, steps that every does not divide, or a loss that
        diverged.
    """
    _check.number("rate", rate, above=0)
    _, _, seen = fit_heads(key, examples, body, steps, shots, optimiser, every, _watch(rate))
    return checked_affinity(jnp.mean(seen, 0))
