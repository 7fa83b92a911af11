"""A convolutional net of equal blocks along time: windows of sensor data.

Axis letters: `n` examples, `l` time, `c` channels.
"""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn

from ._adapters import linen
from ._conv_blocks import Plain
from ._layers import Head
from ._model import Model, check_batch
from ._normalisation import batch_norm


class _Conv1d(nn.Module):
    outputs: int | None
    width: int
    body: dict

    @nn.compact
    def __call__(self, x, reference=None):
        check_batch("conv1d", x, "n l c", 2 ** self.body["blocks"])
        x = Plain(**self.body, window=(1, self.width), pool=(1, 2), name="body")(
            x[:, None], reference
        )
        return Head(self.outputs, self.body["dtype"])(x.mean((1, 2)))


def conv1d(
    outputs: int | None = None,
    filters: int = 64,
    blocks: int = 4,
    width: int = 5,
    norm: Callable = batch_norm,
    convolution: Callable | None = None,
    dtype=None,
) -> Model:
    r"""The blocks of `conv4` along time, for windows of sensor data; features are averaged over
    time at the end.

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
