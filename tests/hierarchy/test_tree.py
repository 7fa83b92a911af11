"""A tree is the same whatever form it came in; what it tells of its nodes is what a graph library
finds."""

import jax
import jax.numpy as jnp
import networkx
import numpy as np
import pytest
import scipy.cluster.hierarchy as scipy_hierarchy
from hypothesis import given, settings, strategies as st

from jaxmeta.hierarchy._count import count, count_binary, unrank, unrank_binary
from jaxmeta.hierarchy._dag import Dag
from jaxmeta.hierarchy._leaf_probabilities import edges, leaf_log_probabilities
from jaxmeta.hierarchy._tree import Tree

NAMES = st.lists(
    st.text("ab '(),:;[]é\"", min_size=1, max_size=4), min_size=1, max_size=8, unique=True
)
quick = settings(max_examples=60, deadline=None)


@st.composite
def trees(draw, binary=False, names=NAMES):
    names = draw(names)
    trees_of, make = (count_binary, unrank_binary) if binary else (count, unrank)
    return make(draw(st.integers(0, trees_of(len(names)) - 1)), names)


@quick
@given(trees(), st.randoms(use_true_random=False))
def test_every_form_gives_the_tree_back(tree, random):
    order = list(range(tree.nodes))
    random.shuffle(order)
    parents, leaves = [0] * tree.nodes, {}
    for node, parent in enumerate(tree.parents):
        parents[order[node]] = -1 if parent < 0 else order[parent]
    leaves = sorted(range(tree.size), key=order.__getitem__)
    renumbered = Tree(parents, [tree.concepts[leaf] for leaf in leaves])

    def shuffled(part):
        return (
            random.sample([shuffled(child) for child in part], len(part))
            if isinstance(part, tuple)
            else part
        )

    forms = [
        Tree(tree.parents, tree.concepts),
        renumbered,
        Tree.from_nested(tree.nested()),
        Tree.from_nested(shuffled(tree.nested())),
        Tree.from_networkx(tree.networkx()),
        Tree.from_newick(tree.newick()),
    ]
    for form in forms:
        assert form == tree and hash(form) == hash(tree) and form.clades == tree.clades
        assert form.heights == tree.heights
    assert str(renumbered) == str(tree) and len(str(tree).splitlines()) == tree.size


@quick
@given(trees(), trees())
def test_trees_are_equal_when_their_clades_are(a, b):
    assert (a == b) == (a.concepts == b.concepts and a.clades == b.clades)


@quick
@given(trees())
def test_relations_are_those_of_the_graph(tree):
    graph = tree.networkx()
    assert networkx.is_arborescence(graph)
    for node in graph:
        under = {leaf for leaf in networkx.descendants(graph, node) | {node} if leaf < tree.size}
        assert set(np.flatnonzero(tree.members[node])) == under
        assert set(tree.children[node]) == set(graph.successors(node))
        assert tree.depths[node] == networkx.shortest_path_length(graph, tree.root, node)
        assert tree.heights[node] == max(
            networkx.shortest_path_length(graph, node, leaf) for leaf in under
        )
        assert not tree.children[node] or len(tree.children[node]) > 1
    for i in range(tree.size):
        assert set(np.flatnonzero(tree.paths[i])) == set(
            networkx.shortest_path(graph, tree.root, i)
        )
        for j in range(tree.size):
            lowest = networkx.lowest_common_ancestor(graph, i, j)
            assert tree.ancestors[i, j] == lowest
            below = set(graph.successors(lowest)) | {lowest} if i != j else {i}
            assert tree.branches[i, j] in below and tree.members[tree.branches[i, j], i]
            assert i == j or not tree.members[tree.branches[i, j], j]
    assert [tree.leaf(concept) for concept in tree.concepts] == list(range(tree.size))
    assert list(tree.inner) == list(range(tree.size, tree.nodes))
    assert all(tree.parents[node] < node for node in tree.inner[1:])


@quick
@given(
    st.integers(2, 12),
    st.sampled_from(["single", "complete", "average", "ward", "centroid", "median"]),
    st.integers(0, 99),
)
def test_linkages_come_and_go(size, method, seed):
    points = np.random.default_rng(seed).normal(size=(size, 3))
    linkage = scipy_hierarchy.linkage(points, method)
    tree = Tree.from_linkage(linkage)
    again = tree.linkage()
    assert scipy_hierarchy.is_valid_linkage(again) and scipy_hierarchy.is_monotonic(again)
    assert Tree.from_linkage(again) == tree and Tree.from_linkage(again).heights == tree.heights
    cophenetic = np.array(tree.heights)[tree.ancestors][np.triu_indices(size, 1)]
    np.testing.assert_allclose(scipy_hierarchy.cophenet(again), cophenetic)
    if scipy_hierarchy.is_monotonic(linkage):
        np.testing.assert_allclose(scipy_hierarchy.cophenet(linkage), cophenetic)


def test_a_wide_node_becomes_a_linkage_at_one_height():
    linkage = Tree.from_nested((0, (1, 2, 3))).linkage()
    np.testing.assert_array_equal(linkage, [[1, 2, 1, 2], [4, 3, 1, 3], [0, 5, 2, 4]])


def test_text():
    assert str(Tree.from_nested((1, (2, 3, (5, 4)), 6))).splitlines() == [
        "┬ 1",
        "├┬ 2",
        "│├ 3",
        "│└┬ 4",
        "│ └ 5",
        "└ 6",
    ]
    assert str(Tree.star(["only"])) == " only"


def test_newick_of_others():
    tree = Tree.from_newick(" [a comment] ( (b:1, 'it''s' :1)x:2 , c:3 )root ;")
    assert tree == Tree.from_nested((("b", "it's"), "c"))
    assert tree.heights == (0, 0, 0, 3, 1)
    assert Tree.from_newick("((b:1,d:1):2,c:1);").heights == (
        0,
        0,
        0,
        2,
        1,
    )  # leaves not level: edges are counted
    assert Tree.from_newick("only;") == Tree.star(["only"])


def test_names():
    tree = Tree.from_nested((2, ("b", 10)))
    assert tree.concepts == (2, 10, "b")  # kinds apart
    assert tree.renamed(["x", "y", "z"]) == Tree.from_nested(("x", ("z", "y")))
    assert tree.renamed({2: "b", 10: 2, "b": 10}) == Tree.from_nested(("b", (10, 2)))
    assert tree.over(["b", 2, 10]) is tree
    assert (
        Tree.star(1).parents == (-1,)
        and Tree.star(1).root == 0
        and Tree.star("ab").nested() == ("a", "b")
    )


def test_deep_trees_do_not_recurse():
    nested = 0
    for leaf in range(1, 2000):
        nested = (leaf, nested)
    tree = Tree.from_nested(nested)
    assert max(tree.depths) == 1999 and tree.ancestors[0, 1999] == tree.root
    for form in (
        Tree.from_nested(tree.nested()),
        Tree.from_newick(tree.newick()).renamed(sorted(range(2000), key=str)),
        Tree.from_networkx(tree.networkx()),
        Tree.from_linkage(tree.linkage()),
    ):
        assert form == tree
    assert Dag.from_tree(tree).nodes == 3999


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: Tree(()), r"one root, got 0"),
        (lambda: Tree((-1, 0, 0, -1)), r"one root, got 2 \(nodes \[0, 3\]\)"),
        (lambda: Tree((-1, 0, 0, 3)), "a cycle through node 3"),
        (lambda: Tree((1, 2, 0)), "a cycle through node 0"),
        (lambda: Tree((-1, 0, 5)), "0 to 2, or -1 for the root, got 5 at node 2"),
        (lambda: Tree((-1, 0)), "at least two children, got one for node 0"),
        (lambda: Tree((-1, 0, 0), "abc"), "name the 2 nodes without children, got 3"),
        (lambda: Tree((-1, 0, 0), "aa"), "must differ, got 'a' more than once"),
        (lambda: Tree((-1, 0, 0), ([], [])), "names that can be sorted"),
        (lambda: Tree((-1, 0, 0), (1j, 2j)), "names that can be sorted"),
        (lambda: Tree((-1, 0, 0), None, (1, 0)), "one a node, 3, got 2"),
        (lambda: Tree((-1, 0, 0), None, (1, 0, 2)), "got 2.0 at node 2 under 1.0"),
        (lambda: Tree((-1, 0, 0), None, (1, 0, np.nan)), "got nan at node 2"),
        (lambda: Tree.from_nested((0, ())), "got \\(\\); leave it out"),
        (lambda: Tree.from_nested((0, (1,))), "got one for node"),
        (lambda: Tree.star("ab").leaf("c"), "one of the tree's \\('a', 'b'\\), got 'c'"),
        (lambda: Tree.star("ab").over("bc"), "lacks \\['c'\\] and has \\['a'\\]"),
        (
            lambda: Tree.from_networkx(networkx.DiGraph([(0, 1), (0, 2), (1, 3), (2, 3)])),
            "several for \\[3\\]; use jaxmeta.*Dag",
        ),
        (lambda: Tree.from_newick("(a,b)"), "got its end at character 5"),
        (lambda: Tree.from_newick("(a,b);c"), "got 'c' at character 6"),
        (lambda: Tree.from_newick("(a,);"), "got a leaf without a name"),
        (lambda: Tree.from_newick("(a,b));"), "got '\\)'"),
        (lambda: Tree.from_newick("((a,b);"), "got ';'"),
        (lambda: Tree.from_newick("a,b;"), "got ','"),
        (lambda: Tree.from_newick("(a b,c);"), "got 'b' at character 2"),
        (lambda: Tree.from_newick("(a:x,b);"), "got 'x'"),
        (lambda: Tree.from_newick("a(b,c);"), "got '\\('"),
        (lambda: Tree.from_newick(":1;"), "got ':'"),
        (lambda: Dag(((1,), (0,))), "a cycle through node"),
        (lambda: Dag(((), (0,), (0, 3), (0, 4), (3, 2))), "a cycle through node"),
        (lambda: Dag(((), ())), "one root, got 2"),
        (lambda: Dag(((), (0,))), "at least two children, got one for node 0"),
        (lambda: Dag(((), (0, 0), (0,))), "parents must differ, got \\(0, 0\\) at node 1"),
        (lambda: Dag(((), (0,), (-1,))), "got -1 at node 2"),
        (lambda: Dag(((), (0,), (0,)), "aa"), "must differ"),
        (
            lambda: leaf_log_probabilities(Tree.star(3), jnp.zeros((2, 4))),
            "must be \\[..., 3\\].* got shape \\(2, 4\\)",
        ),
    ],
)
def test_refusals(make, words):
    with pytest.raises(ValueError, match=words):
        make()


# Several parents

SHARED = Dag.from_nested(((0, (1, 2)), ((1, 2), 3, 0), 4))


def test_a_graph_is_the_same_in_every_numbering_and_equal_nodes_are_one():
    assert SHARED.nodes == 5 + 4 and SHARED.path_counts == (2, 2, 2, 1, 1)
    assert SHARED.children[SHARED.root :] == ((4, 6, 7), (0, 3, 8), (0, 8), (1, 2))
    random = np.random.default_rng(0)
    for _ in range(5):
        order = random.permutation(SHARED.nodes).tolist()
        parents = [()] * SHARED.nodes
        for node, above in enumerate(SHARED.parents):
            parents[order[node]] = tuple(order[parent] for parent in above)
        assert Dag(tuple(parents), sorted(range(SHARED.size), key=order.__getitem__)) == SHARED
    again = Dag.from_networkx(SHARED.networkx())
    assert again == SHARED and hash(again) == hash(SHARED)
    for node in SHARED.networkx():
        under = networkx.descendants(SHARED.networkx(), node) | {node}
        assert set(np.flatnonzero(SHARED.members[node])) == {
            leaf for leaf in under if leaf < SHARED.size
        }


@quick
@given(trees())
def test_a_tree_is_a_graph(tree):
    dag = Dag.from_tree(tree)
    assert dag == Dag.from_nested(tree.nested()) and set(dag.path_counts) == {1}
    assert {
        frozenset(dag.concepts[leaf] for leaf in np.flatnonzero(row))
        for row in dag.members[dag.size :]
    } == tree.clades
    assert Tree.from_networkx(dag.networkx()) == tree


@pytest.mark.parametrize(
    "hierarchy",
    [SHARED, Tree.from_nested((0, (1, (2, 3), 4))), Tree.star(1), Dag.from_nested((0, 1))],
)
def test_leaf_probabilities_sum_over_paths(hierarchy):
    pairs = edges(hierarchy).tolist()
    random = np.random.default_rng(1)
    weights = random.uniform(size=(3, len(pairs)))
    for parent in hierarchy.inner:
        here = [place for place, pair in enumerate(pairs) if pair[0] == parent]
        weights[:, here] /= weights[:, here].sum(1, keepdims=True)
    found = jnp.exp(
        jax.jit(lambda values: leaf_log_probabilities(hierarchy, values))(jnp.log(weights))
    )
    graph, by_edge = (
        hierarchy.networkx(),
        {tuple(pair): weights[:, place] for place, pair in enumerate(pairs)},
    )
    assert set(by_edge) == set(graph.edges)
    for leaf in range(hierarchy.size):
        paths = (
            networkx.all_simple_edge_paths(graph, hierarchy.root, leaf)
            if hierarchy.size > 1
            else [[]]
        )
        expected = sum(
            np.prod([by_edge[edge] for edge in path], axis=0) * np.ones(3) for path in paths
        )
        np.testing.assert_allclose(found[:, leaf], expected, rtol=1e-12)
    np.testing.assert_allclose(found.sum(1), 1.0)


def test_leaf_probabilities_are_differentiable():
    values = jnp.log(jnp.linspace(0.1, 0.9, len(edges(SHARED))))

    @jax.jit
    def one(values):
        return leaf_log_probabilities(SHARED, values)[1]

    slope, step = jax.jit(jax.grad(one))(values), 1e-6
    finite = [
        (one(values.at[place].add(step)) - one(values.at[place].add(-step))) / (2 * step)
        for place in (0, 1, 3, 6)
    ]
    np.testing.assert_allclose(slope[jnp.array([0, 1, 3, 6])], finite, atol=1e-8)
    assert np.isfinite(slope).all()
