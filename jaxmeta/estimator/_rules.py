"""Whose derivative rules a traced program has.

`jax.custom_jvp` and `jax.custom_vjp` put a rule of somebody's own in the place of a derivative.
Where that rule is another than the derivative of the value (gradient reversal, clipping on the way
back, straight-through rounding), what `jax.grad` makes of the program is a vector field without a
symmetric Jacobian. No number tells: a clip that does not bind looks true. So it is asked whose the
rules are, and only those of libraries that derive what they compute are believed.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator

from jaxmeta.estimator._cost import programs

_BELIEVED = ("jax", "jaxmeta", "optax", "flax")
_MACHINERY = (
    "jax._src.api_util",
    "jax._src.custom_derivatives",
    "jax._src.interpreters",
    "jax._src.linear_util",
)
# Primitives whose transpose is whatever their caller said.
_SAID = ("custom_vjp", "custom_transpose", "linear_call")


def believed(program) -> bool:
    """Whether all derivative rules of a jaxpr, those of the jaxprs within it included, are believed
    to be derivatives.

    A rule that cannot be traced to its owner is not believed.
    """
    for equation in program.eqns:
        name, params = equation.primitive.name, equation.params
        if name.startswith(_SAID):
            return False
        if name == "custom_jvp_call" and not _rule_believed(params.get("jvp_jaxpr_fun")):
            return False
        if "_prim" in params and not _class_believed(type(params["_prim"])):
            return False
        held = [*params.values(), *(vars(params["_prim"]).values() if "_prim" in params else ())]
        if not all(believed(each) for value in held for each in programs(value)):
            return False
    return True


def _rule_believed(rule) -> bool:
    """JAX wraps a rule once more at every trace and map that it goes through; below them all are
    its owner's functions."""
    owners = {owner for owner in map(_module, _functions(rule)) if not owner.startswith(_MACHINERY)}
    return bool(owners) and all(owner.partition(".")[0] in _BELIEVED for owner in owners)


def _class_believed(kind: type) -> bool:
    """Primitives that are classes have rules of their own; some of JAX's hold those of a user
    instead."""
    holds = kind.__name__.startswith(("CustomVJP", "CustomJVP", "CustomRemat", "OptRemat"))
    return kind.__module__.partition(".")[0] in _BELIEVED and not holds


def _functions(rule) -> Iterator:
    """What a rule is made of that can be called: through closures and wrappers."""
    seen, ahead = set(), [rule]
    while ahead:
        at = ahead.pop()
        if id(at) in seen:
            continue
        seen.add(id(at))
        if isinstance(at, types.FunctionType):
            yield at
            if not _module(at).startswith("jaxmeta."):
                ahead += [
                    cell.cell_contents for cell in at.__closure__ or () if cell != types.CellType()
                ]
        elif isinstance(at, functools.partial):
            ahead += [at.func, *at.args, *at.keywords.values()]
        elif isinstance(at, tuple | list):
            ahead += at
        elif hasattr(at, "call_wrapped"):
            ahead.append(at.f)
        elif callable(at) and not hasattr(at, "__wrapped__"):
            yield at
        if hasattr(at, "__wrapped__"):
            ahead.append(at.__wrapped__)


def _module(function) -> str:
    """Where a function was written; `functools.wraps` does not change that."""
    space = (
        function.__globals__ if isinstance(function, types.FunctionType) else vars(type(function))
    )
    return space.get("__name__", space.get("__module__", ""))
