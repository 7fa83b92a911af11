"""The usual outer optimisers."""

from __future__ import annotations

import jax
import optax
from optax.contrib import MuonDimensionNumbers, muon


def outer_adam(
    rate: float = 1e-3, steps: int | None = None, clip: float | None = 10.0
) -> optax.GradientTransformation:
    """Adam on theta, with the global norm of the gradient clipped and a cosine decay of the rate to
    zero.

    Args:
      rate: Of the first step, in theta's unit.
      steps: Outer steps until the rate is zero; None for a constant rate.
      clip: The largest global norm of the gradient; None for no clipping.

    Reference: Antoniou, Edwards and Storkey, How to train your MAML, ICLR 2019 (cosine annealing of
    the outer rate).
    """
    return _clipped(clip, optax.adam(_decayed(rate, steps)))


def outer_muon(
    rate: float = 5e-3, steps: int | None = None, clip: float | None = 10.0
) -> optax.GradientTransformation:
    r"""Muon on the filters of theta, Nesterov's Adam at a fifth of the rate on all else; clipped
    and decayed as `outer_adam`.

    The averaged gradient of a filter, a matrix `M [h w c, d]`, moves it along its nearest
    orthogonal one,

    $$ -0.2\, \eta \sqrt{\max(h w c, d)}\; U V^T, \qquad M = U \Sigma V^T, $$

    so that weak directions of the gradient count as strong ones do; 0.2 makes its elements as large
    as Adam's usually are. On meta-gradients from few tasks it learns in fewer steps: see
    `benchmarks/README.md`.

    Args:
      rate: eta of the first step, in theta's unit.
      steps: Outer steps until the rate is zero; None for a constant rate.
      clip: The largest global norm of the gradient; None for no clipping.

    References: Jordan et al., Muon: an optimizer for hidden layers in neural networks, 2024; Liu et
    al., Muon is scalable for LLM training, 2025 (the factor 0.2).
    """

    def filters(theta):
        return jax.tree.map(
            lambda leaf: (
                MuonDimensionNumbers(tuple(range(leaf.ndim - 1)), leaf.ndim - 1)
                if leaf.ndim > 2
                else None
            ),
            theta,
        )

    fast, slow = (_decayed(each, steps) for each in (rate, rate / 5))
    return _clipped(
        clip,
        muon(
            fast, muon_weight_dimension_numbers=filters, adam_learning_rate=slow, consistent_rms=0.2
        ),
    )


def _decayed(rate, steps):
    return rate if steps is None else optax.cosine_decay_schedule(rate, steps)


def _clipped(clip, optimiser):
    return optimiser if clip is None else optax.chain(optax.clip_by_global_norm(clip), optimiser)
