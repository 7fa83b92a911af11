"""A hierarchy of concepts: a rooted tree whose leaves are the concepts, in one canonical form.

`C` concepts, `N` nodes. Nodes `0 .. C-1` are the concepts, sorted; `C` is the root; the inner nodes
below it follow in preorder, children by their smallest leaf. Two trees over the same concepts are
equal when they hold the same clades.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from jaxmeta.hierarchy import _newick, _tree_forms
from jaxmeta.hierarchy._parents import (
    children_of,
    each_upwards,
    order_of,
    ranked,
    valid_heights,
    valid_parents,
)


@dataclass(frozen=True)
class Tree:
    """A rooted tree whose leaves are concepts; every inner node has at least two children.

    Args:
      parents: For every node the number of its parent, -1 for the root; in any numbering.
      concepts: The names of the nodes without children, in the order of those nodes; default
        `0, 1, ...`.
      heights: For every node its height, 0 at the leaves; default: the number of edges down to its
        deepest leaf. What a plot and the cophenetic correlation use; not part of equality.

    Raises:
      ValueError: for no node, no root or two, a parent that is no node, a cycle, an inner node with
        one child, concepts that are too few, too many or twice there, heights that fall towards the
        root.

    Example:

    >>> tree = Tree.from_nested((1, ((2, 3), (4, 5))))
    >>> tree.size, tree.nodes, tree.parents
    (5, 9, (5, 7, 7, 8, 8, -1, 5, 6, 6))
    >>> print(tree)
    ┬ 1
    └┬┬ 2
     │└ 3
     └┬ 4
      └ 5
    """

    parents: tuple[int, ...]
    concepts: tuple[Hashable, ...] | None = None
    heights: tuple[float, ...] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self):
        parents = valid_parents(self.parents)
        children, root = children_of(parents), parents.index(-1)
        leaves = [node for node, below in enumerate(children) if not below]
        concepts, places = ranked(self.concepts, len(leaves))
        number = dict(zip(leaves, places))  # old node -> canonical number
        below = each_upwards(
            children, root, lambda node, parts: min(parts, default=number.get(node))
        )
        stack = [root]
        while stack:
            node = stack.pop()
            if children[node]:
                number[node] = len(number)
                stack.extend(sorted(children[node], key=below.__getitem__, reverse=True))
        old = sorted(number, key=number.__getitem__)
        heights = self.heights
        if heights is None:
            high = each_upwards(
                children, root, lambda node, parts: max((1.0 + part for part in parts), default=0.0)
            )
        else:
            high = valid_heights(heights, parents)
        object.__setattr__(
            self,
            "parents",
            tuple(-1 if parents[node] < 0 else number[parents[node]] for node in old),
        )
        object.__setattr__(self, "concepts", concepts)
        object.__setattr__(self, "heights", tuple(float(high[node]) for node in old))

    # Shape

    @property
    def size(self) -> int:
        """C, the number of concepts."""
        return len(self.concepts)

    @property
    def nodes(self) -> int:
        """N, the number of nodes, leaves and root among them."""
        return len(self.parents)

    @property
    def root(self) -> int:
        """The root's number: C, or 0 where there is one concept."""
        return self.parents.index(-1)

    @cached_property
    def children(self) -> tuple[tuple[int, ...], ...]:
        """Every node's children, by their smallest leaf."""
        smallest = np.argmax(self.members, axis=1)
        return tuple(
            tuple(sorted(nodes, key=lambda node: smallest[node]))
            for nodes in children_of(self.parents)
        )

    @cached_property
    def inner(self) -> tuple[int, ...]:
        """The nodes that have children, the root first, every node before those below it."""
        return tuple(range(self.size, self.nodes))

    @cached_property
    def depths(self) -> tuple[int, ...]:
        """Every node's number of edges from the root."""
        depths = [0] * self.nodes
        for node in (*self.inner, *range(self.size)):
            if self.parents[node] >= 0:
                depths[node] = depths[self.parents[node]] + 1
        return tuple(depths)

    @cached_property
    def members(self) -> np.ndarray:
        """`[N, C]`, bool: is the concept at or under the node?"""
        members = np.zeros((self.nodes, self.size), bool)
        members[np.arange(self.size), np.arange(self.size)] = True
        for node in (*range(self.size), *reversed(self.inner)):
            if node != self.root:
                members[self.parents[node]] |= members[node]
        return members

    @property
    def paths(self) -> np.ndarray:
        """`[C, N]`, bool: is the node on the concept's path from the root, both ends among them?"""
        return self.members.T

    @cached_property
    def clades(self) -> frozenset[frozenset]:
        """The sets of concepts under the inner nodes."""
        return frozenset(
            frozenset(self.concepts[leaf] for leaf in np.flatnonzero(self.members[node]))
            for node in self.inner
        )

    @cached_property
    def branches(self) -> np.ndarray:
        """`[C, C]`, int: the node below the lowest common ancestor of i and j that i is under; on
        the diagonal i itself."""
        branches = np.tile(np.arange(self.size)[:, None], self.size)
        for node in self.inner:
            for child in self.children[node]:
                inside = self.members[child]
                branches[np.ix_(inside, self.members[node] & ~inside)] = child
        return branches

    @cached_property
    def ancestors(self) -> np.ndarray:
        """`[C, C]`, int: the lowest common ancestor of two concepts; on the diagonal the concept
        itself."""
        return np.where(
            np.eye(self.size, dtype=bool), self.branches, np.array(self.parents)[self.branches]
        )

    def leaf(self, concept: Hashable) -> int:
        """The number of a concept's leaf.

        Raises:
          ValueError: for a concept that the tree does not hold.
        """
        if concept not in self.concepts:
            raise ValueError(
                f"concept must be one of the tree's {self.concepts}, got {concept!r}; "
                "name a leaf, or derive a tree over these concepts"
            )
        return self.concepts.index(concept)

    def over(self, concepts: Iterable[Hashable]) -> Tree:
        """The tree itself, if its leaves are exactly these concepts.

        Raises:
          ValueError: naming the concepts that only the tree has, or only the data.
        """
        theirs = set(concepts)
        missing, foreign = (
            sorted(side, key=order_of)
            for side in (theirs - set(self.concepts), set(self.concepts) - theirs)
        )
        if missing or foreign:
            raise ValueError(
                f"the tree must be over the data's concepts: it lacks {missing} and has {foreign} "
                "besides; derive a tree over the data's concepts, or rename its leaves"
            )
        return self

    def renamed(self, names: Sequence[Hashable] | dict) -> Tree:
        """The tree with other names at its leaves: a mapping from concepts, or a sequence indexed
        by leaf."""
        names = [
            names[concept] if isinstance(names, dict) else names[leaf]
            for leaf, concept in enumerate(self.concepts)
        ]
        return Tree(self.parents, tuple(names), self.heights)

    # From and to other forms

    @staticmethod
    def star(concepts: int | Sequence[Hashable]) -> Tree:
        """The flat tree: every concept a child of the root.

        >>> Tree.star(3).nested()
        (0, 1, 2)
        """
        concepts = range(concepts) if isinstance(concepts, int) else concepts
        return (
            Tree.from_nested(tuple(concepts)) if len(concepts) > 1 else Tree((-1,), tuple(concepts))
        )

    @staticmethod
    def from_nested(nested) -> Tree:
        """A tree from nested tuples or lists; what is neither is a concept.

        >>> Tree.from_nested((0, (1, 2))) == Tree.from_nested(((2, 1), 0))
        True
        """
        return Tree(*_tree_forms.from_nested(nested))

    def nested(self):
        """The tree as nested tuples, children by their smallest leaf."""
        forms = each_upwards(
            self.children,
            self.root,
            lambda node, parts: tuple(parts) if parts else self.concepts[node],
        )
        return forms[self.root]

    @staticmethod
    def from_newick(text: str) -> Tree:
        """A tree from Newick's text, `(a,(b,c));`. Names may stand in single quotes; lengths of
        edges give the heights where every edge has one and leaves end level, else they are passed
        over; names of inner nodes are passed over.

        >>> Tree.from_newick("(still,((walk,run),(bike,car)));").nested()
        ((('bike', 'car'), ('run', 'walk')), 'still')
        """
        return Tree(*_newick.read(text))

    def newick(self) -> str:
        """The tree in Newick's text, lengths being differences of heights.

        >>> Tree.from_nested((0, (1, 2))).newick()
        "('0':2,('1':1,'2':1):1);"
        """
        return _newick.write(self)

    def networkx(self):
        """The tree as a `networkx.DiGraph`, edges from parents to children; leaves carry
        `concept`."""
        return _tree_forms.to_networkx(self)

    @staticmethod
    def from_networkx(graph) -> Tree:
        """A tree from a `networkx.DiGraph` with edges from parents to children. A leaf's concept is
        its attribute `concept`, or the node itself."""
        return Tree(*_tree_forms.from_networkx(graph))

    @staticmethod
    def from_linkage(linkage, concepts: Sequence[Hashable] | None = None) -> Tree:
        """A binary tree from scipy's linkage matrix `[C-1, 4]`; the heights are its distances."""
        return Tree(*_tree_forms.from_linkage(linkage, concepts))

    def linkage(self) -> np.ndarray:
        """Scipy's linkage matrix `[C-1, 4]`; a node of several children is joined two by two at its
        one height."""
        return _tree_forms.to_linkage(self)

    def __str__(self) -> str:
        """The readable form: one line a concept."""
        return _tree_forms.as_text(self)
