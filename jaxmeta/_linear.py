"""Linear maps that carry their own transpose, so that every derivative of them is again one of the two.

The transposes that automatic differentiation derives for slices, stacks and maxima are sums of padded arrays and
reductions over short axes, which XLA runs many times slower than the maps themselves; that of a derivative of a gradient
stores the whole backward pass. A `custom_vjp` would say the same but loses forward mode, and with it Hessian-vector
products; a primitive keeps both.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jax.dtypes import float0
from jax.extend.core import ClosedJaxpr, Primitive, jaxpr_as_fun
from jax.interpreters import ad, batching, mlir


def with_derivative(run: Callable, rule: Callable) -> Callable:
    """The function `run(*args) -> [results]` of arrays, with a forward derivative of its own, for example a `linear_map`.

    Args:
      run: The function itself. It must not close over tracers.
      rule: `(args, moving, dots) -> (results, their tangents)`: `moving` has the places of the arguments that are
        differentiated, `dots` their tangents. The tangents of results that are whole numbers are not looked at.
    """
    function = jax.custom_jvp(run)

    def jvp(primals, tangents):
        moving = [i for i, t in enumerate(tangents) if type(t) is not SymbolicZero and t.dtype != float0]
        results, dots = rule(primals, moving, [tangents[i] for i in moving])
        return results, [dot if jnp.issubdtype(x.dtype, jnp.inexact) else np.zeros(x.shape, float0)
                         for x, dot in zip(results, dots)]

    function.defjvp(jvp, symbolic_zeros=True)
    return function


def replaced(args, places, values) -> list:
    """The arguments with others in some places."""
    args = list(args)
    for place, value in zip(places, values):
        args[place] = value
    return args


def closed(function: Callable, *examples):
    """The function with what it closes over, tracers among it, as further arguments: `(run, rest, shape)`.

    Returns:
      `run(*args, *rest) -> [leaves of the result]` on the leaves of the arguments; and the result's shapes, a pytree.
    """
    leaves, structure = jax.tree.flatten(examples)
    program, shape = jax.make_jaxpr(lambda *leaves: function(*jax.tree.unflatten(structure, leaves)), return_shape=True)(
        *leaves)

    def run(*args):
        results = jaxpr_as_fun(ClosedJaxpr(program.jaxpr, args[len(leaves):]))(*args[: len(leaves)])
        return [x if isinstance(x, jax.Array) else jnp.asarray(x, jnp.result_type(x)) for x in results]  # literals are numbers

    return run, program.consts, shape


_linear = Primitive("jaxmeta_linear")
_linear.multiple_results = True


def linear_map(forward: Callable, backward: Callable, x, *fixed):
    """Returns `forward(x, *fixed)`, linear in x, with the transpose `backward(y, *fixed)`; x, y and fixed are pytrees.

    Both must be the same objects at every call (functions of a module, or cached) where the traced program is to be
    reused by calls that are not jitted. Derivatives in `fixed` are those that automatic differentiation finds.
    """
    leaves, structure = jax.tree.flatten(x)
    fixed, rest = jax.tree.flatten(fixed)
    result = jax.tree.structure(jax.eval_shape(forward, x, *jax.tree.unflatten(rest, fixed)))
    results = _linear.bind(*leaves, *fixed, forward=_flat(forward, structure, rest, result),
                           backward=_flat(backward, result, rest, structure), count=len(leaves))
    return jax.tree.unflatten(result, results)


@lru_cache
def _flat(function, structure, rest, result):
    """The function from leaves to leaves."""
    def flat(x, fixed):
        y = function(jax.tree.unflatten(structure, x), *jax.tree.unflatten(rest, fixed))
        return result.flatten_up_to(y)

    return flat


def _apply(*args, forward, backward, count):
    return forward(list(args[:count]), list(args[count:]))


def _shapes(*args, forward, backward, count):
    structs = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in args]
    shapes = jax.eval_shape(forward, structs[:count], structs[count:])
    return [args[0].update(shape=shape.shape, dtype=shape.dtype, weak_type=False) for shape in shapes]


def _jvp(primals, tangents, forward, backward, count):
    maps = dict(forward=forward, backward=backward, count=count)
    ys = _linear.bind(*primals, **maps)
    dots = [ad.Zero(jax.typeof(y).to_tangent_aval()) for y in ys]
    if any(_moves(t) for t in tangents[:count]):
        moved = [ad.instantiate_zeros(t) for t in tangents[:count]]
        dots = _linear.bind(*moved, *primals[count:], **maps)
    moving = [i for i, t in enumerate(tangents) if i >= count and _moves(t)]
    if moving:
        def vary(*values):
            args = replaced(primals, moving, values)
            return forward(args[:count], args[count:])

        _, more = jax.jvp(vary, [primals[i] for i in moving], [tangents[i] for i in moving])
        dots = [ad.add_tangents(a, b) for a, b in zip(dots, more)]
    return ys, dots


def _moves(tangent) -> bool:
    return type(tangent) is not ad.Zero and tangent.dtype != float0


def _transpose(cotangents, *args, forward, backward, count):
    fixed = args[count:]
    if all(type(ct) is ad.Zero for ct in cotangents):
        pulled = [ad.Zero(x.aval) for x in args[:count]]
    else:
        cotangents = [ad.instantiate_zeros(ct) for ct in cotangents]
        pulled = _linear.bind(*cotangents, *fixed, forward=backward, backward=forward, count=len(cotangents))
    return [*pulled, *[None] * len(fixed)]


@lru_cache
def _mapped(function, axes):
    return jax.vmap(function, (0, list(axes)))


def _batch(args, axes, forward, backward, count):
    size = next(a.shape[axis] for a, axis in zip(args, axes) if axis is not None)
    xs = [jnp.broadcast_to(x[None], (size, *x.shape)) if axis is None else jnp.moveaxis(x, axis, 0)
          for x, axis in zip(args[:count], axes)]
    rest = tuple(axes[count:])
    ys = _linear.bind(*xs, *args[count:], forward=_mapped(forward, rest), backward=_mapped(backward, rest), count=count)
    return ys, [0] * len(ys)


_linear.def_impl(_apply)
_linear.def_abstract_eval(_shapes)
mlir.register_lowering(_linear, mlir.lower_fun(_apply, multiple_results=True))
ad.primitive_jvps[_linear] = _jvp
ad.primitive_transposes[_linear] = _transpose
batching.primitive_batchers[_linear] = _batch
