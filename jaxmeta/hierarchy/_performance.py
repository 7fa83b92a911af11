"""From what transfers lost to the paper's affinity: how a loss becomes a share, and what a budget
is worth.

Axis letters: `C` concepts, `B` budgets, `G` groups of targets (the C concepts, unless the transfer
is of higher order).
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from jaxmeta import _check
from jaxmeta.hierarchy._affinity import checked_affinity
from jaxmeta.hierarchy._transfer import Transfers, transfers

Performance = Callable[..., object]
"""`(loss, scratch, variance) -> p` in [0, 1]; of arrays that broadcast, element by element."""


def over_scratch(loss, scratch, variance):
    r"""The share of the loss of training from scratch that the transfer saves:
    `p = clip((L_scratch - L) / L_scratch, 0, 1)`.

    >>> float(over_scratch(0.25, 1.0, 2.0)), float(over_scratch(3.0, 1.0, 2.0))
    (0.75, 0.0)
    """
    return jnp.clip((scratch - loss) / scratch, 0, 1)


def explained_variance(loss, scratch, variance):
    """The share of the target's variance that the reconstruction explains:
    `p = clip(1 - L / variance, 0, 1)`."""
    return jnp.clip(1 - loss / variance, 0, 1)


def exponential(scale: float = 1.0) -> Performance:
    """`p = exp(-L / scale)`, the scale being in the square of the input's unit.

    >>> round(float(exponential(2.0)(2.0, 1.0, 1.0)), 4)
    0.3679
    """
    _check.number("scale", scale, above=0)
    return lambda loss, scratch, variance: jnp.exp(-loss / scale)


def scored(
    moved: Transfers, performance: Performance = over_scratch, alpha: float = 0.5, beta: float = 0.5
):
    r"""The paper's affinity of every budget.

    $$ a_{ij}(b) = \frac{\alpha\, p_{i \to j}(b) + \beta\, b / b_{max}}{\alpha + \beta} $$

    As the paper writes it, a larger budget raises the affinity, by the same for all pairs: within
    one budget the order is that of p. `examples_needed` reads it the other way. The paper says
    neither how a loss becomes p nor in which unit b is.

    Args:
      moved: From `transfers`.
      performance: How losses become p.
      alpha: Weight of the performance.
      beta: Weight of the budget.

    Returns:
      `[B, C, G]`, [source, target].

    Raises:
      ValueError: for negative weights, or both zero.

    Paper: Hamidi and Osmani, PAKDD 2021, arXiv 2104.04889.
    """
    _weights(alpha, beta)
    spent = np.asarray(moved.budgets, float)[:, None, None] / max(moved.budgets)
    return (alpha * np.asarray(_performance(moved, performance)) + beta * spent) / (alpha + beta)


def examples_needed(
    moved: Transfers,
    performance: Performance = over_scratch,
    alpha: float = 0.5,
    beta: float = 0.5,
    target_loss=None,
):
    r"""The affinity with the budget read as a cost (ours): what few examples suffice for is close.

    $$ a_{ij} = \frac{\alpha\, p_{i \to j}(b_{max}) + \beta\, (1 - b_{ij} / b_{max})}{\alpha
       + \beta}, \qquad
       b_{ij} = \min \{ b : L_{ij}(b) \le L^*_j \} $$

    Args:
      moved: From `transfers`, with several budgets.
      performance: How losses become p, taken at the largest budget.
      alpha: Weight of the performance.
      beta: Weight of the examples saved.
      target_loss: L*, `[G]`; default: from scratch under the largest budget. Where no budget
        reaches it, none is saved.

    Returns:
      `[C, G]`, [source, target]; NaN where a loss is.
    """
    _weights(alpha, beta)
    budgets = np.asarray(moved.budgets, float)
    target_loss = moved.scratch[-1] if target_loss is None else target_loss
    losses, target_loss = (
        np.asarray(moved.losses),
        np.broadcast_to(target_loss, moved.losses.shape[1:]),
    )
    reached = losses <= target_loss[None]
    needed = np.where(reached.any(0), budgets[reached.argmax(0)], budgets[-1])
    needed = np.where(
        np.isnan(losses).any(0) | np.isnan(target_loss), np.nan, needed
    )  # not: is never reached
    return (
        alpha * np.asarray(_performance(moved, performance))[-1] + beta * (1 - needed / budgets[-1])
    ) / (alpha + beta)


def transfer_affinity(
    key, train, held, budget: int = 100, performance: Performance = over_scratch, **options
):
    """The paper's affinity `[C, C]` under one budget (100 examples in the paper): `scored` of
    `transfers`.

    Args:
      key: See `transfers`, as for train, held and options.
      train: Examples.
      held: Examples.
      budget: Examples of a target.
      performance: How losses become p.
      options: Of `transfers`.
    """
    return checked_affinity(
        scored(transfers(key, train, held, (budget,), **options), performance)[0]
    )


def _performance(moved, performance):
    return performance(moved.losses, moved.scratch[:, None], moved.variance[None, None])


def _weights(alpha, beta):
    _check.number("alpha", alpha, least=0)
    _check.number("beta", beta, least=0)
    _check.number("alpha + beta", alpha + beta, above=0)
