"""Multilayer perceptrons. Axis letters: `n` examples, `d` features."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax

from ._adapters import linen
from ._layers import Dense, Head
from ._model import Model, check_batch


class _Body(nn.Module):
    hidden: tuple[int, ...]
    activation: Callable
    dtype: object

    @nn.compact
    def __call__(self, x):
        for index, width in enumerate(self.hidden):
            x = self.activation(
                Dense(width, nn.initializers.he_normal(), self.dtype, name=f"dense{index + 1}")(x)
            )
        return x


class _MLP(nn.Module):
    hidden: tuple[int, ...]
    outputs: int | None
    activation: Callable
    dtype: object

    @nn.compact
    def __call__(self, x, reference=None):
        if x.ndim < 2:
            check_batch("mlp", x, "n features")
        x = _Body(self.hidden, self.activation, self.dtype, name="body")(x.reshape(x.shape[0], -1))
        return Head(self.outputs, self.dtype, name="head")(x)


def mlp(
    hidden: Sequence[int], outputs: int | None, activation: Callable = jax.nn.relu, dtype=None
) -> Model:
    r"""Fully connected layers with an activation between them; trailing axes of the input are
    flattened.

    $$ h_{i+1} = a(h_i W_i + b_i), \qquad y = h_L W + b $$

    Args:
      hidden: Widths of the hidden layers (parameters `body/dense1`, `body/dense2`, ...).
      outputs: Width of the linear head (parameters `head`), or None for the last hidden layer.
      activation: Elementwise nonlinearity of the hidden layers.
      dtype: Dtype of the computation; None takes that of input and parameters (which are float32).

    Returns:
      A `Model` from `x: [n, ...]` to `y: [n, outputs]`. It has no batch statistics and ignores
      `reference`.

    Raises:
      ValueError: At init or apply, for an input of fewer than two axes or of another number of
        features than at init.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> model = mlp([40, 40], 1)
      >>> params = model.init(jax.random.key(0), jnp.ones((10, 1)))
      >>> sorted(params), model.apply(params, jnp.ones((10, 1))).shape
      (['body', 'head'], (10, 1))

    Paper: Finn et al., "Model-agnostic meta-learning", 2017 (hidden 40, 40 for the sinusoid).
    """
    return linen(_MLP(tuple(hidden), outputs, activation, dtype))
