"""The fast formulations against lax.conv and the textbook order, in value and derivatives of two
orders."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta._linear import linear_map
from jaxmeta.models import conv4, dot_conv, lax_conv
from jaxmeta.models._convolution import max_pool
from jaxmeta.models._normalisation import EPSILON
from jaxmeta.models._winograd import block

R = 1e-10


def close(a, b):
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(
            left, right, rtol=0, atol=R * max(1.0, float(jnp.abs(right).max()))
        )


def derivatives(f, arguments):
    """Value, gradient, and Hessian-vector product by forward over reverse and by reverse over
    reverse."""
    gradient = jax.grad(lambda a: jnp.sum(jnp.sin(f(*a))))
    direction = jax.tree.map(jnp.cos, arguments)

    def all_of_them(a):
        along = lambda a: sum(jnp.vdot(g, d) for g, d in zip(gradient(a), direction))
        return f(*a), gradient(a), jax.jvp(gradient, (a,), (direction,))[1], jax.grad(along)(a)

    return jax.jit(all_of_them)(arguments)


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


@pytest.mark.parametrize(
    "size, channels, window",
    [
        ((7, 7), 3, (3, 3)),
        ((14, 3), 1, (3, 3)),
        ((1, 8), 3, (1, 5)),
        ((6, 6), 3, (1, 1)),
        ((28, 28), 1, (5, 3)),
    ],
)
def test_dot_conv_is_lax_conv(size, channels, window):
    arguments = normal(0, 2, *size, channels), normal(1, *window, channels, 4)
    close(derivatives(dot_conv, arguments), derivatives(lax_conv, arguments))


def plain_block(x, kernel, scale, offset, reference=None):
    """The textbook order, on `[n, h, w, c]` inside."""
    z = lax_conv(x.transpose(2, 0, 1, 3), kernel)
    seen = z if reference is None else z[np.asarray(reference)]
    mean, variance = seen.mean((0, 1, 2), keepdims=True), seen.var((0, 1, 2), keepdims=True)
    z = (z - mean) / jnp.sqrt(variance + EPSILON) * scale.reshape(1, 1, 1, -1) + offset.reshape(
        1, 1, 1, -1
    )
    return max_pool(jax.nn.relu(z)).transpose(1, 2, 0, 3)


@pytest.mark.parametrize(
    "size, channels",
    [
        ((7, 7), 1),
        ((7, 7), 4),
        ((2, 5), 4),  # narrow patches, Winograd, Winograd at the edge
        *(
            pytest.param(*more, marks=pytest.mark.slow)
            for more in (((28, 28), 1), ((14, 14), 3), ((7, 7), 3), ((14, 14), 4), ((3, 3), 4))
        ),
    ],
)
def test_fused_block_is_the_textbook_order(size, channels):
    scale = jnp.asarray([1.3, -0.7, 0.2, -1.1])
    arguments = normal(0, *size, 4, channels), normal(1, 3, 3, channels, 4), scale, normal(2, 4)
    close(derivatives(block, arguments), derivatives(plain_block, arguments))
    reference = jnp.asarray([True, False, True, True])
    close(block(*arguments, reference), plain_block(*arguments, reference))


def test_fused_and_plain_conv4_share_parameters_and_predictions():
    x = normal(0, 5, 28, 28, 1)
    fast, plain = conv4(5, filters=6), conv4(5, filters=6, convolution=lax_conv)
    params = jax.jit(fast.init)(jax.random.key(0), x)
    close(params, jax.jit(plain.init)(jax.random.key(0), x))
    for reference in (None, jnp.arange(5) < 3):
        close(jax.jit(fast.apply)(params, x, reference), jax.jit(plain.apply)(params, x, reference))


def test_fused_block_maps_over_everything():
    x, kernel = normal(0, 3, 6, 6, 4, 5), normal(1, 3, 3, 3, 5, 4)
    scale, offset = normal(2, 3, 4), normal(3, 3, 4)
    value = lambda *a: jnp.sum(jnp.sin(block(*a)))
    second = jax.grad(lambda k, x, s, o: jnp.sum(jax.grad(value, 1)(x, k, s, o) ** 2))
    one = jax.jit(second)
    loop = jnp.stack([one(kernel[t], x[t], scale[t], offset[t]) for t in range(3)])
    close(jax.jit(jax.vmap(second))(kernel, x, scale, offset), loop)
    close(
        jax.jit(jax.vmap(second, (0, None, None, None)))(kernel, x[0], scale[0], offset[0])[0],
        loop[0],
    )
    close(
        jax.jit(jax.vmap(second, (None, 0, None, None)))(kernel[0], x, scale[0], offset[0])[0],
        loop[0],
    )


def test_ties_give_finite_derivatives():
    ones = jnp.ones(1)
    gradient = jax.jit(
        jax.grad(lambda x: block(x, jnp.zeros((3, 3, 1, 1)).at[1, 1].set(1.0), ones, ones).sum())
    )
    assert bool(jnp.isfinite(gradient(jnp.ones((4, 4, 2, 1)))).all())


def test_a_value_that_is_not_a_number_stays_visible():
    x = jnp.ones((4, 4, 2, 5)).at[0, 0, 0, 0].set(jnp.nan)
    assert bool(
        jnp.isnan(jax.jit(block)(x, normal(0, 3, 3, 5, 2), jnp.ones(2), jnp.zeros(2))).any()
    )


def test_linear_map_derives_and_maps_both_ways():
    matrix = np.asarray([[1.0, 2.0, 0.0], [0.0, 1.0, -1.0]])
    forward, backward = lambda x, s: s * (matrix @ x), lambda y, s: s * (matrix.T @ y)
    f = lambda x, s: linear_map(forward, backward, x, s)
    x, s = normal(0, 3), jnp.asarray(2.0)
    close(jax.jacfwd(f)(x, s), 2 * matrix)
    close(jax.jacrev(f)(x, s), 2 * matrix)
    close(jax.hessian(lambda x: jnp.sum(f(x, s) ** 2))(x), 8 * matrix.T @ matrix)
    close(jax.vmap(f, (None, 0))(x, jnp.arange(3.0))[2], f(x, s))
    close(jax.vmap(f, (1, None), 1)(normal(1, 3, 4), s)[:, 3], f(normal(1, 3, 4)[:, 3], s))
