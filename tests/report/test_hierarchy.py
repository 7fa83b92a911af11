"""Trees and affinities as pictures: lines from the heights, rows in the order of the leaves, names
that fit."""

import itertools

import numpy as np
import pytest
from matplotlib.figure import Figure

from jaxmeta.hierarchy import Tree
from jaxmeta.report import _hierarchy
from jaxmeta.report._hierarchy import draw_affinity, draw_tree

TREE = Tree.from_nested((("a", "d"), ("b", "c", "e")))


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are drawn."""
    figures = []

    def new_figure(*size):
        figures.append(Figure(figsize=size, layout="constrained"))
        return figures[-1]

    monkeypatch.setattr(_hierarchy, "new_figure", new_figure)
    return figures


def test_a_dendrogram_has_a_line_a_child_and_one_an_inner_node(tmp_path, drawn):
    draw_tree(
        TREE,
        tmp_path / "tree.png",
        names={name: name.upper() for name in "abcde"},
        values=[np.nan] * 5 + [0.125, 2.0, np.nan],
    )
    axes = drawn[0].axes[0]
    lines = [line.tolist() for line in axes.collections[0].get_segments()]
    assert len(lines) == 7 + 3
    # Leaves from top to bottom are a, d, b, c, e; (a, d) stands at row 0.5, (b, c, e) at 3.
    assert [[2.0, 0.5], [2.0, 3.0]] in lines and [[1.0, 2.0], [1.0, 4.0]] in lines
    assert [[0.0, 1.0], [1.0, 1.0]] in lines and [[1.0, 3.0], [2.0, 3.0]] in lines
    assert [text.get_text() for text in axes.get_yticklabels()] == ["A", "D", "B", "C", "E"]
    assert axes.get_xlim()[0] > axes.get_xlim()[1] == 0 and axes.get_ylim() == (4.5, -0.5)
    assert [(text.get_text(), text.xy) for text in axes.texts] == [
        ("0.125", (2.0, 1.75)),
        ("2", (1.0, 0.5)),
    ]


def test_an_affinity_follows_the_leaves(tmp_path, drawn):
    affinity = np.arange(25.0).reshape(5, 5)
    np.fill_diagonal(affinity, 1000)
    draw_affinity(affinity, tmp_path / "affinity.png", TREE, names=["a", "b", "c", "d", "e"])
    beside, axes = drawn[0].axes[:2]
    order = [0, 3, 1, 2, 4]
    np.testing.assert_array_equal(axes.images[0].get_array(), affinity[order][:, order])
    assert axes.images[0].get_clim() == (1, 23)
    for ticks in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert [text.get_text() for text in ticks] == ["a", "d", "b", "c", "e"]
    assert axes.get_ylim() == beside.get_ylim() == (4.5, -0.5)
    draw_affinity(affinity, tmp_path / "alone.png")
    np.testing.assert_array_equal(drawn[1].axes[0].images[0].get_array(), affinity)


def test_names_of_a_hundred_leaves_do_not_meet(tmp_path, drawn):
    chain = 0
    for leaf in range(1, 100):
        chain = (chain, leaf)
    draw_tree(Tree.from_nested(chain), tmp_path / "deep.png")
    labels = drawn[0].axes[0].get_yticklabels()
    boxes = [label.get_window_extent() for label in labels]
    assert len(labels) == 100 and all(
        lower.y1 <= upper.y0 for upper, lower in itertools.pairwise(boxes)
    )
    assert labels[0].get_fontsize() == 9


def test_what_is_least(tmp_path):
    draw_tree(Tree.star(1), tmp_path / "one.png")
    draw_tree(Tree((-1, 0, 0), heights=(0, 0, 0)), tmp_path / "flat.png")
    draw_affinity(np.full((2, 2), np.nan), tmp_path / "nothing.svg", Tree.star(2))
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda path: draw_tree(TREE, path, names=["a"]), "names must be one a concept, 5, got 1"),
        (
            lambda path: draw_tree(TREE, path, names={"a": "A"}),
            r"got none for \['b', 'c', 'd', 'e'\]",
        ),
        (
            lambda path: draw_tree(TREE, path, values=[1.0]),
            r"values must be one a node, shape \(8,\), got \(1,\)",
        ),
        (
            lambda path: draw_affinity(np.eye(3), path, TREE),
            r"one row a concept of the tree, 5, got shape \(3, 3\)",
        ),
        (
            lambda path: draw_affinity(np.ones((2, 3)), path),
            r"affinity must be square, .* got shape \(2, 3\)",
        ),
    ],
)
def test_faults(tmp_path, call, message):
    with pytest.raises(ValueError, match=message):
        call(tmp_path / "x.png")
    assert not list(tmp_path.iterdir())
