"""Where tyings end: nodes that there are not, dtypes of few bits, logits that are no numbers."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxmeta as jm
import jaxmeta.bias as jb
import jaxmeta.tying as jt
from jaxmeta.hierarchy import Tree

KEY = jax.random.key(0)
TREE = Tree.from_nested((0, (1, 2)))
THETA = {"kernel": jnp.arange(6.0).reshape(2, 3), "bias": jnp.arange(1.0, 4.0)}
# Every way in which one node's parameters are taken; 3 nodes each, and 5 where a tree's inner nodes
# count.
BETWEEN = {
    "free": jt.free(3),
    "by_group": jt.by_group([0, 1, 1]),
    "along_tree": jt.along_tree(TREE),
    "along_tree to the concepts": jt.along_tree(TREE, nodes=range(3)),
    "along_tree_learned": jt.along_tree_learned(TREE),
    "laplacian": jt.laplacian(np.ones((3, 3))),
    "branching": jt.branching(TREE, lambda path: 2),
    "low_rank": jt.low_rank(3, 1),
    "templates": jt.templates(3, 2),
    "soft_by_group": jt.soft_by_group(3, 2),
    "soft_along_tree": jt.soft_along_tree(3, (2,)),
    "soft_branching": jt.soft_branching(3, (2,), lambda path: 1),
    "near_tree": jt.near_tree(3, (2,)),
    "matrix": jt.across(jt.matrix(np.eye(3)), np.ones(3)),
    "expanded": jt.Tying(jt.free(3).init, jt.free(3).expand),
    "stacked": jt.stacked(jt.identity(), jt.free(3)),
    "compose": jt.compose(jt.free(3), jt.identity()),
    "applied": jt.applied({jm.named("bias"): jt.free(3)}, jt.low_rank(3, 1)),
}


def taken(tying, phi, node):
    return jax.tree.leaves(jt.at_node(tying, phi, node))


@pytest.mark.parametrize("name", BETWEEN)
def test_a_node_that_is_not_there_takes_nobodys_parameters(name):
    tying = BETWEEN[name]
    phi = tying.init(KEY, THETA)
    nodes = jax.tree.leaves(tying.expand(phi))[0].shape[0]
    for node in (nodes, -1, nodes + 7):
        for known in (node, np.int32(node), np.asarray(node), jnp.asarray(node)):
            with pytest.raises(ValueError, match=f"node must be from 0 to {nodes - 1}, got {node}"):
                jt.at_node(tying, phi, known)

    def inside(
        phi, node
    ):  # a loss that is linear in the parameters, whose derivative looks at none
        return sum(leaf.sum() for leaf in taken(tying, phi, node))

    value_and_grad = jax.jit(jax.vmap(jax.value_and_grad(inside), (None, 0)))
    values, grads = value_and_grad(phi, jnp.array([nodes - 1, nodes, -1]))
    np.testing.assert_allclose(
        values[0], sum(leaf.sum() for leaf in taken(tying, phi, nodes - 1)), rtol=1e-12
    )
    assert np.isnan(values[1:]).all()
    flat = np.concatenate(
        [np.asarray(leaf).reshape(3, -1) for leaf in jax.tree.leaves(grads)], axis=1
    )
    assert np.isfinite(flat[0]).all() and np.isnan(flat[1:]).any(axis=1).all()


def test_what_all_nodes_share_does_not_depend_on_the_node():
    tying = jt.partial(3, "bias")
    phi = tying.init(KEY, THETA)
    theta = jax.jit(lambda node: jt.at_node(tying, phi, node))(7)
    np.testing.assert_array_equal(theta["kernel"], THETA["kernel"])
    assert np.isnan(theta["bias"]).all()
    # Nor is it copied for every task: what is shared stays without an axis of tasks.
    jax.vmap(lambda node: jt.at_node(tying, phi, node), out_axes={"kernel": None, "bias": 0})(
        jnp.arange(3)
    )


@pytest.mark.parametrize("node", [1.0, True, np.zeros(2), "walk"])
def test_a_node_is_a_whole_number(node):
    with pytest.raises((ValueError, TypeError)):
        jt.at_node(jt.free(3), jt.free(3).init(KEY, THETA), node)


def test_rows_of_an_operator_are_refused_like_nodes():
    for operator in (
        jt.gather([0, 1, 1]),
        jt.path_sums(TREE.parents),
        jt.matrix(np.eye(3)),
        jt.rows(jt.path_sums(TREE.parents), [0, 1]),
    ):
        phi = jnp.arange(1.0, operator.shape[1] + 1)
        for row in (operator.shape[0], -1):
            with pytest.raises(ValueError, match=f"from 0 to {operator.shape[0] - 1}, got {row}"):
                operator.row(phi, row)
            assert np.isnan(jax.jit(operator.row)(phi, row))


def bilevel():
    learner = jm.Learner(
        lambda key, task: jnp.zeros(2),
        lambda key, phi, batch: (((phi - batch) ** 2).sum(), {}),
        jm.no_penalty,
        optax.sgd(0.1),
        1,
    )
    return jm.Bilevel(jb.hierarchical(jm.initialisation(), jt.along_tree(TREE)), learner)


def test_a_task_of_a_node_that_is_not_there_is_refused_or_told_by_its_loss():
    problem = bilevel()
    task = jm.Task(jnp.ones(2), jnp.ones(2), 5)
    with pytest.raises(ValueError, match="node must be from 0 to 4, got 5"):
        problem.init(KEY, task)
    theta = problem.init(KEY, task._replace(node=4))
    with pytest.raises(ValueError, match="node must be from 0 to 4, got 5"):
        jm.outcome(KEY, problem, theta, task)
    tasks = jm.Task(jnp.ones((3, 2)), jnp.ones((3, 2)), jnp.array([0, 5, -1]))
    estimate = jax.jit(lambda theta: jm.unrolled().estimate(KEY, problem, theta, tasks, ())[0])(
        theta
    )
    assert np.isfinite(estimate.info["losses"]).tolist() == [True, False, False]
    assert np.isnan(estimate.grad).any()


# Sums


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_gradient_of_what_many_nodes_share_is_the_sum_of_theirs(dtype):
    """4,096 gradients of 1: added one after another in bfloat16 they are 256."""
    nodes = 4096
    ones = jnp.ones((nodes, 1, 1), dtype)
    star = Tree.star(nodes)
    makers = {
        "by_group": jt.by_group(np.zeros(nodes, int)),
        "shared": jt.shared(nodes),
        "star": jt.along_tree(star, nodes=range(nodes)),
        "low_rank": jt.low_rank(nodes, 1),
        "templates": jt.templates(nodes, 1, lambda key, shape: jnp.ones(shape)),
    }
    for name, tying in makers.items():
        phi = jax.tree.map(
            lambda leaf: leaf.astype(dtype), tying.init(KEY, jnp.ones((1, 1), dtype))
        )
        grad = jax.jit(
            jax.grad(lambda phi, tying=tying: (tying.expand(phi) * ones).sum(dtype=jnp.float32))
        )(phi)
        largest = max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(grad) if leaf.size)
        assert largest == nodes, name
        assert {leaf.dtype for leaf in jax.tree.leaves(grad)} == {jnp.dtype(dtype)}


@pytest.mark.parametrize(
    "groups", [1, 2], ids=["made in one gradient in phi", "made of every node's"]
)
def test_value_and_grad_of_many_nodes_is_averaged_in_enough_bits(groups):
    """Values and gradients of 1 over 4,096 nodes, of which each group has its share."""
    step = jt.value_and_grad(
        lambda theta, d: theta * d, jt.by_group(np.arange(4096) % groups), jm.over_tasks(16)
    )
    value, grad = jax.jit(step)(jnp.ones(groups, "bfloat16"), jnp.ones(4096, "bfloat16"))
    assert float(value) == 1 and grad.tolist() == [1 / groups] * groups


def test_operators_add_up_in_enough_bits_both_ways():
    ones = jnp.ones(4096, "bfloat16")
    assert jt.gather(np.zeros(4096, int)).transpose(ones).tolist() == [4096]
    signs = jt.hashing(KEY, 4096, 1)
    assert abs(float(signs.transpose(signs.apply(jnp.ones(1, "bfloat16")))[0])) == 4096
    chain = Tree(tuple([-1, *np.repeat(np.arange(0, 600, 2), 2)]))  # a caterpillar, 300 edges deep
    assert (
        float(jt.path_sums(chain.parents).apply(jnp.ones(chain.nodes, "bfloat16")).max()) == 300
    )  # 301, rounded


def test_penalties_add_leaves_up_in_enough_bits():
    """A thousand leaves of one entry of 1 in bfloat16; right is 1/2 for each, to the last bit of
    bfloat16 or better."""
    theta = {str(i): jnp.ones((), "bfloat16") for i in range(1000)}
    for tying in (
        jt.along_tree(Tree.star(1 + 1)),
        jt.along_tree_learned(Tree.star(2), strength=1e-6),
    ):
        phi = jax.tree.map(jnp.ones_like, tying.init(KEY, theta))
        if isinstance(phi, dict) and "log_scale" in phi:
            phi["log_scale"] = jnp.zeros_like(phi["log_scale"])
        np.testing.assert_allclose(
            float(tying.penalty(phi)), 1000, rtol=2e-3
        )  # two nodes below the root
    laplacian = jt.laplacian(np.ones((2, 2)))
    apart = {name: jnp.array([0, 1], "bfloat16") for name in theta}
    np.testing.assert_allclose(float(laplacian.penalty(apart)), 1000, rtol=2e-3)


def test_group_means_of_many_are_rounded_once():
    logits = jnp.zeros((4096, 1), "float16")
    phi = {
        "structure": logits,
        "bank": jnp.full((1, 2), 100, "float16"),
    }  # their sum is beyond the largest float16
    hardened = jt.harden_by_group(jt.soft_by_group(4096, 1), phi)
    assert hardened.phi.dtype == "float16" and hardened.phi.tolist() == [[100, 100]]


def test_programs_of_enough_bits_are_left_as_they_are():
    for dtype in ("float32", "float64"):
        for tying in (jt.by_group([0, 1, 1]), jt.along_tree(TREE), jt.laplacian(np.ones((3, 3)))):
            phi = jax.tree.map(lambda leaf: leaf.astype(dtype), tying.init(KEY, THETA))
            program = str(
                jax.make_jaxpr(
                    jax.value_and_grad(
                        lambda phi, tying=tying: (
                            tying.penalty(phi)
                            + sum(leaf.sum() for leaf in jax.tree.leaves(tying.expand(phi)))
                        )
                    )
                )(phi)
            )
            assert not re.search(r"f\d+\[[\d,]*\] = convert_element_type", program)


# What is no number decides nothing


@pytest.mark.parametrize(
    "harden",
    [
        lambda logits, theta: jt.harden_by_group(
            jt.soft_by_group(3, 2), {"structure": logits, "bank": theta[:2]}
        ),
        lambda logits, theta: jt.harden_by_index(
            jt.soft_by_index(2), {"structure": logits, "bank": theta[:2]}
        ),
        lambda logits, theta: jt.decided_tree([logits]),
        lambda logits, theta: jt.harden_along_tree({"structure": [logits], "delta": jnp.ones(6)}),
        lambda logits, theta: jt.harden_near_tree(
            {"theta": theta, "structure": (jnp.ones(1), jnp.arange(2.0))}
        ),
        lambda logits, theta: jt.harden_mixture(
            {
                "theta": theta,
                "structure": {
                    "means": jnp.arange(2.0),
                    "log_scales": jnp.zeros(2),
                    "logits": jnp.zeros(2),
                },
            }
        ),
    ],
    ids=["by_group", "by_index", "decided_tree", "along_tree", "near_tree", "mixture"],
)
def test_logits_that_are_no_numbers_decide_nothing(harden):
    logits, theta = jnp.arange(6.0).reshape(3, 2) % 4, jnp.arange(3.0)
    harden(logits, theta)
    with pytest.raises(ValueError, match="what is decided must be numbers, got NaN"):
        harden(logits.at[1, 0].set(jnp.nan), theta.at[1].set(jnp.nan))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: jt.path_sums([1, 0]), "lead from every node to -1"),
        (lambda: jt.path_sums([-1, 2, 1]), "lead from every node to -1"),
        (lambda: jt.path_sums([-1, 7]), "lead from every node to -1"),
        (lambda: jt.path_sums([-1, -2]), "lead from every node to -1"),
        (lambda: jt.along_tree(TREE, nodes=[0.5]), "nodes must be whole numbers"),
        (lambda: jt.along_tree(TREE, nodes=[-1]), "nodes must be from 0 to 4, got -1"),
        (
            lambda: jt.equivariant_basis([(np.eye(2), np.full((2, 2), np.nan))]),
            "generator 0 must be finite",
        ),
    ],
)
def test_refusals(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_projection_that_does_not_converge_says_so(monkeypatch):
    import scipy.sparse.linalg

    found = scipy.sparse.linalg.lsmr
    monkeypatch.setattr(
        scipy.sparse.linalg,
        "lsmr",
        lambda *args, maxiter, **kwargs: found(*args, maxiter=1, **kwargs),
    )
    turns = np.random.default_rng(0).normal(size=(2, 4, 4))
    with pytest.raises(ValueError, match="by_projection must converge, got no solution"):
        jt.equivariant_basis([tuple(turns)], jt.by_projection)


# What is kept


@pytest.mark.slow
def test_no_tracer_is_kept():
    """JAX's own check: nothing that a program closed over is there when it is made."""
    problem = bilevel()
    task = jm.Task(jnp.ones(2), jnp.ones(2), jnp.array(1))
    with jax.checking_leaks():
        for name, tying in BETWEEN.items():
            phi = jax.tree.map(jnp.asarray, tying.init(KEY, THETA))
            jax.jit(
                jax.grad(
                    lambda phi, node, tying=tying: sum(
                        leaf.sum() for leaf in taken(tying, phi, node)
                    )
                )
            )(phi, 1)
            if name in ("along_tree to the concepts", "low_rank"):
                step = jt.value_and_grad(lambda theta, d: theta["bias"].sum() * d, tying)
                jax.jit(step)(phi, jnp.ones(3))
                jax.jit(
                    jt.tied(
                        jm.models.Model(None, lambda theta, x, reference=None: x @ theta["kernel"]),
                        tying,
                    ).apply
                )(phi, jnp.ones((3, 4, 2)))

        def heated(temperature):  # as of a schedule, inside the step
            tying = jt.soft_along_tree(3, (2,), temperature=temperature)
            phi = tying.init(KEY, THETA)
            return jax.grad(
                lambda phi: (
                    sum(leaf.sum() for leaf in jax.tree.leaves(tying.expand(phi)))
                    + tying.penalty(phi)
                )
            )(phi)

        jax.jit(heated)(0.5)
        jax.jit(jax.grad(lambda theta: jm.outcome(KEY, problem, theta, task)[0]))(
            problem.init(KEY, task)
        )
