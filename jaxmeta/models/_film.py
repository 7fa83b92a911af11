"""An encoder and a head, and between them a context that modulates. Axis letters: `n` examples, `d` features, `s` context."""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxmeta import _check

from ._layers import Dense, Head
from ._model import Model


class _Modulated(nn.Module):
    outputs: int | None
    dtype: object

    @nn.compact
    def __call__(self, features, context):
        factors = Dense(2 * features.shape[1], nn.initializers.he_normal(), self.dtype, name="film")(context)
        scale, shift = jnp.split(factors, 2, axis=1)
        return Head(self.outputs, self.dtype, name="head")((1 + scale) * features + shift)


def film(encoder: Model, outputs: int | None, size: int, dtype=None) -> Model:
    r"""A linear head on features that a context, the last channels of the input, scales and shifts (feature-wise modulation).

    $$ (\gamma, \beta) = c\, U + u, \qquad y = ((1 + \gamma) \odot f(x) + \beta)\, W + w $$

    Args:
      encoder: f, from `[n, ..., c]` to features, flattened to `[n, d]` (parameters `body`); it does not see the context.
      outputs: Width of the linear head (parameters `head`), or None for the modulated features.
      size: s, how many channels are context (its map has the parameters `film`); they are the same at all places.
      dtype: Of the map and the head, as in `mlp`.

    Returns:
      A `Model` from `[n, ..., c + s]`, such as `jaxmeta.bias.context(s)` makes of `[n, ..., c]`, to `y: [n, outputs]`.

    Raises:
      ValueError: At init, for an input that has nothing but context.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxmeta.models import mlp
      >>> model, x = film(mlp([40], None), 5, size=3), jnp.ones((10, 8))
      >>> params = model.init(jax.random.key(0), x)
      >>> sorted(params), model.apply(params, x).shape
      (['body', 'film', 'head'], (10, 5))

    Papers: Perez et al., "FiLM: visual reasoning with a general conditioning layer", 2018; Zintgraf et al., "Fast context
    adaptation via meta-learning", 2019 (a context that modulates a convolutional net's features: there those of its third
    layer, before the nonlinearity, by gamma and not 1 + gamma).
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
        if x.shape[-1] <= size:
            raise ValueError(f"film takes inputs whose last {size} channels are context, got {x.shape[-1]} channels in all; "
                             "join the context to the data, as bias.context does")
        key_body, key_head = jax.random.split(key)
        body = encoder.init(key_body, x[..., :-size])
        return {"body": body, **head.init(key_head, *parts(body, x))["params"]}

    def apply(params, x, reference=None):
        return head.apply({"params": params}, *parts(params["body"], x, reference))

    return Model(init, apply)
