"""Transformations of the inputs that make new classes of a class."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array


class Variants(NamedTuple):
    """Transformations that make new classes of a class: `apply(inputs, i)` is variant i of `count`;
    0 is the original."""

    count: int
    apply: Callable[[Array, Array], Array]


def _rotate(images, quarters):
    turned = jnp.stack([jnp.rot90(images, turn, axes=(-3, -2)) for turn in range(4)])
    return turned[quarters]


original = Variants(1, lambda inputs, index: inputs)
"""Every class as it is."""

rotations = Variants(4, _rotate)
"""Images `[..., h, h, c]` turned by 0, 90, 180 and 270 degrees are four classes (Santoro et al.,
ICML 2016)."""

reflections = Variants(
    2, lambda images, mirrored: jnp.where(mirrored, jnp.flip(images, -2), images)
)
"""Images `[..., h, w, c]` and their mirror images are two classes."""


@functools.cache
def each_of(first: Variants, second: Variants) -> Variants:
    """Every variant of the first in every variant of the second: `each_of(rotations, reflections)`
    are eight classes."""
    return Variants(
        first.count * second.count,
        lambda inputs, index: second.apply(
            first.apply(inputs, index // second.count), index % second.count
        ),
    )
