"""Training over meta-batches and learning over inner steps, as curves."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

_TRAIN, _VALIDATION = "#9ecae1", "#08519c"


def draw_training(
    axes, train: Sequence[tuple[int, float]], validation: Sequence[tuple[int, float, float, float]]
) -> None:
    """Draws the accuracy of meta-batches, smoothed over a twentieth of the run, and validation with
    its 95 % interval.

    Args:
      axes: Of matplotlib.
      train: (meta-batch, accuracy) in order.
      validation: (meta-batch, mean accuracy, lower, upper end of its interval).
    """
    if train:
        steps, accuracy = np.transpose(train)
        axes.plot(
            steps,
            100 * _smooth(accuracy, max(1, len(train) // 20)),
            color=_TRAIN,
            label="training episodes",
        )
    if validation:
        steps, mean, low, high = np.transpose(validation)
        axes.errorbar(
            steps,
            100 * mean,
            100 * np.stack([mean - low, high - mean]),
            color=_VALIDATION,
            marker="o",
            markersize=4,
            capsize=3,
            label="validation, 95 % interval",
        )
    axes.set(
        title="Meta-training",
        xlabel="meta-batches",
        ylabel="accuracy on the query (%)",
        ylim=(0, 102),
    )
    axes.legend(loc="lower right", fontsize=9)
    axes.grid(alpha=0.3)


def draw_steps(
    axes, curves: Mapping[str, Sequence[float]], levels: Mapping[str, float], chance: float
) -> None:
    """Draws accuracy after each inner step, and levels that have no steps.

    Args:
      axes: Of matplotlib.
      curves: Name -> accuracies after 0, 1, ... K inner steps.
      levels: Name -> accuracy.
      chance: Accuracy of guessing.
    """
    for name, accuracies in curves.items():
        axes.plot(100 * np.asarray(accuracies), marker="o", markersize=4, label=name)
    styles = itertools.cycle(("--", "-.", ":"))
    for number, (name, accuracy) in enumerate(levels.items()):
        axes.axhline(
            100 * accuracy, linestyle=next(styles), color=f"C{len(curves) + number}", label=name
        )
    axes.axhline(100 * chance, color="0.6", linewidth=1, label="chance")
    axes.set(
        title="Learning a new episode",
        xlabel="inner steps on the support",
        ylabel="accuracy on the query (%)",
        ylim=(0, 102),
    )
    most = max((len(accuracies) for accuracies in curves.values()), default=1) - 1
    axes.set_xticks(range(0, most + 1, max(1, most // 8)) if most else [0])
    axes.legend(loc="best", fontsize=9)
    axes.grid(alpha=0.3)


def _smooth(values: np.ndarray, window: int) -> np.ndarray:
    """Mean over the last `window` values, of as many as there are at the beginning."""
    total = np.cumsum(np.concatenate([[0.0], values]))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return (total[ends] - total[starts]) / (ends - starts)
