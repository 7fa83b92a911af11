"""A transformer that predicts every next token.

Axis letters: `n` examples, `l` time, `d` width, `B` blocks.
"""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from ._adapters import linen
from ._layers import Head
from ._model import Model, check_batch
from ._transformer_body import Body, body


def _past(length: int) -> jax.Array:
    """A place attends to itself and to those before it: `bool[l, l]`."""
    return jnp.tril(jnp.ones((length, length), bool))


class _LanguageModel(nn.Module):
    body: dict

    @nn.compact
    def __call__(self, x, reference=None):
        check_batch("language_model", x, "n l")
        rows = Body(**self.body, name="body")(x)
        return Head(self.body["vocabulary"], self.body["block"]["dtype"])(rows).reshape(
            *x.shape, -1
        )


def language_model(
    vocabulary: int,
    width: int = 128,
    blocks: int = 2,
    heads: int = 4,
    hidden: int | None = None,
    activation: Callable = jax.nn.gelu,
    remat: Callable = jax.lax.scan,
    dtype=None,
) -> Model:
    r"""The transformer that predicts at every place the next token from those before it.

    $$ y_{nl} = \mathrm{norm}(h_B)_{nl} W + b, $$

    with blocks as in `transformer`, in which a place attends to itself and to those before it.

    Args:
      vocabulary: Number of tokens.
      width, blocks, heads, hidden, activation, remat, dtype: As in `transformer`.

    Returns:
      A `Model` from tokens `x: [n, l]` to logits `y: [n, l, vocabulary]`.

    Raises:
      ValueError: As `transformer`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> model = language_model(50, width=8)
      >>> x = jnp.arange(12).reshape(2, 6)
      >>> model.apply(model.init(jax.random.key(0), x), x).shape
      (2, 6, 50)

    Paper: Radford et al., "Language models are unsupervised multitask learners", 2019.
    """
    return linen(
        _LanguageModel(
            body(width, blocks, heads, hidden, vocabulary, _past, activation, remat, dtype)
        )
    )
