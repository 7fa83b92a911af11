"""Normalisation by statistics of the data at hand: no running averages, so a model stays a pure
function.

A choice is a factory `(dtype, name) -> flax module`, called as `module(x, reference)`. The learned
affine map has the leaves `scale` and `offset`, one value a channel. Axis letters: `n` examples, `c`
channels, `g` groups.
"""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen.dtypes import promote_dtype

EPSILON = 1e-5


def batch_moments(x, reference=None):
    """Mean and variance a channel over the examples marked in `reference` (all of them where it is
    None); refuses a reference that is known and marks none, of which the moments are NaN."""
    axes = tuple(range(x.ndim - 1))
    if reference is None:
        mean = jnp.mean(x, axes, keepdims=True)
        return mean, jnp.mean((x - mean) ** 2, axes, keepdims=True)
    if not isinstance(reference, jax.core.Tracer) and not np.asarray(reference).any():
        raise ValueError(
            "normalisation needs an example at least to look at, marked as reference and of a "
            "weight above 0, got none; give reference=None to look at all"
        )
    shape = (-1,) + (1,) * (x.ndim - 1)
    share = reference.astype(x.dtype).reshape(shape)
    marked = jnp.sum(share)
    share = share / marked
    over = tuple(range(1, x.ndim - 1))
    mean = jnp.sum(share * jnp.mean(x, over, keepdims=True), 0, keepdims=True)
    mean = jnp.where(
        marked > 0, mean, jnp.nan
    )  # the share of none is NaN, but XLA may leave it out of products with booleans
    return mean, jnp.sum(share * jnp.mean((x - mean) ** 2, over, keepdims=True), 0, keepdims=True)


def _group_moments(groups, x, reference=None):
    n, c = x.shape[0], x.shape[-1]
    if c % groups:
        raise ValueError(
            f"group_norm needs a number of groups that divides the channels, got {groups} groups "
            f"and {c} channels; choose a divisor"
        )
    parts = x.reshape(n, -1, groups, c // groups)
    mean = jnp.mean(parts, (1, 3), keepdims=True)
    variance = jnp.mean((parts - mean) ** 2, (1, 3), keepdims=True)
    shape = (n,) + (1,) * (x.ndim - 2) + (c,)
    return tuple(
        jnp.repeat(m[:, 0, :, 0], c // groups, axis=1).reshape(shape) for m in (mean, variance)
    )


def affine(module: nn.Module, c: int):
    """The learned scale and offset of a normalisation."""
    scale = module.param("scale", nn.initializers.ones, (c,), jnp.float32)
    return scale, module.param("offset", nn.initializers.zeros, (c,), jnp.float32)


class _Normalise(nn.Module):
    moments: Callable
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x, reference=None):
        c = x.shape[-1]
        x, scale, offset = promote_dtype(x, *affine(self, c), dtype=self.dtype)
        wide = jnp.promote_types(
            x.dtype, jnp.float32
        )  # statistics of bfloat16 activations need more bits than it has
        mean, variance = self.moments(x.astype(wide), reference)
        shape = (1,) * (x.ndim - 1) + (c,)
        gain = scale.astype(wide).reshape(shape) * jax.lax.rsqrt(variance + EPSILON)
        return ((x.astype(wide) - mean) * gain + offset.astype(wide).reshape(shape)).astype(x.dtype)


class _Identity(nn.Module):
    def __call__(self, x, reference=None):
        return x


def batch_norm(dtype=None, name=None) -> nn.Module:
    r"""Normalises every channel by its mean and variance over the batch at hand.

    $$ y = \gamma\,(x - \mu_c)/\sqrt{\sigma_c^2 + \epsilon} + \beta, \quad
       \mu_c, \sigma_c^2 \text{ over the examples of } \texttt{reference}. $$

    Statistics belong to each call, so each inner step has its own (per-step statistics, as in
    MAML++).

    Args:
      dtype: Dtype of the computation; None takes that of input and parameters.
      name: Name of the module in the parameters.

    Returns:
      A flax module `(x [n, ..., c], reference bool[n] or None) -> [n, ..., c]`.

    Example:
      >>> import jax.numpy as jnp
      >>> x = jnp.asarray([[0.0], [2.0], [9.0]], "float32")
      >>> marked = jnp.asarray([True, True, False])
      >>> y = batch_norm().apply(
      ...     {"params": {"scale": jnp.ones(1), "offset": jnp.zeros(1)}}, x, marked
      ... )
      >>> y.round(3).tolist()
      [[-1.0], [1.0], [8.0]]

    Paper: Ioffe and Szegedy, "Batch normalization", 2015; Antoniou et al., "How to train your
    MAML", 2019.
    """
    return _Normalise(batch_moments, dtype, name=name)


def layer_norm(dtype=None, name=None) -> nn.Module:
    r"""Normalises every example by its mean and variance over all places and channels; ignores
    `reference`.

    $$ y = \gamma\,(x - \mu_n)/\sqrt{\sigma_n^2 + \epsilon} + \beta $$

    Args:
      dtype: Dtype of the computation; None takes that of input and parameters.
      name: Name of the module in the parameters.

    Returns:
      A flax module `(x [n, ..., c], reference) -> [n, ..., c]`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> layer_norm().init(jax.random.key(0), jnp.ones((2, 3)))["params"]["scale"].shape
      (3,)

    Paper: Ba et al., "Layer normalization", 2016.
    """
    return group_norm(1)(dtype, name)


def group_norm(groups: int) -> Callable[..., nn.Module]:
    r"""Normalises every group of channels of every example; ignores `reference`.

    $$ y = \gamma\,(x - \mu_{ng})/\sqrt{\sigma_{ng}^2 + \epsilon} + \beta $$

    Args:
      groups: Number of groups; it divides the channels.

    Returns:
      A factory `(dtype, name) -> module` to pass as `norm=`.

    Raises:
      ValueError: At init or apply, where groups does not divide the channels.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> group_norm(2)().init(jax.random.key(0), jnp.ones((2, 4)))["params"]["offset"].shape
      (4,)

    Paper: Wu and He, "Group normalization", 2018.
    """
    if groups < 1:
        raise ValueError(f"group_norm needs at least one group, got {groups}; 1 is layer_norm")

    def norm(dtype=None, name=None):
        return _Normalise(lambda x, reference=None: _group_moments(groups, x), dtype, name=name)

    return norm


def none(dtype=None, name=None) -> nn.Module:
    """No normalisation: the identity, without parameters.

    $$ y = x $$

    Args:
      dtype: Ignored; there is nothing to compute.
      name: Name of the module; it has no parameters.

    Returns:
      A flax module `(x, reference) -> x`.

    Example:
      >>> import jax.numpy as jnp
      >>> none().apply({}, jnp.ones(2, "float32"))
      Array([1., 1.], dtype=float32)
    """
    return _Identity(name=name)
