"""An episode as a picture. Axis letters: `W` ways, `S` shots, `Q` queries a class."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

_RIGHT, _WRONG = "#1b7837", "#c51b3a"
_SHOTS, _QUERIES, _WAYS = 5, 8, 10  # of each, at most so many are drawn
_GAP = 0.4  # of a cell, between support and query


@dataclasses.dataclass(frozen=True, eq=False)
class Episode:
    """One episode and what was predicted in it.

    Attributes:
      support: `[W, S, ...]`, inputs class by class: images `[h, w, c]` from 0 to 1, or windows
        `[l, c]`.
      query: `[W, Q, ...]`.
      predicted: `[W, Q]` integers, the class that each query was taken for.
    """

    support: np.ndarray
    query: np.ndarray
    predicted: np.ndarray

    def save(self, path: Path) -> None:
        """Writes it as npz."""
        np.savez_compressed(path, **dataclasses.asdict(self))

    @classmethod
    def read(cls, path: Path) -> Episode:
        """Reads what `save` wrote."""
        with np.load(path, allow_pickle=False) as file:
            return cls(**file)


def draw_episode(figure, episode: Episode) -> None:
    """Draws support and query, a row a class; a query's frame says whether it was recognised, its
    caption what for what.

    Args:
      figure: A matplotlib Figure or SubFigure, laid out by 'constrained'.
      episode: What to draw; of many classes or examples the first ones.
    """
    ways = min(_WAYS, len(episode.support))
    shots, queries = min(_SHOTS, episode.support.shape[1]), min(_QUERIES, episode.query.shape[1])
    # Cells about as wide as high: what is left of the width stands empty at both sides.
    cells = shots + _GAP + queries
    side = max(0.01, (ways * figure.bbox.width / figure.bbox.height - cells) / 2)
    grid = figure.add_gridspec(
        ways,
        shots + queries + 3,
        width_ratios=[side] + [1] * shots + [_GAP] + [1] * queries + [side],
    )
    top = 1.0 if episode.support.ndim == 5 else np.percentile(np.abs(episode.support), 99.5)
    for way in range(ways):
        for column in range(shots + queries):
            asked = column >= shots
            axes = figure.add_subplot(grid[way, 1 + column + asked])
            place = column - shots if asked else column
            draw_input(axes, (episode.query if asked else episode.support)[way, place], top)
            if not column:
                axes.set_ylabel(f"class {way + 1}", fontsize=9)
            if not way and not place:
                axes.set_title(
                    "query: what is to be recognised" if asked else "support",
                    fontsize=10,
                    loc="left",
                )
            if asked:
                taken = int(episode.predicted[way, place])
                _frame(axes, _RIGHT if taken == way else _WRONG)
                if taken != way:
                    axes.set_xlabel(f"taken for {taken + 1}", fontsize=8, color=_WRONG, labelpad=2)
    recognised = np.mean(episode.predicted == np.arange(len(episode.predicted))[:, None])
    figure.suptitle(
        f"A test episode: {len(episode.support)} new classes, {recognised:.0%} of the queries "
        "recognised (green frames)",
        fontsize=12,
    )


def draw_input(axes, x: np.ndarray, top: float) -> None:
    """Draws one input without ticks: an image, strokes dark on light, or the channels of a window
    from -top to top."""
    axes.set_xticks([])
    axes.set_yticks([])
    if x.ndim == 3:
        axes.imshow(x if x.shape[-1] > 1 else x[..., 0], cmap="gray_r", vmin=0, vmax=top)
    else:
        axes.plot(x, linewidth=0.7)
        axes.set(xlim=(0, len(x) - 1), ylim=(-top, top))


def _frame(axes, colour: str) -> None:
    for spine in axes.spines.values():
        spine.set(color=colour, linewidth=2.2)
