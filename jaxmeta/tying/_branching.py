"""Nodes share a leaf by the groups of its depth, as branched networks do.

Axis letters: `N` nodes, `C` concepts.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import PyTree

from jaxmeta import _check
from jaxmeta._pytree import paths
from jaxmeta.tying._nodes import by_group
from jaxmeta.tying._tying import Tying


def branching(tree, depth: Callable[[str], int]) -> Tying:
    r"""Branched networks: concepts share a layer as long as their paths go together.

    $$ \theta^{(l)}_c = \phi^{(l)}_{a(c)}, \qquad
       a(c) = \text{the ancestor of } c \text{ at depth } \min(d(l), depth(c)) $$

    Args:
      tree: A `jaxmeta.hierarchy.Tree`; its C concepts are the nodes.
      depth: A leaf's depth d by its path, as in 'body/dense1/kernel': 0 is shared by all, deeper by
        fewer.

    Papers: Vandenhende et al., Branched multi-task networks, BMVC 2020; Lu et al., Fully-adaptive
    feature sharing, CVPR 2017.
    """
    depths, parents = np.array(tree.depths), np.array(tree.parents)
    at = {int(depths.max()): np.arange(tree.size)}
    for level in reversed(range(depths.max())):
        below = at[level + 1]
        at[level] = np.where(depths[below] > level, parents[below], below)
    return branched(at, depth)


def branched(groups, depth: Callable[[str], int]) -> Tying:
    """Nodes share a leaf by the groups of its depth.

    Args:
      groups: Of every depth from 0 on, `[N]`.
      depth: A leaf's depth by its path; what is deeper than all is at the last.
    """
    tyings = {level: by_group(labels) for level, labels in groups.items()}

    def by_leaf(of):
        def run(tree_of_leaves, *key):
            leaves, structure = jax.tree.flatten(tree_of_leaves)
            return jax.tree.unflatten(
                structure,
                [
                    of(tyings[level], leaf, *key)
                    for level, leaf in zip(leaf_depths(tree_of_leaves, depth, max(tyings)), leaves)
                ],
            )

        return run

    start = by_leaf(lambda tying, leaf, key: tying.init(key, leaf))
    return Tying(
        lambda key, theta: start(theta, key),
        by_leaf(lambda tying, leaf: tying.expand(leaf)),
        at=lambda phi: lambda node: by_leaf(lambda tying, leaf: tying.at(leaf)(node))(phi),
    )


def leaf_depths(tree_of_leaves: PyTree, depth: Callable[[str], int], deepest: int) -> list[int]:
    """Of every leaf its depth by its path, at most the deepest."""
    return [
        min(_check.whole_number(f"the depth of '{path}'", depth(path)), deepest)
        for path in paths(tree_of_leaves)
    ]
