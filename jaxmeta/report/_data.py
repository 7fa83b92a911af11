"""A data set as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from jaxmeta.data import Dataset
from jaxmeta.report._episode import draw_input
from jaxmeta.report._page import new_figure

_CLASSES, _EXAMPLES = 6, 4  # of each split, at most


def show_data(dataset: Dataset, path: str | Path) -> None:
    """Draws examples of some classes of every split, a row a class, evenly spread over the split's
    classes.

    Args:
      dataset: The whole set.
      path: Of the picture, as matplotlib takes it.

    Raises:
      OSError: If it cannot be written.
    """
    wide = 1 if dataset.inputs.ndim == 4 else 1.6
    figure = new_figure(4.4 * wide * len(dataset.splits), 1.0 * _CLASSES + 0.6)
    parts = np.atleast_1d(figure.subfigures(1, len(dataset.splits)))
    # A percentile: one spike would press all other windows flat.
    top = float(
        dataset.inputs.max()
        if dataset.inputs.ndim == 4
        else np.percentile(np.abs(dataset.inputs), 99.5)
    )
    for part, which in zip(parts, dataset.splits):
        _draw_split(part, dataset.split(which), which, top)
    if dataset.inputs.ndim == 3:
        figure.supxlabel(
            f"time: {dataset.inputs.shape[1]} samples; value: -{top:.3g} to {top:.3g}, all "
            f"{dataset.inputs.shape[2]} channels in the source's units",
            fontsize=9,
        )
    figure.savefig(path, dpi=110)


def _draw_split(figure, part: Dataset, which: str, top: float) -> None:
    figure.suptitle(
        f"{which}: {len(part.class_names)} classes, {len(part.group_names)} groups, {len(part):,} "
        "examples",
        fontsize=11,
    )
    present = np.unique(part.labels)
    chosen = present[np.linspace(0, len(present) - 1, min(_CLASSES, len(present))).astype(int)]
    grid = figure.subplots(len(chosen), _EXAMPLES, squeeze=False)
    for row, label in zip(grid, chosen):
        members = np.flatnonzero(part.labels == label)
        members = members[
            np.linspace(0, len(members) - 1, min(_EXAMPLES, len(members))).astype(int)
        ]
        for axes in row[len(members) :]:
            axes.axis("off")
        for axes, member in zip(row, members):
            draw_input(axes, part.inputs[member], top)
        row[0].set_title(part.class_names[label], fontsize=8, loc="left", pad=2)
