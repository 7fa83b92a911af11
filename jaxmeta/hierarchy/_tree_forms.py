"""Other forms of a tree: nested tuples, networkx's graphs, scipy's linkages, and a drawing in text.

What is read becomes the arguments of a `Tree`, so that this file need not know it; what is written
is made of one. Newick's text has a file of its own.
"""

from __future__ import annotations

import numpy as np

from jaxmeta import _extras
from jaxmeta.hierarchy._parents import each_upwards


def from_nested(nested):
    """See `Tree.from_nested`."""
    parents, concepts = [], []
    stack = [(nested, -1)]
    while stack:
        part, parent = stack.pop()
        number = len(parents)
        parents.append(parent)
        if isinstance(part, (tuple, list)):
            if not part:
                raise ValueError(
                    "nested must hold a concept or at least two parts in every tuple, got (); "
                    "leave it out"
                )
            stack.extend((child, number) for child in reversed(part))
        else:
            concepts.append(part)
    return tuple(parents), tuple(concepts)


def from_networkx(graph):
    """See `Tree.from_networkx`."""
    names = list(graph)
    number = {name: place for place, name in enumerate(names)}
    several = [name for name in names if graph.in_degree(name) > 1]
    if several:
        raise ValueError(
            f"every node of a tree has one parent, got several for {several}; use "
            "jaxmeta.hierarchy.Dag"
        )
    parents = [-1] * len(names)
    for parent, node in graph.edges:
        parents[number[node]] = number[parent]
    concepts = [
        graph.nodes[name].get("concept", name) for name in names if graph.out_degree(name) == 0
    ]
    return tuple(parents), tuple(concepts)


def to_networkx(tree):
    """See `Tree.networkx`."""
    with _extras.needed("a networkx graph"):
        import networkx

    graph = networkx.DiGraph()
    for node in range(tree.nodes):
        graph.add_node(
            node,
            height=tree.heights[node],
            **({"concept": tree.concepts[node]} if node < tree.size else {}),
        )
    graph.add_edges_from((parent, node) for node, parent in enumerate(tree.parents) if parent >= 0)
    return graph


def from_linkage(linkage, concepts):
    """See `Tree.from_linkage`."""
    linkage = np.asarray(linkage, float)
    size = len(linkage) + 1
    parents, heights = [-1] * (2 * size - 1), [0.0] * (2 * size - 1)
    for step, (left, right, height, _) in enumerate(linkage):
        parents[int(left)] = parents[int(right)] = size + step
        heights[size + step] = height
    # Centroid and median linkage may invert; a height is at least what is under it.
    for step, (left, right, _, _) in enumerate(linkage):
        heights[size + step] = max(heights[size + step], heights[int(left)], heights[int(right)])
    return tuple(parents), None if concepts is None else tuple(concepts), tuple(heights)


def to_linkage(tree):
    """See `Tree.linkage`."""
    rows, cluster = [], {leaf: (leaf, 1) for leaf in range(tree.size)}
    for node in sorted(tree.inner, key=lambda node: (tree.heights[node], -node)):
        left, count = cluster[tree.children[node][0]]
        for child in tree.children[node][1:]:
            right, more = cluster[child]
            count += more
            rows.append((left, right, tree.heights[node], count))
            left = tree.size + len(rows) - 1
        cluster[node] = (left, count)
    return np.array(rows, float).reshape(-1, 4)


def as_text(tree) -> str:
    """One line a concept: see `Tree.__str__`."""

    def lines(node, parts):
        if not parts:
            return [f" {tree.concepts[node]}"]
        drawn = []
        for place, part in enumerate(parts):
            first, last = place == 0, place == len(parts) - 1
            drawn.append(("┬" if first else "└" if last else "├") + part[0])
            drawn.extend((" " if last else "│") + line for line in part[1:])
        return drawn

    return "\n".join(each_upwards(tree.children, tree.root, lines)[tree.root])
