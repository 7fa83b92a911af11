"""The layers that the models share: convolution, dense layer, head. Axis letters: `n` examples, `c`
channels."""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

from ._convolution import default_convolution
from ._small_dots import product


def _kernel(module: nn.Module, init: Callable, shape: tuple[int, ...]):
    """The kernel of a layer whose inputs have shape[-2] channels; refuses inputs of another number
    than at init."""
    if module.has_variable("params", "kernel"):
        have = module.get_variable("params", "kernel").shape
        if have != shape:
            raise ValueError(
                f"layer '{'/'.join(module.path)}' was made with a kernel of shape {have}, got an "
                f"input that needs {shape} (the axis before the last counts input features); give "
                "inputs like those of init, or init again"
            )
    return module.param("kernel", init, shape, jnp.float32)


class Conv(nn.Module):
    """A convolution of stride 1, 'SAME' padding and no bias: each is followed by a normalisation
    with an offset."""

    filters: int
    window: tuple[int, int]
    init: Callable
    convolution: Callable | None = None
    dtype: object = None

    @nn.compact
    def __call__(self, x):
        kernel = _kernel(self, self.init, (*self.window, x.shape[-1], self.filters))
        x, kernel = promote_dtype(x, kernel, dtype=self.dtype)
        return (self.convolution or default_convolution())(x, kernel)


class Dense(nn.Module):
    """An affine map of the last axis."""

    outputs: int
    init: Callable
    dtype: object = None
    bias_init: Callable = nn.initializers.zeros

    @nn.compact
    def __call__(self, x):
        kernel = _kernel(self, self.init, (x.shape[-1], self.outputs))
        bias = self.param("bias", self.bias_init, (self.outputs,), jnp.float32)
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        return product(x, kernel) + bias[None]


def Head(outputs: int | None, dtype=None, name: str = "head") -> Callable:
    """The linear read-out (Glorot kernel, zero bias), or the identity where only features are
    wanted."""
    if outputs is None:
        return lambda x: x
    return Dense(outputs, nn.initializers.glorot_uniform(), dtype, name=name)
