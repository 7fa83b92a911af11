"""The product of small matrices: XLA's own product, in value and derivatives, alone and mapped."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxmeta.models import mlp
from jaxmeta.models._small_dots import _KEPT, _bind, _dot, product


def normal(seed, *shape, dtype=float):
    return jax.random.normal(jax.random.key(seed), shape, dtype)


KINDS = {"x w": ((3, 4), (4, 5)), "g wT": ((3, 5), (4, 5)), "xT g": ((3, 4), (3, 5))}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_the_product_of_its_name(kind):
    a, b = (normal(i, *shape) for i, shape in enumerate(KINDS[kind]))
    expected = {"x w": lambda: a @ b, "g wT": lambda: a @ b.T, "xT g": lambda: a.T @ b}[kind]()
    np.testing.assert_allclose(_bind(kind, a, b), expected, atol=1e-13)
    np.testing.assert_allclose(jax.jit(partial(_bind, kind))(a, b), expected, atol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_derivatives_of_two_orders_are_those_of_finite_differences(kind):
    a, b = (normal(i, *shape) for i, shape in enumerate(KINDS[kind]))
    check_grads(
        jax.jit(lambda a, b: jnp.sin(_bind(kind, a, b))), (a, b), order=2, modes=("fwd", "rev")
    )


def derivatives(f, *arguments):
    """Value, gradient, Hessian-vector products both ways, and the gradient of one of them."""
    gradient = jax.grad(lambda a: jnp.sum(jnp.sin(f(*a))))
    direction = jax.tree.map(jnp.cos, arguments)
    along = lambda a: sum(jnp.vdot(g, d) for g, d in zip(gradient(a), direction))
    return (
        f(*arguments),
        gradient(arguments),
        jax.jvp(gradient, (arguments,), (direction,))[1],
        jax.grad(along)(arguments),
        jax.grad(lambda a: sum(jnp.sum(jnp.sin(g)) for g in jax.grad(along)(a)))(arguments),
    )


def close(left, right):
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("axes", [(0, 0), (0, None), (None, 0), (2, 1)])
@pytest.mark.parametrize("kind", KINDS)
def test_mapped_is_the_loop_over_the_tasks_to_the_third_order(kind, axes):
    arrays = [
        normal(i, *shape) if axis is None else jnp.moveaxis(normal(i, 3, *shape), 0, axis)
        for i, (shape, axis) in enumerate(zip(KINDS[kind], axes))
    ]
    one = partial(derivatives, partial(_bind, kind))
    mapped = jax.jit(jax.vmap(one, axes))(*arrays)
    plain = partial(derivatives, lambda a, b: _dot(a, b, kind))
    each = [
        jax.jit(plain)(
            *(x if axis is None else jnp.take(x, t, axis) for x, axis in zip(arrays, axes))
        )
        for t in range(3)
    ]
    close(mapped, jax.tree.map(lambda *leaves: jnp.stack(leaves), *each))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "inner, outer",
    [((0, 0), (0, None)), ((0, None), (0, 0)), ((None, 0), (0, None)), ((0, 0), (0, 0))],
)
def test_maps_nest(kind, inner, outer):
    sizes = [
        [size for size, axis in ((2, far), (3, near)) if axis == 0]
        for near, far in zip(inner, outer)
    ]
    a, b = (normal(i, *size, *shape) for i, (size, shape) in enumerate(zip(sizes, KINDS[kind])))
    nested = lambda f: jax.jit(jax.vmap(jax.vmap(f, inner), outer))(a, b)
    close(nested(partial(_bind, kind)), nested(lambda a, b: _dot(a, b, kind)))


@pytest.mark.parametrize("kind", KINDS)
def test_the_shape_told_is_the_shape_made(kind):
    a, b = (normal(i, *shape) for i, shape in enumerate(KINDS[kind]))
    told = jax.eval_shape(partial(_bind, kind), a, b)
    assert (
        told.shape
        == _bind(kind, a, b).shape
        == tuple(x.shape[axis] for x, axis in zip((a, b), _KEPT[kind]))
    )


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_dtype_is_kept_at_every_order(dtype):
    arrays = normal(0, 2, 3, 4, dtype=dtype), normal(1, 2, 4, 5, dtype=dtype)
    results = jax.jit(jax.vmap(partial(derivatives, product)))(*arrays)
    assert {leaf.dtype for leaf in jax.tree.leaves(results)} == {jnp.dtype(dtype)}


def test_leading_axes_are_examples():
    x, w = normal(0, 2, 3, 4), normal(1, 4, 5)
    close(derivatives(product, x, w), derivatives(jnp.matmul, x, w))


def test_the_layers_of_the_mlp_are_products():
    model = mlp((4,), 2)
    x = normal(0, 3, 5)
    params = jax.jit(model.init)(jax.random.key(0), x)
    body, head = params["body"]["dense1"], params["head"]
    hidden = jax.nn.relu(x @ body["kernel"] + body["bias"][None])
    close(model.apply(params, x), hidden @ head["kernel"] + head["bias"][None])
    assert "jaxmeta_product" in str(jax.make_jaxpr(model.apply)(params, x))
