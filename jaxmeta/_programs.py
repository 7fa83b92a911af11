"""Compiled programs that are found again by what they are, and kept for the next process.

JAX finds a compiled program again by the function that it was traced from. A learner is made of
closures, anew each time that a bias shapes it, so that every call which no `jax.jit` surrounds
would compile again. Here a program is found by its own text: two functions that come to the same
program are compiled once.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.core import Tracer
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, jaxpr_as_fun
from jax.sharding import Mesh, NamedSharding
from jaxtyping import PyTree

_KEPT = 32  # programs, the last used
_COMPILED_IN = 2**24  # bytes of constants in a program above which it is not worth writing out
_WORTH_KEEPING = 0.3  # seconds of compilation, on disk
_kept: dict[Any, jax.stages.Compiled] = {}

# What a function raises that looks at values which a program does not have before it runs.
_LOOKS_AT_VALUES = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.NonConcreteBooleanIndexError,
)


def run(function: Callable[..., PyTree], *args) -> PyTree:
    """`function(*args)` as one compiled program, of which args and the arrays that the function
    closes over are arguments.

    Where another transformation traces it, and where it looks at values, the function runs as it is
    written.
    """
    if (
        jax.config.jax_disable_jit
        or any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(args))
        or _staged()
    ):
        return function(*args)
    try:
        jaxpr, shape = jax.make_jaxpr(lambda: function(*args), return_shape=True)()
    except _LOOKS_AT_VALUES:
        return function(*args)
    if any(isinstance(const, Tracer) for const in jaxpr.consts):
        return function(*args)
    replay = _named(function, lambda *consts: jaxpr_as_fun(ClosedJaxpr(jaxpr.jaxpr, consts))())
    results = Program(replay, *jaxpr.consts)(*jaxpr.consts)
    return jax.tree.unflatten(jax.tree.structure(shape), results)


class Program:
    """A function compiled for arguments like the examples (arrays or their shapes), or found among
    those kept.

    Args:
      function: What it closes over is compiled in.
      examples: Pytrees.
      donate: Which arguments it may overwrite.

    Attributes:
      shardings: Where it wants its arguments, a tuple like the examples.
    """

    def __init__(
        self, function: Callable[..., PyTree], *examples: PyTree, donate: tuple[int, ...] = ()
    ):
        leaves, structure = jax.tree.flatten(examples)
        results = []

        def flat(*leaves):
            made, shape = jax.tree.flatten(function(*jax.tree.unflatten(structure, leaves)))
            results.append(shape)
            return made

        # By leaves, since trees may hold functions (samplers do), which differ where the programs
        # are the same.
        owners = [place for place, example in enumerate(examples) for _ in jax.tree.leaves(example)]
        donated = [place for place, owner in enumerate(owners) if owner in donate]
        self._jitted = jax.jit(_named(function, flat), donate_argnums=donated)
        self._compiled = _compiled(self._jitted.trace(*leaves), leaves)
        self._results = results[-1]
        self.shardings = jax.tree.unflatten(structure, self._compiled.input_shardings[0])

    def __call__(self, *args: PyTree) -> PyTree:
        looked_for = (
            jax.config.jax_debug_nans or jax.config.jax_debug_infs
        )  # JAX then wants to go through a function again.
        call = self._jitted if looked_for else self._compiled
        return jax.tree.unflatten(self._results, call(*jax.tree.leaves(args)))


def shared(function: Callable) -> Callable:
    """A decorator: `function(*args, **settings)` compiled once for equal settings and arguments of
    equal shapes, like `jax.jit` with static settings, and once for all settings that come to the
    same program."""

    @functools.wraps(function)
    def call(*args, **settings):
        leaves, structure = jax.tree.flatten(args)
        if any(isinstance(leaf, Tracer) for leaf in leaves):
            return function(*args, **settings)
        program = _program(
            function,
            tuple(sorted(settings.items())),
            structure,
            tuple(map(_shape, leaves)),
            tuple(jax.config.values.items()),
        )
        return program(*jax.device_put(args, program.shardings))

    return call


@functools.lru_cache(_KEPT)
def _program(function, settings, structure, shapes, context):
    return Program(
        functools.partial(function, **dict(settings)), *jax.tree.unflatten(structure, shapes)
    )


def _shape(leaf) -> jax.ShapeDtypeStruct:
    kind = jax.typeof(leaf)
    where = leaf.sharding if getattr(leaf, "committed", False) else None
    return jax.ShapeDtypeStruct(kind.shape, kind.dtype, sharding=where, weak_type=kind.weak_type)


def cache(folder: str | Path | None = None) -> Path:
    """Keeps compiled programs on disk, so that the next process loads what this one compiled.

    What takes less than 0.3 seconds to compile is not kept. Programs are found by their text, the
    devices and the version of JAX; nothing is ever deleted.

    Args:
      folder: Default: `compiled` in the folder `JAXMETA_CACHE`, or in `~/.cache/jaxmeta`.

    Returns:
      The folder.

    >>> import jaxmeta as jm
    >>> folder = jm.cache()  # doctest: +SKIP
    """
    from jax.experimental.compilation_cache import compilation_cache

    from jaxmeta.data import cache_folder

    folder = (cache_folder() / "compiled" if folder is None else Path(folder)).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", _WORTH_KEEPING)
    # JAX decides at its first compilation whether there is one, and that may be over.
    compilation_cache.reset_cache()
    return folder


def _named(function, other):
    """The other function under the first one's name, by which JAX tells what it compiles."""
    other.__name__ = getattr(getattr(function, "func", function), "__name__", "program")
    return other


def _staged() -> bool:
    """Whether a surrounding transformation takes down what is computed here, even of constants."""
    return isinstance(jax.lax.iota("int32", 1), Tracer)


def _compiled(traced: jax.stages.Traced, leaves) -> jax.stages.Compiled:
    lowered = traced.lower()
    key = _fingerprint(traced.jaxpr, lowered, leaves)
    if key is None:
        return lowered.compile()
    program = _kept.pop(key, None)
    _kept[key] = program = lowered.compile() if program is None else program
    for oldest in list(_kept)[:-_KEPT]:
        _kept.pop(oldest, None)
    return program


def _fingerprint(jaxpr: ClosedJaxpr, lowered: jax.stages.Lowered, leaves):
    """What tells a program from all others; None where that cannot be said, or costs more than
    compiling."""
    consts, places, bare = _parts(jaxpr)
    if bare or sum(getattr(const, "nbytes", 0) for const in consts) > _COMPILED_IN:
        return None
    text = lowered.as_text()
    # In the text a callback is a number that others have too, and a mesh is its axes without the
    # devices.
    if "callback" in text or ("num_partitions = 1 " not in text and not places):
        return None
    places += [
        (getattr(leaf, "sharding", None), getattr(leaf, "committed", None)) for leaf in leaves
    ]
    types = [
        str(aval) for aval in (*jaxpr.in_avals, *jaxpr.out_avals)
    ]  # The text does not say which are weak.
    text = text[text.index("{") :]  # without the function's name
    return (hashlib.sha256(text.encode()).digest(), *types, *places, jax.config.jax_default_device)


def _parts(jaxpr: ClosedJaxpr) -> tuple[list, list, bool]:
    """Of a program with all within it: constants, meshes and shardings on devices, and whether
    arrays stand in its lines."""
    consts, places, bare, seen, left = [], [], False, set(), [jaxpr]
    while left:
        part = left.pop()
        if isinstance(part, ClosedJaxpr):
            consts += part.consts
            part = part.jaxpr
        if isinstance(part, Jaxpr):
            if id(part) in seen:
                continue
            seen.add(id(part))
            for equation in part.eqns:
                bare |= any(isinstance(x, Literal) and np.ndim(x.val) for x in equation.invars)
                left += jax.tree.leaves(
                    equation.params, is_leaf=lambda x: isinstance(x, (ClosedJaxpr, Jaxpr))
                )
        elif isinstance(part, Mesh) or (
            isinstance(part, NamedSharding) and isinstance(part.mesh, Mesh)
        ):
            places.append(part)
    return consts, places, bare
