"""Groups that are learned: soft assignments, and the groups they harden to. Axis letters: `N`
nodes, `G` groups."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import entr, ndtri
from jaxtyping import Array, Float, Int, PyTree

from jaxmeta import _check, _index
from jaxmeta._pytree import leaves_dtype
from jaxmeta._sums import narrowed, widened
from jaxmeta.tying._nodes import by_group
from jaxmeta.tying._operator import checked_nodes, gather, product
from jaxmeta.tying._tying import Tying, total
from jaxmeta.tying._within import by_index


class Hardened(NamedTuple):
    """A relaxed structure, decided.

    Args:
      structure: What was found: group numbers, or a `jaxmeta.hierarchy.Tree`.
      tying: The given-structure tying of it.
      phi: Its free parameters: theta as it was where assignments were one-hot, else the nearest in
        least squares for groups.
    """

    structure: Any
    tying: Tying
    phi: PyTree


def assignment(logits: Float[Array, "*n G"], temperature=1.0) -> Float[Array, "*n G"]:
    r"""Soft one-hot rows, $a_{ig} = softmax(s_i / t)_g$.

    Args:
      logits: s.
      temperature: t, above 0, a number or a traced scalar; only numbers are checked.
    """
    if not isinstance(temperature, jax.Array):
        _check.number("temperature", temperature, above=0)
    return jax.nn.softmax(logits / jnp.asarray(temperature, logits.dtype), axis=-1)


def assignment_entropy(structure: PyTree, temperature=1.0) -> Array:
    r"""How undecided assignments are, $\sum_i H(a_i)$ in nats, of all logits of a structure: a
    penalty that decides them.

    >>> import jax.numpy as jnp
    >>> float(assignment_entropy(jnp.zeros((3, 2)))) / 3 - float(jnp.log(2.0))
    0.0
    """
    return total(
        jnp.sum(entr(assignment(logits, temperature))) for logits in jax.tree.leaves(structure)
    )


def soft_by_group(nodes: int, groups: int, temperature=1.0, spread: float = 0.1) -> Tying:
    r"""Nodes of a group share, and which group a node is of is learned: `by_group` relaxed.

    $$ \theta_c = \sum_g softmax(s_c / t)_g\, \phi_g $$

    Every group begins at theta, so that every node does. That is symmetric in the groups, and where
    logits were equal too all groups would have one gradient for ever: logits begin as Gaussian
    noise. Two things keep assignments from settling between groups: `jaxmeta.estimator.perturbed`,
    which makes them Gumbel-softmax, and a temperature that falls, by `jaxmeta.estimator.scheduled`.

    Args:
      nodes: N.
      groups: G; groups that no node is nearest to vanish when hardened.
      temperature: t, above 0, not learned: small ones decide. It may be traced, so that the tying
        of a schedule's temperature is made inside the step.
      spread: Standard deviation of $s / t$ at first, above 0.

    Returns:
      A `Tying` whose phi is `{"structure": s [N, G], "bank": [G, ...]}`; `harden_by_group` decides
      it.

    Example:
      >>> import jax.numpy as jnp, jaxmeta.tying as jt
      >>> logits, bank = (
      ...     jnp.array([[0, 9], [9, 0], [0, 9]], "float32"),
      ...     jnp.array([1, 2], "float32"),
      ... )
      >>> phi = {"structure": logits, "bank": bank}
      >>> jt.soft_by_group(3, 2, temperature=0.1).expand(phi).tolist()
      [2.0, 1.0, 2.0]

    Papers: Jang, Gu and Poole, Categorical reparameterization with Gumbel-softmax, ICLR 2017;
    Maddison, Mnih and Teh, The concrete distribution, ICLR 2017 (the relaxation).
    """
    checked_nodes(nodes)
    _check.whole_number("the number of groups", groups, least=1)
    _check.number("spread", spread, above=0)

    def init(key, theta):
        logits = spread * temperature * jax.random.normal(key, (nodes, groups), leaves_dtype(theta))
        return {
            "structure": logits,
            "bank": jax.tree.map(
                lambda leaf: jnp.broadcast_to(leaf, (groups, *jnp.shape(leaf))), theta
            ),
        }

    def mixed(weights, bank):
        return jax.tree.map(lambda leaf: product(weights, leaf), bank)

    def at(phi):
        weights = assignment(phi["structure"], temperature)
        return lambda node: mixed(_index.taken(weights, node), phi["bank"])

    return Tying(
        init, lambda phi: mixed(assignment(phi["structure"], temperature), phi["bank"]), at=at
    )


def harden_by_group(tying: Tying, phi: PyTree) -> Hardened:
    """The groups of `soft_by_group`, every node's likeliest one, as `by_group`.

    Args:
      tying: The soft one, at the temperature at which phi is meant.
      phi: Its free parameters; concrete, not traced.

    Returns:
      A `Hardened` whose structure is `[N]` group numbers; every group is the mean of its nodes.
    """
    groups = likeliest(phi["structure"])
    return Hardened(
        groups,
        by_group(groups),
        jax.tree.map(lambda leaf: group_means(groups, leaf), tying.expand(phi)),
    )


def soft_by_index(groups: int, temperature=1.0, spread: float = 0.1) -> Tying:
    r"""Entries of an array that are one, and which ones is learned: `by_index` relaxed.

    $$ \theta_i = \sum_g softmax(s_i / t)_g\, \phi_g $$

    The groups begin at quantiles of a normal of the example's mean and deviation, which tells them
    apart, and an entry's logits at $-t (\theta_i - \phi_g)^2 / 2 \sigma^2$ and noise: it leans to
    the groups that are near it.

    Args:
      groups: G.
      temperature: As in `soft_by_group`.
      spread: Standard deviation of the noise in $s / t$, above 0.

    Returns:
      A `Tying` of single arrays, or of trees of them, each with groups of its own; its phi is
      `{"structure": s [..., G], "bank": [G]}`. `harden_by_index` decides that of one array.
    """
    _check.whole_number("the number of groups", groups, least=1)
    _check.number("spread", spread, above=0)

    def bank(leaf):
        return leaf.mean() + _deviation(leaf) * normal_quantiles(groups, leaf.dtype)

    def lean(leaf, key):
        distance = (leaf[..., None] - bank(leaf).reshape(*[1] * leaf.ndim, groups)) / _deviation(
            leaf
        )
        return temperature * (
            spread * jax.random.normal(key, distance.shape, leaf.dtype) - distance**2 / 2
        )

    def init(key, theta):
        leaves, structure = jax.tree.flatten(theta)
        logits = [
            lean(leaf, own) for leaf, own in zip(leaves, jax.random.split(key, max(1, len(leaves))))
        ]
        return {
            "structure": jax.tree.unflatten(structure, logits),
            "bank": jax.tree.map(bank, theta),
        }

    def expand(phi):
        return jax.tree.map(
            lambda logits, values: assignment(logits, temperature) @ values,
            phi["structure"],
            phi["bank"],
        )

    return Tying(init, expand)


def harden_by_index(tying: Tying, phi: PyTree) -> Hardened:
    """The groups of entries of `soft_by_index`, as `by_index`.

    Args:
      tying, phi: As in `harden_by_group`, phi of one array.

    Returns:
      A `Hardened` whose structure is group numbers of the array's shape; every group is the mean of
      its entries.
    """
    groups = likeliest(phi["structure"])
    return Hardened(
        groups, by_index(groups), group_means(groups.reshape(-1), tying.expand(phi).reshape(-1))
    )


def likeliest(logits: Float[Array, "*n G"]) -> Int[np.ndarray, "*n"]:
    """The place of every row's largest logit; refuses NaN, of which an argmax would make a
    plausible place."""
    logits = np.asarray(logits)
    if np.isnan(logits).any():
        raise ValueError(
            "what is decided must be numbers, got NaN among logits or distances of shape "
            f"{logits.shape}; look at how it was trained"
        )
    return np.argmax(logits, axis=-1)


def normal_quantiles(count: int, dtype) -> Float[Array, " count"]:
    """Points that part a standard normal evenly, in rising order."""
    return ndtri((jnp.arange(count, dtype=dtype) + 0.5) / count)


def group_means(groups, leaf: Array) -> Array:
    """The mean of a leaf's rows over every group, groups in sorted order."""
    sizes = np.unique(groups, return_counts=True)[1].reshape(-1, *[1] * (leaf.ndim - 1))
    sums = gather(groups).transpose(widened(leaf))
    return narrowed(sums / jnp.asarray(sizes, sums.dtype), leaf)


def _deviation(leaf):
    return jnp.where(leaf.std() > 0, leaf.std(), 1)
