"""What a program costs before it runs: its multiplications, from the jaxpr."""

from __future__ import annotations

import math

import jax
from jax.extend.core import ClosedJaxpr


def flops(function, *args) -> float:
    """Floating-point operations of the products of matrices and the convolutions in a function,
    loops counted in full.

    Element by element operations are left out: they move memory, and cost by that. A loop whose
    length is not known beforehand counts once.

    Args:
      function: Anything that can be traced.
      args: Its arguments; shapes (`jax.ShapeDtypeStruct`) are enough.
    """
    return _count(jax.make_jaxpr(function)(*args).jaxpr)


def _count(jaxpr) -> float:
    return sum(_of(equation) for equation in jaxpr.eqns)


def _of(equation) -> float:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        left = equation.invars[0].aval.shape
        return 2.0 * equation.outvars[0].aval.size * math.prod(left[axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval
        outputs = kernel.shape[params["dimension_numbers"].rhs_spec[0]]
        return 2.0 * equation.outvars[0].aval.size * kernel.size / outputs
    if name.startswith("jaxmeta_"):  # our own primitives are made of others
        shapes = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in equation.invars]
        return flops(lambda *args: equation.primitive.impl(*args, **params), *shapes)
    inner = [_count(each) for value in params.values() for each in programs(value)]
    if name == "cond":
        return max(inner)
    return sum(inner) * params.get("length", 1) if name == "scan" else sum(inner)


def programs(value):
    """The jaxprs that a parameter of an equation holds."""
    if isinstance(value, ClosedJaxpr):
        yield value.jaxpr
    elif hasattr(value, "eqns"):
        yield value
    elif isinstance(value, tuple | list):
        for each in value:
            yield from programs(each)
