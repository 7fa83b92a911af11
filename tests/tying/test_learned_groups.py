"""Learned groups, mixtures and trees: what they are where they are decided, how they are decided,
and planted ones found."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import problems
import pytest
from scipy import stats

import jaxmeta as jm
import jaxmeta.tying as jt
from jaxmeta.base import Algorithm, Bilevel, Examples, Task
from jaxmeta.bias import hierarchical, routed
from jaxmeta.estimator import penalised, perturbed, scheduled, unrolled
from jaxmeta.hierarchy import Tree
from jaxmeta.models import Model

KEY = jax.random.key(3)
ONE = {"body": {"kernel": problems.normal(0, 3, 4), "bias": problems.normal(1, 4)}}


def depth(path):
    return 1 if path.endswith("kernel") else 2


def jittered(tree, seed=1):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf) + rng.normal(size=leaf.shape), tree)


def one_hot(numbers, count):
    """Logits whose softmax at temperatures up to 1 is one-hot to the last bit."""
    return 1000 * jax.nn.one_hot(jnp.array(numbers), count)


# Nine concepts under four branches under three, of which the first has one child and the last
# nobody; branch 3 has one concept.
ROUTES = (one_hot([1, 0, 1, 1], 3), one_hot([0, 0, 1, 1, 1, 2, 2, 3, 0], 4))
TREE = Tree.from_nested(((2, 3, 4), ((0, 1, 8), (5, 6), 7)))


def expanded(tying, phi):
    return jax.jit(tying.expand)(phi)  # op by op is slow


def test_decided_groups_are_by_group_and_by_index():
    groups = [3, 0, 3, 1, 0]  # nobody in 2
    soft = jt.soft_by_group(5, 4, 0.5)
    phi = jittered(jax.jit(soft.init)(KEY, ONE)) | {"structure": one_hot(groups, 4)}
    hard = jt.harden_by_group(soft, phi)
    assert hard.structure.tolist() == groups
    chex.assert_trees_all_close(expanded(hard.tying, hard.phi), expanded(soft, phi), rtol=1e-12)
    chex.assert_trees_all_close(
        hard.phi, jax.tree.map(lambda leaf: leaf[jnp.array([0, 1, 3])], phi["bank"]), rtol=1e-12
    )

    index = np.array([[2, 0, 2], [1, 0, 0]])
    within = jt.soft_by_index(4, 0.5)
    phi = {"structure": one_hot(index, 4), "bank": jnp.arange(4.0)}
    hard = jt.harden_by_index(within, phi)
    np.testing.assert_array_equal(hard.structure, index)
    np.testing.assert_array_equal(expanded(hard.tying, hard.phi), index)
    np.testing.assert_array_equal(expanded(within, phi), index)


def test_undecided_groups_harden_to_the_means_of_their_nodes(rng):
    soft = jt.soft_by_group(4, 2)
    phi = {
        "structure": jnp.asarray(rng.normal(size=(4, 2))),
        "bank": jnp.asarray(rng.normal(size=(2, 3))),
    }
    hard, theta = jt.harden_by_group(soft, phi), expanded(soft, phi)
    for group, row in zip(np.unique(hard.structure), hard.phi):
        np.testing.assert_allclose(row, theta[hard.structure == group].mean(0), rtol=1e-12)


def test_a_decided_soft_tree_is_along_the_tree():
    soft = jt.soft_along_tree(9, (3, 4), [0.5, 1.0, 2.0])
    phi = jittered(jax.jit(soft.init)(KEY, ONE)) | {"structure": ROUTES}
    hard = jt.harden_along_tree(phi, [0.5, 1.0, 2.0])
    assert hard.structure == TREE == jt.decided_tree(ROUTES)
    chex.assert_trees_all_close(expanded(hard.tying, hard.phi), expanded(soft, phi), rtol=1e-10)
    whole = jt.soft_along_tree(5, (3,), [0.5, 2.0])  # all levels used: the same prior too
    phi = jittered(jax.jit(whole.init)(KEY, ONE)) | {"structure": (one_hot([0, 0, 2, 2, 0], 3),)}
    hard = jt.harden_along_tree(phi, [0.5, 2.0], [0.5, 2.0])
    assert hard.structure.nested() == ((0, 1, 4), (2, 3))
    unused = sum(jnp.sum(leaf[5 + 2] ** 2) for leaf in jax.tree.leaves(phi["delta"])) / 2
    np.testing.assert_allclose(
        hard.tying.penalty(hard.phi) + unused, whole.penalty(phi), rtol=1e-12
    )
    assert jt.decided_tree([one_hot([0, 0, 0], 2)]) == Tree.star(3)


def test_decided_branches_are_branching():
    soft = jt.soft_branching(5, (3, 4), depth)
    routes = (
        one_hot([0, 0, 1, 2], 3),
        one_hot([0, 0, 1, 1, 2], 4),
    )  # nobody in the last branch of each level
    phi = jittered(jax.jit(soft.init)(KEY, ONE)) | {"structure": routes}
    hard = jt.harden_branching(soft, phi, depth)
    chex.assert_trees_all_close(expanded(hard.tying, hard.phi), expanded(soft, phi), rtol=1e-12)
    assert hard.structure.nested() == (((0, 1), (2, 3)), 4)
    given, order = (
        jt.branching(hard.structure, depth),
        {"kernel": [1, 0], "bias": [2, 0, 1]},
    )  # concepts are numbered first
    bank = {"body": {name: hard.phi["body"][name][np.array(rows)] for name, rows in order.items()}}
    chex.assert_trees_all_close(expanded(given, bank), expanded(soft, phi), rtol=1e-12)


def test_ancestors_are_distributions_whatever_the_logits():
    routes = jittered(ROUTES)
    for level in jt.soft_ancestors(routes, 0.7):
        np.testing.assert_allclose(level.sum(1), 1, rtol=1e-12)
    top, middle = jt.soft_ancestors(routes)[1:3]
    np.testing.assert_allclose(top, middle @ jax.nn.softmax(routes[0]), rtol=1e-12)


def test_the_gradient_in_logits_by_hand(rng):
    """d/ds_ig of sum_i <c_i, theta_i> is a_ig (c_i . phi_g - sum_h a_ih c_i . phi_h) / t."""
    t, soft = 0.7, jt.soft_by_group(5, 3, 0.7)
    phi = {
        "structure": jnp.asarray(rng.normal(size=(5, 3))),
        "bank": jnp.asarray(rng.normal(size=(3, 4))),
    }
    c = rng.normal(size=(5, 4))
    grad = jax.grad(lambda phi: jnp.sum(c * soft.expand(phi)))(phi)["structure"]
    a, gain = np.asarray(jax.nn.softmax(phi["structure"] / t)), c @ np.asarray(phi["bank"]).T
    np.testing.assert_allclose(grad, a * (gain - (a * gain).sum(1, keepdims=True)) / t, rtol=1e-10)
    np.testing.assert_allclose(
        jt.assignment_entropy((phi["structure"],), t), stats.entropy(a, axis=1).sum(), rtol=1e-12
    )


@pytest.mark.parametrize("zero", [0.0, 0.3])
def test_the_mixtures_penalty_by_hand_and_snapping(zero):
    tying = jt.mixture(3, 0.4, zero, strength=2.0)
    phi = jittered(tying.init(KEY, ONE))
    structure, theta = phi["structure"], jax.flatten_util.ravel_pytree(phi["theta"])[0]
    weights, means = np.asarray(jax.nn.softmax(structure["logits"])), np.asarray(structure["means"])
    if zero:
        weights, means = np.append(zero, (1 - zero) * weights), np.append(0, means)
    scales = np.exp(structure["log_scales"])
    joint = weights * stats.norm.pdf(np.asarray(theta)[:, None], means, scales)
    expected = -np.log(joint.sum(1)).sum() + 2.0 * np.sum(0.4**2 / (2 * scales**2) + np.log(scales))
    np.testing.assert_allclose(tying.penalty(phi), expected, rtol=1e-12)
    hard = jt.harden_mixture(phi, zero)
    snapped = jax.flatten_util.ravel_pytree(hard.tying.expand(hard.phi))[0]
    np.testing.assert_allclose(snapped, means[joint.argmax(1)], rtol=1e-12)
    assert set(np.unique(snapped)) == set(np.asarray(hard.phi))
    chex.assert_trees_all_close(
        hard.tying.init(KEY, hard.tying.expand(hard.phi)), hard.phi, rtol=1e-12
    )


def test_a_mixture_finds_the_values_that_weights_are_near(rng):
    values = np.array([-1.0, 0.0, 2.0])
    theta = jnp.asarray(values[rng.integers(0, 3, 60)] + 0.05 * rng.normal(size=60))
    tying = jt.mixture(3, 0.3)
    optimiser = optax.adam(0.05)

    def step(carry, _):
        phi, memory = carry
        grads = jax.grad(tying.penalty)(phi) | {"theta": jnp.zeros_like(theta)}
        updates, memory = optimiser.update(grads, memory)
        return (optax.apply_updates(phi, updates), memory), None

    phi = tying.init(KEY, theta)
    (phi, _), _ = jax.jit(lambda carry: jax.lax.scan(step, carry, length=300))(
        (phi, optimiser.init(phi))
    )
    np.testing.assert_allclose(np.sort(phi["structure"]["means"]), values, atol=0.05)
    assert len(np.unique(jt.harden_mixture(phi).structure)) == 3


def regression(w, count, key):
    """A task at every node: y = x . w_c + 0.1 noise."""
    key_x, key_noise = jax.random.split(key)
    x = jax.random.normal(key_x, (len(w), 2 * count, w.shape[1]))
    y = (jnp.einsum("cnd,cd->cn", x, w) + 0.1 * jax.random.normal(key_noise, x.shape[:2]))[
        ..., None
    ]
    return Task(
        Examples(x[:, :count], y[:, :count]),
        Examples(x[:, count:], y[:, count:]),
        jnp.arange(len(w)),
    )


LINEAR = Model(lambda key, x: jnp.zeros((x.shape[1], 1)), lambda w, x, reference=None: x @ w)


def learned(algorithm, tasks, steps=200, rate=0.1):
    optimiser = optax.adam(rate)

    @jax.jit
    def run(key):
        theta = algorithm.bilevel.init(key, problems.one(tasks))

        def step(carry, key):
            theta, memory, state = carry
            estimate, state = algorithm.estimator.estimate(
                key, algorithm.bilevel, theta, tasks, state
            )
            updates, memory = optimiser.update(estimate.grad, memory)
            return (optax.apply_updates(theta, updates), memory, state), None

        carry = (
            theta,
            optimiser.init(theta),
            algorithm.estimator.init(key, algorithm.bilevel, theta, tasks),
        )
        return jax.lax.scan(step, carry, jax.random.split(key, steps))[0][0]

    return run(KEY)


def test_planted_groups_are_found_from_too_few_examples_to_fit_a_node():
    groups = np.arange(8) % 2
    w = jnp.asarray(np.random.default_rng(5).normal(size=(2, 12))[groups])
    learner = jm.gradient(LINEAR, jm.squared_error, optax.sgd(0.1), 1)

    def problem(temperature):
        return Bilevel(
            hierarchical(jm.initialisation(), jt.soft_by_group(8, 2, temperature, 0.1)), learner
        )

    # Falling temperatures by `scheduled`; Gumbel noise by `perturbed`.
    estimator = scheduled(
        perturbed(unrolled(), where=jm.named("structure")),
        lambda count, bilevel: problem(jnp.exp(-count / 300)),
    )
    phi = learned(Algorithm(problem(0.5), estimator), regression(w, 4, KEY))
    found = jt.harden_by_group(jt.soft_by_group(8, 2, 0.5), phi).structure
    assert (found == groups).all() or (found == 1 - groups).all()


def test_a_planted_tree_is_found():
    tree = Tree.from_nested(((0, 1, 2), (3, 4, 5)))
    scales = np.array([1.0, 1.0, 0.1])[list(tree.depths)]
    steps = scales[:, None] * np.random.default_rng(6).normal(size=(tree.nodes, 6))
    learner = jm.gradient(LINEAR, jm.squared_error, optax.sgd(0.1), 1)
    algorithm = jm.algorithms.soft_tree_maml(learner, 6, (2,), [1.0, 0.1], 0.001)
    phi = learned(algorithm, regression(jnp.asarray(tree.paths @ steps), 8, KEY))
    assert jt.decided_tree(phi["structure"]) == tree


def test_the_prior_of_a_tree_by_nearness_is_that_of_the_tree_it_is_decided_to(rng):
    scales, tree = [0.5, 1.0, 2.0], Tree.from_nested((((0, 3), (1, 4)), ((2, 5), (6, 7))))
    depths = np.array(tree.depths)
    steps = jax.tree.map(
        lambda leaf: np.stack([10.0**-depth * rng.normal(size=leaf.shape) for depth in depths]), ONE
    )
    places = expanded(jt.along_tree(tree), steps)
    theta, *levels = (
        jax.tree.map(lambda leaf: leaf[depths == depth], places) for depth in (3, 0, 1, 2)
    )
    phi = {"theta": theta, "structure": tuple(levels)}
    hard = jt.harden_near_tree(phi, scales)
    assert hard.structure == tree
    chex.assert_trees_all_close(expanded(hard.tying, hard.phi), theta, rtol=1e-10)
    cold = jt.near_tree(8, (2, 4), scales, 1e-9)
    np.testing.assert_allclose(
        jax.jit(cold.penalty)(phi), jax.jit(hard.tying.penalty)(hard.phi), rtol=1e-6
    )


def test_a_planted_tree_is_found_by_nearness():
    tree = Tree.from_nested((((0, 1), (2, 3)), ((4, 5), (6, 7))))
    steps = np.array([1.0, 1.0, 0.5, 0.1])[list(tree.depths), None] * np.random.default_rng(
        6
    ).normal(size=(tree.nodes, 16))
    data = regression(jnp.asarray(tree.paths @ steps), 16, KEY)
    learner = jm.gradient(LINEAR, jm.squared_error, optax.sgd(0.1), 1)
    optimiser = optax.adam(0.03)

    def problem(temperature):
        tying = jt.near_tree(8, (2, 4), [1.0, 0.5, 0.1], temperature)
        disturbed = perturbed(unrolled(), jax.random.normal, 0.01, jm.named("structure"))
        return Bilevel(hierarchical(jm.initialisation(), tying), learner), penalised(
            disturbed, tying.penalty, 0.003
        )

    @jax.jit
    def learned():
        bilevel, _ = problem(1.0)
        phi = bilevel.init(KEY, jax.tree.map(lambda leaf: leaf[0], data))

        def step(carry, i):
            phi, memory = carry
            _, estimator = problem(10 * 0.01 ** (i / 400))
            found, _ = estimator.estimate(jax.random.fold_in(KEY, i), bilevel, phi, data, ())
            updates, memory = optimiser.update(found.grad, memory, phi)
            return (optax.apply_updates(phi, updates), memory), None

        return jax.lax.scan(step, (phi, optimiser.init(phi)), jnp.arange(400))[0][0]

    assert jt.harden_near_tree(learned()).structure == tree


def test_disturbed_estimates_are_estimates_elsewhere():
    model = Model(
        lambda key, x: {"w": jnp.ones((3, 1)), "b": jnp.ones(1)},
        lambda p, x, reference=None: x @ p["w"] + p["b"][None],
    )
    bilevel = Bilevel(jm.initialisation(), jm.gradient(model, jm.squared_error, optax.sgd(0.1), 2))
    tasks, theta = regression(jnp.ones((2, 3)), 3, KEY), {"w": jnp.ones((3, 1)), "b": jnp.ones(1)}

    @jax.jit
    def both(theta):
        noisy = perturbed(
            unrolled(), lambda key, shape, dtype: jnp.full(shape, 0.3, dtype), 0.5, jm.named("b")
        )
        there = theta | {"b": theta["b"] + 0.15}
        return [
            each.estimate(KEY, bilevel, at, tasks, ())[0]
            for each, at in ((noisy, theta), (unrolled(), there))
        ]

    got, expected = both(theta)
    chex.assert_trees_all_close(
        got.grad, expected.grad, rtol=1e-12
    )  # what the loss draws is nothing here
    np.testing.assert_allclose(got.loss, expected.loss, rtol=1e-12)


def test_a_router_that_is_decided_gives_the_sums_along_the_path():
    router = Model(
        lambda key, x: jnp.zeros(4), lambda w, x, reference=None: jnp.broadcast_to(w, (len(x), 4))
    )
    bias, task = routed(jm.initialisation(), router, (3, 4)), problems.one(problems.classified())
    learner = problems.learner()
    theta = jittered(jax.jit(lambda: bias.init(KEY, task, learner))())
    theta["structure"] = {"router": one_hot(2, 4), "routes": ROUTES[:1]}  # branch 2, under 1
    start = bias.shape(theta, task, learner).start(KEY, task)
    chex.assert_trees_all_close(
        start,
        jax.tree.map(lambda leaf: leaf[0] + leaf[1 + 1] + leaf[1 + 3 + 2], theta["delta"]),
        rtol=1e-10,
    )
    with pytest.raises(ValueError, match="the router must give 3 numbers an example"):
        routed(jm.initialisation(), router, (3,)).shape(theta, task, learner)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: jt.soft_by_group(3, 0), "number of groups must be at least 1, got 0"),
        (
            lambda: jt.soft_by_group(3, 2, temperature=0.0).expand(
                {"structure": jnp.ones((3, 2)), "bank": jnp.ones(2)}
            ),
            "temperature must be above 0, got 0.0",
        ),
        (lambda: jt.soft_by_group(3, 2, spread=0.0), "spread must be above 0"),
        (
            lambda: jt.near_tree(3, ()),
            "at least one level between root and concepts, got no widths",
        ),
        (lambda: jt.near_tree(3, (2,), np.inf), "must be finite"),
        (lambda: jt.near_tree(3, (2,), temperature=0), "temperature must be above 0, got 0"),
        (
            lambda: jt.soft_along_tree(3, ()),
            "at least one level between root and concepts, got no widths",
        ),
        (lambda: jt.soft_along_tree(3, (2, 0)), "width of a level must be at least 1, got 0"),
        (lambda: jt.soft_along_tree(3, (2,), [1.0]), "one for each of the 2 depths"),
        (lambda: jt.soft_along_tree(3, (2,), np.inf), "must be finite"),
        (lambda: jt.mixture(2, 0.0), "scale must be above 0"),
        (
            lambda: jt.mixture(2, 0.1, zero=1.0),
            "below 1 and 0 where there is one component, got 1.0 and 2",
        ),
        (lambda: jt.mixture(1, 0.1, zero=0.5), "got 0.5 and 1 components"),
    ],
)
def test_refusals(make, words):
    with pytest.raises(ValueError, match=words):
        make()
