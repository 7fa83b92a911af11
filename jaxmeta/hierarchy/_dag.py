"""Concepts under several parents: a rooted acyclic graph.

`C` concepts, `N` nodes. Numbers as in a tree: nodes `0 .. C-1` are the concepts, sorted; `C` is the
root; every inner node stands before those below it.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from jaxmeta import _extras
from jaxmeta.hierarchy._parents import ranked
from jaxmeta.hierarchy._tree import Tree


@dataclass(frozen=True)
class Dag:
    """A hierarchy with multiple inheritance: one root, and every node below it may have several
    parents.

    In canonical form: inner nodes with the same children are one node. Two graphs are equal when
    they say the same.

    Args:
      parents: For every node the numbers of its parents, `()` for the root; in any numbering.
      concepts: The names of the nodes without children, in the order of those nodes; default
        `0, 1, ...`.

    Raises:
      ValueError: for no root or two, a parent that is no node, a cycle, an inner node with one
        child, concepts that are too few, too many or twice there.

    Example: two parents of concept 1.

    >>> dag = Dag.from_nested(((0, 1), (1, 2)))
    >>> dag.parents
    ((4,), (4, 5), (5,), (), (3,), (3,))
    >>> dag.children[dag.root]
    (4, 5)
    """

    parents: tuple[tuple[int, ...], ...]
    concepts: tuple[Hashable, ...] | None = None

    def __post_init__(self):
        parents, children = _valid(self.parents)
        leaves = [node for node, below in enumerate(children) if not below]
        concepts, places = ranked(self.concepts, len(leaves))
        levels = _levels(children)
        # From the leaves upwards a node is what its children are; numbers within a level follow the
        # children's.
        number = dict(zip(leaves, places))
        below, nodes = [()] * len(leaves), len(leaves)
        for level in levels[1:]:
            made_of = {
                node: tuple(sorted({number[child] for child in children[node]})) for node in level
            }
            single = [node for node in level if len(made_of[node]) == 1]
            if single:
                raise ValueError(
                    f"an inner node has at least two children, got one for node {single[0]}; leave "
                    "that node out"
                )
            kinds = sorted(
                set(made_of.values()), reverse=True
            )  # as their order is turned in the end
            number |= {node: nodes + kinds.index(made_of[node]) for node in level}
            below += kinds
            nodes += len(kinds)
        final = [
            *range(len(leaves)),
            *reversed(range(len(leaves), nodes)),
        ]  # the root, the highest, comes first
        up = [[] for _ in range(nodes)]
        for node, parts in enumerate(below):
            for child in parts:
                up[final[child]].append(final[node])
        object.__setattr__(self, "parents", tuple(tuple(sorted(each)) for each in up))
        object.__setattr__(self, "concepts", concepts)

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
        return self.parents.index(())

    @cached_property
    def inner(self) -> tuple[int, ...]:
        """The nodes that have children, the root first, every node before those below it."""
        return tuple(range(self.size, self.nodes))

    @cached_property
    def children(self) -> tuple[tuple[int, ...], ...]:
        """Every node's children, by their numbers."""
        return tuple(tuple(each) for each in _inverse(self.parents))

    @cached_property
    def members(self) -> np.ndarray:
        """`[N, C]`, bool: is the concept at or under the node?"""
        members = np.eye(self.nodes, self.size, dtype=bool)
        for node in reversed(self.inner):
            members[node] = members[list(self.children[node])].any(0)
        return members

    @cached_property
    def path_counts(self) -> tuple[int, ...]:
        """For every concept the number of its paths from the root."""
        counts = [0] * self.nodes
        counts[self.root] = 1
        for node in (*self.inner[1:], *range(self.size)):
            counts[node] = sum(counts[parent] for parent in self.parents[node]) or counts[node]
        return tuple(counts[: self.size])

    @staticmethod
    def from_tree(tree: Tree) -> Dag:
        """The tree as a graph."""
        return Dag(tuple(() if parent < 0 else (parent,) for parent in tree.parents), tree.concepts)

    @staticmethod
    def from_nested(nested) -> Dag:
        """A graph from nested tuples or lists in which concepts, and whole parts, may come
        again."""
        parents, names, stack = [], {}, [(nested, None)]
        while stack:
            part, parent = stack.pop()
            inner = isinstance(part, (tuple, list))
            node = len(parents) if inner or part not in names else names[part]
            if node == len(parents):
                parents.append([])
            if not inner:
                names[part] = node
            if parent is not None and parent not in parents[node]:
                parents[node].append(parent)
            if inner:
                stack.extend((child, node) for child in part)
        return Dag(tuple(tuple(each) for each in parents), tuple(names))

    @staticmethod
    def from_networkx(graph) -> Dag:
        """A graph from a `networkx.DiGraph` with edges from parents to children. A leaf's concept
        is its attribute `concept`, or the node itself."""
        number = {name: place for place, name in enumerate(graph)}
        parents = tuple(
            tuple(number[parent] for parent in graph.predecessors(name)) for name in graph
        )
        return Dag(
            parents,
            tuple(
                graph.nodes[name].get("concept", name)
                for name in graph
                if graph.out_degree(name) == 0
            ),
        )

    def networkx(self):
        """The graph as a `networkx.DiGraph`, edges from parents to children; leaves carry
        `concept`."""
        with _extras.needed("a networkx graph"):
            import networkx

        graph = networkx.DiGraph()
        graph.add_nodes_from((node, {"concept": name}) for node, name in enumerate(self.concepts))
        graph.add_nodes_from(self.inner)
        graph.add_edges_from(
            (parent, node) for node, parents in enumerate(self.parents) for parent in parents
        )
        return graph


def _valid(parents) -> tuple[list[tuple[int, ...]], list[list[int]]]:
    parents = [tuple(int(parent) for parent in each) for each in parents]
    for node, each in enumerate(parents):
        strange = [parent for parent in each if not 0 <= parent < len(parents)]
        if strange:
            raise ValueError(
                f"parents must be numbers of nodes, 0 to {len(parents) - 1}, got {strange[0]} at "
                f"node {node}; number the nodes from 0, and give () at the root"
            )
        if len(set(each)) < len(each):
            raise ValueError(
                f"a node's parents must differ, got {each} at node {node}; name each once"
            )
    children = _inverse(parents)
    left = set(range(len(parents))) - {node for level in _levels(children) for node in level}
    if left:
        node, seen = min(left), set()
        while node not in seen:  # below a node that was not reached stands another one
            seen.add(node)
            node = next(child for child in children[node] if child in left)
        raise ValueError(
            f"parents must lead from every node to the root, got a cycle through node {node}; "
            "break it there"
        )
    roots = [node for node, each in enumerate(parents) if not each]
    if len(roots) != 1:
        raise ValueError(
            f"a hierarchy has one root, got {len(roots)} (nodes {roots}); give the others a parent"
        )
    return parents, children


def _inverse(related) -> list[list[int]]:
    """The children of every node from its parents, and the other way round."""
    other = [[] for _ in related]
    for node, each in enumerate(related):
        for one in each:
            other[one].append(node)
    return other


def _levels(children) -> list[list[int]]:
    """Nodes by height, the longest way down to a leaf; nodes on or above a cycle are left out."""
    parents, waiting = _inverse(children), [len(below) for below in children]
    levels, level = [], [node for node, below in enumerate(children) if not below]
    while level:
        levels.append(level)
        for node in level:
            for parent in parents[node]:
                waiting[parent] -= 1
        level = sorted(
            {parent for node in level for parent in parents[node] if not waiting[parent]}
        )
    return levels
