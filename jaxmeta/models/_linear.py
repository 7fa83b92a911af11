"""Linear maps that carry their own transpose, so that every derivative of them is again one of the two.

The transposes that automatic differentiation derives for slices, stacks and maxima are sums of padded arrays and
reductions over short axes, which XLA runs many times slower than the maps themselves. A `custom_vjp` would say
the same but loses forward mode, and with it Hessian-vector products; a primitive keeps both.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

_linear = Primitive("jaxmeta_linear")


def linear_map(forward: Callable, backward: Callable, x, *fixed):
    """Returns `forward(x, *fixed)`, linear in x, with the transpose `backward`; `fixed` carries no derivative.

    Both must be the same objects at every call (functions of a module, or cached), or nothing traced is reused.
    """
    return _linear.bind(x, *fixed, forward=forward, backward=backward)


def _apply(x, *fixed, forward, backward):
    return forward(x, *fixed)


def _shape(x, *fixed, forward, backward):
    structs = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in (x, *fixed)]
    return x.update(shape=jax.eval_shape(forward, *structs).shape)


def _jvp(primals, tangents, **maps):
    y = _linear.bind(*primals, **maps)
    if type(tangents[0]) is ad.Zero:
        return y, ad.Zero.from_primal_value(y)
    return y, _linear.bind(tangents[0], *primals[1:], **maps)


def _transpose(cotangent, x, *fixed, forward, backward):
    if type(cotangent) is ad.Zero:
        return [ad.Zero(x.aval)] + [None] * len(fixed)
    return [_linear.bind(cotangent, *fixed, forward=backward, backward=forward)] + [None] * len(fixed)


@lru_cache
def _mapped(function, axes):
    return jax.vmap(function, axes)


def _batch(arguments, axes, forward, backward):
    (x, *fixed), (first, *others) = arguments, axes
    if first is None:
        size = next(a.shape[axis] for a, axis in zip(fixed, others) if axis is not None)
        x = jnp.broadcast_to(x[None], (size, *x.shape))
    else:
        x = jnp.moveaxis(x, first, 0)
    axes = (0, *others)
    return _linear.bind(x, *fixed, forward=_mapped(forward, axes), backward=_mapped(backward, axes)), 0


_linear.def_impl(_apply)
_linear.def_abstract_eval(_shape)
mlir.register_lowering(_linear, mlir.lower_fun(_apply, multiple_results=False))
ad.primitive_jvps[_linear] = _jvp
ad.primitive_transposes[_linear] = _transpose
batching.primitive_batchers[_linear] = _batch
