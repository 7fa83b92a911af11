"""Convolutional nets of equal blocks: images and sensor windows.

Axis letters: `n` examples, `h`, `w` places, `l` time, `c` channels.
"""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

from ._adapters import linen
from ._convolution import max_pool
from ._layers import Conv, Head
from ._model import Model, check_batch
from ._normalisation import affine, batch_norm
from ._winograd import block


class _Affine(nn.Module):
    """The parameters of a normalisation alone, for a block that normalises within."""

    filters: int

    @nn.compact
    def __call__(self):
        return affine(self, self.filters)


class _Fused(nn.Module):
    """Blocks of `_winograd.block`, with the parameters that `_Plain` has."""

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


class _Plain(nn.Module):
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


class _Conv4(nn.Module):
    outputs: int | None
    body: dict
    margin: int
    fused: bool
    flat: bool = True

    @nn.compact
    def __call__(self, x, reference=None):
        check_batch(
            "conv4" if self.flat else "conv_places",
            x,
            "n h w c",
            max(1, 2 ** self.body["blocks"] - 2 * self.margin),
        )
        x = jnp.pad(x, ((0, 0), *[(self.margin, self.margin)] * 2, (0, 0)))
        if self.fused:
            x = _Fused(
                *(self.body[field] for field in ("filters", "blocks", "layers", "dtype")),
                name="body",
            )(x, reference)
        else:
            x = _Plain(**self.body, window=(3, 3), pool=(2, 2), name="body")(x, reference)
        flat = self.flat or self.outputs is not None
        return Head(self.outputs, self.body["dtype"])(x.reshape(x.shape[0], -1) if flat else x)


class _Conv1d(nn.Module):
    outputs: int | None
    width: int
    body: dict

    @nn.compact
    def __call__(self, x, reference=None):
        check_batch("conv1d", x, "n l c", 2 ** self.body["blocks"])
        x = _Plain(**self.body, window=(1, self.width), pool=(1, 2), name="body")(
            x[:, None], reference
        )
        return Head(self.outputs, self.body["dtype"])(x.mean((1, 2)))


def conv4(
    outputs: int | None = None,
    filters: int = 64,
    blocks: int = 4,
    norm: Callable = batch_norm,
    convolution: Callable | None = None,
    margin: int = 0,
    dtype=None,
) -> Model:
    r"""The four-block convolutional net of few-shot learning.

    $$ h_{i+1} = \mathrm{pool}_2(\mathrm{relu}(\mathrm{norm}(h_i * k_i))), \qquad
       y = \mathrm{vec}(h_4) W + b $$

    Args:
      outputs: Width of the linear head (parameters `head`), or None for the flattened features.
      filters: Channels of every block.
      blocks: Number of blocks (parameters `body/conv1`, `body/norm1`, ...); each halves the image,
        rounding down.
      norm: Normalisation: `batch_norm`, `layer_norm`, `group_norm(groups)` or `none`.
      convolution: `(x, kernel) -> y` such as `lax_conv`; None takes the fastest on the backend (on
        a CPU with `batch_norm`, whole blocks by Winograd's algorithm, pooled before they are
        normalised).
      margin: Zeros put around the image first. Of 28x28 the last pooling sees 3x3 places and drops
        five of them; with a margin of 2 nothing is dropped, and 2x2 places are left.
      dtype: Dtype of the computation; None takes that of input and parameters (which are float32).

    Returns:
      A `Model` from `x: [n, h, w, c]` to `y: [n, outputs]`, or to features.

    Raises:
      ValueError: At init or apply, for an input of another rank, too small, or of other channels
        than at init.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> model = conv4(5, filters=8)
      >>> x = jnp.ones((5, 28, 28, 1))
      >>> params = jax.eval_shape(model.init, jax.random.key(0), x)
      >>> jax.eval_shape(model.apply, params, x).shape, params["head"]["kernel"].shape
      ((5, 5), (8, 5))

    Paper: Vinyals et al., "Matching networks for one shot learning", 2016.
    """
    body = dict(
        filters=filters, blocks=blocks, layers=0, norm=norm, convolution=convolution, dtype=dtype
    )
    return linen(_Conv4(outputs, body, margin, _fused(body)))


def conv_places(
    outputs: int | None = None,
    filters: int = 64,
    blocks: int = 2,
    layers: int = 4,
    norm: Callable = batch_norm,
    convolution: Callable | None = None,
    margin: int = 2,
    dtype=None,
) -> Model:
    r"""A convolutional net that keeps the places of an image: blocks as in `conv4`, then layers
    without pooling.

    $$ h_{i+1} = \mathrm{relu}(\mathrm{norm}(h_i * k_i)), \qquad y = h $$

    Args:
      outputs: Width of the linear head (parameters `head`) on all places together, or None for the
        places.
      filters: Channels of every block and layer.
      blocks: Number of blocks (parameters `body/conv1`, `body/norm1`, ...); each halves the image,
        rounding down.
      layers: Number of layers after them, numbered on.
      norm, convolution, dtype: As in `conv4`.
      margin: Zeros put around the image first; 2 make 8x8 places of 28x28.

    Returns:
      A `Model` from `x: [n, h, w, c]` to places `[n, h', w', filters]`, for
      `jaxmeta.learner.local_matching`, or to `[n, outputs]`.

    Raises:
      ValueError: At init or apply, for an input of another rank, too small, or of other channels
        than at init.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> model, x = conv_places(filters=8), jnp.ones((5, 28, 28, 1))
      >>> jax.eval_shape(model.apply, jax.eval_shape(model.init, jax.random.key(0), x), x).shape
      (5, 8, 8, 8)

    Paper: Li et al., "Revisiting local descriptor based image-to-class measure for few-shot
    learning", 2019.
    """
    body = dict(
        filters=filters,
        blocks=blocks,
        layers=layers,
        norm=norm,
        convolution=convolution,
        dtype=dtype,
    )
    return linen(_Conv4(outputs, body, margin, _fused(body), flat=False))


def _fused(body: dict) -> bool:
    """Whether whole blocks are computed by Winograd's algorithm."""
    return (
        body["convolution"] is None
        and body["norm"] is batch_norm
        and jax.default_backend() == "cpu"
    )


def conv1d(
    outputs: int | None = None,
    filters: int = 64,
    blocks: int = 4,
    width: int = 5,
    norm: Callable = batch_norm,
    convolution: Callable | None = None,
    dtype=None,
) -> Model:
    r"""The same blocks along time, for windows of sensor data; features are averaged over time at
    the end.

    $$ h_{i+1} = \mathrm{pool}_2(\mathrm{relu}(\mathrm{norm}(h_i * k_i))), \qquad
       y = \mathrm{mean}_l(h) W + b $$

    Args:
      outputs: Width of the linear head (parameters `head`), or None for the averaged features.
      filters: Channels of every block.
      blocks: Number of blocks (parameters `body/conv1`, `body/norm1`, ...); each halves the length,
        rounding down.
      width: Samples that a filter spans; odd.
      norm: Normalisation: `batch_norm`, `layer_norm`, `group_norm(groups)` or `none`.
      convolution: `(x, kernel) -> y` such as `lax_conv`; None takes the fastest on the backend.
      dtype: Dtype of the computation; None takes that of input and parameters (which are float32).

    Returns:
      A `Model` from `x: [n, l, c]` to `y: [n, outputs]`, or to features `[n, filters]`.

    Raises:
      ValueError: For an even width; at init or apply, for an input of another rank, too short, or
        of other channels.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> model = conv1d(6, filters=8)
      >>> x = jnp.ones((4, 128, 3))
      >>> params = jax.eval_shape(model.init, jax.random.key(0), x)
      >>> jax.eval_shape(model.apply, params, x).shape
      (4, 6)

    Paper: Wang et al., "Time series classification from scratch with deep neural networks", 2017.
    """
    if width % 2 == 0:
        raise ValueError(f"conv1d needs filters of odd width, got {width}; take {width + 1}")
    body = dict(
        filters=filters, blocks=blocks, layers=0, norm=norm, convolution=convolution, dtype=dtype
    )
    return linen(_Conv1d(outputs, width, body))
