"""Measures of what is universal, against their definitions, on cases worked by hand and by their
invariances."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import normal

from jaxmeta._curvature import gauss_newton
from jaxmeta.evaluation._collapse import hierarchical_collapse, neural_collapse
from jaxmeta.evaluation._conditioning import conditioning, spectrum
from jaxmeta.evaluation._connectivity import barrier, permuted, sequential_axes, weight_matching
from jaxmeta.evaluation._recovery import group_agreement, subspace_distance
from jaxmeta.evaluation._relative import equivariance_error, relative_representation, stitching
from jaxmeta.evaluation._similarity import (
    biased_hsic,
    cka,
    controls,
    mutual_neighbours,
    svcca,
    unbiased_hsic,
)
from jaxmeta.models import conv4, lax_conv, mlp

KEY = jax.random.key(5)


def orthogonal(rng, size):
    return np.linalg.qr(rng.normal(size=(size, size)))[0]


def test_unbiased_hsic_is_the_mean_over_quadruples(rng):
    x, y = rng.normal(size=(7, 3)), rng.normal(size=(7, 2))
    k, m = x @ x.T, y @ y.T
    four = [
        k[i, j] * (m[i, j] + m[a, b] - 2 * m[i, a])
        for i, j, a, b in itertools.permutations(range(7), 4)
    ]
    np.testing.assert_allclose(jax.jit(unbiased_hsic)(k, m), np.mean(four), rtol=1e-10)
    h = np.eye(7) - 1 / 7
    np.testing.assert_allclose(jax.jit(biased_hsic)(k, m), np.trace(k @ h @ m @ h) / 36, rtol=1e-10)


@pytest.mark.parametrize("hsic", [unbiased_hsic, biased_hsic])
def test_cka_sees_neither_rotation_nor_scale_nor_translation(hsic, rng):
    x, y = rng.normal(size=(12, 4)), rng.normal(size=(12, 6))
    measure = jax.jit(partial(cka, hsic=hsic))
    np.testing.assert_allclose(
        measure(3 * x @ orthogonal(rng, 4) + 5, -y @ orthogonal(rng, 6)), measure(x, y), atol=1e-12
    )
    np.testing.assert_allclose(measure(x, 2 * x @ orthogonal(rng, 4)), 1, rtol=1e-12)
    assert measure(x, x * np.array([[9.0, 1, 1, 1]])) < 0.95  # other linear maps it sees


def test_chance_levels_of_unrelated_representations(rng):
    x, y = rng.normal(size=(200, 12, 20)), rng.normal(size=(200, 12, 20))
    unbiased, biased = (
        np.mean(jax.jit(jax.vmap(partial(cka, hsic=hsic)))(x, y))
        for hsic in (unbiased_hsic, biased_hsic)
    )
    assert abs(unbiased) < 0.03 and biased > 0.5
    value, chance = jax.jit(jax.vmap(partial(mutual_neighbours, k=3)))(x, y)
    np.testing.assert_allclose(chance, 3 / 11)
    assert abs(value.mean() - 3 / 11) < 0.02


def test_svcca(rng):
    basis = rng.normal(size=(15, 5))
    basis = np.linalg.qr(basis - basis.mean(0))[0]
    run = jax.jit(svcca, static_argnames="keep")
    np.testing.assert_allclose(run(basis[:, :2], basis[:, [0, 2, 3]], keep=1.0), 0.5, atol=1e-12)
    turned = np.cos(0.3) * basis[:, :1] + np.sin(0.3) * basis[:, 1:2]
    np.testing.assert_allclose(run(basis[:, :1], turned, keep=1.0), np.cos(0.3), atol=1e-12)
    np.testing.assert_allclose(
        run(basis[:, :2] * np.array([[10.0, 0.1]]), basis[:, [0, 2]], keep=1.0), 0.5, atol=1e-12
    )
    np.testing.assert_allclose(
        run(basis[:, :2] * np.array([[10.0, 0.1]]), basis[:, :1], keep=0.99), 1, atol=1e-12
    )
    x, y = rng.normal(size=(30, 4)), rng.normal(size=(30, 5))
    np.testing.assert_allclose(
        run(x @ rng.normal(size=(4, 4)) + 1, y @ rng.normal(size=(5, 5)), keep=1.0),
        run(x, y, keep=1.0),
        atol=1e-10,
    )
    twice = np.concatenate(
        [x, x @ rng.normal(size=(4, 2))], axis=1
    )  # directions that are zero are not counted
    np.testing.assert_allclose(run(twice, y, keep=1.0), run(x, y, keep=1.0), atol=1e-10)


def test_mutual_neighbours_by_sets(rng):
    x, y = rng.normal(size=(9, 3)), rng.normal(size=(9, 4))
    sets = []
    for z in (x, y):
        unit = z / np.linalg.norm(z, axis=1, keepdims=True)
        sets.append(
            [
                set(sorted(set(range(9)) - {i}, key=lambda j: -unit[i] @ unit[j])[:4])
                for i in range(9)
            ]
        )
    want = np.mean([len(a & b) / 4 for a, b in zip(*sets)])
    np.testing.assert_allclose(
        jax.jit(partial(mutual_neighbours, k=4))(x, y).value, want, rtol=1e-12
    )


def simplex(rng, classes, features):
    corners = (np.eye(classes) - 1 / classes) @ np.eye(classes, features)
    return corners @ orthogonal(rng, features)


def test_a_simplex_has_collapsed_and_departures_are_told(rng):
    y, corners = np.repeat(np.arange(4), 3), simplex(rng, 4, 6)
    run = jax.jit(neural_collapse)
    np.testing.assert_allclose(
        run(5 * corners[y] + 7, y, 2 * corners.T, -14 * corners.sum(1)), 0, atol=1e-9
    )
    z = 5 * corners[y] + rng.normal(size=(12, 6))
    found = run(z, y, -corners.T)
    means = np.stack([z[y == c].mean(0) for c in range(4)])
    between, within = np.cov(means.T, bias=True), np.cov((z - means[y]).T, bias=True)
    np.testing.assert_allclose(
        found.within, np.trace(within @ np.linalg.pinv(between, rcond=1e-10)) / 4, rtol=1e-8
    )
    centred = means - means.mean(0)
    norms, unit = (
        np.linalg.norm(centred, axis=1),
        centred / np.linalg.norm(centred, axis=1, keepdims=True),
    )
    np.testing.assert_allclose(found.norms, norms.std() / norms.mean(), rtol=1e-10)
    np.testing.assert_allclose(
        found.angles, np.mean([abs(unit[i] @ unit[j] + 1 / 3) for i in range(4) for j in range(i)])
    )
    assert found.duality > 1.8 and found.disagreement == 1  # the read-out points away
    lone = run(corners[[0, 0, 1, 1]], np.array([0, 0, 1, 1]), corners.T)
    assert np.isnan(lone).all()


def test_class_means_of_path_sums_follow_the_tree(rng):
    steps = np.arange(8)
    height = np.array(
        [[int(a ^ b).bit_length() for b in steps] for a in steps]
    )  # of the lowest common ancestor, complete tree
    delta = orthogonal(rng, 14)
    rows = [delta[2 + a // 4 - 2] + delta[2 + a // 2] + delta[6 + a] for a in steps]
    y = np.tile(steps, 2)
    z = np.array(rows)[y] + np.repeat([[1.0], [-1.0]], 8, axis=0) * delta[:1]
    run = jax.jit(hierarchical_collapse)
    found = run(z, y, height)
    np.testing.assert_allclose([found.pearson, found.spearman], 1, atol=1e-6)
    np.testing.assert_allclose(np.diag(found.cosines), 1)
    order = rng.permutation(8)
    assert run(z, y, height[order][:, order]).spearman < 0.9
    assert np.isnan(run(simplex(rng, 8, 9)[y], y, height).spearman)


def net(kind, key):
    model, x = {
        "mlp": (mlp([9, 7], 3, jnp.tanh), jnp.ones((2, 4))),
        "conv4": (conv4(3, filters=5, blocks=2, convolution=lax_conv), jnp.ones((2, 8, 8, 1))),
    }[kind]
    x = jax.random.normal(jax.random.key(1), (12, *x.shape[1:]))
    params = jax.jit(model.init)(key, x)
    leaves, structure = jax.tree.flatten(params)
    noise = jax.random.split(key, len(leaves))  # so that no scale or bias is as every other
    return (
        model,
        x,
        jax.tree.unflatten(
            structure, [a + 0.1 * jax.random.normal(k, a.shape) for k, a in zip(noise, leaves)]
        ),
    )


@pytest.mark.parametrize("kind", ["mlp", "conv4"])
def test_a_permuted_copy_is_found_and_has_no_barrier(kind, rng):
    model, x, params = net(kind, KEY)
    axes = sequential_axes(params)
    groups = {group for names in axes.values() for group in names} - {None}
    assert groups == {"body/1", "body/2"}
    widths = {"mlp": (9, 7), "conv4": (5, 5)}[kind]
    orders = {
        f"body/{number}": rng.permutation(width) for number, width in enumerate(widths, start=1)
    }
    copy = permuted(params, orders, axes)
    apply = jax.jit(model.apply)
    y = apply(params, x)
    np.testing.assert_allclose(apply(copy, x), y, atol=1e-10)
    loss = lambda p: jnp.mean((model.apply(p, x) - y) ** 2)
    between = jax.jit(lambda a, b: barrier(loss, a, b, 3))
    assert between(params, copy).height > 1e-3
    found = weight_matching(KEY, params, copy)
    assert between(params, found.params).height < 1e-12
    for group, order in orders.items():
        np.testing.assert_array_equal(order[found.permutations[group]], np.arange(len(order)))


def test_layers_are_in_order_of_their_numbers():
    layers = {
        f"dense{number}": {"kernel": np.ones((number, number + 1))} for number in range(1, 12)
    }
    axes = sequential_axes(layers)
    assert axes["dense10/kernel"] == ("9", "10") and axes["dense11/kernel"] == ("10", None)


def test_matching_one_layer_is_optimal(rng):
    first, second = (
        {
            "l1": {"kernel": rng.normal(size=(3, 4)), "bias": rng.normal(size=4)},
            "l2": {"kernel": rng.normal(size=(4, 2))},
        }
        for _ in range(2)
    )
    axes = sequential_axes(first)
    inner = lambda order: sum(
        np.vdot(a, b)
        for a, b in zip(
            jax.tree.leaves(first), jax.tree.leaves(permuted(second, {"1": np.array(order)}, axes))
        )
    )
    best = max(itertools.permutations(range(4)), key=inner)
    found = weight_matching(KEY, first, second)
    assert found.permutations["1"].tolist() == list(best)
    np.testing.assert_allclose(found.product, inner(best))
    np.testing.assert_allclose(found.params["l2"]["kernel"], second["l2"]["kernel"][list(best)])


def test_stitching_survives_a_rotation_that_the_features_do_not(rng):
    centres = 3 * rng.normal(size=(4, 8))
    y = np.tile(np.arange(4), 20)
    z, turn = centres[y] + rng.normal(size=(80, 8)), orthogonal(rng, 8)
    anchors = np.arange(0, 80, 6)
    relative = relative_representation(z, z[anchors])
    np.testing.assert_allclose(
        jax.jit(relative_representation)(4 * z @ turn, 4 * z[anchors] @ turn), relative, atol=1e-12
    )
    read = np.linalg.lstsq(np.asarray(relative), np.eye(4)[y], rcond=None)[0]
    own, other = (
        stitching(lambda r: r @ read, each, each[anchors], y) for each in (z, 4 * z @ turn)
    )
    assert own == other > 0.95
    absolute = np.linalg.lstsq(z, np.eye(4)[y], rcond=None)[0]
    assert np.mean((z @ turn @ absolute).argmax(1) == y) < 0.8


def test_equivariance_error(rng):
    x, kernel = rng.normal(size=(3, 8, 2)), rng.normal(size=(3, 2, 4))
    roll = partial(jnp.roll, shift=1, axis=1)

    def circular(x):
        wrapped = jnp.concatenate([x[:, -1:], x, x[:, :1]], axis=1)
        return jnp.tanh(
            jax.lax.conv_general_dilated(
                wrapped, kernel, (1,), "VALID", dimension_numbers=("NWC", "WIO", "NWC")
            )
        )

    error = jax.jit(lambda f, x: equivariance_error(f, roll, roll, x), static_argnums=0)
    assert error(circular, x) < 1e-12
    ramp = np.arange(8.0)[None, :, None] * np.ones((3, 8, 2))
    # f(x) = ramp * x: g f(x) - f(g x) is -1 times g x, and 7 where the ramp begins anew.
    moved = np.where(np.arange(8)[None, :, None] == 0, 7, -1) * np.roll(x, 1, axis=1)
    want = np.mean(
        np.linalg.norm(moved.reshape(3, -1), axis=1)
        / np.linalg.norm((ramp * x).reshape(3, -1), axis=1)
    )
    np.testing.assert_allclose(error(lambda x: ramp * x, x), want, rtol=1e-12)


def test_a_planted_tying_is_found_again():
    """The operator of circular convolutions, mixed and with noise; of random ones nothing is
    found."""
    rng = np.random.default_rng(0)
    labels = ((np.arange(5) - np.arange(5)[:, None]) % 5).reshape(-1)
    planted = np.eye(5)[labels]
    mixed = planted @ rng.normal(size=(5, 5))
    noisy, random = mixed + 0.01 * rng.normal(size=mixed.shape), rng.normal(size=mixed.shape)
    assert subspace_distance(mixed, planted) < 1e-7 and group_agreement(mixed, labels) == 1
    assert 0 < subspace_distance(noisy, planted) < 0.2 and group_agreement(noisy, labels) == 1
    projectors = [each @ np.linalg.pinv(each) for each in (random, planted)]
    np.testing.assert_allclose(
        subspace_distance(random, planted), np.linalg.norm(projectors[0] - projectors[1])
    )
    np.testing.assert_allclose(
        subspace_distance(np.append(planted, random[:, :2], 1), planted), 2**0.5
    )
    assert abs(group_agreement(random, labels)) < 0.3


def test_controls_tell_learned_likeness_from_the_architecture_s(rng):
    shared, inputs = rng.normal(size=(40, 3)), rng.normal(size=(40, 3))
    views = lambda signal: tuple(
        signal @ rng.normal(size=(3, 10)) + 0.1 * rng.normal(size=(40, 10)) for _ in range(2)
    )
    found = controls(
        jax.jit(cka),
        views(shared),
        (rng.normal(size=(40, 10)), inputs),
        (shared, rng.normal(size=(40, 10))),
    )
    assert found.trained > 0.5 > 0.3 > max(abs(found.untrained), abs(found.shuffled))


D, P = 9, 5
X, Y, J = normal(0, 20, D), normal(1, 20), normal(2, D, P)
LOSS = lambda theta: (
    jnp.mean(jnp.logaddexp(0, -Y * (X @ theta["w"]))) + 0.05 * jnp.sum(theta["w"] ** 2)
)
LEAN = np.concatenate([J[:, :3], J[:, :3] @ normal(3, 3, 2)], axis=1)  # of rank 3
EXPANDS = {
    "linear": lambda phi: {"w": J @ phi},
    "singular": lambda phi: {"w": LEAN @ phi},
    "curved": lambda phi: {"w": jnp.tanh(J @ phi)},
}


@pytest.mark.parametrize(
    "name, damping", [["linear", 0.0], ["singular", 0.0], ["singular", 0.01], ["curved", 0.0]]
)
def test_extreme_eigenvalues_are_those_of_the_matrix(name, damping, rng):
    phi, expand = rng.normal(size=P), EXPANDS[name]
    before, after = jax.jit(lambda phi: conditioning(KEY, LOSS, expand, phi, 20, damping=damping))(
        phi
    )
    hess = jax.jit(jax.hessian(lambda w: LOSS({"w": w})))(expand(phi)["w"])
    jac = jax.jit(jax.jacobian(lambda phi: expand(phi)["w"]))(phi)
    for found, matrix in ((before, hess), (after, jac.T @ hess @ jac)):
        values = np.linalg.eigvalsh(matrix + damping * np.eye(len(matrix)))
        values = values[values > 1e-10 * values.max()]
        np.testing.assert_allclose(
            [found.lowest, found.highest, found.smallest],
            [values[0], values[-1], values[0]],
            rtol=1e-8,
        )
        np.testing.assert_allclose(found.condition, values[-1] / values[0], rtol=1e-8)
        assert max(found.lowest_residual, found.highest_residual) < 1e-8


def test_gauss_newton_is_semidefinite_where_the_hessian_is_not(rng):
    outputs = lambda theta: jnp.tanh(X @ theta)
    measure = lambda out: jnp.mean((out - Y) ** 2)
    theta = 0.5 * rng.normal(
        size=D
    )  # where few tanh are flat: eigenvalues lie within a factor of 2,000
    same = lambda theta: theta
    whole = jax.jit(lambda t: conditioning(KEY, lambda t: measure(outputs(t)), same, t).after)(
        theta
    )
    assert whole.lowest < 0
    found = jax.jit(
        lambda t: conditioning(KEY, outputs, same, t, curvature=gauss_newton(measure)).after
    )(theta)
    jac = jax.jit(jax.jacobian(outputs))(theta)
    values = np.linalg.eigvalsh(2 * jac.T @ jac / 20)
    # Rounding moves each eigenvalue by that much of the largest.
    np.testing.assert_allclose(
        [found.smallest, found.highest], values[[0, -1]], rtol=0, atol=1e-13 * values[-1]
    )


def test_few_steps_stay_within_the_range_and_tell_their_error(rng):
    values = np.concatenate([np.zeros(50), np.linspace(1, 100, 150)])
    turn = orthogonal(rng, 200)
    matrix = turn * values @ turn.T
    run = jax.jit(
        lambda key, steps: spectrum(key, lambda v: matrix @ v, jnp.zeros(200), steps),
        static_argnums=1,
    )
    for seed, steps in ((0, 12), (1, 60)):
        found = run(jax.random.key(seed), steps)
        assert 1 - 1e-9 < found.smallest and found.highest < 100 + 1e-9
        for value, residual in (
            (found.lowest, found.lowest_residual),
            (found.highest, found.highest_residual),
        ):
            assert np.abs(values - value).min() <= residual + 1e-9
    np.testing.assert_allclose(found.condition, 100, rtol=1e-2)
    repeated = jax.jit(
        lambda: spectrum(KEY, lambda v: 2 * v, jnp.ones(6), 6)
    )()  # an invariant subspace after one step
    np.testing.assert_allclose(
        [repeated.lowest, repeated.highest, repeated.condition], [2, 2, 1], rtol=1e-12
    )
    assert np.isnan(jax.jit(lambda: spectrum(KEY, lambda v: 0 * v, jnp.ones(6), 3))().condition)


TREE = {"a": {"kernel": np.ones((2, 3))}, "b": {"kernel": np.ones((3, 2))}}


@pytest.mark.parametrize(
    "call, said",
    [
        [
            lambda: cka(np.ones((5, 2)), np.ones((6, 2))),
            r"same n examples, got shapes \(5, 2\) and \(6, 2\)",
        ],
        [
            lambda: cka(np.ones((3, 2)), np.ones((3, 2))),
            "number of examples of unbiased_hsic must be at least 4, got 3",
        ],
        [lambda: svcca(np.ones((5, 2)), np.ones((5, 2)), keep=99), r"in \(0, 1\], got 99"],
        [lambda: mutual_neighbours(np.ones((5, 2)), np.ones((5, 2)), k=5), "got k = 5 of 5"],
        [
            lambda: neural_collapse(np.ones((5, 2)), np.zeros(5, int), np.ones((3, 2))),
            r"got shapes \(5, 2\), \(5,\) and \(3, 2\)",
        ],
        [
            lambda: hierarchical_collapse(np.ones((5, 2)), np.zeros(5, int), np.ones((2, 2))),
            "C at least 3",
        ],
        [lambda: relative_representation(np.ones((5, 2)), np.ones((4, 3))), "by the same net"],
        [
            lambda: stitching(lambda r: r, np.ones((5, 2)), np.ones((4, 2)), np.zeros(4, int)),
            "one label an example",
        ],
        [
            lambda: equivariance_error(jnp.tanh, lambda x: x, lambda y: y[:, :1], np.ones((2, 3))),
            "the same group element",
        ],
        [lambda: barrier(jnp.sum, 1.0, 2.0, points=2), "points must be at least 3"],
        [lambda: barrier(jnp.sum, 1.0, jnp.ones(3)), "the second net must have shape"],
        [lambda: sequential_axes(TREE | {"c": {"scale": np.ones(3)}}), "got 'c/scale'"],
        [
            lambda: sequential_axes(
                {"x1": {"kernel": np.ones((2, 3))}, "y1": {"kernel": np.ones((3, 3))}}
            ),
            "two of one number",
        ],
        [lambda: weight_matching(KEY, TREE, TREE, {"a/kernel": (None, "h")}), "leaf 'b/kernel'"],
        [
            lambda: weight_matching(
                KEY, TREE, TREE, {"a/kernel": ("h", "h"), "b/kernel": (None, None)}
            ),
            r"got lengths \[2, 3\]",
        ],
        [
            lambda: subspace_distance(np.ones((5, 2)), np.ones((6, 2))),
            r"got shapes \(5, 2\) and \(6, 2\)",
        ],
        [lambda: group_agreement(np.ones((5, 2)), np.ones(4)), "one label a row"],
        [lambda: spectrum(KEY, lambda v: v, jnp.ones(2), 0), "steps must be at least 1, got 0"],
        [
            lambda: spectrum(KEY, lambda v: v, jnp.ones(2), 2, damping=-1.0),
            "damping must be at least 0, got -1",
        ],
    ],
)
def test_refusals(call, said):
    with pytest.raises(ValueError, match=said):
        call()
