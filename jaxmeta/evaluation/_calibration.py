"""Whether a learner is as sure as it is right.

Axis letters: `n` predictions, `W` ways, `B` bins.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jaxmeta import _check


class Calibration(NamedTuple):
    """How sure predictions were beside how often they were right.

    Args:
      error: The expected calibration error, from 0 to 1.
      over: Mean confidence less accuracy; above 0 where the learner is too sure.
      confidence: `[B]`, mean of each bin; nan where it is empty.
      accuracy: `[B]`, likewise.
      count: `[B]`, predictions in each bin.
    """

    error: float
    over: float
    confidence: np.ndarray
    accuracy: np.ndarray
    count: np.ndarray


def calibration(probabilities, labels, bins: int = 15) -> Calibration:
    r"""The expected calibration error over bins of equal width, and what a reliability diagram
    shows.

    $$ \mathrm{ECE} = \sum_b \frac{n_b}{n} |\mathrm{acc}_b - \mathrm{conf}_b|, \qquad
       \text{b by } \max_w p_w $$

    Args:
      probabilities: `[n, W]`, rows that sum to one: `jaxmeta.experiment.probabilities` gives those
        of an episode's queries.
      labels: `[n]`, the classes.
      bins: B.

    Returns:
      A `Calibration`. Bins are half open, (b / B, (b + 1) / B].

    Raises:
      ValueError: If shapes do not fit or rows do not sum to one.

    >>> found = calibration([[0.8, 0.2], [0.8, 0.2], [0.4, 0.6], [0.4, 0.6]], [0, 1, 1, 1], bins=2)
    >>> round(found.error, 3), round(found.over, 3), found.count.tolist()
    (0.05, -0.05, [0, 4])

    Reference: Guo et al., On calibration of modern neural networks, ICML 2017.
    """
    probabilities, labels = np.asarray(probabilities, np.float64), np.asarray(labels)
    _check.whole_number("bins", bins, least=1)
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1] or not labels.size:
        raise ValueError(
            "calibration needs probabilities [n, W] and labels [n], got shapes "
            f"{probabilities.shape} and {labels.shape}; give one row and one label a prediction"
        )
    if not np.allclose(probabilities.sum(1), 1, atol=1e-4):
        raise ValueError(
            f"rows of probabilities must sum to one, got {probabilities.sum(1).min():.4g} to "
            f"{probabilities.sum(1).max():.4g}; apply a softmax to logits"
        )
    sure, right = probabilities.max(1), probabilities.argmax(1) == labels
    where = np.clip(np.ceil(sure * bins).astype(int) - 1, 0, bins - 1)
    count = np.bincount(where, minlength=bins)
    with np.errstate(invalid="ignore"):
        confidence, accuracy = (np.bincount(where, each, bins) / count for each in (sure, right))
    return Calibration(
        float(np.nansum(count * np.abs(accuracy - confidence)) / len(labels)),
        float(sure.mean() - right.mean()),
        confidence,
        accuracy,
        count,
    )
