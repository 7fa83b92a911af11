"""Refusals: bad input gets one sentence that says what was expected, what came and what to do."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import ParamSpec, Protocol, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxmeta.base import Algorithm, Bilevel, Estimator, Learner

P = ParamSpec("P")
Result = TypeVar("Result")


class Decorator(Protocol):
    """What gives a function back with the signature that it had, for type checkers."""

    def __call__(self, function: Callable[P, Result], /) -> Callable[P, Result]: ...


def whole_number(name: str, value: object, least: int = 0) -> int:
    """Returns value as an int; refuses anything that is not a whole number of at least `least`."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise ValueError(
            f"{name} must be a whole number, got {value!r}; give an int of at least {least}"
        )
    number = value.__index__()
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {number}")
    return number


def number(name: str, value, least: float | None = None, above: float | None = None):
    """Returns value; refuses what is not at least `least`, or not above `above`."""
    if least is not None and not value >= least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    if above is not None and not value > above:
        raise ValueError(f"{name} must be above {above}, got {value}")
    return value


def scalar(name: str, value, cure: str = "average it, for example with jnp.mean"):
    """Returns value; refuses what is not a real scalar (checked on shapes, so it costs nothing
    under jit)."""
    shape, dtype = jnp.shape(value), jnp.result_type(value)
    if shape != () or not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(
            f"{name} must be a real scalar, got shape {shape} and dtype {dtype}; {cure}"
        )
    return value


def numbers(name: str, tree: PyTree) -> PyTree:
    """Returns the tree, Python's numbers in it as arrays; refuses a leaf that is no number, by its
    path."""

    def number(path, leaf):
        if hasattr(leaf, "dtype"):
            return leaf
        if isinstance(leaf, bool | int | float | complex):
            return jnp.asarray(leaf)
        where = f" at '{jax.tree_util.keystr(path, simple=True, separator='/')}'" if path else ""
        raise ValueError(
            f"{name} must be arrays or numbers, got {type(leaf).__name__}{where}; leave it out, or "
            "turn it into a number"
        )

    return jax.tree_util.tree_map_with_path(number, tree)


def labels(y, ways: int, counting=None) -> None:
    """Refuses labels that are no class of 0 to ways - 1, where they are known; those of examples
    that count nothing may be any. Under jit nothing is known: there a label that is no class makes
    the result NaN."""
    if any(isinstance(each, jax.core.Tracer) for each in (y, counting)):
        return
    y = np.asarray(y)
    wrong = (y < 0) | (y >= ways)
    wrong &= True if counting is None else np.asarray(counting) != 0
    if wrong.any():
        raise ValueError(
            f"labels must be from 0 to {ways - 1} for {ways} classes, got {y[wrong][0]}; number "
            "the classes from 0, give the model or head as many outputs as there are classes, and "
            "padding the weight 0"
        )


def weights(name: str, weight) -> None:
    """Refuses weights below 0, and NaN, where they are known. Traced ones stand in the formula as
    they are."""
    if weight is None or isinstance(weight, jax.core.Tracer):
        return
    wrong = ~(np.asarray(weight) >= 0)
    if wrong.any():
        raise ValueError(
            f"{name} must be numbers from 0 up, got {np.asarray(weight)[wrong][0]}; give 0 to what "
            "does not count"
        )


def same_structure(name: str, expected: PyTree, got: PyTree, cure: str) -> None:
    """Refuses trees that differ in structure, shapes or kinds of leaves, naming the first
    difference."""
    want, have = (
        {
            jax.tree_util.keystr(path, simple=True, separator="/"): leaf
            for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        }
        for tree in (expected, got)
    )
    for path in sorted(want.keys() | have.keys()):
        where = f" at '{path}'" if path else ""
        if path not in want:
            raise ValueError(
                f"{name} must have no leaf{where}, got one of shape {jnp.shape(have[path])}; {cure}"
            )
        if path not in have:
            raise ValueError(
                f"{name} must have a leaf{where}, of shape {jnp.shape(want[path])}, got none; "
                f"{cure}"
            )
        left, right = jnp.shape(want[path]), jnp.shape(have[path])
        if left != right:
            raise ValueError(f"{name}{where} must have shape {left}, got {right}; {cure}")
    if jax.tree.structure(expected) != jax.tree.structure(got):
        raise ValueError(
            f"{name} must have the structure {jax.tree.structure(expected)}, got "
            f"{jax.tree.structure(got)}; {cure}"
        )


def told(value: object) -> str:
    """What came, in a word or two."""
    if isinstance(value, bool | int | float | str):
        return f"{type(value).__name__} {value!r}"
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"an array {value.dtype}{list(value.shape)}"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return "a function" if inspect.isroutine(value) else type(value).__name__


def key(name: str, value) -> None:
    """Refuses what is no single random key, typed or raw."""
    dtype, shape = getattr(value, "dtype", None), getattr(value, "shape", None)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    if not (shape == () if typed else dtype == jnp.uint32 and len(shape) == 1):
        number = value if isinstance(value, int) else 0
        raise ValueError(
            f"{name} takes one random key, got {told(value)}; give jax.random.key({number})"
        )


def learner(name: str, value) -> None:
    """Refuses what is no `Learner`."""
    if not isinstance(value, Learner):
        raise ValueError(
            f"{name} takes a Learner, got {told(value)}; make one, for example "
            "jaxmeta.gradient(model, loss, update)"
        )


def algorithm(name: str, value) -> None:
    """Refuses what is no `Algorithm`."""
    if not isinstance(value, Algorithm):
        raise ValueError(
            f"{name} takes an Algorithm, got {told(value)}; make one, for example "
            "jaxmeta.maml(learner)"
        )


def bilevel(name: str, value) -> None:
    """Refuses what is no `Bilevel`."""
    if not isinstance(value, Bilevel):
        raise ValueError(
            f"{name} takes a Bilevel, got {told(value)}; give algorithm.bilevel, or Bilevel(bias, "
            "learner)"
        )


def estimators(name: str, value) -> None:
    """Refuses what is no mapping from names to `Estimator`s."""
    if not isinstance(value, Mapping) or not all(
        isinstance(each, Estimator) for each in value.values()
    ):
        wrong = (
            value
            if not isinstance(value, Mapping)
            else next(e for e in value.values() if not isinstance(e, Estimator))
        )
        raise ValueError(
            f"{name} takes estimators by name, got {told(wrong)}; give for example "
            '{"unrolled": jaxmeta.unrolled()}'
        )


def model(name: str, value) -> None:
    """Refuses what is no model: `init(key, x)` and `apply(params, x, reference)`."""
    kinds = (value if isinstance(value, type) else type(value)).__mro__
    foreign = any(kind.__module__.partition(".")[0] in ("flax", "equinox") for kind in kinds)
    if foreign or not (
        callable(getattr(value, "init", None)) and callable(getattr(value, "apply", None))
    ):
        cure = (
            "wrap the module by jaxmeta.models.linen, nnx or equinox"
            if foreign
            else "give jaxmeta.models.Model(init, apply)"
            if type(value) is tuple
            else "the model comes first, then the loss"
            if name == "gradient" and callable(value)
            else "make one, for example jaxmeta.models.mlp([32], 5)"
        )
        raise ValueError(
            f"{name} takes a Model, a pair of functions init(key, x) and apply(params, x, "
            f"reference), got {told(value)}; {cure}"
        )
    try:
        inspect.signature(value.apply).bind((), (), None)
    except TypeError:
        raise ValueError(
            "the apply of a model must take (params, x, reference), got one of "
            f"{inspect.signature(value.apply)}; give it reference=None, the examples that "
            "normalisation may look at, and pass over it where there is none"
        ) from None
    except ValueError:  # Some builtins do not tell what they take.
        pass


def optimiser(name: str, value) -> None:
    """Refuses what is no optax transformation."""
    if not (callable(getattr(value, "init", None)) and callable(getattr(value, "update", None))):
        rate = value if isinstance(value, int | float) else 0.001
        raise ValueError(
            f"{name} takes an optax transformation, got {told(value)}; give for example "
            f"optax.adam({rate})"
        )


def task(name: str, value) -> None:
    """Refuses what is no `Task`."""
    if not _is_task(value):
        raise ValueError(
            f"{name} takes a Task, got {told(value)}; make one: jaxmeta.Task(support, query)"
        )


def sampled(value) -> None:
    """Refuses a sampler's result that is no `Task`."""
    if not _is_task(value):
        raise ValueError(
            f"a sampler gives Tasks, got {told(value)}; return jaxmeta.Task(support, query), or "
            "make a sampler of arrays: jaxmeta.episodes(jaxmeta.pool(X, Y), ways, shots, queries)"
        )


def _is_task(value) -> bool:
    return hasattr(value, "support") and hasattr(value, "query")


def takes(roles: dict[str, Callable], **cures: str) -> Decorator:
    """A decorator: arguments of these names are checked, each by `role(function's name, value)`,
    and keywords that the function has not are refused with what is meant instead, by name or by
    likeness."""

    def decorate(function: Callable[P, Result]) -> Callable[P, Result]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def checked(*args, **given):
            for name in given.keys() - signature.parameters.keys():
                close = difflib.get_close_matches(name, signature.parameters, 1)
                cure = cures.get(name) or (
                    f"did you mean {close[0]}?"
                    if close
                    else f"it has {', '.join(signature.parameters)}"
                )
                raise TypeError(f"{function.__name__} has no argument {name}; {cure}")
            for name, value in signature.bind_partial(*args, **given).arguments.items():
                if name in roles:
                    roles[name](function.__name__, value)
            return function(*args, **given)

        return checked

    return decorate
