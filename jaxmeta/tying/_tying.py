"""What a tying is, and what is made of several. Axis letters: `N` nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key, PyTree

from jaxmeta import _index
from jaxmeta._pytree import Where, leave, leaves_dtype, merge, paths, take
from jaxmeta._sums import widened


def prefers_nothing(phi: PyTree) -> Array:
    """The penalty of a tying that prefers nothing: 0, in phi's dtype."""
    return jnp.zeros((), leaves_dtype(phi))


class Tying(NamedTuple):
    r"""Who shares which parameters: $\theta = T(\phi)$, the free parameters phi stored once.

    phi is a plain pytree without aliases: it is what is optimised, donated, sharded, frozen and
    checkpointed. `expand` is called inside the loss, so that the gradient in phi is the transposed
    derivative of T on that in theta; a weight decay of an optimiser acts on phi, the penalty on
    whatever it says.

    Args:
      init: `(key, theta) -> phi`; theta is an example of one node's full parameters (of one array,
        within a leaf).
      expand: `(phi) -> theta`: every node's parameters, stacked `[N, ...]`, so that one vmapped
        model serves them all. Tyings within a leaf give the one theta; `stacked` joins them to one
        between nodes.
      penalty: `(phi) -> scalar`, the negative log prior up to a constant.
      at: `(phi) -> (node) -> theta[node]`, one node's parameters without the others', where they
        can be had; what all nodes need is made in the outer call, once. None where `expand` must
        run. For a node that there is not it does as `at_node`.
    """

    init: Callable[[Key[Array, ""], PyTree], PyTree]
    expand: Callable[[PyTree], PyTree]
    penalty: Callable[[PyTree], Array] = prefers_nothing
    at: Callable[[PyTree], Callable[[Array], PyTree]] | None = None


def identity() -> Tying:
    """No tying: theta = phi."""
    return Tying(lambda key, theta: theta, lambda phi: phi)


def compose(outer: Tying, inner: Tying) -> Tying:
    r"""One tying after the other: $\theta = T_1(T_2(\phi))$, the penalties add,
    $p_1(T_2(\phi)) + p_2(\phi)$.

    Args:
      outer: $T_1$. Its free parameters are what the inner one ties.
      inner: $T_2$. `compose(shared(N), by_index(idx))` ties within what is shared.

    Example:
      >>> import jax, jax.numpy as jnp, jaxmeta.tying as jt
      >>> tying = jt.compose(jt.shared(3), jt.by_index([0, 1, 0]))
      >>> tying.expand(jnp.array([1, 2])).tolist()
      [[1, 2, 1], [1, 2, 1], [1, 2, 1]]
    """

    def init(key, theta):
        key_outer, key_inner = jax.random.split(key)
        return inner.init(key_inner, outer.init(key_outer, theta))

    return Tying(
        init,
        lambda phi: outer.expand(inner.expand(phi)),
        lambda phi: outer.penalty(inner.expand(phi)) + inner.penalty(phi),
        None if outer.at is None else lambda phi: outer.at(inner.expand(phi)),
    )


def stacked(within: Tying, between: Tying) -> Tying:
    r"""Tied within every node and between nodes: $\theta_c = T_{within}((T_{between}\,\phi)_c)$.

    Args:
      within: Of one node; vmapped.
      between: Makes `[N, ...]` of what `within` calls free; `free(N)` for nodes that share nothing.

    Example:
      >>> import jax.numpy as jnp, jaxmeta.tying as jt
      >>> jt.stacked(jt.by_index([0, 0, 1]), jt.free(2)).expand(
      ...     jnp.array([[1, 2], [3, 4]])
      ... ).tolist()
      [[1, 1, 2], [3, 3, 4]]
    """
    each = Tying(
        within.init, jax.vmap(within.expand), lambda phi: jnp.sum(jax.vmap(within.penalty)(phi))
    )

    def at(phi):
        free = nodewise(between, phi)
        return lambda node: within.expand(free(node))

    return compose(each, between)._replace(at=at)


def applied(parts: Mapping[Where, Tying], rest: Tying) -> Tying:
    """Each tying on the leaves that its `where` means, and one on the rest; phi is the tuple of
    theirs.

    Args:
      parts: Tyings by predicates on a leaf's path, as `jaxmeta.named("head")`.
      rest: For the leaves that no one claims: `shared(N)`, `free(N)`, or `identity()` where the
        parts tie within a leaf.

    Returns:
      A `Tying`; its penalties add.

    Raises:
      ValueError: At init, where a leaf is claimed twice or a predicate means none.

    Example:
      >>> import jax, jax.numpy as jnp, jaxmeta as jm, jaxmeta.tying as jt
      >>> tying = jt.applied({jm.named("head"): jt.free(3)}, rest=jt.shared(3))
      >>> phi = tying.init(jax.random.key(0), {"body": jnp.ones(4), "head": jnp.ones(2)})
      >>> [leaf.shape for leaf in jax.tree.leaves(phi)]
      [(3, 2), (4,)]
    """
    wheres, tyings = tuple(parts), (*parts.values(), rest)

    def init(key, theta):
        names = paths(theta)
        claims = [[path for path in names if where(path)] for where in wheres]
        for place, claim in enumerate(claims):
            if not claim:
                raise ValueError(
                    f"predicate {place} of applied must mean at least one leaf, got none of "
                    f"{', '.join(names[:8])}; name one of them, for example with jaxmeta.named"
                )
        twice = [path for path in names if sum(path in claim for claim in claims) > 1]
        if twice:
            raise ValueError(
                f"a leaf must be claimed once, got {twice[0]!r} claimed by several predicates; "
                "narrow one"
            )
        thetas = [
            *(take(theta, where) for where in wheres),
            leave(theta, lambda path: any(where(path) for where in wheres)),
        ]
        keys = jax.random.split(key, len(tyings))
        return tuple(tying.init(*each) for tying, *each in zip(tyings, keys, thetas))

    def joined(thetas):
        *first, theta = thetas
        for part in first:
            theta = merge(theta, part)
        return theta

    def at(phi):
        each = [nodewise(tying, part) for tying, part in zip(tyings, phi)]
        return lambda node: joined(one(node) for one in each)

    return Tying(
        init,
        lambda phi: joined(tying.expand(part) for tying, part in zip(tyings, phi)),
        lambda phi: total(tying.penalty(part) for tying, part in zip(tyings, phi)),
        at,
    )


def at_node(tying: Tying, phi: PyTree, node) -> PyTree:
    """One node's full parameters, `T(phi)[node]`.

    Args:
      tying: Between nodes.
      phi: Its free parameters.
      node: Which, a whole number or a scalar array of one, from 0.

    Returns:
      Its parameters. Under jit, where the node's value is not known, a node that there is not has
      NaN in the place of all that depends on the node; what all nodes share stays.

    Raises:
      ValueError: For a node that there is not, where its value is known; for what is no whole
        number.

    Example:
      >>> import jax, jax.numpy as jnp, jaxmeta.tying as jt
      >>> own = jax.jit(lambda phi, node: jt.at_node(jt.free(2), phi, node))
      >>> phi = jnp.array([1.0, 2.0], "float32")
      >>> [float(own(phi, node)) for node in (1, 2, -1)]
      [2.0, nan, nan]
    """
    _index.checked(
        "node", node, nodes_of(tying, phi), "number nodes as the tying's tree or groups do"
    )
    return nodewise(tying, phi)(node)


def nodewise(tying: Tying, phi: PyTree) -> Callable[[Array], PyTree]:
    """`(node) -> T(phi)[node]`; where the tying can, without the other nodes' parameters."""
    if tying.at is not None:
        return tying.at(phi)
    theta = tying.expand(phi)
    return lambda node: jax.tree.map(lambda leaf: _index.taken(leaf, node), theta)


def nodes_of(tying: Tying, phi: PyTree) -> int:
    """N, of a tying between nodes."""
    return jax.tree.leaves(jax.eval_shape(tying.expand, phi))[0].shape[0]


def total(parts) -> Array:
    """The sum of scalars, or of arrays of one shape, in float32 at least; 0 of none."""
    parts = widened(list(parts))
    return sum(parts[1:], start=parts[0]) if parts else jnp.zeros(())
