"""SNAIL: temporal convolutions that gather and causal attention that looks up.

Axis letters: `n` examples, `l` time, `c` channels.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxmeta import _check

from ._adapters import linen
from ._layers import Dense, Head
from ._model import Model, check_batch


class _Body(nn.Module):
    """`[n, l, c]` to `[n, l, c + ...]`: what each layer makes stands beside what it was given."""

    filters: int
    dilations: int
    attention: tuple[tuple[int, int], ...]
    dtype: object

    @nn.compact
    def __call__(self, x):
        def layer(x, outputs):
            dense = Dense(
                outputs, nn.initializers.glorot_uniform(), self.dtype, name=f"dense{len(made)}"
            )
            rows = dense(x.reshape(-1, x.shape[-1]))
            made.append(outputs)
            return rows.reshape(*x.shape[:2], outputs)

        def beside(x, y):
            return jnp.concatenate([x.astype(y.dtype), y], axis=-1)

        made = []
        for block, (keys, values) in enumerate(self.attention):
            if block:
                for dilation in (2**power for power in range(self.dilations)):
                    before = jnp.pad(x, ((0, 0), (dilation, 0), (0, 0)))[:, : x.shape[1]]
                    y = layer(jnp.concatenate([before, x], axis=-1), 2 * self.filters)
                    x = beside(
                        x, jnp.tanh(y[..., : self.filters]) * jax.nn.sigmoid(y[..., self.filters :])
                    )
            y = layer(x, 2 * keys + values)
            x = beside(x, _attended(y[..., :keys], y[..., keys : 2 * keys], y[..., 2 * keys :]))
        return x


def _attended(q, k, v):
    """Of every place the values of itself and those before it."""
    scores = jnp.einsum("nle,nme->nlm", q * q.shape[-1] ** -0.5, k)
    scores = jnp.where(jnp.tril(jnp.ones(scores.shape[1:], bool))[None], scores, -jnp.inf)
    shares = jax.nn.softmax(scores.astype(jnp.promote_types(scores.dtype, jnp.float32))).astype(
        v.dtype
    )
    return jnp.einsum("nlm,nme->nle", shares, v)


class _Snail(nn.Module):
    outputs: int | None
    body: dict

    @nn.compact
    def __call__(self, x, reference=None):
        check_batch("snail", x, "n l c")
        return Head(self.outputs, self.body["dtype"])(_Body(**self.body, name="body")(x)[:, -1])


def snail(
    outputs: int | None = None,
    filters: int = 128,
    reach: int = 64,
    attention: tuple[tuple[int, int], ...] = ((64, 32), (256, 128), (512, 256)),
    dtype=None,
) -> Model:
    r"""The simple neural attentive learner: attention, dilated causal convolutions, and so on, read
    at the last place.

    $$ h \leftarrow [h, \tanh(u) \odot \sigma(v)], \quad (u, v)_t = [h_{t - 2^j}, h_t] U + b, \quad
       j = 0, 1, \ldots $$
    $$ h \leftarrow [h, \mathrm{softmax}(q k^\top / \sqrt{e} + \mathrm{past})\, v], \quad
       (q, k, v) = h A + a $$

    Args:
      outputs: Width of the linear head (parameters `head`), or None for the features of the last
        place.
      filters: Channels that each convolution adds, 128 in the paper.
      reach: How many places convolutions look back over: there are log2(reach) dilations between
        two attentions, rounded up. The paper takes the episode's length, ways times shots and the
        query.
      attention: Widths of keys and values of each attention, the paper's for Omniglot and
        mini-ImageNet.
      dtype: Dtype of the computation; None takes that of input and parameters (which are float32).

    Returns:
      A `Model` from `x: [n, l, c]` to `y: [n, outputs]`. It has no batch statistics and ignores
      `reference`.

    Raises:
      ValueError: For filters or a reach below 1; at init or apply, for an input of another rank or
        other channels than at init.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> model = snail(5, filters=4, reach=8, attention=((4, 2), (4, 2)))
      >>> params = model.init(jax.random.key(0), jnp.ones((3, 6, 7)))
      >>> model.apply(params, jnp.ones((3, 6, 7))).shape, params["body"]["dense1"]["kernel"].shape
      ((3, 5), (18, 8))

    Paper: Mishra, Rohaninejad, Chen and Abbeel, "A simple neural attentive meta-learner", ICLR
    2018.
    """
    _check.whole_number("filters", filters, least=1)
    _check.whole_number("reach", reach, least=1)
    return linen(
        _Snail(
            outputs,
            dict(
                filters=filters,
                dilations=max(1, (reach - 1).bit_length()),
                attention=tuple(map(tuple, attention)),
                dtype=dtype,
            ),
        )
    )
