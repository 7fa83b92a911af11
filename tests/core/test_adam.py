"""The inner Adam: optax's wherever that has derivatives, and derivatives where it has none."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxmeta as jm

RATE, B1, B2, EPS = 0.03, 0.9, 0.99, 1e-2


def moved(update, history):
    """What a history of gradients `[k, d]` moves phi by in all."""

    def step(state, grad):
        updates, state = update.update(grad, state)
        return state, updates

    return jax.lax.scan(step, update.init(history[0]), history)[1].sum(0)


ours = jax.tree_util.Partial(moved, jm.adam(RATE, B1, B2, EPS))
theirs = jax.tree_util.Partial(moved, optax.adam(RATE, B1, B2, EPS))


def history(rows):
    return jax.random.normal(jax.random.key(3), (rows, 3))


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e6])
def test_away_from_zero_it_is_the_adam_of_optax_with_both_derivatives(scale):
    grads = scale * history(4)
    np.testing.assert_array_equal(ours(grads), theirs(grads))
    for derivative in (jax.jacrev, jax.jacfwd, lambda f: jax.jacfwd(jax.jacrev(f))):
        found, expected = derivative(ours)(grads), derivative(theirs)(grads)
        np.testing.assert_allclose(
            found, expected, rtol=1e-13, atol=1e-15 * float(jnp.abs(expected).max())
        )


def test_a_schedule_and_the_state_are_those_of_optax():
    schedule = optax.linear_schedule(0.1, 0.0, 4)
    update, plain = jm.adam(schedule), optax.adam(schedule)
    grads, phi = history(1)[0], jnp.zeros(3)
    for a, b in zip(
        jax.tree.leaves(update.update(grads, update.init(phi), phi)),
        jax.tree.leaves(plain.update(grads, plain.init(phi), phi)),
    ):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_at_zero_the_derivative_is_that_of_the_quotient(steps):
    zeros = jnp.zeros((steps, 1))
    assert not np.any(ours(zeros))
    expected = sum(
        np.array(
            [
                -RATE / EPS * (1 - B1) / (1 - B1**k) * (B1 ** (k - i) if i <= k else 0)
                for i in range(1, steps + 1)
            ]
        )
        for k in range(1, steps + 1)
    )
    for derivative in (jax.jacrev, jax.jacfwd):
        np.testing.assert_allclose(derivative(ours)(zeros)[0, :, 0], expected, rtol=1e-13)
    # Near enough to zero: the quotient bends by |g| / eps.
    small = 1e-7 * EPS
    direction = jax.random.normal(jax.random.key(1), zeros.shape)
    central = (ours(small * direction) - ours(-small * direction)) / (2 * small)
    np.testing.assert_allclose(central, jnp.vdot(expected[:, None], direction), rtol=1e-6)
    assert np.isnan(jax.jacrev(theirs)(zeros)).all()


@pytest.mark.parametrize(
    "order", [(jax.jacfwd, jax.jacrev), (jax.jacrev, jax.jacfwd), (jax.jacrev, jax.jacrev)]
)
def test_at_zero_second_derivatives_are_the_mean_of_those_beside_it(order):
    outer, inner = order
    zeros, second = jnp.zeros((3, 1)), outer(inner(ours))
    np.testing.assert_array_equal(second(zeros), 0)
    beside = jax.random.normal(jax.random.key(1), zeros.shape)
    ahead, behind = second(1e-9 * beside), second(-1e-9 * beside)
    assert np.abs(ahead).max() > 1
    np.testing.assert_allclose(ahead + behind, 0, atol=1e-9 * np.abs(ahead).max())


def test_zero_first_and_something_later():
    """A unit that comes alive: the derivative by the zero gradient is the finite difference."""

    def of(first):
        return ours(jnp.stack([first * jnp.ones(1), jnp.full(1, 0.3), jnp.full(1, -0.2)]))[0]

    np.testing.assert_allclose(jax.grad(of)(0.0), (of(1e-8) - of(-1e-8)) / 2e-8, rtol=1e-6)


def test_not_a_number_is_not_hidden():
    assert np.isnan(ours(jnp.full((1, 3), jnp.nan))).all()


LOW_RANK = {
    "a": jnp.arange(1.0, 9.0).reshape(4, 2) / 8,
    "b": jnp.zeros((2, 1)),
    "dead": jnp.zeros(3),
}


@pytest.mark.parametrize(
    "estimator",
    [jm.unrolled(), jm.unrolled(gradient=jax.grad), jm.mixed(), jm.forward(jm.estimator.basis)],
    ids=["unrolled", "reverse over reverse", "mixed", "forward"],
)
def test_a_meta_gradient_through_zero_gradients_is_the_finite_difference(estimator):
    """The first factor's inner gradient is exactly zero while the second factor is; the dead unit's
    always."""

    def loss(key, phi, batch):
        out = jnp.tanh(batch @ phi["a"] @ phi["b"]).sum(1) + jax.nn.relu(phi["dead"] - 1).sum()
        return ((out - 1.0) ** 2).mean(), {}

    learner = jm.Learner(lambda key, task: LOW_RANK, loss, jm.no_penalty, jm.adam(0.05, eps=EPS), 3)
    bilevel = jm.maml(learner).bilevel
    key, data = jax.random.key(0), jax.random.normal(jax.random.key(2), (2, 1, 6, 4))
    tasks = jm.Task(data[0], data[1], jnp.zeros(1, int))
    grad = estimator.estimate(key, bilevel, LOW_RANK, tasks, ())[0].grad
    plain = jm.unrolled()

    def at(theta):
        return plain.estimate(key, bilevel, theta, tasks, ())[0].loss

    assert np.abs(grad["a"]).max() > 1e-3
    for name in ("a", "b"):
        for place in np.ndindex(LOW_RANK[name].shape):
            ahead, behind = (
                at({**LOW_RANK, name: LOW_RANK[name].at[place].add(step)}) for step in (1e-7, -1e-7)
            )
            np.testing.assert_allclose(
                grad[name][place], (ahead - behind) / 2e-7, rtol=1e-5, atol=1e-8
            )
    np.testing.assert_array_equal(grad["dead"], 0)


def test_an_epsilon_of_zero_is_refused():
    with pytest.raises(ValueError, match="eps must be above 0, got 0.0"):
        jm.adam(0.1, eps=0.0)
