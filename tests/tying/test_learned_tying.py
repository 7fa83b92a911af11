"""Structure that the high level owns: learners on a tying's free parameters, by the bias `tied`."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.stats import multivariate_normal

import jaxmeta as jm
import jaxmeta.tying as jt
from jaxmeta._curvature import gauss_newton
from jaxmeta.base import Bilevel
from jaxmeta.bias import tied
from jaxmeta.evaluation import subspace_distance
from jaxmeta.hierarchy import Tree
from jaxmeta.objective import evidence
from jaxmeta.training import outer_adam

KEY = jax.random.key(7)


def regression(rng, width=4, steps=2, weight=0.0):
    """A learner of a square kernel W, y = x W, and a task for it."""

    def start(key, task):
        return {"kernel": jax.random.normal(key, (width, width))}

    def loss(key, theta, batch):
        return jnp.mean((batch.x @ theta["kernel"] - batch.y) ** 2), {}

    def penalty(theta, theta_0):
        return weight * jnp.sum(theta["kernel"] ** 2)

    x = rng.normal(size=(2, 6, width))
    y = rng.normal(size=(2, 6, width))
    support, query = (jm.Examples(jnp.asarray(a), jnp.asarray(b)) for a, b in zip(x, y))
    return jm.Learner(start, loss, penalty, optax.sgd(0.1), steps), jm.Task(support, query)


def test_tied_to_nothing_is_the_learner(rng):
    learner, task = regression(rng, weight=0.3)
    bias = jm.compose(tied(jt.identity()), jm.initialisation())
    plain = jm.initialisation()
    theta = plain.init(KEY, task, learner)
    run = jax.jit(
        lambda: (
            jm.adapt(KEY, bias.shape(((), theta), task, learner), task),
            jm.adapt(KEY, plain.shape(theta, task, learner), task),
        )
    )
    chex.assert_trees_all_close(*run(), rtol=1e-12)


def test_penalties_add_and_look_back_to_the_start(rng):
    learner, task = regression(rng, weight=0.3)
    learner = learner._replace(
        penalty=lambda theta, theta_0: jnp.sum((theta["kernel"] - theta_0["kernel"]) ** 2)
    )
    tying = jt.mixture(2, 0.5)
    shaped = tied(tying).shape((), task, learner)
    phi_0 = jax.jit(shaped.start)(KEY, task)
    phi = jax.tree.map(lambda leaf: leaf + 0.1, phi_0)
    found, prior = jax.jit(lambda: (shaped.penalty(phi, phi_0), tying.penalty(phi)))()
    np.testing.assert_allclose(found, 16 * 0.1**2 + prior, rtol=1e-10)


# Who owns the structure: the high level.


def owned(tying, *names):
    """The high level owns the named leaves of the tying's phi and where the low level starts the
    others."""
    return jm.compose(tied(tying), jm.shared(jm.named(*names)), jm.initialisation())


def learned(bias, learner, sample, steps, rate, outer=jm.query_loss, tasks=8):
    """Theta after outer steps of Adam with a cosine."""
    bilevel, estimator = Bilevel(bias, learner, outer), jm.unrolled()
    optimiser = outer_adam(rate, steps)

    @jax.jit
    def run(key):
        def step(state, key):
            theta, memory = state
            batch = jax.vmap(sample)(jax.random.split(key, tasks))
            grad = estimator.estimate(key, bilevel, theta, batch, ())[0].grad
            updates, memory = optimiser.update(grad, memory, theta)
            return (optax.apply_updates(theta, updates), memory), None

        theta = bilevel.init(key, sample(key))
        return jax.lax.scan(step, (theta, optimiser.init(theta)), jax.random.split(key, steps))[0][
            0
        ]

    return run(KEY)


def newton():
    """The minimum of a quadratic in one step."""

    def update(grads, state, phi, value_fn, **more):
        flat, unravel = jax.flatten_util.ravel_pytree(phi)
        matrix = jax.hessian(lambda flat: value_fn(unravel(flat)))(flat)
        return unravel(-jnp.linalg.solve(matrix, jax.flatten_util.ravel_pytree(grads)[0])), state

    return optax.GradientTransformationExtraArgs(lambda phi: (), update)


def test_u_of_orbit_indicators_is_group_tying_and_u_the_identity_is_none(rng):
    learner, task = regression(rng, weight=0.3)
    turn = np.roll(np.arange(4), 1)
    labels = jt.orbit_labels((4, 4), [(turn, turn)])
    indicators, kernel = jnp.eye(4)[labels], jnp.asarray(rng.normal(size=4))
    kernels = jnp.asarray(rng.normal(size=(4, 4)))
    wide = {"structure": {"kernel": tuple(jnp.eye(4) for _ in range(2))}, "free": {"kernel": None}}
    cases = [
        (
            jt.reparameterised(4),
            {"structure": {"kernel": indicators}, "free": {"kernel": None}},
            kernel,
            jt.by_index(labels),
        ),
        (jt.kronecker(), wide, kernels, jt.identity()),
    ]
    for tying, structure, start, given in cases:
        bias, plain = owned(tying, "structure"), jm.compose(tied(given), jm.initialisation())
        theta = (
            (),
            structure,
            {
                "structure": jax.tree.map(lambda _: None, structure["structure"]),
                "free": {"kernel": start},
            },
        )
        ours, theirs = jax.jit(
            lambda theta=theta, bias=bias, plain=plain, start=start: (
                jm.adapt(KEY, bias.shape(theta, task, learner), task),
                jm.adapt(KEY, plain.shape(((), {"kernel": start}), task, learner), task),
            )
        )()
        np.testing.assert_allclose(ours["free"]["kernel"], theirs["kernel"], rtol=1e-12)
        assert np.abs(ours["free"]["kernel"] - start).max() > 1e-3


def linear_tasks(structure, draw, noise, shots):
    """Tasks whose parameters are `structure @ draw(key)`, `[n, d]`: one linear regression for each
    of n nodes."""

    def sample(key):
        keys = jax.random.split(key, 4)
        theta = structure @ draw(keys[0])
        n, d = theta.shape

        def examples(key, count):
            key_x, key_y = jax.random.split(key)
            x = jax.random.normal(key_x, (n, count, d))
            return jm.Examples(
                x, jnp.einsum("ncd,nd->nc", x, theta) + noise * jax.random.normal(key_y, (n, count))
            )

        return jm.Task(examples(keys[1], shots), examples(keys[2], 20))

    return sample


def nodewise_learner(d, update, steps, scale=1.0):
    def loss(key, theta, batch):
        return jnp.mean((jnp.einsum("ncd,nd->nc", batch.x, theta) - batch.y) ** 2) * scale, {}

    return jm.Learner(
        lambda key, task: jax.random.normal(key, (d,)), loss, jm.no_penalty, update, steps
    )


@pytest.mark.slow
def test_template_coefficients_are_learned():
    """Six layers made of two templates, which every task has anew: their coefficients' span is
    found."""
    planted = np.random.default_rng(0).normal(size=(6, 2))
    sample = linear_tasks(jnp.asarray(planted), lambda key: jax.random.normal(key, (2, 5)), 0.0, 8)
    rows = jt.Tying(
        lambda key, theta: theta[None], lambda phi: phi[:, 0]
    )  # a vector as a matrix, for templates
    bias = jm.compose(tied(rows), owned(jt.templates(6, 2), "coefficients"))
    theta = learned(bias, nodewise_learner(5, optax.sgd(3.0), 5), sample, 500, 0.03)[1]
    assert subspace_distance(theta[1]["coefficients"], planted) < 0.25  # by chance 1.6


def test_depth_scales_are_learned():
    """Differences are large at depth one and small at depth two; every task is a hierarchy, learned
    to its posterior's mode."""
    tree = Tree.from_nested(((0, 1, 2), (3, 4, 5), (6, 7, 8)))
    depths, scales, noise = np.array(tree.depths), np.array([0.0, 1.0, 0.2]), 1.0

    def draw(key):
        return jnp.asarray(scales[depths])[:, None] * jax.random.normal(key, (tree.nodes, 3))

    sample = linear_tasks(jnp.asarray(tree.paths[:9]), draw, noise, 4)
    bias = jm.compose(
        tied(jt.along_tree_learned(tree, 0.5, range(9))), jm.shared(jm.named("log_scale"))
    )
    # The loss is the negative log likelihood of all 36 examples, so that scales are those of the
    # prior.
    learner = nodewise_learner(3, newton(), 1, 36 / 2 / noise**2)._replace(
        start=lambda key, task: jnp.zeros(3)
    )
    theta = learned(bias, learner, sample, 150, 0.05)
    found = np.exp(theta[1]["log_scale"])
    assert 0.7 < found[0] < 1.4 and 0.1 < found[1] < 0.35


def test_msr_finds_circular_convolutions(rng):
    turn = np.roll(np.arange(4), 1)
    indicators = jnp.eye(4)[jt.orbit_labels((4, 4), [(turn, turn)])]

    def sample(key):
        keys = jax.random.split(key, 3)
        kernel = indicators @ jax.random.normal(keys[0], (4,))
        x = [jax.random.normal(own, (count, 4)) for own, count in zip(keys[1:], (4, 20))]
        return jm.Task(*(jm.Examples(each, each @ kernel) for each in x))

    learner = regression(rng, steps=1)[0]._replace(penalty=jm.no_penalty)
    algorithm = jm.algorithms.msr(learner, jt.reparameterised(4, scale=0.1))
    theta = learned(algorithm.bilevel.bias, learner, sample, 600, 0.02)
    assert (
        subspace_distance(theta[1]["structure"]["kernel"].reshape(16, 4), indicators.reshape(16, 4))
        < 0.3
    )  # by chance 2.4


# Relaxed equivariance.

LABELS = np.arange(16).reshape(4, 4) - np.arange(4)[:, None]
LABELS = LABELS % 4  # circular convolutions of four places


def relaxed_problem(broken, shots, noise=0.1):
    """Circular convolutions and a residual of the given scale; the loss is the mean negative log
    likelihood."""

    def loss(key, theta, batch):
        away = (batch.x @ theta["kernel"] - batch.y) / noise
        value = jnp.mean(jnp.sum(away**2, -1)) / 2 + 4 * np.log(noise * np.sqrt(2 * np.pi))
        return value, {"outputs": batch.x @ theta["kernel"]}

    def sample(key):
        keys = jax.random.split(key, 6)
        kernel = jax.random.normal(keys[0], (4,))[LABELS] + broken * jax.random.normal(
            keys[1], (4, 4)
        )

        def examples(keys, count):
            x = jax.random.normal(keys[0], (count, 4))
            return jm.Examples(x, x @ kernel + noise * jax.random.normal(keys[1], (count, 4)))

        return jm.Task(examples(keys[2:4], shots), examples(keys[4:], 20))

    learner = jm.Learner(
        lambda key, task: {"kernel": jnp.zeros((4, 4))}, loss, jm.no_penalty, newton(), 1
    )
    tying = jt.relaxed(jt.by_index(LABELS), 1.0, 0.3, strength=1 / shots)
    return learner, sample, jm.compose(tied(tying), jm.shared(jm.named("structure")))


def residual(theta):
    return jnp.exp(theta[1]["structure"]["residual"]["kernel"])


def test_evidence_is_that_of_a_gaussian_process():
    shots, noise = 5, 0.1
    learner, sample, bias = relaxed_problem(0.5, shots, noise)
    task = sample(KEY)
    theta = bias.init(KEY, task, learner)
    for curvature, of in [
        ({}, {}),
        (
            {
                "curvature": gauss_newton(
                    lambda outputs: (
                        jnp.mean(jnp.sum(((outputs - task.support.y) / noise) ** 2, -1)) / 2
                    )
                )
            },
            {"of": lambda result: result[1]["outputs"]},
        ),
    ]:
        value = jax.jit(
            lambda theta, c=curvature, of=of: jm.outcome(
                KEY, Bilevel(bias, learner, evidence(shots, **c, **of)), theta, task
            )[0]
        )(theta)
        # The kernel's covariance through y = x W, all examples and outputs at once.
        tied_part = np.eye(4)[LABELS].reshape(16, 4)
        covariance = tied_part @ tied_part.T + 0.3**2 * np.eye(16)
        design = np.kron(task.support.x, np.eye(4))
        outputs = design @ covariance @ design.T + noise**2 * np.eye(4 * shots)
        expected = (
            -multivariate_normal(np.zeros(4 * shots), outputs).logpdf(np.ravel(task.support.y))
            / shots
        )
        np.testing.assert_allclose(value, expected, rtol=1e-8)


@pytest.mark.parametrize("outer", [evidence(5), jm.query_loss], ids=["evidence", "validation"])
def test_the_degree_of_tying_is_found(outer):
    def found(broken):
        learner, sample, bias = relaxed_problem(broken, 5)
        return residual(learned(bias, learner, sample, 200, 0.05, outer))

    full, half = jax.vmap(found)(jnp.array([0.0, 0.5]))
    assert full < 0.03 and 0.4 < half < 0.6  # the first still falls; both began at 0.3


def test_the_supports_loss_always_prefers_less_tying():
    learner, sample, bias = relaxed_problem(0.0, 5)

    def on_support(log_residual, key):
        task = sample(key)
        theta = (
            (),
            {
                "structure": {
                    "tied": {"kernel": jnp.zeros(())},
                    "residual": {"kernel": log_residual},
                },
                "tied": {"kernel": None},
                "residual": {"kernel": None},
            },
        )
        phi = jm.adapt(key, bias.shape(theta, task, learner), task)
        return bias.shape(theta, task, learner).loss(key, phi, task.support)[0]

    slopes = jax.jit(jax.vmap(jax.grad(on_support), (None, 0)))(
        jnp.log(0.3), jax.random.split(KEY, 20)
    )
    assert np.all(slopes < 0)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: jt.reparameterised(0), "free entries must be at least 1, got 0"),
        (lambda: jt.reparameterised(3, scale=0.0), "scale must be above 0"),
        (lambda: jt.kronecker(-1.0), "noise must be at least 0"),
        (lambda: jt.relaxed(jt.identity(), residual=0.0), "residual must be above 0"),
        (lambda: evidence(0), "examples must be at least 1, got 0"),
    ],
)
def test_refusals_of_learned_tyings(make, words):
    with pytest.raises(ValueError, match=words):
        make()
