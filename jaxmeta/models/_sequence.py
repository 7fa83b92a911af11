"""Transformers over sequences: sensor windows and text.

Axis letters: `n` examples, `l` time, `c` channels in, `d` width, `h` heads, `e` width of a head,
`B` blocks.
"""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

from jaxmeta import _check

from ._adapters import linen
from ._layers import Dense, Head
from ._model import Model, check_batch
from ._normalisation import layer_norm

Mask = Callable[[int], jax.Array | None]


def _everything(length: int) -> None:
    """Every place attends to every other."""
    return None


def _past(length: int) -> jax.Array:
    """A place attends to itself and to those before it: `bool[l, l]`."""
    return jnp.tril(jnp.ones((length, length), bool))


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


class _Body(nn.Module):
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


class _Transformer(nn.Module):
    outputs: int | None
    body: dict

    @nn.compact
    def __call__(self, x, reference=None):
        check_batch("transformer", x, "n l c" if self.body["vocabulary"] is None else "n l")
        rows = _Body(**self.body, name="body")(x)
        return Head(self.outputs, self.body["block"]["dtype"])(
            rows.reshape(*x.shape[:2], -1).mean(1)
        )


class _InContextTransformer(nn.Module):
    outputs: int | None
    body: dict

    @nn.compact
    def __call__(self, x, reference=None):
        check_batch("in_context_transformer", x, "n l c")
        rows = _Body(**self.body, placed=False, name="body")(x)
        return Head(self.outputs, self.body["block"]["dtype"])(
            rows.reshape(*x.shape[:2], -1)[:, -1]
        )


class _LanguageModel(nn.Module):
    body: dict

    @nn.compact
    def __call__(self, x, reference=None):
        check_batch("language_model", x, "n l")
        rows = _Body(**self.body, name="body")(x)
        return Head(self.body["vocabulary"], self.body["block"]["dtype"])(rows).reshape(
            *x.shape, -1
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
            _body(width, blocks, heads, hidden, vocabulary, _everything, activation, remat, dtype),
        )
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
            _body(width, blocks, heads, hidden, None, _everything, activation, remat, dtype),
        )
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
            _body(width, blocks, heads, hidden, vocabulary, _past, activation, remat, dtype)
        )
    )


def _body(width, blocks, heads, hidden, vocabulary, mask, activation, remat, dtype):
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
