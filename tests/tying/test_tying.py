"""One contract for every tying, and the identities by which one is another's special case."""

import types
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import normal

import jaxmeta.tying as jt
from jaxmeta._pytree import leave, merge, named, take
from jaxmeta.hierarchy import Tree
from jaxmeta.training import _checkpoint as checkpoint

KEY = jax.random.key(4)
TREE = Tree.from_nested((0, (1, 2), (3, (4, 5))))  # 6 concepts, 10 nodes, 3 depths
ONE = {"body": {"kernel": normal(0, 3, 4), "bias": normal(1, 4)}}  # 16 parameters
SQUARE = normal(2, 4, 4)
TURN = np.roll(np.arange(4), 1)
AFFINITY = np.abs(normal(3, 6, 6))
AFFINITY = AFFINITY + AFFINITY.T
BODY = named("kernel")


def depth(path):
    return 1 if path.endswith("kernel") else 3


class Member(NamedTuple):
    tying: jt.Tying
    example: object
    free: int  # how many free parameters the theory says
    nodes: int | None  # how many nodes theta is stacked over


# Every tying there is: what it is made of, and what it costs.
MEMBERS = {
    "identity": Member(jt.identity(), ONE, 16, None),
    "shared": Member(jt.shared(6), ONE, 16, 6),
    "universal": Member(jt.universal(6), ONE, 16, 6),
    "free": Member(jt.free(6), ONE, 6 * 16, 6),
    "by_group": Member(jt.by_group(list("abcabb")), ONE, 3 * 16, 6),
    "branching": Member(jt.branching(TREE, depth), ONE, 3 * 12 + 6 * 4, 6),
    "along_tree": Member(jt.along_tree(TREE, [0.5, 1.0, 2.0]), ONE, 10 * 16, 10),
    "along_tree to the concepts": Member(jt.along_tree(TREE, 0.5, range(6)), ONE, 10 * 16, 6),
    "along_tree_learned": Member(jt.along_tree_learned(TREE, 0.5), ONE, 10 * 16 + 3, 10),
    "laplacian": Member(jt.laplacian(AFFINITY, 0.3), ONE, 6 * 16, 6),
    "low_rank": Member(jt.low_rank(6, 2), ONE, 16 + 6 * 2 * (3 + 4), 6),
    "templates": Member(jt.templates(6, 3), ONE, 3 * 12 + 6 * 3 + 6 * 4, 6),
    "partial": Member(jt.partial(6, "bias"), ONE, 12 + 6 * 4, 6),
    "applied": Member(
        jt.applied({BODY: jt.low_rank(6, 1)}, rest=jt.along_tree(TREE, nodes=range(6))),
        ONE,
        12 + 6 * (3 + 4) + 10 * 4,
        6,
    ),
    "by_index": Member(jt.by_index(np.arange(16).reshape(4, 4) % 5), SQUARE, 5, None),
    "hashed": Member(jt.hashed(KEY, (4, 4), 6), SQUARE, 6, None),
    "orbits": Member(jt.orbits((4, 4), [(TURN, TURN)]), SQUARE, 4, None),
    "null_space": Member(jt.null_space([(np.eye(4)[TURN], np.eye(4)[TURN])]), SQUARE, 4, None),
    "stacked": Member(
        jt.stacked(jt.orbits((4, 4), [(TURN, TURN)]), jt.along_tree(TREE, 0.5)), SQUARE, 10 * 4, 10
    ),
    "soft_by_group": Member(jt.soft_by_group(6, 3, 0.5), ONE, 3 * 16 + 6 * 3, 6),
    "soft_along_tree": Member(
        jt.soft_along_tree(6, (2, 4), [0.5, 1.0, 2.0]), ONE, 13 * 16 + 4 * 2 + 6 * 4, 6
    ),
    "near_tree": Member(jt.near_tree(6, (2, 4), [0.5, 1.0, 2.0]), ONE, 13 * 16, 6),
    "soft_branching": Member(
        jt.soft_branching(6, (2, 4), lambda path: 1 + path.endswith("bias")),
        ONE,
        2 * 12 + 4 * 4 + 4 * 2 + 6 * 4,
        6,
    ),
    "soft_by_index": Member(jt.soft_by_index(3, 0.5), SQUARE, 16 * 3 + 3, None),
    "reparameterised": Member(jt.reparameterised(3), ONE, 16 * 3 + 2 * 3, None),
    "kronecker": Member(jt.kronecker(), ONE, 16 + 3**2 + 4**2 + 4**2, None),
    "relaxed": Member(
        jt.relaxed(jt.by_index(np.arange(16).reshape(4, 4) % 5), strength=0.1),
        SQUARE,
        5 + 16 + 2,
        None,
    ),
    "mixture": Member(jt.mixture(3, 0.5, zero=0.2), ONE, 16 + 2 + 3 + 2, None),
    "compose": Member(
        jt.compose(jt.laplacian(AFFINITY), jt.hashed(KEY, (6, 4, 4), 20)), SQUARE, 20, 6
    ),
}
# Not linear in phi; some for parts alone that are not in theta.
BILINEAR = {
    "low_rank",
    "templates",
    "applied",
    "along_tree_learned",
    "soft_by_group",
    "soft_along_tree",
    "soft_branching",
    "soft_by_index",
    "mixture",
    "reparameterised",
    "kronecker",
    "relaxed",
}


def size(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def jittered(tree, seed=1):
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: jnp.asarray(leaf + rng.normal(size=leaf.shape).astype(leaf.dtype)), tree
    )


# Made of others, or others with one more argument; the quick suite leaves them out.
WITHIN = {
    "identity",
    "universal",
    "along_tree to the concepts",
    "partial",
    "orbits",
    "compose",
    "free",
    "by_group",
    "along_tree",
    "laplacian",
    "soft_branching",
}


@pytest.fixture(
    params=[
        pytest.param(name, marks=pytest.mark.slow) if name in WITHIN else name for name in MEMBERS
    ],
    scope="module",
)
def member(request):
    made = MEMBERS[request.param]
    example = jax.tree.map(jnp.asarray, made.example)
    phi = jax.jit(made.tying.init)(KEY, example)

    @jax.jit
    def weighed(
        phi,
    ):  # a function of all of theta, with gradient; and what the contract looks at besides
        def value(phi):
            theta = made.tying.expand(phi)
            spread = [
                jnp.sum(jnp.cos(jnp.arange(leaf.size, dtype=leaf.dtype)) * leaf.reshape(-1))
                for leaf in jax.tree.leaves(theta)
            ]
            return sum(spread) + made.tying.penalty(phi), theta

        return jax.value_and_grad(value, has_aux=True)(phi)

    return types.SimpleNamespace(
        name=request.param, start=phi, phi=jittered(phi), weighed=weighed, **made._asdict()
    )


def test_every_tying_is_a_member():
    makers = {
        name
        for name in jt.__all__
        if getattr(getattr(jt, name), "__annotations__", {}).get("return") == "Tying"
    }
    assert len(makers) > 15 and makers - {"across", "inside"} <= set(MEMBERS)


def test_free_parameters_are_as_many_as_the_theory_says_and_plain(member):
    assert size(member.start) == member.free

    def plain(tree):
        return (
            isinstance(tree, jax.Array)
            or tree is None
            or (
                isinstance(tree, (dict, tuple))
                and all(map(plain, tree.values() if isinstance(tree, dict) else tree))
            )
        )

    assert plain(member.start)
    stack = () if member.nodes is None else (member.nodes,)
    expanded = jax.eval_shape(member.tying.expand, member.start)
    chex.assert_trees_all_equal_shapes_and_dtypes(
        expanded,
        jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((*stack, *leaf.shape), leaf.dtype), member.example
        ),
    )


def test_jit_vmap_recompilation_dtype(member):
    (value, theta), grad = member.weighed(member.phi)
    two = jax.tree.map(lambda a, b: jnp.stack([a, b]), member.phi, member.start)
    both = jax.jit(jax.vmap(member.tying.expand))(two)
    chex.assert_trees_all_close(
        jax.tree.map(lambda leaf: leaf[0], both), theta, rtol=1e-12, atol=1e-12
    )
    if member.name in ("templates", "along_tree_learned", "hashed"):  # op by op is slow
        chex.assert_trees_all_close(member.tying.expand(member.phi), theta, rtol=1e-12, atol=1e-12)
    before = member.weighed._cache_size()
    member.weighed(member.start)
    assert member.weighed._cache_size() == before
    narrow = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), member.phi)
    (value, theta), grad = jax.eval_shape(member.weighed, narrow)
    assert {leaf.dtype for leaf in jax.tree.leaves((value, theta, grad))} == {jnp.dtype("float32")}
    chex.assert_trees_all_equal_dtypes(
        jax.eval_shape(
            member.tying.init,
            KEY,
            jax.tree.map(lambda leaf: leaf.astype(np.float32), member.example),
        ),
        narrow,
    )


def test_derivatives_agree_with_central_differences(member):
    flat, unravel = jax.flatten_util.ravel_pytree(member.phi)
    grad = jax.flatten_util.ravel_pytree(member.weighed(member.phi)[1])[0]
    assert np.abs(grad).max() > 1e-3
    for seed in range(2):
        direction, h = np.random.default_rng(seed).normal(size=flat.shape), 1e-5
        up, down = (member.weighed(unravel(flat + side * direction))[0][0] for side in (h, -h))
        np.testing.assert_allclose(grad @ direction, (up - down) / (2 * h), rtol=1e-6, atol=1e-8)


def test_linear_schemes_are_linear_and_their_gradient_is_the_transpose(member):
    if member.name in BILINEAR:
        pytest.skip("not linear in phi")
    flat, unravel = jax.flatten_util.ravel_pytree(member.phi)
    rows = size(jax.eval_shape(member.tying.expand, member.phi))
    cotangent = jnp.asarray(np.random.default_rng(3).normal(size=rows))

    @jax.jit
    def measured(flat):
        def expand(flat):
            return jax.flatten_util.ravel_pytree(member.tying.expand(unravel(flat)))[0]

        return (
            jax.vmap(expand, out_axes=1)(jnp.eye(flat.size)),
            expand(flat),
            jax.vjp(expand, flat)[1](cotangent)[0],
        )

    dense, theta, grad = map(np.asarray, measured(flat))  # M, column by column
    np.testing.assert_allclose(theta, dense @ flat, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(grad, dense.T @ cotangent, rtol=1e-11, atol=1e-11)


def test_one_node_is_the_node_of_all(member):
    if member.nodes is None:
        pytest.skip("of one node")
    each = jax.jit(
        lambda phi, nodes: jax.vmap(lambda node: jt.at_node(member.tying, phi, node))(nodes)
    )
    (_, theta), _ = member.weighed(member.phi)
    chex.assert_trees_all_close(
        each(member.phi, jnp.arange(member.nodes)), theta, rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("name", ["low_rank", "partial"])
def test_donation_freezing_and_checkpoint(name, tmp_path):
    tying = MEMBERS[name].tying
    phi = jittered(jax.jit(tying.init)(KEY, ONE))

    def value(phi):
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(tying.expand(phi)))

    def descend(phi):
        return jax.tree.map(lambda a, b: a - 0.1 * b, phi, jax.grad(value)(phi))

    copy = jax.tree.map(jnp.copy, phi)
    moved = jax.jit(descend, donate_argnums=0)(copy)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(copy))

    class State(NamedTuple):
        step: int
        theta: object

    checkpoint.save(tmp_path, State(jnp.array(3), moved), {"best": None})
    chex.assert_trees_all_equal(
        checkpoint.load(tmp_path, 3, State(jnp.array(3), moved)).state.theta, moved
    )
    frozen, rest = take(phi, named("bias")), leave(phi, named("bias"))
    grad = jax.jit(jax.grad(lambda rest: value(merge(frozen, rest))))(rest)
    chex.assert_trees_all_close(
        jax.tree.map(lambda a, b: a - 0.1 * b, rest, grad), leave(moved, named("bias"))
    )


def test_sharded_over_nodes():
    mesh = jax.sharding.Mesh(np.asarray(jax.devices()), ("nodes",))
    tying = jt.along_tree(TREE)
    phi = jittered(jax.jit(tying.init)(KEY, ONE))
    split = jax.device_put(
        phi, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("nodes"))
    )
    chex.assert_trees_all_close(
        jax.jit(tying.expand)(split), jax.jit(tying.expand)(phi), rtol=1e-12
    )


@pytest.mark.parametrize(
    "operator",
    [
        jt.repeat(4),
        jt.gather([2, 0, 2, 1]),
        jt.hashing(KEY, 9, 4),
        jt.path_sums(TREE.parents),
        jt.rows(jt.path_sums(TREE.parents), [5, 0]),
        jt.matrix(normal(4, 3, 2)),
    ],
    ids=lambda each: str(each.shape),
)
def test_operators(operator, rng):
    n, m = operator.shape
    dense = jax.jit(operator.apply)(jnp.eye(m))
    assert dense.shape == (n, m)
    np.testing.assert_allclose(jax.jit(operator.transpose)(jnp.eye(n)), dense.T, atol=1e-15)
    if operator.row is not None:
        row = jax.jit(jax.vmap(operator.row, (None, 0)))(jnp.eye(m), jnp.arange(n))
        np.testing.assert_array_equal(row, dense)
    phi = rng.normal(size=(m, 2, 3))
    np.testing.assert_allclose(
        jax.jit(operator.apply)(phi), np.tensordot(dense, phi, 1), atol=1e-13
    )


# Identities


def test_sums_along_the_path_are_the_path_matrix():
    dense = jax.jit(jt.along_tree(TREE, nodes=range(6)).expand)(jnp.eye(10))
    np.testing.assert_array_equal(dense, TREE.paths)


@pytest.mark.parametrize(
    "name",
    [
        "along_tree",
        "along_tree to the concepts",
        "along_tree_learned",
        "low_rank",
        "laplacian",
        "free",
        "by_group",
        "branching",
        "partial",
        "applied",
        "soft_by_group",
        "soft_along_tree",
        "soft_branching",
        "near_tree",
    ],
)
def test_at_the_start_every_node_is_the_example_as_if_shared(name):
    tying, example, _, nodes = MEMBERS[name]
    start = jax.jit(tying.init)(KEY, example)
    chex.assert_trees_all_close(
        jax.jit(tying.expand)(start), jt.shared(nodes).expand(jax.tree.map(jnp.asarray, example))
    )


def test_one_hot_templates_are_group_tying_and_a_flat_tree_is_free():
    groups = [2, 0, 1, 1, 0, 2]
    bank = jittered(jax.tree.map(lambda leaf: np.stack([leaf] * 3), ONE))
    matrices, own = (
        {"body": {"kernel": bank["body"]["kernel"], "bias": None}},
        {"body": {"kernel": None, "bias": jnp.arange(24.0).reshape(6, 4)}},
    )
    phi = {"coefficients": jnp.eye(3)[np.array(groups)], "bank": matrices, "rest": own}
    chex.assert_trees_all_close(
        jax.jit(jt.templates(6, 3).expand)(phi),
        {
            "body": {
                "kernel": jt.by_group(groups).expand(bank)["body"]["kernel"],
                "bias": own["body"]["bias"],
            }
        },
    )
    chex.assert_trees_all_close(
        jt.matrix(np.eye(3)[groups]).apply(bank["body"]["bias"]),
        jt.gather(groups).apply(bank["body"]["bias"]),
    )


def test_branching_to_the_roots_and_to_the_leaves():
    shared = jt.branching(TREE, lambda path: 0)
    assert size(jax.eval_shape(shared.init, KEY, ONE)) == 16
    assert size(jax.eval_shape(jt.branching(TREE, lambda path: 9).init, KEY, ONE)) == 6 * 16
    at_two = jt.branching(TREE, lambda path: 2)  # 0 | 1 | 2 | 3 | (4, 5)
    theta = jt.branching(TREE, lambda path: 1).expand(jnp.arange(3))
    assert theta.tolist() == [0, 1, 1, 2, 2, 2]
    assert at_two.expand(jnp.arange(5)).tolist().count(at_two.expand(jnp.arange(5))[4]) == 2


def test_null_space_is_orbits_by_both_solvers(rng):
    """Quarter turns and flips of images of 3 x 3, from images to images: the dihedral group on
    pairs of pixels."""
    grid = np.arange(9).reshape(3, 3)
    moves = [np.rot90(grid).reshape(-1), grid[:, ::-1].reshape(-1)]
    labels = jt.orbit_labels((9, 9), [(move, move) for move in moves])
    indicators = np.eye(labels.max() + 1)[labels.reshape(-1)]
    projector = indicators / indicators.sum(0) @ indicators.T
    pairs = [(np.eye(9)[move], np.eye(9)[move]) for move in moves]
    assert labels.max() + 1 == 15  # Burnside: (81 + 1 + 1 + 1 + 4 * 9) / 8
    for solve in (jt.by_svd, jt.by_projection):
        basis = jt.equivariant_basis(pairs, solve)
        np.testing.assert_allclose(basis @ basis.T, projector, atol=1e-9)
    kernel = jt.orbits((9, 9), [(move, move) for move in moves]).expand(jnp.arange(15.0))
    x = rng.normal(size=(2, 9))
    for move in moves:
        np.testing.assert_allclose(x[:, move] @ kernel, (x @ kernel)[:, move], rtol=1e-12)
    # Indicators as a matrix are index tying: U of orbit indicators is group tying.
    np.testing.assert_allclose(jt.matrix(indicators).apply(jnp.arange(15.0)), kernel.reshape(-1))


@pytest.mark.parametrize("solve", [jt.by_svd, jt.by_projection])
def test_null_space_of_a_lie_algebra(solve):
    """SO(3): vectors to vectors are multiples of one; matrices to vectors are the cross product,
    under O(3) nothing."""
    generators = [np.cross(np.eye(3)[axis], np.eye(3)) for axis in range(3)]
    basis = jt.equivariant_basis([(each, each) for each in generators], solve)
    np.testing.assert_allclose(basis @ basis.T, np.outer(np.eye(3), np.eye(3)) / 3, atol=1e-9)
    pairs = [(np.kron(each, np.eye(3)) + np.kron(np.eye(3), each), each) for each in generators]
    basis = jt.equivariant_basis(pairs, solve)
    cross = np.cross(np.eye(3)[:, None], np.eye(3)[None]).reshape(-1) / 6**0.5
    np.testing.assert_allclose(basis @ basis.T, np.outer(cross, cross), atol=1e-9)
    mirror = -np.eye(3)
    with pytest.raises(ValueError, match="generators that allow none"):
        jt.null_space([*pairs, (np.kron(mirror, mirror), mirror)], solve=solve)


def test_invariant_bias():
    """The bias of a layer that commutes with a permutation of outputs is the same wherever it moves
    them."""
    swap = np.eye(3)[[1, 0, 2]]
    theta = jt.null_space([([[1.0]], swap)], shape=(3,)).expand(jnp.array([1.0, 2.0]))
    assert theta.shape == (3,)
    np.testing.assert_allclose(theta[0], theta[1])


def test_penalties_by_hand(rng):
    delta = {
        "w": jnp.arange(20.0).reshape(10, 2)
    }  # node n has (2n, 2n + 1); the root is node 6, alone at depth 0
    squares = np.array([(2 * n) ** 2 + (2 * n + 1) ** 2 for n in range(10)])
    scales = np.array([0.5, 1.0, 2.0])
    by_depth = np.array(
        [sum(squares[n] for n in range(10) if TREE.depths[n] == level) for level in (1, 2, 3)]
    )
    counts = np.array([2 * TREE.depths.count(level) for level in (1, 2, 3)])
    assert TREE.depths[6] == 0 and counts.tolist() == [6, 8, 4]
    penalty = jt.along_tree(TREE, scales).penalty
    np.testing.assert_allclose(penalty(delta), np.sum(by_depth / (2 * scales**2)))
    learned = jt.along_tree_learned(TREE, scales, strength=2.0).penalty
    best = (by_depth + 2 * scales**2) / (counts + 2)  # where the derivative in log s is 0
    at = {"delta": delta, "log_scale": jnp.asarray(np.log(best) / 2)}
    np.testing.assert_allclose(jax.jit(jax.grad(learned))(at)["log_scale"], 0, atol=1e-12)
    theta = rng.normal(size=(6, 3, 2))
    pairs = sum(
        AFFINITY[i, j] * np.sum((theta[i] - theta[j]) ** 2) for i in range(6) for j in range(6)
    )
    np.testing.assert_allclose(
        jt.laplacian(AFFINITY, 0.3).penalty(jnp.asarray(theta)), 0.15 * pairs, rtol=1e-12
    )
    assert jt.shared(2).penalty(delta) == 0


def test_composition_adds_penalties_and_agrees_with_both():
    outer, inner = jt.laplacian(AFFINITY), jt.along_tree(TREE, 0.5, range(6))
    both = jt.compose(jt.Tying(lambda key, theta: theta, lambda phi: phi, outer.penalty), inner)
    phi = jittered(jax.jit(both.init)(KEY, ONE))
    np.testing.assert_allclose(
        both.penalty(phi), outer.penalty(inner.expand(phi)) + inner.penalty(phi)
    )
    each = jt.stacked(jt.by_index([0, 1, 0]), jt.shared(2))
    assert each.expand(each.init(KEY, jnp.array([1.0, 2.0, 3.0]))).tolist() == [[1, 2, 1]] * 2


def test_hashing_keeps_the_variance_and_is_the_same_at_every_call(rng):
    shape, buckets = (80, 90), 300
    tying = jt.hashed(KEY, shape, buckets)
    theta = jnp.asarray(rng.normal(size=shape))
    phi = jax.jit(tying.init)(KEY, theta)
    first, again = jax.jit(tying.expand)(phi), tying.expand(phi)
    np.testing.assert_array_equal(first, again)
    assert 0.8 < np.std(first) < 1.2
    assert len(np.unique(np.abs(first))) == buckets


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: jt.shared(0), "number of nodes must be at least 1, got 0"),
        (lambda: jt.along_tree(TREE, [1.0, 2.0]), "one for each of the 3 depths"),
        (lambda: jt.along_tree(TREE, -1.0), "above 0"),
        (lambda: jt.along_tree(TREE, nodes=[10]), "nodes must be from 0 to 9, got 10"),
        (lambda: jt.along_tree_learned(TREE, np.inf), "must be finite"),
        (lambda: jt.laplacian(normal(5, 3, 3)), "symmetric and not negative"),
        (lambda: jt.by_group([]), "one label a node"),
        (
            lambda: jt.orbit_labels((3, 3), [([0, 0, 1], None)]),
            r"axis 0 must be a permutation of 0 to 2, got \[0, 0, 1\]",
        ),
        (
            lambda: jt.orbit_labels((3, 3), [([0, 2, 1],)]),
            "one permutation for each of the 2 axes, got 1",
        ),
        (lambda: jt.equivariant_basis([]), "got none"),
        (
            lambda: jt.equivariant_basis([(np.eye(2), np.eye(3)), (np.eye(2), np.eye(2))]),
            "generator 1 must be matrices",
        ),
        (
            lambda: jt.by_index([[0, 1]]).init(KEY, jnp.ones(2)),
            r"must have shape \(1, 2\), got \(2,\)",
        ),
        (lambda: jt.inside(jt.gather([0, 1]), (3,), lambda x: x), "must have 3 rows, got 2"),
        (
            lambda: jt.applied({named("nothing"): jt.free(2)}, jt.shared(2)).init(KEY, ONE),
            "got none of body/bias, body/kernel",
        ),
        (
            lambda: jt.applied(
                {named("body"): jt.free(2), named("bias"): jt.free(2)}, jt.shared(2)
            ).init(KEY, ONE),
            "'body/bias' claimed by several",
        ),
        (lambda: jt.at_node(jt.shared(2), jnp.ones(1), 2), "node must be from 0 to 1, got 2"),
        (lambda: jt.matrix(np.ones(3)), "two axes"),
        (lambda: jt.templates(3, 0), "templates must be at least 1"),
        (lambda: jt.low_rank(3, 0), "rank must be at least 1"),
    ],
)
def test_refusals(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize("nodes, count", [(12, 3), (30, 3), (3, 5)])
def test_templates_begin_at_the_models_spread_and_leave_vectors(nodes, count, rng):
    theta = {"kernel": jnp.asarray(rng.normal(size=(40, 50))), "scale": jnp.ones(50)}
    tying = jt.templates(nodes, count)
    phi = tying.init(KEY, theta)
    np.testing.assert_allclose((np.asarray(phi["coefficients"]) ** 2).sum(1), 1, rtol=1e-6)
    start = tying.expand(phi)
    np.testing.assert_allclose(start["kernel"].std((1, 2)), theta["kernel"].std(), rtol=0.1)
    np.testing.assert_array_equal(start["scale"], np.ones((nodes, 50)))
    with pytest.raises(ValueError, match="leaves of at least two axes, got none; give vectors as"):
        tying.init(KEY, {"scale": jnp.ones(3)})
