"""A transformer that reads a set and what is asked of it.

Axis letters: `n` examples, `l` time, `c` channels in, `d` width, `B` blocks.
"""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax

from ._adapters import linen
from ._layers import Head
from ._model import Model, check_batch
from ._transformer_body import Body, body, everything


class _InContextTransformer(nn.Module):
    outputs: int | None
    body: dict

    @nn.compact
    def __call__(self, x, reference=None):
        check_batch("in_context_transformer", x, "n l c")
        rows = Body(**self.body, placed=False, name="body")(x)
        return Head(self.outputs, self.body["block"]["dtype"])(
            rows.reshape(*x.shape[:2], -1)[:, -1]
        )


def in_context_transformer(
    outputs: int | None = None,
    width: int = 128,
    blocks: int = 2,
    heads: int = 4,
    hidden: int | None = None,
    activation: Callable = jax.nn.gelu,
    remat: Callable = jax.lax.scan,
    dtype=None,
) -> Model:
    r"""The transformer that reads a set and what is asked of it: no place has a number, and the
    last says the answer.

    $$ y = \mathrm{norm}(h_B)_l W + b, $$

    with blocks as in `transformer`, of which every place attends to all. The order of all places
    but the last changes nothing.

    Args:
      outputs: Width of the linear head, or None for the features of the last place.
      width, blocks, heads, hidden, activation, remat, dtype: As in `transformer`.

    Returns:
      A `Model` from `x: [n, l, c]`, of any length, to `y: [n, outputs]`.

    Raises:
      ValueError: As `transformer`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> model = in_context_transformer(5, width=8)
      >>> x = jax.random.normal(jax.random.key(1), (3, 6, 4))
      >>> params = model.init(jax.random.key(0), x)
      >>> turned = jnp.concatenate([x[:, 4::-1], x[:, 5:]], axis=1)
      >>> bool(jnp.allclose(model.apply(params, x), model.apply(params, turned), atol=1e-5))
      True

    Paper: Kirsch et al., "General-purpose in-context learning by meta-learning transformers", 2022.
    """
    return linen(
        _InContextTransformer(
            outputs,
            body(width, blocks, heads, hidden, None, everything, activation, remat, dtype),
        )
    )
