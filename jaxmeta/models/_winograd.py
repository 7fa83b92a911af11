r"""A convolution block (convolution, batch norm, relu, 2x2 max pooling) in the order that costs
least on a CPU.

1. The convolution is Winograd's F(2x2, 3x3): an output tile of 2x2 from an input tile of 4x4 by 16
   products where 36 are usual. A tile is exactly a pooling window, so the output is left in
   *phases*, `[4, i, j, n, c]`: the place in the window, the window, the example, the channel;
   pooling is a maximum over the leading axis.
2. relu and normalisation are monotone, so they commute with the maximum once the sign s of the
   scale is moved into the filters, $\gamma\,\hat z(k) + \beta = |\gamma|\,\hat z(s k) + \beta$:
   only mean and variance see the full size.
3. With few input channels z = P K is a product of narrow patches P and its moments follow from
   those of P, $\mu_z = \mu_P K$ and $\sigma_z^2 = \mathrm{diag}(K^T C_P K)$, which do not even
   touch z.

Values and derivatives of all orders are those of the plain order, away from ties of the maximum.
Axis letters: `n` examples, `h`, `w` places, `i`, `j` pooling windows (rounded up), `c` channels in,
`d` channels out.

Paper: Lavin and Gray, "Fast algorithms for convolutional neural networks", 2016.
"""

from __future__ import annotations

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxmeta._linear import linear_map

from ._normalisation import EPSILON

_FILTER = np.asarray([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
_NARROW = 32  # widest patch that is cheaper than Winograd's transforms


def _half(a, b, c, d, axis):
    """Winograd's input transform along one axis: four neighbouring places to four products."""
    return jnp.stack([a - c, b + c, c - b, b - d], axis)


def _windows(x):
    """`[h, w, n, c]` padded with zeros to `[i + 1, 2, j + 1, 2, n, c]`: windows of two, shifted by
    one."""
    h, w, n, c = x.shape
    i, j = (h + 1) // 2, (w + 1) // 2
    x = jnp.pad(x, ((1, 2 * i + 1 - h), (1, 2 * j + 1 - w), (0, 0), (0, 0)))
    return x.reshape(i + 1, 2, j + 1, 2, n, c)


def _input(x):
    """`[h, w, n, c]` to the sixteen transformed tiles `[16, i, j, n, c]`."""
    y = _windows(x)
    y = _half(y[:-1, 0], y[:-1, 1], y[1:, 0], y[1:, 1], 0)
    y = _half(y[:, :, :-1, 0], y[:, :, :-1, 1], y[:, :, 1:, 0], y[:, :, 1:, 1], 1)
    return y.reshape(16, *y.shape[2:])


@lru_cache
def _input_transpose(h, w):
    def half(v, axis):
        def place(z, late):
            return jnp.pad(z, [(late, 1 - late) if a == axis else (0, 0) for a in range(z.ndim)])

        even = place(v[0], 0) + place(v[1] + v[2] - v[0], 1)
        odd = place(v[1] - v[2] + v[3], 0) - place(v[3], 1)
        return jnp.stack([even, odd], axis + 1)

    def transpose(v):
        _, i, j, n, c = v.shape
        v = v.reshape(4, 4, i, j, n, c)
        y = half([v[:, b] for b in range(4)], 2)
        y = half([y[a] for a in range(4)], 0)
        return y.reshape(2 * i + 2, 2 * j + 2, n, c)[1 : h + 1, 1 : w + 1]

    return transpose


def _output(m):
    """Sixteen products a tile to the four phases."""
    m = m.reshape(4, 4, *m.shape[1:])
    rows = m[0] + m[1] + m[2], m[1] - m[2] - m[3]
    return jnp.stack([z for r in rows for z in (r[0] + r[1] + r[2], r[1] - r[2] - r[3])])


def _output_transpose(y):
    def half(a, b):
        return a, a + b, a - b, -b

    return jnp.stack([z for row in half(y[:2], y[2:]) for z in half(row[0], row[1])])


def _winograd(x, kernel):
    """The convolution of `[h, w, n, c]` with `[3, 3, c, d]` in phases; those past an odd edge are
    not zero."""
    h, w, n, c = x.shape
    d = kernel.shape[-1]
    tiles = linear_map(_input, _input_transpose(h, w), x)
    filters = jnp.asarray(np.kron(_FILTER, _FILTER), x.dtype) @ kernel.swapaxes(2, 3).reshape(9, -1)
    products = lax.dot_general(
        tiles.reshape(16, -1, c), filters.reshape(16, d, c), (((2,), (2,)), ((0,), (0,)))
    )
    return linear_map(_output, _output_transpose, products.reshape(*tiles.shape[:-1], d))


def _phase_patches(x):
    """The 3x3 neighbourhood of every place of `[h, w, n, c]`, in phases: `[4, i, j, n, 9 * c]`."""
    y = _windows(x)
    i, j = y.shape[0] - 1, y.shape[2] - 1

    def neighbour(p, q):
        return y[p // 2 : p // 2 + i, p % 2, q // 2 : q // 2 + j, q % 2]

    places = [(p, q) for p in range(3) for q in range(3)]
    return jnp.stack(
        [
            jnp.concatenate([neighbour(a + p, b + q) for p, q in places], -1)
            for a in (0, 1)
            for b in (0, 1)
        ]
    )


def _weights(h, w, n, reference, dtype):
    """What each place and example counts in the statistics, in phases, as a row that sums to
    one."""
    inside = np.zeros((2 * ((h + 1) // 2), 2 * ((w + 1) // 2)))
    inside[:h, :w] = 1 / (h * w)
    inside = inside.reshape(inside.shape[0] // 2, 2, -1, 2).transpose(1, 3, 0, 2).reshape(-1, 1)
    share = jnp.full((1, n), 1 / n, dtype)
    if reference is not None:
        share = reference.astype(dtype)[None] / jnp.sum(reference.astype(dtype))
    return (jnp.asarray(inside, dtype) * share).reshape(1, -1)


def _choice(y):
    """Which of the four phases is largest, the first among equals: `int8[i, j, n, d]`."""
    top, bottom = y[0] >= y[1], y[2] >= y[3]
    upper = jnp.where(top, y[0], y[1]) >= jnp.where(bottom, y[2], y[3])
    return jnp.where(upper, jnp.where(top, 0, 1), jnp.where(bottom, 2, 3)).astype(jnp.int8)


def _pick(y, choice):
    return jnp.where(
        choice < 2, jnp.where(choice < 1, y[0], y[1]), jnp.where(choice < 3, y[2], y[3])
    )


def _spread(y, choice):
    return jnp.where(
        choice[None] == jnp.arange(4, dtype=jnp.int8).reshape(4, 1, 1, 1, 1), y[None], 0
    )


def block(x, kernel, scale, offset, reference=None):
    r"""Convolution, batch norm, relu and 2x2 max pooling of images with examples next to last.

    $$ y = \mathrm{pool}_2(\mathrm{relu}(\gamma\,(z - \mu_z)/\sqrt{\sigma_z^2 + \epsilon}
       + \beta)), \quad z = x * k $$

    Args:
      x: Images, `[h, w, n, c]`, at least 2 by 2.
      kernel: Filters, `[3, 3, c, d]`.
      scale: $\gamma$, `[d]`; offset: $\beta$, `[d]`.
      reference: None, or `bool[n]`: the examples that mean and variance are taken over.

    Returns:
      `[h // 2, w // 2, n, d]`.

    Example:
      >>> import jax.numpy as jnp
      >>> block(jnp.ones((7, 7, 2, 1)), jnp.ones((3, 3, 1, 5)), jnp.ones(5), jnp.zeros(5)).shape
      (3, 3, 2, 5)
    """
    h, w, n, c = x.shape
    d = kernel.shape[-1]
    sign = jnp.where(scale >= 0, 1, -1).astype(scale.dtype)
    kernel, scale = kernel * sign.reshape(1, 1, 1, d), (scale * sign).reshape(1, d)
    weights = _weights(h, w, n, reference, x.dtype)
    if 9 * c <= _NARROW:
        patches, matrix = _phase_patches(x), kernel.reshape(9 * c, d)
        z = (patches.reshape(-1, 9 * c) @ matrix).reshape(*patches.shape[:-1], d)
        rows = patches.reshape(-1, 9 * c)
        centre = weights @ rows
        covariance = (weights.T * (rows - centre)).T @ (rows - centre)
        mean, variance = centre @ matrix, jnp.sum(matrix * (covariance @ matrix), 0, keepdims=True)
    else:
        z = _winograd(x, kernel)
        rows = z.reshape(-1, d)
        mean = weights @ rows
        variance = weights @ (rows - mean) ** 2
    pooled = linear_map(_pick, _spread, z, _choice(lax.stop_gradient(z)))[: h // 2, : w // 2]
    gain = (scale * lax.rsqrt(variance + EPSILON)).reshape(1, 1, 1, d)
    return jax.nn.relu((pooled - mean.reshape(1, 1, 1, d)) * gain + offset.reshape(1, 1, 1, d))
