"""The compiled calls of a run: outer steps, and a validation."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta._episodes import outcomes
from jaxmeta._programs import Program
from jaxmeta.training._session import Session
from jaxmeta.training._step import outer_steps


def compiled_steps(session: Session, algorithm, optimiser, capacity, key):
    """The compiled outer steps. What they take is put where they want it: over the devices, if
    tasks are shared out."""
    compiled = Program(
        outer_steps(algorithm, optimiser, session.source.drawn, capacity),
        session.state,
        key,
        session.source.shapes,
        jax.ShapeDtypeStruct((), jnp.int32),
        donate=(0,),
    )
    place, place_key, place_source, place_count = compiled.shardings
    key = jax.device_put(key, place_key)
    sampler = session.source.drawn and jax.device_put(session.source.shapes, place_source)

    def call(state, source, count):
        source = sampler or jax.device_put(source, place_source)
        return compiled(
            jax.device_put(state, place), key, source, jax.device_put(np.int32(count), place_count)
        )

    return call


def compiled_validation(session: Session, key, algorithm, sample, episodes, over):
    """The compiled validation: `theta -> ` the outcomes of the same episodes each time."""
    settings = {"bilevel": algorithm.bilevel, "episodes": episodes, "over": over, "steps": None}
    compiled = Program(functools.partial(outcomes, **settings), key, session.state.theta, sample)
    place_key, place, place_sample = compiled.shardings
    key, sample = jax.device_put((key, sample), (place_key, place_sample))
    return lambda theta: compiled(key, jax.device_put(theta, place), sample)
