"""Who shares which parameters with whom: a matrix of nodes, and of every leaf its entries at every
node. `N` nodes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxmeta.experiment import Sharing
from jaxmeta.report._page import new_figure

_ROW, _NAMED = 0.22, 40  # inches a node, and nodes up to which they are named


def draw_sharing(
    found: Sharing, path: str | Path, names: Sequence[str] | None = None, title: str = ""
) -> None:
    """Draws how much any two nodes share, and beside it the leaves: a row a node, a column an
    entry, one colour for what is made of the same free parameters in the same way.

    Args:
      found: From `jaxmeta.experiment.sharing`.
      path: Of the picture, as matplotlib takes it.
      names: [N], of the nodes; by default their numbers.
      title: Above all.

    Raises:
      ValueError: For names of another number.
      OSError: If it cannot be written.
    """
    nodes = len(found.reached)
    names = list(map(str, range(nodes) if names is None else names))
    if len(names) != nodes:
        raise ValueError(f"names must be one a node, {nodes}, got {len(names)}; give one for each")
    side = max(2.6, _ROW * min(nodes, _NAMED) + 1.0)
    widths = [max(1.0, 0.16 * leaf.shape[1]) for leaf in found.colours.values()]
    figure = new_figure(1.4 * side + sum(widths) + 0.4 * len(widths), side + 0.8)
    matrix, *leaves = figure.subplots(
        1, 1 + len(widths), width_ratios=(1.4 * side, *widths), sharey=True
    )
    image = matrix.imshow(found.overlap, vmin=0, vmax=1, cmap="Greys", aspect="auto")
    figure.colorbar(image, ax=matrix, fraction=0.05, pad=0.02)
    matrix.set_title("share in common", fontsize=9)
    if nodes <= _NAMED:
        matrix.set_yticks(range(nodes), names, fontsize=7)
        matrix.set_xticks(range(nodes), names, fontsize=7, rotation=90)
    for axes, (leaf, colours) in zip(leaves, found.colours.items()):
        # Neighbouring numbers get colours far apart: steps of the golden ratio around the circle.
        axes.imshow(
            np.mod(colours * 0.618034, 1),
            vmin=0,
            vmax=1,
            cmap="hsv",
            aspect="auto",
            interpolation="nearest",
        )
        axes.set_title(leaf.replace("/", "/\n"), fontsize=7)
        axes.set_xticks([])
    figure.suptitle(
        f"{title}{': ' if title else ''}{found.free} free parameters of {found.full}", fontsize=10
    )
    figure.savefig(path, dpi=110)
