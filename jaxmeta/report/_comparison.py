"""Estimators side by side, as a picture."""

from __future__ import annotations

from jaxmeta.evaluation import Comparison


def draw_comparison(axes, comparison: Comparison) -> None:
    """Draws each estimator's relative error over its time, its temporary memory as the area of its
    mark.

    Exact ones stand on the lower edge. Whoever is nearer to the lower left is the better road.

    Args:
      axes: Of matplotlib.
      comparison: Of `jaxmeta.evaluation.compare`.

    Raises:
      ValueError: If every estimator refused the problem.
    """
    roads = [road for road in comparison.roads if road.refusal is None]
    if not roads:
        raise ValueError(
            "a comparison must have an estimator that takes the problem to be drawn, got none; "
            "see its refusals"
        )
    least = 1e-7
    most = max(road.bytes for road in roads) or 1
    for road in roads:
        error = max(road.relative_error, least)
        axes.scatter(road.milliseconds, error, s=30 + 900 * road.bytes / most, alpha=0.5)
        axes.annotate(
            f"{road.name}\n{road.bytes / 1e6:.2f} MB",
            (road.milliseconds, error),
            fontsize=8,
            textcoords="offset points",
            xytext=(6, 4),
        )
    axes.set(
        xscale="log",
        yscale="log",
        ylim=(least / 2, None),
        xlabel="time of an estimate (ms)",
        ylabel="error of an estimate, relative to the exact gradient",
        title="Roads back to the bias",
    )
    axes.grid(alpha=0.3)
