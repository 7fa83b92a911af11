"""Blocks of a convolution, a normalisation, relu and pooling, of which convolutional nets are made.

Axis letters: `n` examples, `h`, `w` places, `c` channels.
"""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

from ._convolution import max_pool
from ._layers import Conv
from ._normalisation import affine, batch_norm
from ._winograd import block


class _Affine(nn.Module):
    """The parameters of a normalisation alone, for a block that normalises within."""

    filters: int

    @nn.compact
    def __call__(self):
        return affine(self, self.filters)


class Fused(nn.Module):
    """Blocks of `_winograd.block`, with the parameters that `Plain` has."""

    filters: int
    blocks: int
    layers: int
    dtype: object

    @nn.compact
    def __call__(self, x, reference):
        x = x.transpose(1, 2, 0, 3)
        for index in range(1, self.blocks + 1):
            x, kernel = Conv(
                self.filters,
                (3, 3),
                nn.initializers.glorot_uniform(),
                lambda *pair: pair,
                self.dtype,
                name=f"conv{index}",
            )(x)
            scale, offset = _Affine(self.filters, name=f"norm{index}")()
            dtype = x.dtype
            wide = jnp.promote_types(
                dtype, jnp.float32
            )  # neither statistics nor Winograd's sums bear bfloat16
            x, kernel, scale, offset = promote_dtype(x, kernel, scale, offset, dtype=wide)
            x = block(x, kernel, scale, offset, reference).astype(dtype)
        x = x.transpose(2, 0, 1, 3)
        for index in range(self.blocks + 1, self.blocks + self.layers + 1):
            x = nn.relu(
                normalised(x, reference, index, self.filters, (3, 3), batch_norm, None, self.dtype)
            )
        return x


class Plain(nn.Module):
    """Blocks, and layers that do not pool, in the textbook order, of any window and
    normalisation."""

    filters: int
    blocks: int
    layers: int
    window: tuple[int, int]
    pool: tuple[int, int]
    norm: Callable
    convolution: Callable | None
    dtype: object

    @nn.compact
    def __call__(self, x, reference):
        for index in range(1, self.blocks + self.layers + 1):
            x = nn.relu(
                normalised(
                    x,
                    reference,
                    index,
                    self.filters,
                    self.window,
                    self.norm,
                    self.convolution,
                    self.dtype,
                )
            )
            x = max_pool(x, self.pool) if index <= self.blocks else x
        return x


def normalised(x, reference, index, filters, window, norm, convolution, dtype):
    """The convolution `conv{index}` and the normalisation `norm{index}` of the module that calls
    it."""
    x = Conv(
        filters, window, nn.initializers.glorot_uniform(), convolution, dtype, name=f"conv{index}"
    )(x)
    return norm(dtype, f"norm{index}")(x, reference)
