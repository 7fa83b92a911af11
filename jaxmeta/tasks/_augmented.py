"""Examples as another hand would have drawn them: random changes of what a sampler draws.

Axis letters: `h`, `w` places, `c` channels.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta import _check
from jaxmeta._pickle import Function
from jaxmeta.base import Task

_GRID = 4  # displacements are drawn at so many places along each side, and smooth between


def augmented(sample, change: Callable):
    """The sampler whose examples are changed, each by a draw of its own: for training, in support
    and query alike.

    Args:
      sample: `key -> Task`, such as `episodes` gives.
      change: `(key, x) -> x` of one example without its leading axis, such as `warps` gives.

    Returns:
      `key -> Task`, a pytree where the sampler is one. The tasks are those that `sample` draws with
      the first half of the key.

    >>> import jaxmeta as jm
    >>> sample = jm.episodes(
    ...     jm.pool(np.zeros((8, 3)), np.arange(8) % 2), ways=2, shots=1, queries=1
    ... )
    >>> task = augmented(sample, lambda key, x: x + jax.random.normal(key, x.shape))(
    ...     jax.random.key(0)
    ... )
    >>> bool((task.support.x[0] != task.support.x[1]).all())
    True
    """
    return jax.tree_util.Partial(_changing(change), sample)


# One function for all samplers of a change, so that jitted functions see that two of them differ in
# their arrays alone.
@functools.cache
def _changing(change: Callable):
    @Function
    def draw(sample, key) -> Task:
        key_sample, *keys = jax.random.split(key, 3)
        task = sample(key_sample)

        def changed(key, part):
            return part._replace(x=jax.vmap(change)(jax.random.split(key, len(part.x)), part.x))

        return task._replace(
            support=changed(keys[0], task.support), query=changed(keys[1], task.query)
        )

    return draw


@functools.cache
def warps(
    turn: float = 0.15,
    stretch: float = 0.12,
    shear: float = 0.15,
    shift: float = 1.5,
    bend: float = 1.0,
    pen: float = 0.3,
) -> Callable:
    r"""Images bent at random as a hand would: what was at u stands at v where

    $$ u = A (v - m) + m + t + d(v), \qquad
       A = R(\alpha) \begin{pmatrix} e^a & s \\ 0 & e^b \end{pmatrix} $$

    with m the middle, d a smooth field of displacements, and a pen that is thicker or thinner: a
    mixture of the image with its maximum or minimum over 3 x 3 places.

    Args:
      turn: Standard deviation of alpha in radians.
      stretch: Of a and b.
      shear: Of s.
      shift: Largest t in pixels, drawn uniformly.
      bend: Standard deviation of d in pixels, at 4 x 4 places, cosine between them.
      pen: Largest share of the maximum or minimum, from 0 to 1.

    Returns:
      `(key, image [h, w, c]) -> [h, w, c]`, for `augmented`. Places outside are 0. The same
      arguments give the same function.

    Raises:
      ValueError: For a negative number.

    References: Simard, Steinkraus and Platt, Best practices for convolutional neural networks,
    ICDAR 2003 (elastic displacements); Koch, Zemel and Salakhutdinov, Siamese networks for one-shot
    recognition, 2015 (affine ones on Omniglot).
    """
    for name, value in dict(
        turn=turn, stretch=stretch, shear=shear, shift=shift, bend=bend, pen=pen
    ).items():
        _check.number(name, value, least=0)

    def warp(key, image):
        h, w, _ = image.shape
        keys = jax.random.split(key, 6)
        dtype = image.dtype

        def draw(key, *shape):
            return jax.random.normal(key, shape, dtype)

        alpha, (a, b) = turn * draw(keys[0]), stretch * draw(keys[1], 2)
        cos, sin = jnp.cos(alpha), jnp.sin(alpha)
        matrix = jnp.array([[cos, -sin], [sin, cos]]) @ jnp.array(
            [[jnp.exp(a), shear * draw(keys[2])], [0, jnp.exp(b)]]
        )
        centred = jnp.stack(
            jnp.meshgrid(jnp.arange(h) - (h - 1) / 2, jnp.arange(w) - (w - 1) / 2, indexing="ij"),
            -1,
        )
        moves = (
            jax.random.uniform(keys[3], (2,), dtype, -shift, shift)
            + (jnp.array([h, w], dtype) - 1) / 2
        )
        field = jnp.einsum(
            "ia,jb,abd->ijd", _between(h), _between(w), bend * draw(keys[4], _GRID, _GRID, 2)
        )
        places = centred.astype(dtype) @ matrix.T + moves.reshape(1, 1, 2) + field.astype(dtype)
        return _at(_inked(image, jax.random.uniform(keys[5], (), dtype, -pen, pen)), places)

    return warp


@functools.cache
def _between(size: int) -> np.ndarray:
    """`[size, 4]`: what each place takes from the coarse ones, by raised cosines that sum to
    one."""
    at = np.linspace(0, _GRID - 1, size)[:, None]
    return (1 + np.cos(np.pi * np.clip(np.abs(at - np.arange(_GRID)), 0, 1))).astype(np.float32) / 2


def _inked(image, amount):
    def over(extreme, x):
        for axis in (0, 1):
            before, after = (
                jnp.roll(x, by, axis) for by in (1, -1)
            )  # the rim of a drawing is empty
            x = extreme(x, extreme(before, after))
        return x

    target = jnp.where(amount > 0, over(jnp.maximum, image), over(jnp.minimum, image))
    return image + jnp.abs(amount) * (target - image)


def _at(image, places):
    """The image `[h, w, c]` at places `[h, w, 2]`, linearly between pixels."""
    h, w, c = image.shape
    low = jnp.floor(places)
    share = places - low
    padded = jnp.pad(image, ((1, 1), (1, 1), (0, 0)))

    def pixel(down, right):
        y, x = (
            jnp.clip(low[..., axis].astype(int) + step + 1, 0, size + 1)
            for axis, step, size in ((0, down, h), (1, right, w))
        )
        return padded[y, x]

    y, x = share[..., :1], share[..., 1:]
    return (1 - y) * ((1 - x) * pixel(0, 0) + x * pixel(0, 1)) + y * (
        (1 - x) * pixel(1, 0) + x * pixel(1, 1)
    )
