"""The space of trees over C concepts: how many, in what order, and one of them drawn uniformly.

A tree's number is made of its root's first child, which holds the smallest concept: how many
concepts are with it, which ones, how they are arranged, and how the rest is: one tree, or the
further children of the root, which are counted as the children of one tree. A binary tree's number
is made of the edges at which concepts 1, 2, ... are inserted in turn.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence

import numpy as np

from jaxmeta import _check
from jaxmeta._random import generator
from jaxmeta.hierarchy._parents import each_upwards
from jaxmeta.hierarchy._tree import Tree

_COUNTS = [0, 1]


def count(concepts: int) -> int:
    """The number of trees over C concepts, exact at any C.

        T(1) = 1,   T(K + 1) = K T(K) + 2 sum over i in 0 .. K - 2 of binom(K, i) T(i + 1) T(K - i)

    The first child of the root holds the smallest concept and i others; the K - i that are left are
    one tree or several.

    >>> [count(concepts) for concepts in range(1, 9)]
    [1, 1, 4, 26, 236, 2752, 39208, 660032]

    References: Hamidi and Osmani, PAKDD 2021, section 2.2; Schroeder's fourth problem, OEIS
    A000311.
    """
    _check.whole_number("concepts", concepts, least=1)
    for leaves in range(len(_COUNTS), concepts + 1):
        _COUNTS.append(sum(weight for _, weight in _sizes(leaves)))
    return _COUNTS[concepts]


def _sizes(leaves: int) -> Iterator[tuple[int, int]]:
    """For every number of companions in the first child, the number of trees that have it."""
    binomial = 1
    for companions in range(leaves - 1):
        yield companions, binomial * _COUNTS[companions + 1] * _forests(leaves - 1 - companions)
        binomial = binomial * (leaves - 1 - companions) // (companions + 1)


def _first_child(leaves: int, place: int) -> tuple[int, int]:
    """The number of companions in the first child of the tree with that number, and its number
    among those alike."""
    for companions, weight in _sizes(leaves):
        if place < weight:
            return companions, place
        place -= weight
    raise AssertionError("a number below count(leaves) has a first child")


def _forests(leaves: int) -> int:
    """The number of ways in which the rest may be: one tree, or two and more."""
    return 1 if leaves == 1 else 2 * _COUNTS[leaves]


def rank(tree: Tree) -> int:
    """The tree's number among all over its concepts, from 0 to `count(C) - 1`; the inverse of
    `unrank`."""
    count(tree.size)

    def number(node, ranks):
        if not ranks:
            return 0
        children = [np.flatnonzero(tree.members[child]).tolist() for child in tree.children[node]]
        place, rest = ranks[-1], children[-1]
        for index in range(len(children) - 2, -1, -1):
            child, rank = children[index], ranks[index]
            others = sorted(child[1:] + rest)
            before = sum(
                weight
                for companions, weight in _sizes(1 + len(others))
                if companions < len(child) - 1
            )
            subset = _subset_rank([others.index(leaf) for leaf in child[1:]])
            place = before + (subset * _COUNTS[len(child)] + rank) * _forests(len(rest)) + place
            rest = [child[0], *others]
            if index:  # further children of the same root
                place += _COUNTS[len(rest)]
        return place

    return each_upwards(tree.children, tree.root, number)[tree.root]


def unrank(index: int, concepts: int | Sequence[Hashable]) -> Tree:
    """The tree of a number over C concepts, or over these ones.

    >>> [unrank(index, 3).nested() for index in range(4)]
    [(0, (1, 2)), (0, 1, 2), ((0, 1), 2), ((0, 2), 1)]

    Raises:
      ValueError: for a number that is not from 0 to `count(C) - 1`.
    """
    names = Tree.star(concepts).concepts
    return _unranked(_valid_index(index, count(len(names))), names)


def _unranked(index: int, names) -> Tree:
    parents, leaves = [], []

    def grow(parent, leaf=None):
        parents.append(parent)
        if leaf is not None:
            leaves.append(names[leaf])
        return len(parents) - 1

    stack = [(list(range(len(names))), index, -1)]
    while stack:
        held, place, parent = stack.pop()
        if len(held) == 1:
            grow(parent, held[0])
            continue
        node = grow(parent)
        while True:
            companions, place = _first_child(len(held), place)
            place, forest = divmod(place, _forests(len(held) - 1 - companions))
            subset, inside = divmod(place, _COUNTS[companions + 1])
            chosen = set(_subset(subset, companions, len(held) - 1))
            stack.append(([held[0], *(held[1 + one] for one in sorted(chosen))], inside, node))
            held = [leaf for one, leaf in enumerate(held[1:]) if one not in chosen]
            if forest < _COUNTS[len(held)]:
                stack.append((held, forest, node))
                break
            place = forest - _COUNTS[len(held)]
    return Tree(tuple(parents), tuple(leaves))


def enumerate_trees(concepts: int | Sequence[Hashable]) -> Iterator[Tree]:
    """All trees over C concepts, or over these ones, in the order of their numbers; made as they
    are asked for."""
    names = Tree.star(concepts).concepts
    return (_unranked(index, names) for index in range(count(len(names))))


def sample(key, concepts: int | Sequence[Hashable]) -> Tree:
    """A tree drawn from all over C concepts, or over these ones, each exactly as likely: the random
    baseline.

    >>> import jax
    >>> sample(jax.random.key(0), "abcde").size
    5
    """
    names = Tree.star(concepts).concepts
    return _unranked(_uniform(key, count(len(names))), names)


def count_binary(concepts: int) -> int:
    """The number of binary trees over C concepts, `(2C - 3)!! = 1 * 3 * ... * (2C - 3)`.

    >>> [count_binary(concepts) for concepts in (1, 2, 3, 8)]
    [1, 1, 3, 135135]
    """
    return math.prod(range(1, 2 * _check.whole_number("concepts", concepts, least=1) - 2, 2))


def rank_binary(tree: Tree) -> int:
    """A binary tree's number among the binary ones over its concepts; the inverse of
    `unrank_binary`.

    Raises:
      ValueError: for a node with more than two children.
    """
    several = [node for node in tree.inner if len(tree.children[node]) > 2]
    if several:
        raise ValueError(
            f"the tree must be binary, got {len(tree.children[several[0]])} children of node "
            f"{several[0]}; use rank, or split the node"
        )
    parents, children = list(tree.parents), [list(below) for below in tree.children]
    names, beside = {0: 0}, []
    for leaf in range(
        tree.size - 1, 0, -1
    ):  # the last concept is taken out, and its parent with it
        parent = parents[leaf]
        (other,) = (child for child in children[parent] if child != leaf)
        above = parents[other] = parents[parent]
        if above >= 0:
            children[above][children[above].index(parent)] = other
        names |= {leaf: 2 * leaf - 1, parent: 2 * leaf}
        beside.append((leaf, other))
    place = 0
    for leaf, other in beside:
        place = place * (2 * leaf - 1) + names[other]
    return place


def unrank_binary(index: int, concepts: int | Sequence[Hashable]) -> Tree:
    """The binary tree of a number over C concepts, or over these ones.

    >>> [unrank_binary(index, 3).nested() for index in range(3)]
    [((0, 2), 1), (0, (1, 2)), ((0, 1), 2)]

    Raises:
      ValueError: for a number that is not from 0 to `count_binary(C) - 1`.
    """
    names = Tree.star(concepts).concepts
    return _unranked_binary(_valid_index(index, count_binary(len(names))), names)


def _unranked_binary(index: int, names) -> Tree:
    # Concept k comes with leaf 2k - 1 and inner node 2k, which goes on top of one of the nodes 0 ..
    # 2k - 2.
    parents = [-1]
    for leaf in range(1, len(names)):
        index, node = divmod(index, 2 * leaf - 1)
        parents += [2 * leaf, parents[node]]
        parents[node] = 2 * leaf
    return Tree(tuple(parents), tuple(names))


def enumerate_binary(concepts: int | Sequence[Hashable]) -> Iterator[Tree]:
    """All binary trees over C concepts, or over these ones, in the order of their numbers; made as
    they are asked for."""
    names = Tree.star(concepts).concepts
    return (_unranked_binary(index, names) for index in range(count_binary(len(names))))


def sample_binary(key, concepts: int | Sequence[Hashable]) -> Tree:
    """A tree drawn from all binary ones over C concepts, or over these ones, each exactly as
    likely."""
    names = Tree.star(concepts).concepts
    return _unranked_binary(_uniform(key, count_binary(len(names))), names)


def _valid_index(index: int, trees: int) -> int:
    if not _check.whole_number("index", index) < trees:
        raise ValueError(f"index must be below the number of trees, {trees}, got {index}")
    return int(index)


def _uniform(key, below: int) -> int:
    """An integer from 0 to below - 1, exactly uniform: as many random bits as it has, again until
    they are in range."""
    words = generator(key)
    bits = (below - 1).bit_length()
    while True:
        drawn = int.from_bytes(words.bytes(bits // 8 + 1), "little") & ((1 << bits) - 1)
        if drawn < below:
            return drawn


def _subset_rank(members: Sequence[int]) -> int:
    """The number of a subset, its members increasing, among those of its size: the combinatorial
    number system."""
    return sum(math.comb(member, place) for place, member in enumerate(members, start=1))


def _subset(rank: int, size: int, of: int) -> list[int]:
    """The subset of that number and size of `0 .. of - 1`, decreasing."""
    members, binomial, member = [], math.comb(of, size), of
    while size:
        # binomial = binom(member, size) goes down to the largest that does not exceed the rank.
        while binomial > rank:
            binomial = binomial * (member - size) // member
            member -= 1
        members.append(member)
        rank -= binomial
        binomial = binomial * size // max(member, 1)
        size, member = size - 1, member - 1
    return members
