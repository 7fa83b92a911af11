"""The blocks of transformers, with what comes before and after them.

Axis letters: `n` examples, `l` time, `c` channels in, `d` width, `h` heads, `e` width of a head.
"""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

from jaxmeta import _check

from ._layers import Dense
from ._normalisation import layer_norm

Mask = Callable[[int], jax.Array | None]


def everything(length: int) -> None:
    """Every place attends to every other."""
    return None


class _Block(nn.Module):
    """One pre-norm block on rows: `[n * l, d] -> [n * l, d]`, so that every product but attention's
    is of two matrices."""

    heads: int
    hidden: int
    mask: Mask
    activation: Callable
    dtype: object

    @nn.compact
    def __call__(self, x, length):
        def layer(x, outputs, index):
            return Dense(
                outputs, nn.initializers.glorot_uniform(), self.dtype, name=f"dense{index}"
            )(x)

        width = x.shape[-1]
        y = self._attend(layer(layer_norm(self.dtype, "norm1")(x), 3 * width, 1), length)
        x = x + layer(y, width, 2)
        y = self.activation(layer(layer_norm(self.dtype, "norm2")(x), self.hidden, 3))
        return x + layer(y, width, 4)

    def _attend(self, x, length):
        q, k, v = x.reshape(-1, length, 3, self.heads, x.shape[-1] // (3 * self.heads)).transpose(
            2, 0, 3, 1, 4
        )
        scores = jnp.einsum("nhle,nhme->nhlm", q * q.shape[-1] ** -0.5, k)
        mask = self.mask(length)
        scores = scores if mask is None else jnp.where(mask[None, None], scores, -jnp.inf)
        # Sums of bfloat16 need more bits than it has.
        shares = jax.nn.softmax(scores.astype(jnp.promote_types(scores.dtype, jnp.float32))).astype(
            v.dtype
        )
        return jnp.einsum("nhlm,nhme->nlhe", shares, v).reshape(-1, x.shape[-1] // 3)


class Body(nn.Module):
    """Embedding, positions if any, blocks and a last normalisation: `[n, l, c]` or `[n, l]` to
    `[n * l, d]`."""

    width: int
    blocks: int
    vocabulary: int | None
    block: dict
    remat: Callable
    placed: bool = True

    @nn.compact
    def __call__(self, x):
        n, length = x.shape[:2]
        dtype = self.block["dtype"]
        x = self._embedded(x, dtype)
        if self.placed:
            x, table = promote_dtype(x, self._positions(length), dtype=dtype)
            x = x + table[None, :length]
        x = x.reshape(n * length, self.width)
        block = _Block(**self.block, parent=None)
        params = self.param(
            "blocks",
            lambda key: jax.vmap(lambda key: block.init(key, x, length)["params"])(
                jax.random.split(key, self.blocks)
            ),
        )
        x, _ = self.remat(
            lambda x, params: (block.apply({"params": params}, x, length), None), x, params
        )
        return layer_norm(dtype, "norm")(x)

    def _positions(self, length):
        places = (
            self.get_variable("params", "positions").shape[0]
            if self.has_variable("params", "positions")
            else length
        )
        if places < length:
            raise ValueError(
                f"the model was made for sequences of up to {places} places, got {length}; give "
                "shorter ones, or init with the longest"
            )
        return self.param(
            "positions", nn.initializers.normal(0.02), (places, self.width), jnp.float32
        )

    def _embedded(self, x, dtype):
        if self.vocabulary is None:
            rows = Dense(self.width, nn.initializers.glorot_uniform(), dtype, name="dense")(
                x.reshape(-1, x.shape[-1])
            )
            return rows.reshape(*x.shape[:2], self.width)
        if not jnp.issubdtype(x.dtype, jnp.integer):
            raise ValueError(
                f"tokens must be whole numbers below the vocabulary of {self.vocabulary}, got "
                f"{x.dtype}"
            )
        return self.param(
            "tokens", nn.initializers.normal(0.02), (self.vocabulary, self.width), jnp.float32
        )[x]


def body(width, blocks, heads, hidden, vocabulary, mask, activation, remat, dtype):
    """The fields of a `Body`; refuses what makes none."""
    hidden = 4 * width if hidden is None else hidden
    for name, value in (("width", width), ("blocks", blocks), ("heads", heads), ("hidden", hidden)):
        _check.whole_number(name, value, least=1)
    if width % heads:
        raise ValueError(f"heads must divide the width, got {heads} heads and a width of {width}")
    return dict(
        width=width,
        blocks=blocks,
        vocabulary=vocabulary,
        remat=remat,
        block=dict(heads=heads, hidden=hidden, mask=mask, activation=activation, dtype=dtype),
    )
