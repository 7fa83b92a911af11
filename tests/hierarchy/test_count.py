"""The space of trees: counted by three routes, numbered without gaps, drawn uniformly."""

import itertools
import math
import random

import jax
import numpy as np
import pytest
import scipy.stats

from jaxmeta.hierarchy._count import (
    count,
    count_binary,
    enumerate_binary,
    enumerate_trees,
    rank,
    rank_binary,
    sample,
    sample_binary,
    unrank,
    unrank_binary,
)
from jaxmeta.hierarchy._tree import Tree

PRINTED = [
    1,
    1,
    4,
    26,
    236,
    2752,
    39208,
    660032,
    12818912,
    282137824,
]  # in the papers, and OEIS A000311
ALL = (count, enumerate_trees, rank, unrank, sample)
BINARY = (count_binary, enumerate_binary, rank_binary, unrank_binary, sample_binary)


def grown(concepts):
    """Trees as sets of clades, grown by one concept at a time: onto an edge, or into a node."""
    trees = {frozenset([frozenset([0])])}
    for new in range(1, concepts):
        more = set()
        for tree in trees:
            for clade in tree:
                above = {old | {new} if clade < old else old for old in tree} | {frozenset([new])}
                more.add(frozenset(above | {clade | {new}}))  # beside the clade, under a new node
                if len(clade) > 1:  # a further child of the clade's node
                    more.add(frozenset((above - {clade}) | {clade | {new}}))
        trees = more
    return trees


def test_counts_are_the_printed_ones_and_those_of_brute_force():
    assert [count(concepts) for concepts in range(1, 11)] == PRINTED
    for concepts in range(1, 7):
        found = grown(concepts)
        assert len(found) == PRINTED[concepts - 1]
        assert sum(len(tree) == 2 * concepts - 1 for tree in found) == count_binary(concepts)


def test_counts_satisfy_the_generating_function_exactly():
    """e^T = 2T + 1 - x says (1 + x - 2T) T' = 1: T(n) = sum_k binom(n, k) T(k) T(n - k) - (n - 1)
    T(n - 1)."""
    for n in range(2, 60):
        pairs = sum(math.comb(n, k) * count(k) * count(n - k) for k in range(1, n))
        assert count(n) == pairs - (n - 1) * count(n - 1)
    assert count(41) / count(40) == pytest.approx(
        40 / (2 * math.log(2) - 1), rel=0.05
    )  # factorial growth
    assert count_binary(20) == math.factorial(38) // (2**19 * math.factorial(19))


@pytest.mark.parametrize("space", [ALL, BINARY])
def test_numbers_and_trees_are_one_to_one(space):
    counted, every, ranked, unranked, _ = space
    for concepts in range(1, 6):
        found = list(every(concepts))
        assert [ranked(tree) for tree in found] == list(range(counted(concepts)))
        assert len({tree.clades for tree in found}) == counted(concepts)
        assert found == [unranked(index, concepts) for index in range(counted(concepts))]
    draw = random.Random(0)
    for concepts in (30, 75):
        for index in (
            0,
            counted(concepts) - 1,
            *(draw.randrange(counted(concepts)) for _ in range(10)),
        ):
            assert ranked(unranked(index, concepts)) == index


def test_all_trees_are_those_grown_by_hand():
    inner = {frozenset(clade for clade in tree if len(clade) > 1) for tree in grown(5)}
    assert {tree.clades for tree in enumerate_trees(5)} == inner
    assert {tree.clades for tree in enumerate_binary(5)} == {
        tree for tree in inner if len(tree) == 4
    }


def test_enumeration_is_lazy_and_takes_names_in_any_order():
    first = list(itertools.islice(enumerate_trees(60), 3))
    assert [rank(tree) for tree in first] == [0, 1, 2]
    assert unrank(7, "dbca") == unrank(7, "abcd") == unrank(7, 4).renamed("abcd")
    assert rank(unrank(7, "dbca")) == 7


@pytest.mark.parametrize("space, concepts", [(ALL, 4), (ALL, 5), (BINARY, 4), (BINARY, 5)])
def test_samples_are_uniform(space, concepts):
    counted, _, ranked, _, sampled = space
    keys = jax.random.split(jax.random.key(4), 6 * counted(concepts))
    drawn = np.bincount(
        [ranked(sampled(key, concepts)) for key in keys], minlength=counted(concepts)
    )
    assert drawn.size == counted(concepts) and 0.001 < scipy.stats.chisquare(drawn).pvalue < 0.999


def test_samples_of_many_concepts():
    a, b = (sample(jax.random.key(seed), 120) for seed in (0, 1))
    assert a.size == 120 and a != b and a == sample(jax.random.key(0), 120)
    assert sample(jax.random.key(0), 1) == Tree.star(1) == sample_binary(jax.random.key(0), 1)
    assert sample_binary(jax.random.key(0), 120).nodes == 239


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: count(0), "concepts must be at least 1, got 0"),
        (lambda: count_binary(2.0), "concepts must be a whole number"),
        (lambda: unrank(26, 4), "below the number of trees, 26, got 26"),
        (lambda: unrank(-1, 4), "index must be at least 0"),
        (lambda: unrank_binary(15, 4), "15, got 15"),
        (lambda: unrank(0, "aa"), "must differ, got 'a'"),
        (lambda: rank_binary(Tree.star(3)), "must be binary, got 3 children of node 3"),
    ],
)
def test_refusals(make, words):
    with pytest.raises(ValueError, match=words):
        make()
