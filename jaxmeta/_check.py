"""Refusals: bad input gets one sentence that says what was expected, what came and what to do."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree


def whole_number(name: str, value: object, least: int = 0) -> int:
    """Returns value as an int; refuses anything that is not a whole number of at least `least`."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise ValueError(f"{name} must be a whole number, got {value!r}; give an int of at least {least}")
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
    """Returns value; refuses what is not a real scalar (checked on shapes, so it costs nothing under jit)."""
    shape, dtype = jnp.shape(value), jnp.result_type(value)
    if shape != () or not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"{name} must be a real scalar, got shape {shape} and dtype {dtype}; {cure}")
    return value


def numbers(name: str, tree: PyTree) -> PyTree:
    """Returns the tree, Python's numbers in it as arrays; refuses a leaf that is no number, by its path."""
    def number(path, leaf):
        if hasattr(leaf, "dtype"):
            return leaf
        if isinstance(leaf, bool | int | float | complex):
            return jnp.asarray(leaf)
        where = f" at '{jax.tree_util.keystr(path, simple=True, separator='/')}'" if path else ""
        raise ValueError(f"{name} must be arrays or numbers, got {type(leaf).__name__}{where}; leave it out, or turn it into a "
                         "number")

    return jax.tree_util.tree_map_with_path(number, tree)


def labels(y, ways: int, counting=None) -> None:
    """Refuses labels that are no class of 0 to ways - 1, where they are known; those of examples that count nothing may be
    any. Under jit nothing is known: there a label that is no class makes the result NaN."""
    if any(isinstance(each, jax.core.Tracer) for each in (y, counting)):
        return
    y = np.asarray(y)
    wrong = (y < 0) | (y >= ways)
    wrong &= True if counting is None else np.asarray(counting) != 0
    if wrong.any():
        raise ValueError(f"labels must be from 0 to {ways - 1} for {ways} classes, got {y[wrong][0]}; number the classes from 0, "
                         "give the model or head as many outputs as there are classes, and padding the weight 0")


def same_structure(name: str, expected: PyTree, got: PyTree, cure: str) -> None:
    """Refuses trees that differ in structure, shapes or kinds of leaves, naming the first difference."""
    want, have = (
        {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in
         jax.tree_util.tree_leaves_with_path(tree)} for tree in (expected, got)
    )
    for path in sorted(want.keys() | have.keys()):
        left, right = (jnp.shape(side[path]) if path in side else "nothing" for side in (want, have))
        if left != right:
            where = f" at '{path}'" if path else ""
            raise ValueError(f"{name}{where} must have shape {left}, got {right}; {cure}")
    if jax.tree.structure(expected) != jax.tree.structure(got):
        raise ValueError(
            f"{name} must have the structure {jax.tree.structure(expected)}, got {jax.tree.structure(got)}; {cure}")
