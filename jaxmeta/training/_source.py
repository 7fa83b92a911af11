"""Where the tasks of training come from: a sampler inside the compiled step, or batches that the
host reads."""

from __future__ import annotations

import base64
import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from jaxmeta import _check
from jaxmeta._episodes import partial
from jaxmeta._programs import run
from jaxmeta.parallel import batch


class Source(NamedTuple):
    """Tasks, T at a time.

    Args:
      size: T.
      drawn: T where the compiled step draws them from a sampler, None where it is given batches.
      example: `key -> tasks` with a leading axis T; takes nothing away from training.
      shapes: What `take` gives, arrays or their shapes, to compile for.
      take: `count -> ` what the compiled steps get, for that many steps: the sampler, or batches
        `[L, T, ...]`.
      place: `() -> ` where the reading stands, as a JSON value; None for a sampler.
      seek: `(place, step) -> None`, goes back there.
    """

    size: int
    drawn: int | None
    example: Callable[[Any], PyTree]
    shapes: PyTree
    take: Callable[[int], PyTree]
    place: Callable[[], Any]
    seek: Callable[[Any, int], None]


def source_of(sample, tasks: int, capacity: int) -> Source:
    """The source for a sampler `key -> Task`, or for an iterable of batched tasks.

    Args:
      sample: A function, or an iterable. An iterator with `get_state` and `set_state`, such as
        grain's, is put back in its place on resume; any other is read again from its beginning.
      tasks: T for a sampler; an iterable brings its own.
      capacity: L, the most steps a call.
    """
    if callable(sample):
        sampler = partial(sample)
        draw = functools.partial(run, lambda key: jax.vmap(sampler)(jax.random.split(key, tasks)))
        return Source(
            tasks,
            tasks,
            draw,
            sampler,
            lambda count: sampler,
            lambda: None,
            lambda place, step: None,
        )
    if not hasattr(sample, "__iter__"):
        raise ValueError(
            "sample must be a function key -> Task or an iterable of batched Tasks, got "
            f"{type(sample).__name__}; give for example jaxmeta.episodes(...) or "
            "jaxmeta.stream(...)"
        )
    return _stream(sample, capacity)


def _stream(sample, capacity: int) -> Source:
    iterator = iter(sample)
    keeps_place = hasattr(iterator, "get_state") and hasattr(iterator, "set_state")
    start = iterator.get_state() if keeps_place else None
    first = _next(iterator, 0)
    size = len(jax.tree.leaves(first)[0])
    if keeps_place:
        iterator.set_state(start)
    else:
        iterator = itertools.chain([first], iterator)
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(
            (capacity, *np.shape(leaf)), jax.dtypes.canonicalize_dtype(np.asarray(leaf).dtype)
        ),
        first,
    )
    read = [0]

    def take(count: int):
        batches = [_next(iterator, read[0] + place) for place in range(count)]
        read[0] += count
        batches += batches[-1:] * (
            capacity - count
        )  # One compiled length; what lies beyond count is not used.
        return jax.device_put(jax.tree.map(lambda *leaves: np.stack(leaves), *batches))

    def place():
        return _encoded(iterator.get_state()) if keeps_place else None

    def seek(place, step):
        if place is not None and keeps_place:
            iterator.set_state(_decoded(place))
        else:
            for number in range(step):
                _next(iterator, number)
        read[0] = step

    return Source(size, None, lambda key: jax.device_put(first), shapes, take, place, seek)


def _next(iterator, number: int):
    try:
        tasks = next(iterator)
    except StopIteration:
        raise ValueError(
            f"the stream of tasks must last as long as training, got {number} batches; give an "
            "endless one, for example with .repeat()"
        ) from None
    _check.sampled(tasks)
    return batch(tasks)


def _encoded(state):
    return (
        {"bytes": base64.b64encode(state).decode()}
        if isinstance(state, bytes)
        else {"state": state}
    )


def _decoded(place):
    return base64.b64decode(place["bytes"]) if "bytes" in place else place["state"]
