"""How good predictions are on a tree.

Axis letters: `n` examples, `C` concepts, `N` nodes, `I` inner nodes, `L` levels. True and predicted
classes are numbers of leaves, `[n]` integers. All follows from the lowest common ancestor (LCA) of
the two.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jaxmeta.hierarchy._tree import Tree


class Overlap(NamedTuple):
    """Hierarchical precision, recall and F1: pooled over examples (micro), and the mean of each
    example's (macro)."""

    precision: float
    recall: float
    f1: float
    macro_precision: float
    macro_recall: float
    macro_f1: float


class NodeAccuracy(NamedTuple):
    """Of every inner node, in the order of `tree.inner`: the share of examples sent to the right
    child, of how many.

    Args:
      accuracy: `[I]`, nan where no example came.
      count: `[I]`.
    """

    accuracy: Float[np.ndarray, " I"]
    count: Int[np.ndarray, " I"]


class NodeGain(NamedTuple):
    """Of every inner node, in the order of `tree.inner`: what the tree gains over flat, on how many
    examples.

    Args:
      gain: `[I]`, difference of two shares of examples, -1 to 1; nan where there is no example.
      count: `[I]`.
    """

    gain: Float[np.ndarray, " I"]
    count: Int[np.ndarray, " I"]


class HierarchicalScores(NamedTuple):
    """What `scores` tells of predictions on a tree.

    Args:
      accuracy: Share of examples whose concept is right.
      overlap: Hierarchical precision, recall and F1.
      h_loss: See `normalised_h_loss`.
      lca_height: See `lca_height`.
      by_level: `[L]`, see `accuracy_by_level`.
      nodes: See `node_accuracy`.
    """

    accuracy: float
    overlap: Overlap
    h_loss: float
    lca_height: float
    by_level: Float[np.ndarray, " L"]
    nodes: NodeAccuracy

    def __str__(self):
        return (
            f"accuracy {self.accuracy:.4f}, hierarchical F1 {self.overlap.f1:.4f} (macro "
            f"{self.overlap.macro_f1:.4f}), normalised H-loss {self.h_loss:.4f}, LCA height "
            f"{self.lca_height:.4f}, by level "
            f"{', '.join(f'{level:.4f}' for level in self.by_level)}"
        )


def scores(tree: Tree, y_true, y_pred) -> HierarchicalScores:
    """All scores of predictions on a tree.

    Args:
      tree: Over the concepts.
      y_true: `[n]`, the leaves that are right.
      y_pred: `[n]`, the leaves predicted.

    Raises:
      ValueError: for leaves that the tree does not have, no examples, or numbers of examples that
        differ.

    >>> seen = scores(Tree.from_nested((0, (1, 2))), [0, 1, 2, 2], [0, 1, 2, 1])
    >>> print(seen)  # doctest: +NORMALIZE_WHITESPACE
    accuracy 0.7500, hierarchical F1 0.8571 (macro 0.8750),
    normalised H-loss 0.1250, LCA height 0.2500, by level 1.0000, 0.7500
    """
    y_true, y_pred = _valid(tree, y_true, y_pred)
    return HierarchicalScores(
        float(np.mean(y_true == y_pred)),
        hierarchical_f1(tree, y_true, y_pred),
        normalised_h_loss(tree, y_true, y_pred),
        lca_height(tree, y_true, y_pred),
        accuracy_by_level(tree, y_true, y_pred),
        node_accuracy(tree, y_true, y_pred),
    )


def hierarchical_f1(tree: Tree, y_true, y_pred) -> Overlap:
    """Hierarchical precision, recall and F1.

        hP = sum |a & b| / sum |a|,   hR = sum |a & b| / sum |b|,   hF = 2 hP hR / (hP + hR)

    a is the predicted leaf with all above it but the root, b the true one's. F1 is 0 where nothing
    is shared.

    Reference: Kiritchenko, Matwin, Nock and Famili, Canadian AI 2006.
    """
    y_true, y_pred = _valid(tree, y_true, y_pred)
    depths = np.array(tree.depths)
    shared, predicted, true = depths[tree.ancestors[y_true, y_pred]], depths[y_pred], depths[y_true]
    # 2 hP hR / (hP + hR) is 2 |a & b| / (|a| + |b|), which needs no care where both are 0.
    micro = shared.sum() / np.array([predicted.sum(), true.sum(), (predicted + true).sum() / 2])
    macro = [np.mean(shared / size) for size in (predicted, true, (predicted + true) / 2)]
    return Overlap(*map(float, (*micro, *macro)))


def unit_costs(tree: Tree) -> Float[np.ndarray, " N"]:
    """Every node costs 1."""
    return np.ones(tree.nodes)


def sibling_costs(tree: Tree) -> Float[np.ndarray, " N"]:
    """The root costs 1, and children share their parent's cost:
    `cost(i) = cost(parent) / #children(parent)`."""
    costs = np.ones(tree.nodes)
    for node in tree.inner:
        costs[list(tree.children[node])] = costs[node] / len(tree.children[node])
    return costs


def h_loss(tree: Tree, y_true, y_pred, costs: Float[np.ndarray, " N"]) -> float:
    """The mean cost of nodes that are wrong while all above them is right: of an error, the two
    below the LCA.

        sum over nodes i of cost(i) [i is wrong, and every ancestor of i is right]

    With `unit_costs` it is twice the error, whatever the tree.

    Args:
      costs: `[N]`, such as `sibling_costs(tree)`.

    Reference: Cesa-Bianchi, Gentile and Zaniboni, JMLR 2006.
    """
    y_true, y_pred = _valid(tree, y_true, y_pred)
    costs = np.asarray(costs, float)
    if costs.shape != (tree.nodes,):
        raise ValueError(
            f"costs must be [{tree.nodes}], one a node, got shape {costs.shape}; take "
            "sibling_costs(tree)"
        )
    charged = costs[tree.branches[y_true, y_pred]] + costs[tree.branches[y_pred, y_true]]
    return float(np.mean(np.where(y_true == y_pred, 0.0, charged)))


def normalised_h_loss(tree: Tree, y_true, y_pred) -> float:
    """The H-loss with `sibling_costs`, 0 to 1: an error at a high or narrow node costs more."""
    return h_loss(tree, y_true, y_pred, sibling_costs(tree))


def lca_height(tree: Tree, y_true, y_pred) -> float:
    """The mean height, as in `tree.heights`, of the lowest common ancestor; 0 of a right
    prediction.

    Reference: Bertinetto et al., Making better mistakes, CVPR 2020.
    """
    y_true, y_pred = _valid(tree, y_true, y_pred)
    return float(np.mean(np.array(tree.heights)[tree.ancestors[y_true, y_pred]]))


def accuracy_by_level(tree: Tree, y_true, y_pred) -> Float[np.ndarray, " L"]:
    """Of every level below the root, the share of examples that are right down to there; a leaf
    stands for itself on the levels below it, so that the last level is the accuracy."""
    y_true, y_pred = _valid(tree, y_true, y_pred)
    depth = np.array(tree.depths)[tree.ancestors[y_true, y_pred]]
    reached = np.where(y_true == y_pred, max(tree.depths), depth)
    return np.array([np.mean(reached >= level) for level in range(1, max(tree.depths) + 1)])


def node_accuracy(tree: Tree, y_true, y_pred) -> NodeAccuracy:
    """The accuracy of every inner node, given that all above it are right: of the examples whose
    true and predicted leaf are both under the node, those where both are under the same child."""
    y_true, y_pred = _valid(tree, y_true, y_pred)
    reached, passed = _reached(tree, y_true, y_pred)
    return NodeAccuracy(_share(passed, reached), reached)


def node_gains(tree: Tree, y_true, y_pred_tree, y_pred_flat) -> NodeGain:
    """What the tree gains over a flat classifier at every inner node, on the examples under it.

    A prediction is right at a node where it is under the same child as the true leaf; one that left
    the node is wrong there. So the flat one's count in the same way, mapped to the node's children.

    Args:
      y_true: `[n]`, the leaves that are right.
      y_pred_tree: `[n]`, the leaves that the tree's classifier predicts.
      y_pred_flat: `[n]`, the leaves that the flat one predicts.

    Reference: Hamidi and Osmani, PAKDD 2021, section 4, who do not define it further; the reading
    is ours.
    """
    y_true, y_tree = _valid(tree, y_true, y_pred_tree)
    _, y_flat = _valid(tree, y_true, y_pred_flat)
    count = _upwards(tree, np.bincount(y_true, minlength=tree.nodes))[list(tree.inner)]
    (_, tree_right), (_, flat_right) = (
        _reached(tree, y_true, y_pred) for y_pred in (y_tree, y_flat)
    )
    return NodeGain(_share(tree_right - flat_right, count), count)


def _reached(tree: Tree, y_true, y_pred):
    """`[I]` twice: the examples whose LCA is at or under the node, and those where it is under
    it."""
    here = np.bincount(tree.ancestors[y_true, y_pred], minlength=tree.nodes)
    reached, inner = _upwards(tree, here), list(tree.inner)
    return reached[inner], reached[inner] - here[inner]


def _upwards(tree: Tree, counts):
    """What is at a node or under it, from what is at it."""
    counts = counts.copy()
    for node in (*range(tree.size), *reversed(tree.inner)):
        if node != tree.root:
            counts[tree.parents[node]] += counts[node]
    return counts


def _share(part, whole):
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)


def _valid(tree: Tree, y_true, y_pred):
    if tree.size < 2:
        raise ValueError(
            f"the tree must have at least two concepts, got {tree.size}; there is nothing to tell "
            "apart"
        )
    y_true, y_pred = np.asarray(y_true), np.asarray(y_pred)
    for name, leaves in {"y_true": y_true, "y_pred": y_pred}.items():
        if leaves.ndim != 1 or not leaves.size or not np.issubdtype(leaves.dtype, np.integer):
            raise ValueError(
                f"{name} must be a vector of leaf numbers, got shape {leaves.shape} and dtype "
                f"{leaves.dtype}; number concepts as tree.leaf does"
            )
        if leaves.min() < 0 or leaves.max() >= tree.size:
            strange = leaves[(leaves < 0) | (leaves >= tree.size)][0]
            raise ValueError(
                f"{name} must be leaves of the tree, 0 to {tree.size - 1}, got {strange}; number "
                "concepts as tree.leaf does (-1 is what decoding makes of NaN)"
            )
    if y_true.shape != y_pred.shape:
        raise ValueError(
            f"y_true and y_pred must have one entry an example, got {y_true.size} and "
            f"{y_pred.size}; give both of the same examples"
        )
    return y_true, y_pred
