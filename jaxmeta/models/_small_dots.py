"""Matrix products that stay fast when every task has matrices of its own, at every derivative
order.

Derivatives of `x w` are again products, of three kinds: `x w`, `g w^T` and `x^T g`. Batched over
tasks, XLA's CPU backend has a fast kernel for the first two only, and derivatives of `x^T g` as
automatic differentiation writes them come out transposed. So the three are one primitive, which
knows each other kind as its derivative and turns x before it multiplies.

Axis letters: `n` examples, `d` features in, `e` features out.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

# The axes that are summed and the axes that are kept, left and right, counted from the last; all
# before them are tasks'.
_SUMMED = {"x w": (-1, -2), "g wT": (-1, -1), "xT g": (-2, -2)}
_KEPT = {"x w": (-2, -1), "g wT": (-2, -2), "xT g": (-1, -1)}


def product(x, w):
    r"""The matrix product `[..., d] x [d, e] -> [..., e]`.

    $$ y_{ne} = \sum_d x_{nd} w_{de} $$

    >>> import jax.numpy as jnp
    >>> product(jnp.ones((3, 2)), jnp.ones((2, 4))).shape
    (3, 4)
    """
    return _bind("x w", x.reshape(-1, x.shape[-1]), w).reshape(*x.shape[:-1], w.shape[-1])


_product = Primitive("jaxmeta_product")


def _bind(kind, a, b):
    return _product.bind(a, b, kind=kind)


def _dot(a, b, kind):
    tasks = tuple(range(a.ndim - 2))
    left, right = (a.ndim + axis for axis in _SUMMED[kind])
    return lax.dot_general(a, b, (((left,), (right,)), (tasks, tasks)))


def _turning(a, b, kind):
    """As `_dot`, with x turned in memory first, or XLA would fold the turning into the product
    again. A row or a column needs none."""
    if kind == "xT g" and a.ndim > 2 and min(a.shape[-1], b.shape[-1]) > 1:
        return _dot(lax.optimization_barrier(a.swapaxes(-1, -2)), b, "x w")
    return _dot(a, b, kind)


def _shape(a, b, kind):
    left, right = _KEPT[kind]
    return a.update(shape=(*a.shape[:-2], a.shape[left], b.shape[right]), weak_type=False)


def _pulled_left(ct, a, b, kind):
    match kind:
        case "x w":
            return _bind("g wT", ct, b)
        case "g wT":
            return _bind("x w", ct, b)
        case "xT g":
            return _bind("g wT", b, ct)


def _pulled_right(ct, a, b, kind):
    match kind:
        case "x w":
            return _bind("xT g", a, ct)
        case "g wT":
            return _bind("xT g", ct, a)
        case "xT g":
            return _bind("x w", a, ct)


def _batch(operands, axes, kind):
    size = next(x.shape[axis] for x, axis in zip(operands, axes) if axis is not None)
    (a, b), (left, right) = operands, axes
    if right is None and kind != "xT g":  # tasks that share w are examples of one product
        a = jnp.moveaxis(a, left, -3)
        rows = _bind(kind, a.reshape(*a.shape[:-3], -1, a.shape[-1]), b)
        return rows.reshape(*a.shape[:-1], rows.shape[-1]), a.ndim - 3
    a, b = (
        jnp.broadcast_to(x[None], (size, *x.shape)) if axis is None else jnp.moveaxis(x, axis, 0)
        for x, axis in zip(operands, axes)
    )
    return _bind(kind, a, b), 0


_product.def_impl(_dot)
_product.def_abstract_eval(_shape)
mlir.register_lowering(_product, mlir.lower_fun(_dot, multiple_results=False))
mlir.register_lowering(_product, mlir.lower_fun(_turning, multiple_results=False), platform="cpu")
ad.defbilinear(_product, _pulled_left, _pulled_right)
batching.primitive_batchers[_product] = _batch
