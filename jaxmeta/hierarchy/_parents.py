"""Nodes as an array of parents: the checks and the walks that trees and graphs of concepts
share."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np


def order_of(concept: Hashable):
    """Concepts are sorted within their kind; kinds are sorted by name."""
    kind = "number" if isinstance(concept, (int, float, np.number)) else type(concept).__name__
    return kind, concept


def ranked(concepts, leaves: int) -> tuple[tuple[Hashable, ...], list[int]]:
    """The concepts' names, sorted, and the place of each leaf's name among them; `0, 1, ...` where
    there are none."""
    concepts = tuple(range(leaves)) if concepts is None else tuple(concepts)
    if len(concepts) != leaves:
        raise ValueError(
            f"concepts must name the {leaves} nodes without children, got {len(concepts)}: "
            "give one name a leaf"
        )
    try:
        names = tuple(sorted(concepts, key=order_of))
        places = {name: place for place, name in enumerate(names)}
    except TypeError:
        raise ValueError(
            f"concepts must be names that can be sorted, got {concepts}; give strings or numbers"
        ) from None
    if len(places) < leaves:
        twice = sorted({repr(name) for name in concepts if concepts.count(name) > 1})
        raise ValueError(
            f"concepts must differ, got {', '.join(twice)} more than once; name each leaf "
            "differently"
        )
    return names, [places[name] for name in concepts]


def valid_parents(parents) -> list[int]:
    """A tree's parents as a list; refuses what is no tree."""
    parents = [int(parent) for parent in parents]
    nodes = len(parents)
    roots = [node for node, parent in enumerate(parents) if parent == -1]
    strange = [node for node, parent in enumerate(parents) if not -1 <= parent < nodes]
    if strange:
        raise ValueError(
            f"parents must be numbers of nodes, 0 to {nodes - 1}, or -1 for the root, got "
            f"{parents[strange[0]]} at node {strange[0]}; number the nodes from 0"
        )
    children = children_of(parents)
    seen, stack = set(), list(roots)
    while stack:
        node = stack.pop()
        seen.add(node)
        stack.extend(children[node])
    if len(seen) < nodes:
        raise ValueError(
            f"parents must lead from every node to the root, got a cycle through node "
            f"{_on_a_cycle(parents, min(set(range(nodes)) - seen))}; give -1 as the root's parent"
        )
    if len(roots) != 1:
        raise ValueError(
            f"a tree has one root, got {len(roots)} (nodes {roots}); give the others a parent"
        )
    single = [node for node in range(nodes) if len(children[node]) == 1]
    if single:
        raise ValueError(
            f"an inner node has at least two children, got one for node {single[0]}; leave that "
            "node out"
        )
    return parents


def _on_a_cycle(parents, node: int) -> int:
    seen = set()
    while node not in seen:
        seen.add(node)
        node = parents[node]
    return node


def valid_heights(heights, parents) -> list[float]:
    """Heights as a list; refuses those that fall towards the root."""
    heights = [float(height) for height in heights]
    if len(heights) != len(parents):
        raise ValueError(
            f"heights must be one a node, {len(parents)}, got {len(heights)}; "
            "give one for every leaf and inner node"
        )
    for node, parent in enumerate(parents):
        if parent >= 0 and not heights[node] <= heights[parent]:
            raise ValueError(
                f"heights must not fall towards the root, got {heights[node]} at node {node} under "
                f"{heights[parent]} at node {parent}; give distances from the leaves"
            )
    return heights


def children_of(parents) -> list[list[int]]:
    """Every node's children, in the order of their numbers."""
    children = [[] for _ in parents]
    for node, parent in enumerate(parents):
        if parent >= 0:
            children[parent].append(node)
    return children


def each_upwards(children, root: int, value) -> dict:
    """`value(node, its children's values)` of every node, children first; without recursion, as
    chains may be deep."""
    order, stack = [], [root]
    while stack:
        order.append(stack.pop())
        stack.extend(children[order[-1]])
    values = {}
    for node in reversed(order):
        values[node] = value(node, [values[child] for child in children[node]])
    return values
