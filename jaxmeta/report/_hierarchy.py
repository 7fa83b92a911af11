"""A tree of concepts as a dendrogram, and an affinity in the order of its leaves.

`C` concepts, `N` nodes.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxmeta import _extras
from jaxmeta.hierarchy import Tree
from jaxmeta.report._page import new_figure

_ROW, _CELL, _TALLEST = 0.18, 0.42, 30.0  # inches a leaf, a written cell, and at most of the whole
_WRITTEN = 12  # concepts up to which a matrix has its numbers written in


def draw_tree(
    tree: Tree,
    path: str | Path,
    names: Sequence[str] | Mapping[Hashable, str] | None = None,
    values: Sequence[float] | None = None,
) -> None:
    """Draws a tree of any arity from its heights, the root left, a row a concept.

    Args:
      tree: To draw.
      path: Of the picture, as matplotlib takes it.
      names: Of the concepts, by leaf or by concept; by default the concepts themselves.
      values: [N], a number to write at every node, nothing where it is NaN.

    Raises:
      ValueError: For names or values of another number.
      OSError: If it cannot be written.
    """
    names = _names(names, tree.concepts)
    if values is not None and np.shape(values) != (tree.nodes,):
        raise ValueError(
            f"values must be one a node, shape ({tree.nodes},), got {np.shape(values)}; "
            "give NaN for nodes without one"
        )
    figure = new_figure(7, _height(tree.size))
    axes = figure.subplots()
    _draw(axes, tree)
    _label(axes, [names[leaf] for leaf in _leaves(tree)], figure)
    axes.set_xlabel("height")
    if values is not None:
        rows = _rows(tree)
        for node in np.flatnonzero(~np.isnan(values)):
            axes.annotate(
                f"{values[node]:.3g}",
                (tree.heights[node], rows[node]),
                fontsize=7,
                color="C3",
                textcoords="offset points",
                xytext=(2, 2),
            )
    figure.savefig(path, dpi=110)


def draw_affinity(
    affinity,
    path: str | Path,
    tree: Tree | None = None,
    names: Sequence[str] | Mapping[Hashable, str] | None = None,
) -> None:
    """Draws an affinity as a matrix; with a tree, in the order of its leaves, the dendrogram beside
    it.

    Colours span what is off the diagonal.

    Args:
      affinity: [C, C], row and column by the tree's leaf numbers, from the concept of the row to
        that of the column.
      path: Of the picture, as matplotlib takes it.
      tree: Over the same concepts.
      names: Of the concepts, by leaf or by concept; by default the tree's concepts, or numbers.

    Raises:
      ValueError: For an affinity that is not square or not over the tree's concepts, or names of
        another number.
      OSError: If it cannot be written.
    """
    affinity = np.asarray(affinity, float)
    size = len(affinity) if tree is None else tree.size
    if affinity.shape != (size, size) or not size:
        raise ValueError(
            f"affinity must be square, one row a concept{f' of the tree, {size}' if tree else ''}, "
            f"got shape {affinity.shape}; give the affinity of the tree's concepts"
        )
    names = _names(names, range(size) if tree is None else tree.concepts)
    order = list(range(size)) if tree is None else _leaves(tree)
    written = size <= _WRITTEN
    side = _CELL * size + 1.5 if written else _height(size) + 0.8
    figure = new_figure(side * (1.65 if tree else 1.2), side)
    if tree is None:
        axes = figure.subplots()
    else:
        beside, axes = figure.subplots(1, 2, width_ratios=(1, 2.6), sharey=True)
        _draw(beside, tree)
        beside.set_xlabel("height")
    shown = affinity[np.ix_(order, order)]
    between = shown[~np.eye(size, dtype=bool) & np.isfinite(shown)]
    low, high = (between.min(), between.max()) if between.size else (0.0, 1.0)
    image = axes.imshow(shown, aspect="auto", cmap="viridis", vmin=low, vmax=high)
    _label(axes, [names[leaf] for leaf in order], figure)
    if tree is not None:
        beside.tick_params(axis="y", length=0, labelleft=False)
    axes.set_xticks(
        range(size), [names[leaf] for leaf in order], rotation=90, fontsize=_font(size, figure)
    )
    axes.set_title("affinity from row to column", fontsize=10)
    if written:
        for row, column in np.argwhere(np.isfinite(shown)):
            dark = shown[row, column] < (low + high) / 2
            axes.text(
                column,
                row,
                f"{shown[row, column] + 0.0:.2g}",
                ha="center",
                va="center",
                fontsize=7,
                color="white" if dark else "black",
            )
    figure.colorbar(image, ax=axes, fraction=0.05, pad=0.02)
    figure.savefig(path, dpi=110)


def _draw(axes, tree: Tree) -> None:
    with _extras.needed("a picture"):
        from matplotlib.collections import LineCollection

    rows = _rows(tree)
    across, up = [], []
    for node in tree.inner:
        children = tree.children[node]
        up.append([(tree.heights[node], rows[child]) for child in (children[0], children[-1])])
        across.extend(
            [(tree.heights[child], rows[child]), (tree.heights[node], rows[child])]
            for child in children
        )
    axes.add_collection(
        LineCollection([*across, *up], colors="0.25", linewidths=1.2, capstyle="projecting")
    )
    top = tree.heights[tree.root] or 1.0
    axes.set(xlim=(1.03 * top, min(0.0, *tree.heights)), ylim=(tree.size - 0.5, -0.5))
    axes.spines[["left", "top", "right"]].set_visible(False)


def _label(axes, names: Sequence[str], figure) -> None:
    axes.yaxis.tick_right()
    axes.set_yticks(range(len(names)), names, fontsize=_font(len(names), figure))
    axes.tick_params(axis="y", length=0, labelright=True)


def _leaves(tree: Tree) -> list[int]:
    """The leaves from top to bottom."""
    leaves, stack = [], [tree.root]
    while stack:
        node = stack.pop()
        stack.extend(reversed(tree.children[node]))
        if not tree.children[node]:
            leaves.append(node)
    return leaves


def _rows(tree: Tree) -> np.ndarray:
    """[N], the row of each leaf, and of an inner node the middle between its first and its last
    child."""
    rows = np.zeros(tree.nodes)
    rows[_leaves(tree)] = range(tree.size)
    for node in reversed(tree.inner):
        children = tree.children[node]
        rows[node] = (rows[children[0]] + rows[children[-1]]) / 2
    return rows


def _names(names, concepts: Sequence[Hashable]) -> list[str]:
    if names is None:
        names = concepts
    elif isinstance(names, Mapping):
        lacking = [concept for concept in concepts if concept not in names]
        if lacking:
            raise ValueError(f"names must name every concept, got none for {lacking}; add them")
        names = [names[concept] for concept in concepts]
    if len(names) != len(concepts):
        raise ValueError(
            f"names must be one a concept, {len(concepts)}, got {len(names)}; give one for each"
        )
    return list(map(str, names))


def _height(size: int) -> float:
    return min(_TALLEST, _ROW * size + 1.0)


def _font(size: int, figure) -> float:
    return min(9.0, 62 * (figure.get_figheight() - 1.0) / size)
