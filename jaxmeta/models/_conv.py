"""Convolutional nets of equal blocks on images.

Axis letters: `n` examples, `h`, `w` places, `c` channels.
"""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from ._adapters import linen
from ._conv_blocks import Fused, Plain
from ._layers import Head
from ._model import Model, check_batch
from ._normalisation import batch_norm


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
            x = Fused(
                *(self.body[field] for field in ("filters", "blocks", "layers", "dtype")),
                name="body",
            )(x, reference)
        else:
            x = Plain(**self.body, window=(3, 3), pool=(2, 2), name="body")(x, reference)
        flat = self.flat or self.outputs is not None
        return Head(self.outputs, self.body["dtype"])(x.reshape(x.shape[0], -1) if flat else x)


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
