"""Transformers that read a whole sequence: sensor windows and tokens.

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


class _Transformer(nn.Module):
    outputs: int | None
    body: dict

    @nn.compact
    def __call__(self, x, reference=None):
        check_batch("transformer", x, "n l c" if self.body["vocabulary"] is None else "n l")
        rows = Body(**self.body, name="body")(x)
        return Head(self.outputs, self.body["block"]["dtype"])(
            rows.reshape(*x.shape[:2], -1).mean(1)
        )


def transformer(
    outputs: int | None = None,
    width: int = 128,
    blocks: int = 2,
    heads: int = 4,
    hidden: int | None = None,
    vocabulary: int | None = None,
    activation: Callable = jax.nn.gelu,
    remat: Callable = jax.lax.scan,
    dtype=None,
) -> Model:
    r"""A pre-norm transformer that reads a whole sequence: sensor windows, or tokens.

    $$ h' = h_i + \mathrm{attend}(\mathrm{norm}(h_i)), \quad
       h_{i+1} = h' + a(\mathrm{norm}(h') U_i) V_i, \quad
       y = \mathrm{mean}_l(\mathrm{norm}(h_B)) W + b, $$

    where h_0 is the embedded input plus a learned position, and every place attends to all.

    Args:
      outputs: Width of the linear head (parameters `head`), or None for the averaged features.
      width: Width d of the residual stream.
      blocks: Number of blocks B. Their parameters are stacked,
        `body/blocks/dense1/kernel: [B, d, 3 d]` and so on, and the blocks scanned, so that
        compiling takes as long for many as for one.
      heads: Attention heads; they divide the width.
      hidden: Width of a block's hidden layer, or None for 4 d.
      vocabulary: Number of tokens, or None for real inputs.
      activation: Elementwise nonlinearity of a block.
      remat: What of the blocks is stored and what is computed again when a derivative returns, a
        plan that stands for `jax.lax.scan`, as in `unrolled`: `each_step` stores the input of every
        block only.
      dtype: Dtype of the computation; None takes that of input and parameters (which are float32).

    Returns:
      A `Model` from `x: [n, l, c]`, or tokens `[n, l]`, to `y: [n, outputs]`. Sequences are no
      longer than at init. It has no batch statistics and ignores `reference`.

    Raises:
      ValueError: For heads that do not divide the width; at init or apply, for an input of another
        rank, of other channels or longer than at init, or for tokens that are not whole numbers.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> model = transformer(5, width=8)
      >>> params = model.init(jax.random.key(0), jnp.ones((3, 16, 6)))
      >>> (
      ...     params["body"]["blocks"]["dense1"]["kernel"].shape,
      ...     model.apply(params, jnp.ones((3, 16, 6))).shape,
      ... )
      ((2, 8, 24), (3, 5))

    Paper: Vaswani et al., "Attention is all you need", 2017; Xiong et al., "On layer normalization
    in the transformer architecture", 2020.
    """
    return linen(
        _Transformer(
            outputs,
            body(width, blocks, heads, hidden, vocabulary, everything, activation, remat, dtype),
        )
    )
