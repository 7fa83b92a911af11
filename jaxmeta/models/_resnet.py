"""The residual net of few-shot learning. Axis letters: `n` examples, `h`, `w` places, `c`
channels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import flax.linen as nn

from ._adapters import linen
from ._convolution import max_pool
from ._layers import Conv, Head
from ._model import Model, check_batch
from ._normalisation import batch_norm

_activation = partial(nn.leaky_relu, negative_slope=0.1)


class _Block(nn.Module):
    filters: int
    norm: Callable
    convolution: Callable | None
    dtype: object

    @nn.compact
    def __call__(self, x, reference):
        def layer(x, window, name):
            x = Conv(
                self.filters,
                window,
                nn.initializers.he_normal(),
                self.convolution,
                self.dtype,
                name=f"conv{name}",
            )(x)
            return self.norm(self.dtype, f"norm{name}")(x, reference)

        y = _activation(layer(x, (3, 3), "1"))
        y = _activation(layer(y, (3, 3), "2"))
        y = layer(y, (3, 3), "3") + layer(x, (1, 1), "_skip")
        return max_pool(_activation(y))


class _Body(nn.Module):
    widths: tuple[int, ...]
    block: dict

    @nn.compact
    def __call__(self, x, reference):
        for index, width in enumerate(self.widths):
            x = _Block(width, **self.block, name=f"block{index + 1}")(x, reference)
        return x.mean((1, 2))


class _ResNet12(nn.Module):
    outputs: int | None
    widths: tuple[int, ...]
    block: dict

    @nn.compact
    def __call__(self, x, reference=None):
        check_batch("resnet12", x, "n h w c", 2 ** len(self.widths))
        x = _Body(self.widths, self.block, name="body")(x, reference)
        return Head(self.outputs, self.block["dtype"])(x)


def resnet12(
    outputs: int | None = None,
    widths: Sequence[int] = (64, 128, 256, 512),
    norm: Callable = batch_norm,
    convolution: Callable | None = None,
    dtype=None,
) -> Model:
    r"""The twelve-layer residual net of few-shot learning, without DropBlock.

    $$ h_{i+1} = \mathrm{pool}_2(a(f_i(h_i) + \mathrm{norm}(h_i * s_i))), \qquad
       y = \mathrm{mean}_{hw}(h_4) W + b, $$

    where f_i is three 3x3 convolutions, each normalised, and a a leaky relu of slope 0.1 between
    them.

    Args:
      outputs: Width of the linear head (parameters `head`), or None for the averaged features.
      widths: Channels of each block (parameters `body/block1/conv1`, ...); (64, 160, 320, 640) is
        the wide variant.
      norm: Normalisation: `batch_norm`, `layer_norm`, `group_norm(groups)` or `none`.
      convolution: `(x, kernel) -> y` such as `lax_conv`; None takes the fastest on the backend.
      dtype: Dtype of the computation; None takes that of input and parameters (which are float32).

    Returns:
      A `Model` from `x: [n, h, w, c]` to `y: [n, outputs]`, or to features `[n, widths[-1]]`.

    Raises:
      ValueError: At init or apply, for an input of another rank, too small, or of other channels
        than at init.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> model = resnet12(5, widths=(4, 4, 8, 8))
      >>> x = jnp.ones((2, 16, 16, 3))
      >>> params = jax.eval_shape(model.init, jax.random.key(0), x)
      >>> jax.eval_shape(model.apply, params, x).shape
      (2, 5)

    Paper: Oreshkin et al., "TADAM", 2018; Lee et al., "Meta-learning with differentiable convex
    optimization", 2019.
    """
    return linen(
        _ResNet12(outputs, tuple(widths), dict(norm=norm, convolution=convolution, dtype=dtype))
    )
