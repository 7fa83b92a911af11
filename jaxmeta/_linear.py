"""Linear maps that carry their own transpose, so that every derivative of them is again one of the
two.

The transposes that automatic differentiation derives for slices, stacks and maxima are sums of
padded arrays and reductions over short axes, which XLA runs many times slower than the maps
themselves; that of a derivative of a gradient stores the whole backward pass. A `custom_vjp` would
say the same but loses forward mode, and with it Hessian-vector products; a primitive keeps both.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jax.dtypes import float0
from jax.extend.core import ClosedJaxpr, Primitive, jaxpr_as_fun
from jax.interpreters import ad, batching, mlir


def with_derivative(run: Callable, rule: Callable) -> Callable:
    """The function `run(*args) -> [results]` of arrays, with a forward derivative of its own, for
    example a `linear_map`.

    Args:
      run: The function itself. It must not close over tracers.
      rule: `(args, moving, dots) -> (results, their tangents)`: `moving` has the places of the
        arguments that are differentiated, `dots` their tangents. The tangents of results that are
        whole numbers are not looked at.
    """
    function = jax.custom_jvp(run)

    def jvp(primals, tangents):
        moving = [
            i for i, t in enumerate(tangents) if type(t) is not SymbolicZero and t.dtype != float0
        ]
        results, dots = rule(primals, moving, [tangents[i] for i in moving])
        return results, [
            dot if jnp.issubdtype(x.dtype, jnp.inexact) else np.zeros(x.shape, float0)
            for x, dot in zip(results, dots)
        ]

    function.defjvp(jvp, symbolic_zeros=True)
    return function


def replaced(args, places, values) -> list:
    """The arguments with others in some places."""
    args = list(args)
    for place, value in zip(places, values):
        args[place] = value
    return args


class Program(NamedTuple):
    """A traced function of leaves, `(*args, *rest) -> [leaves of the result]`; rules of its own for
    derivatives are kept.

    Args:
      jaxpr: With `rest` for its constants.
      count: How many arguments come before the rest.
    """

    jaxpr: Any
    count: int

    def __call__(self, *args):
        results = jaxpr_as_fun(ClosedJaxpr(self.jaxpr, args[self.count :]))(*args[: self.count])
        return [
            x if isinstance(x, jax.Array) else jnp.asarray(x, jnp.result_type(x)) for x in results
        ]  # literals are numbers


def closed(function: Callable, *examples) -> tuple[Program, list, Any]:
    """The function with what it closes over, tracers among it, as further arguments:
    `(run, rest, shape)`.

    Returns:
      `run(*args, *rest) -> [leaves of the result]` on the leaves of the arguments; and the result's
      shapes, a pytree.
    """
    leaves, structure = jax.tree.flatten(examples)
    program, shape = jax.make_jaxpr(
        lambda *leaves: function(*jax.tree.unflatten(structure, leaves)), return_shape=True
    )(*leaves)
    return Program(program.jaxpr, len(leaves)), program.consts, shape


def kept(make: Callable) -> Callable:
    """`make(function, *rest)`, made once for equal rest and kept with the function itself, for as
    long as that lives: a cache beside it would keep all that the function closes over, tracers
    among it."""

    @wraps(make)
    def of(function, *rest):
        made, key = function.__dict__.setdefault("_made", {}), (make, function, *rest)
        if key not in made:
            made[key] = make(function, *rest)
        return made[key]

    return of


_linear = Primitive("jaxmeta_linear")
_linear.multiple_results = True


def linear_map(forward: Callable, backward: Callable, x, *fixed, like=None):
    """Returns `forward(x, *fixed)`, linear in x, with the transpose `backward(y, *fixed)`; x, y and
    fixed are pytrees.

    Both must be the same objects at every call (functions of a module, or cached) where the traced
    program is to be reused by calls that are not jitted. Derivatives in `fixed` are those that
    automatic differentiation finds.

    Args:
      like: What the result is like, shapes are enough; `forward` is then traced only where it is
        asked for. Default: found by tracing it.
    """
    if like is None:
        like = jax.eval_shape(forward, x, *fixed)
    leaves, structure = jax.tree.flatten(x)
    fixed, rest = jax.tree.flatten(fixed)
    shapes, result = jax.tree.flatten(like)
    results = _linear.bind(
        *leaves,
        *fixed,
        forward=_flat(forward, structure, rest, result),
        backward=_flat(backward, result, rest, structure),
        shapes=_shapes_of(shapes),
        count=len(leaves),
    )
    return jax.tree.unflatten(result, results)


def _shapes_of(arrays) -> tuple:
    return tuple(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in arrays)


@kept
def _flat(function, structure, rest, result):
    """The function from leaves to leaves."""

    def flat(x, fixed):
        y = function(jax.tree.unflatten(structure, x), *jax.tree.unflatten(rest, fixed))
        return result.flatten_up_to(y)

    return flat


def _apply(*args, forward, backward, shapes, count):
    return forward(list(args[:count]), list(args[count:]))


def _abstract(*args, forward, backward, shapes, count):
    return [
        args[0].update(shape=shape.shape, dtype=shape.dtype, weak_type=False) for shape in shapes
    ]


def _jvp(primals, tangents, **maps):
    forward, count = maps["forward"], maps["count"]
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


def _transpose(cotangents, *args, forward, backward, shapes, count):
    xs, fixed = [x.aval for x in args[:count]], args[count:]
    if all(type(ct) is ad.Zero for ct in cotangents):
        pulled = [ad.Zero(x) for x in xs]
    else:
        cotangents = [ad.instantiate_zeros(ct) for ct in cotangents]
        pulled = _linear.bind(
            *cotangents,
            *fixed,
            forward=backward,
            backward=forward,
            shapes=_shapes_of(xs),
            count=len(cotangents),
        )
    return [*pulled, *[None] * len(fixed)]


@kept
def _mapped(function, axes):
    return jax.vmap(function, (0, list(axes)))


def _batch(args, axes, forward, backward, shapes, count):
    size = next(a.shape[axis] for a, axis in zip(args, axes) if axis is not None)
    xs = [
        jnp.broadcast_to(x[None], (size, *x.shape)) if axis is None else jnp.moveaxis(x, axis, 0)
        for x, axis in zip(args[:count], axes)
    ]
    rest = tuple(axes[count:])
    shapes = tuple(jax.ShapeDtypeStruct((size, *shape.shape), shape.dtype) for shape in shapes)
    ys = _linear.bind(
        *xs,
        *args[count:],
        forward=_mapped(forward, rest),
        backward=_mapped(backward, rest),
        shapes=shapes,
        count=count,
    )
    return ys, [0] * len(ys)


_linear.def_impl(_apply)
_linear.def_abstract_eval(_abstract)
mlir.register_lowering(_linear, mlir.lower_fun(_apply, multiple_results=True))
ad.primitive_jvps[_linear] = _jvp
ad.primitive_transposes[_linear] = _transpose
batching.primitive_batchers[_linear] = _batch
