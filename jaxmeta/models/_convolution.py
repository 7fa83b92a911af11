"""Convolutions of stride 1 and 'SAME' padding, and pooling, in formulations that stay fast at every
derivative order.

Axis letters: `n` examples, `h`, `w` places, `c` channels in, `d` channels out.
"""

from __future__ import annotations

from functools import reduce

import jax
import jax.numpy as jnp
from jax import lax


def lax_conv(x, kernel):
    r"""The straightforward convolution, XLA's own.

    $$ y_{nijd} = \sum_{abc} x_{n,i+a,j+b,c}\, k_{abcd} $$

    Args:
      x: Images, `[n, h, w, c]`.
      kernel: Filters of odd height and width, `[a, b, c, d]`.

    Returns:
      `[n, h, w, d]`.

    Example:
      >>> import jax.numpy as jnp
      >>> lax_conv(jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2, 5))).shape
      (1, 4, 4, 5)
    """
    return lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _patches(x, a: int, b: int):
    """The a x b neighbourhood of every place: `[n, h, w, a * b * c]`, zero outside."""
    h, w = x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (a // 2, a // 2), (b // 2, b // 2), (0, 0)))
    return jnp.concatenate(
        [padded[:, i : i + h, j : j + w] for i in range(a) for j in range(b)], -1
    )


def dot_conv(x, kernel):
    """The same convolution as one product of patches and a matrix: fast under a task axis, to every
    order."""
    a, b, c, d = kernel.shape
    return _patches(x, a, b) @ kernel.reshape(a * b * c, d)


def default_convolution():
    """The formulation that measured fastest on this backend."""
    return dot_conv if jax.default_backend() == "cpu" else lax_conv


def _larger(a, b):
    """The larger of two, the first among equals, not a number where either is."""
    return jnp.where((b > a) | (b != b), b, a)


def max_pool(x, window: tuple[int, int] = (2, 2)):
    """The largest value of each window of an `[n, h, w, c]`; what does not fill a window is left
    out.

    Made of selections: the derivative of `jnp.max` asks which values equal the maximum, and where
    XLA computes them twice and rounds them differently none does, which made Hessian-vector
    products wrong or not a number.
    """
    n, h, w, c = x.shape
    a, b = window
    h, w = h // a, w // b
    x = x[:, : h * a, : w * b].reshape(n, h, a, w, b, c)
    return reduce(_larger, [x[:, :, i, :, j] for i in range(a) for j in range(b)])
