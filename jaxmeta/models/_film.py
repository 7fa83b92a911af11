"""Nets that a context modulates. Axis letters: `n` examples, `h`, `w` places, `c` channels, `d`
features, `s` context."""

from __future__ import annotations

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxmeta import _check

from ._adapters import linen
from ._conv_blocks import normalised
from ._convolution import max_pool
from ._layers import Dense, Head
from ._model import Model, check_batch
from ._normalisation import batch_norm


def _check_context(x, size: int) -> None:
    """Refuses inputs that have nothing but context."""
    if x.shape[-1] <= size:
        raise ValueError(
            f"film takes inputs whose last {size} channels are context, got {x.shape[-1]} channels "
            "in all; join the context to the data, as bias.context does"
        )


class _Modulated(nn.Module):
    outputs: int | None
    dtype: object

    @nn.compact
    def __call__(self, features, context):
        factors = Dense(
            2 * features.shape[1], nn.initializers.he_normal(), self.dtype, name="film"
        )(context)
        scale, shift = jnp.split(factors, 2, axis=1)
        return Head(self.outputs, self.dtype, name="head")((1 + scale) * features + shift)


def film(encoder: Model, outputs: int | None, size: int, dtype=None) -> Model:
    r"""A linear head on features that a context, the last channels of the input, scales and shifts
    (feature-wise modulation).

    $$ (\gamma, \beta) = c\, U + u, \qquad y = ((1 + \gamma) \odot f(x) + \beta)\, W + w $$

    Args:
      encoder: f, from `[n, ..., c]` to features, flattened to `[n, d]` (parameters `body`); it does
        not see the context.
      outputs: Width of the linear head (parameters `head`), or None for the modulated features.
      size: s, how many channels are context (its map has the parameters `film`); they are the same
        at all places.
      dtype: Of the map and the head, as in `mlp`.

    Returns:
      A `Model` from `[n, ..., c + s]`, such as `jaxmeta.bias.context(s)` makes of `[n, ..., c]`, to
      `y: [n, outputs]`.

    Raises:
      ValueError: At init, for an input that has nothing but context.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxmeta.models import mlp
      >>> model, x = film(mlp([40], None), 5, size=3), jnp.ones((10, 8))
      >>> params = model.init(jax.random.key(0), x)
      >>> sorted(params), model.apply(params, x).shape
      (['body', 'film', 'head'], (10, 5))

    Papers: Perez et al., "FiLM: visual reasoning with a general conditioning layer", 2018; Zintgraf
    et al., "Fast context adaptation via meta-learning", 2019, whose own place of modulation is in
    `conv4_film`.
    """
    return _film(encoder, outputs, _check.whole_number("size", size, least=1), dtype)


@functools.lru_cache(maxsize=256)  # equal models are one, as with `linen`
def _film(encoder, outputs, size, dtype) -> Model:
    head = _Modulated(outputs, dtype)

    def parts(params, x, reference=None):
        """Features of the data, `[n, d]`, and the context, `[n, s]`."""
        features = encoder.apply(params, x[..., :-size], reference)
        return features.reshape(len(x), -1), x.reshape(len(x), -1, x.shape[-1])[:, 0, -size:]

    def init(key, x):
        _check_context(x, size)
        key_body, key_head = jax.random.split(key)
        body = encoder.init(key_body, x[..., :-size])
        return {"body": body, **head.init(key_head, *parts(body, x))["params"]}

    def apply(params, x, reference=None):
        return head.apply({"params": params}, *parts(params["body"], x, reference))

    return Model(init, apply)


class _Conv4Film(nn.Module):
    outputs: int | None
    size: int
    filters: int
    norm: Callable
    dtype: object

    @nn.compact
    def __call__(self, x, reference=None):
        check_batch("conv4_film", x, "n h w c", 16)
        _check_context(x, self.size)
        x, context = x[..., : -self.size], x[:, 0, 0, -self.size :]
        spread = _spread_by(self.size)
        factors = Dense(2 * self.filters, spread, self.dtype, spread, name="film")(context)
        gamma, beta = jnp.split(factors[:, None, None], 2, axis=-1)
        x = _Modulations(self.filters, self.norm, self.dtype, name="body")(
            x, gamma, beta, reference
        )
        return Head(self.outputs, self.dtype)(x.reshape(x.shape[0], -1))


class _Modulations(nn.Module):
    filters: int
    norm: Callable
    dtype: object

    @nn.compact
    def __call__(self, x, gamma, beta, reference):
        for index in range(1, 5):
            x = normalised(x, reference, index, self.filters, (3, 3), self.norm, None, self.dtype)
            x = gamma * x + beta if index == 3 else x
            x = max_pool(nn.relu(x), (2, 2))
        return x


def _spread_by(inputs: int) -> Callable:
    """Uniform within `1 / sqrt(inputs)`, as PyTorch begins linear maps: a gamma of 0 would let
    nothing through."""
    return lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, -1, 1) * inputs**-0.5


def conv4_film(
    outputs: int | None = None,
    size: int = 100,
    filters: int = 64,
    norm: Callable = batch_norm,
    dtype=None,
) -> Model:
    r"""`conv4` whose third convolution a context scales and shifts, between normalisation and
    nonlinearity: CAVIA's own net.

    $$ (\gamma, \beta) = c\, U + u, \qquad
       h_4 = \mathrm{pool}_2(\mathrm{relu}(\gamma \odot \mathrm{norm}(h_3 * k_3) + \beta)) $$

    Args:
      outputs: Width of the linear head (parameters `head`), or None for the flattened features.
      size: s, how many channels are context, the last ones (its map has the parameters `film`,
        begun uniform within `1 / sqrt(s)`, so that features are about a tenth as large at a context
        of 0); they are the same at all places.
      filters, norm, dtype: As in `conv4`.

    Returns:
      A `Model` from `[n, h, w, c + s]`, such as `jaxmeta.bias.context(s)` makes of images
      `[n, h, w, c]`, to `y: [n, outputs]`.

    Raises:
      ValueError: At init or apply, for an input of another rank, too small, or that has nothing but
        context.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> model, x = conv4_film(5, size=3, filters=8), jnp.ones((5, 28, 28, 4))
      >>> jax.eval_shape(model.apply, jax.eval_shape(model.init, jax.random.key(0), x), x).shape
      (5, 5)

    Paper: Zintgraf et al., "Fast context adaptation via meta-learning", ICML 2019.
    """
    return linen(
        _Conv4Film(outputs, _check.whole_number("size", size, least=1), filters, norm, dtype)
    )
