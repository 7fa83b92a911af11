"""Losses with derivative rules of their own, whose inner fields are no gradients: every way is
reverse over reverse there."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxmeta as jm
from jaxmeta.base import Bilevel, Learner, Task
from jaxmeta.estimator import (
    _gradients as gradients,
    afresh,
    basis,
    direct,
    each_step,
    finite_difference,
    identity,
    linearising,
    offloading,
    rebuilding,
    recomputing,
    sama,
    saving,
    segments,
    storing,
)
from jaxmeta.estimator._rules import believed

KEY, ROUND = jax.random.key(0), 1e-12


def with_vjp(value, backward):
    """The function with a way back of its own, `backward(x, cotangent)`."""
    function = jax.custom_vjp(value)
    function.defvjp(lambda x: (value(x), x), lambda x, cotangent: (backward(x, cotangent),))
    return function


def with_jvp(value, forward):
    function = jax.custom_jvp(value)
    function.defjvp(lambda primals, tangents: (value(*primals), forward(*primals, *tangents)))
    return function


@jax.custom_vjp
def sine(x):
    return jnp.sin(x)


# The form of JAX's documentation: the forward rule calls the function itself.
sine.defvjp(lambda x: (sine(x), jnp.cos(x)), lambda cosine, cotangent: (cotangent * cosine,))
reverse = with_vjp(lambda x: x, lambda x, cotangent: -cotangent)
clipped = with_vjp(lambda x: x, lambda x, cotangent: jnp.clip(cotangent, -0.3, 0.3))
# The norm held constant. (A rule of a function of one number always has a symmetric field.)
wrong = with_jvp(lambda x: x / jnp.linalg.norm(x), lambda x, dot: dot / jnp.linalg.norm(x))
product = jax.custom_jvp(jnp.multiply)
product.defjvps(lambda dot, value, x, y: dot * y, None)
RULES = {
    "reversed on the way back": reverse,
    "clipped on the way back": clipped,
    "the form of JAX's documentation": sine,
    "jax.custom_gradient": jax.custom_gradient(lambda x: (x, lambda cotangent: 2 * cotangent)),
    "a wrong jax.custom_jvp": wrong,
    "one argument held constant": lambda x: product(x, jnp.roll(x, 1)),
    "in a scan": lambda x: jax.lax.scan(lambda c, _: (reverse(jnp.sin(c)), 0), x, None, length=3)[
        0
    ],
    "in a branch": lambda x: jax.lax.cond(x.sum() > 0, reverse, jnp.sin, x),
    "in a map, compiled and checkpointed": jax.vmap(
        jax.jit(jax.checkpoint(lambda x: reverse(jnp.tanh(x))))
    ),
}


def problem(rule, steps=4, *more, judge=None):
    """Theta acts through the start and the step size; the inner field is symmetric for no rule but
    the identity."""
    start = {"w": jnp.array([0.7, 0.2, -0.3]), "v": jnp.array([-0.4, 0.5, 0.1])}

    def loss(key, phi, batch):
        feature = jnp.tanh(phi["w"] * batch)
        return jnp.sum(feature**2 + jnp.sin(2 * phi["v"] * rule(feature)) + 0.3 * phi["v"] ** 2), {}

    def outer(key, learner, trajectory, task):
        end = trajectory.end
        return jnp.sum((end["w"] - 1) ** 2 * end["v"] + end["v"] ** 3), {}

    bias = jm.compose(jm.initialisation(), jm.step_sizes(0.9, each=jm.bias.scalar), *more)
    return Bilevel(
        bias,
        Learner(lambda key, task: start, loss, jm.no_penalty, optax.sgd(0.3), steps),
        judge or outer,
    )


def tasks():
    data = jnp.array([[1.5, 1.0, 0.5], [0.3, 0.7, 1.0]])
    return Task(data, data[::-1], jnp.zeros(2, int))


def initial(bilevel):
    return bilevel.init(KEY, jax.tree.map(lambda leaf: leaf[0], tasks()))


def program(estimator, bilevel):
    theta = initial(bilevel)
    state = estimator.init(KEY, bilevel, theta, tasks())
    return jax.jit(
        lambda theta: estimator.estimate(KEY, bilevel, theta, tasks(), state)[0].grad
    ), theta


def estimate(estimator, bilevel):
    run, theta = program(estimator, bilevel)
    return run(theta)


def close(ours, right, tolerance=ROUND):
    for found, expected in zip(jax.tree.leaves(ours), jax.tree.leaves(right), strict=True):
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    "name",
    [
        name
        if name
        in (
            "reversed on the way back",
            "the form of JAX's documentation",
            "one argument held constant",
        )
        else pytest.param(name, marks=pytest.mark.slow)
        for name in RULES
    ],
)
def test_an_inner_field_that_is_no_gradient_is_differentiated_as_it_is(name):
    bilevel = problem(RULES[name])
    right = estimate(jm.unrolled(gradient=jax.grad), bilevel)
    close(estimate(jm.unrolled(), bilevel), right)
    close(estimate(jm.mixed(), bilevel), right)
    if name != "the form of JAX's documentation":  # which is true and has a symmetric field
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(gradients, "believed", lambda jaxpr: True)
            assert optax.tree.norm(optax.tree.sub(estimate(jm.unrolled(), bilevel), right)) > 1e-2


@pytest.mark.parametrize(
    "name",
    [
        "reversed on the way back",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("clipped on the way back", "the form of JAX's documentation", "in a scan")
        ),
    ],
)
def test_it_is_the_central_difference_where_the_field_has_its_own_derivative(name):
    bilevel = problem(RULES[name])
    flat, unravel = jax.flatten_util.ravel_pytree(initial(bilevel))

    @jax.jit
    def value(flat):
        keys = jax.random.split(KEY, 2)
        return jax.vmap(lambda key, task: jm.outcome(key, bilevel, unravel(flat), task)[0])(
            keys, tasks()
        ).mean()

    h = 1e-5
    differences = [(value(flat + h * e) - value(flat - h * e)) / (2 * h) for e in np.eye(flat.size)]
    ours, _ = jax.flatten_util.ravel_pytree(estimate(jm.unrolled(), bilevel))
    np.testing.assert_allclose(ours, differences, rtol=1e-7, atol=1e-7)


PLANS = {
    "storing": storing,
    "each step": each_step,
    "saving": saving("inner_gradient"),
    "segments": segments(),
    "two levels": segments(2, within=each_step),
    "rebuilding": rebuilding(2),
    "binomial": jm.binomial(1),
}
if {"device", "pinned_host"} <= {memory.kind for memory in jax.devices()[0].addressable_memories()}:
    PLANS["offloading"] = offloading
WAYS = {
    f"{name}, {gradient.__name__}": jm.unrolled(plan, gradient)
    for name, plan in PLANS.items()
    for gradient in (linearising, recomputing)
} | {
    "auto": jm.auto(10**7),
    "truncated": jm.truncated(4),
    "finite differences": jm.unrolled(gradient=finite_difference(0.1)),
}


def both(x):
    """Two rules at once, of which one is of the form that has no forward derivative."""
    return reverse(sine(x))


@functools.cache
def right():
    return estimate(jm.unrolled(gradient=jax.grad), problem(both))


@pytest.mark.parametrize(
    "name",
    [
        name
        if name in ("binomial, recomputing", "rebuilding, linearising")
        else pytest.param(name, marks=pytest.mark.slow)
        for name in WAYS
    ],
)
def test_every_way_that_says_exact_is(name):
    close(estimate(WAYS[name], problem(both)), right())


@pytest.mark.slow
def test_windows_and_steps_undone_are_too():
    bilevel = problem(both)
    close(
        *(
            estimate(jm.truncated(2, carry=afresh, gradient=gradient), bilevel)
            for gradient in (linearising, jax.grad)
        )
    )
    bilevel = problem(both, 4, jm.momentum(0.7))
    close(estimate(jm.reversible(), bilevel), estimate(jm.unrolled(gradient=jax.grad), bilevel))


def test_forward_mode_is_right_or_refuses_what_has_no_forward_derivative():
    bilevel = problem(reverse)
    close(estimate(jm.forward(basis), bilevel), estimate(jm.unrolled(), bilevel), 1e-10)
    for bilevel in (problem(both), problem(reverse, judge=jm.query_loss)):
        with pytest.raises(
            ValueError,
            match="forward.. needs losses that have a forward derivative.*jax.custom_vjp.*unrolled",
        ):
            estimate(jm.forward(basis), bilevel)


def test_a_comparison_takes_the_true_gradient_for_exact():
    bilevel = problem(reverse)
    ways = {
        "reverse over reverse": jm.unrolled(gradient=jax.grad),
        "by default": jm.unrolled(),
        "first order": jm.first_order(),
    }
    found = {
        road.name: road
        for road in jm.compare(
            KEY, ways, bilevel, initial(bilevel), tasks(), draws=1, rounds=1
        ).roads
    }
    assert (
        found["reverse over reverse"].relative_error < ROUND
        and found["by default"].relative_error < ROUND
    )
    assert found["first order"].relative_error > 0.1


def test_what_stop_gradient_holds_in_the_inner_loss_the_outer_derivative_holds_too():
    bilevel = problem(lambda x: x + jax.lax.stop_gradient(jnp.sin(x) - x))
    close(estimate(jm.unrolled(), bilevel), estimate(jm.unrolled(gradient=jax.grad), bilevel))


# Where the end of learning is in closed form: the field M phi - theta, of a bowl whose rule says
# that theta does not matter.
M = np.array([[2.0, 0.7, 0.0], [-0.5, 1.5, 0.3], [0.2, 0.0, 1.0]])
TARGET, CENTRE = np.array([1.0, -2.0, 0.5]), np.array([0.3, 1.0, -0.7])


@jax.custom_vjp
def bowl(phi, centre):
    return 0.5 * phi @ M @ phi - centre @ phi


bowl.defvjp(
    lambda phi, centre: (bowl(phi, centre), M @ phi - centre),
    lambda slope, ct: (ct * slope, jnp.zeros(3)),
)


def at_the_end(estimator, steps=200):
    def make(centre):
        return Learner(
            lambda key, task: jnp.zeros(3),
            lambda key, phi, batch: (bowl(phi, centre), {}),
            jm.no_penalty,
            optax.sgd(0.3),
            steps,
        )

    bilevel = Bilevel(
        jm.hyperparameters(make, centre=CENTRE),
        make(CENTRE),
        lambda key, learner, trajectory, task: (0.5 * jnp.sum((trajectory.end - TARGET) ** 2), {}),
    )
    theta, tasks = (
        {"centre": jnp.asarray(CENTRE)},
        Task(jnp.zeros((1, 1)), jnp.zeros((1, 1)), jnp.zeros(1, int)),
    )
    state = estimator.init(KEY, bilevel, theta, tasks)
    return jax.jit(lambda theta: estimator.estimate(KEY, bilevel, theta, tasks, state)[0])(theta)


@pytest.mark.parametrize("solver", [direct(), jm.neumann(200, 0.3)], ids=["direct", "neumann"])
def test_the_adjoint_system_at_the_end_is_the_transposed_jacobian(solver):
    # phi* = M^-1 theta, so that the derivative is M^-T (phi* - target).
    found = at_the_end(jm.implicit(solver))
    np.testing.assert_allclose(
        found.grad["centre"], np.linalg.solve(M.T, np.linalg.solve(M, CENTRE) - TARGET), rtol=1e-10
    )
    assert found.info["converged"].all() and found.info["residual"] < 1e-10
    assert not at_the_end(jm.implicit(solver), 3).info["converged"].any()


@pytest.mark.parametrize(
    "estimator",
    [jm.implicit(identity(0.3)), jm.t1t2(0.3), sama()],
    ids=["identity", "t1t2", "sama"],
)
def test_last_steps_take_the_mixed_derivative_of_the_field(estimator):
    found = at_the_end(estimator, 3)
    end = np.zeros(3)
    for _ in range(3):
        end -= 0.3 * (M @ end - CENTRE)
    np.testing.assert_allclose(found.grad["centre"], 0.3 * (end - TARGET), rtol=1e-10)


@pytest.mark.parametrize(("name", "solver"), [("cg", jm.cg(5)), ("nystrom", jm.nystrom(2))])
def test_solvers_that_need_symmetry_refuse_a_field_without(name, solver):
    with pytest.raises(
        ValueError, match=f"{name} needs a symmetric Hessian.*custom_jvp.*direct.*neumann"
    ):
        at_the_end(jm.implicit(solver))


class Rule:
    """A rule that is no function."""

    def __call__(self, primals, tangents):
        return jnp.sin(*primals), tangents[0]

    def method(self, dot, value, x):
        return dot


def ruled(define):
    function = jax.custom_jvp(jnp.sin)
    define(function)
    return function


def linear(x):
    return jax.custom_derivatives.linear_call(
        lambda _, x: x, lambda _, cotangent: -cotangent, (), x
    )


OWN = RULES | {
    "straight through a rounding": with_jvp(lambda x: jnp.round(x), lambda x, dot: dot),
    "an object": ruled(lambda f: f.defjvp(Rule())),
    "a method": ruled(lambda f: f.defjvps(Rule().method)),
    "compiled": ruled(lambda f: f.defjvp(jax.jit(Rule()))),
    "in the name of another": ruled(
        lambda f: f.defjvp(functools.wraps(jax.nn.relu)(lambda p, t: (jnp.sin(*p), *t)))
    ),
    "a partial": ruled(lambda f: f.defjvps(functools.partial(lambda k, dot, value, x: k * dot, 3))),
    "wrapped by JAX": ruled(lambda f: f.defjvp(jax.checkpoint(lambda p, t: (jnp.sin(*p), *t)))),
    "a transpose of its own": linear,
    "optax's scaled gradient": lambda x: optax.scale_gradient(x, 0.5),
    "beneath a gradient": jax.grad(lambda x: jnp.sum(sine(x))),
    "in a loop": lambda x: jax.lax.fori_loop(0, 3, lambda _, x: reverse(x), x),
}
TRUE = {
    "relu": jax.nn.relu,
    "relu6, mapped and compiled": lambda x: jax.jit(jax.vmap(jax.nn.relu6))(x),
    "compiled and mapped in a scan": jax.vmap(
        lambda x: jax.lax.scan(lambda c, _: (jax.jit(jax.nn.relu)(c), 0), x, None, 2)[0]
    ),
    "checkpointed": jax.checkpoint(lambda x: jnp.sin(jax.nn.relu(x))),
    "beneath a gradient": jax.grad(lambda x: jnp.sum(jax.vmap(jax.nn.relu)(x))),
    "in a branch": lambda x: jax.lax.cond(x[0] > 0, jax.nn.relu, jnp.sin, x),
    "logaddexp": lambda x: jnp.logaddexp(x, 2 * x),
    "sinc": jnp.sinc,
    "solve": lambda x: jnp.linalg.solve(x[:, None] * x[None] + jnp.eye(3), x),
    "custom_root": jax.vmap(
        lambda x: jax.lax.custom_root(
            lambda y: y**2 - x, x, lambda f, x: x, lambda g, y: y / g(1.0)
        )
    ),
    "optax's projection": optax.projections.projection_simplex,
    "an inner run of ours": lambda x: jax.grad(
        lambda x: jnp.sum(linearising(lambda y: jnp.sum(jnp.tanh(x * y) ** 2))(x))
    )(x),
}


@pytest.mark.parametrize("name", OWN)
def test_a_rule_of_somebodys_own_is_not_believed(name):
    assert not believed(jax.make_jaxpr(OWN[name])(jnp.ones(3)))


@pytest.mark.parametrize("name", TRUE)
def test_rules_of_the_libraries_are(name):
    assert believed(jax.make_jaxpr(TRUE[name])(jnp.ones(3)))


def test_the_usual_program_is_the_same_and_one_with_rules_is_that_of_jax_grad():
    def text(estimator, rule):
        run, theta = program(estimator, problem(rule))
        return run.lower(theta).as_text()

    usual = text(jm.unrolled(), jax.nn.relu)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gradients, "believed", lambda jaxpr: True)
        assert text(jm.unrolled(), jax.nn.relu) == usual
    assert text(jm.unrolled(gradient=jax.grad), jax.nn.relu) != usual
    assert text(jm.unrolled(), reverse) == text(jm.unrolled(gradient=jax.grad), reverse)


def test_the_program_of_a_gradient_keeps_the_rules_of_its_own():
    run, rest, _ = gradients.closed(lambda x: reverse(x) ** 2, jnp.array(3.0))
    chex.assert_trees_all_equal(jax.grad(lambda x: run(x, *rest)[0])(3.0), jnp.array(-6.0))
