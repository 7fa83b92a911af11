"""The usual outer optimiser."""

from __future__ import annotations

import optax


def outer_adam(rate: float = 1e-3, steps: int | None = None, clip: float | None = 10.0) -> optax.GradientTransformation:
    """Adam on theta, with the global norm of the gradient clipped and a cosine decay of the rate to zero.

    Args:
      rate: Of the first step, in theta's unit.
      steps: Outer steps until the rate is zero; None for a constant rate.
      clip: The largest global norm of the gradient; None for no clipping.

    Reference: Antoniou, Edwards and Storkey, How to train your MAML, ICLR 2019 (cosine annealing of the outer rate).
    """
    schedule = rate if steps is None else optax.cosine_decay_schedule(rate, steps)
    return optax.chain(*([] if clip is None else [optax.clip_by_global_norm(clip)]), optax.adam(schedule))
