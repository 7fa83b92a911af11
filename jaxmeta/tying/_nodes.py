"""Linear tyings between nodes: every leaf of theta is `[N, ...]`. Axis letters: `N` nodes."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxmeta import _check, _index
from jaxmeta._pytree import named
from jaxmeta.tying._operator import Operator, checked_nodes, gather, repeat
from jaxmeta.tying._tying import Tying, applied, identity, prefers_nothing, total


def across(operator: Operator, start, penalty: Callable = prefers_nothing) -> Tying:
    r"""A linear tying between nodes, $\Theta = M \Phi$ on every leaf.

    Args:
      operator: M, `[N, m]`.
      start: `[m]`; phi begins at `start[:, None] * theta`. With `M start = 1` every node begins at
        theta.
      penalty: Of phi, whose leaves are `[m, ...]`.

    Example:
      >>> import jax.numpy as jnp, jaxmeta.tying as jt
      >>> mean = jt.across(jt.matrix([[0.5, 0.5]]), start=[1.0, 1.0])
      >>> mean.expand(jnp.array([[1.0], [2.0]], "float32")).tolist()
      [[1.5]]
    """
    start = np.asarray(start, float)

    def init(key, theta):
        return jax.tree.map(
            lambda leaf: (
                jnp.asarray(start, leaf.dtype).reshape(-1, *[1] * jnp.ndim(leaf)) * leaf[None]
            ),
            theta,
        )

    at = (
        None
        if operator.row is None
        else (lambda phi: lambda node: jax.tree.map(lambda leaf: operator.row(leaf, node), phi))
    )
    return Tying(init, lambda phi: jax.tree.map(operator.apply, phi), penalty, at)


def shared(nodes: int) -> Tying:
    r"""All nodes share everything, $\theta_c = \phi$.

    >>> import jax.numpy as jnp, jaxmeta.tying as jt
    >>> jt.shared(2).expand(jnp.array([1, 2])).tolist()
    [[1, 2], [1, 2]]
    """
    operator = repeat(checked_nodes(nodes))
    return Tying(
        identity().init,
        lambda phi: jax.tree.map(lambda leaf: operator.apply(leaf[None]), phi),
        at=lambda phi: lambda node: phi,
    )


def universal(layers: int) -> Tying:
    r"""One block for all layers, $\theta_l = \phi$; `scan_layers` runs the layers.

    Papers: Dehghani et al., Universal transformers, ICLR 2019; Lan et al., ALBERT, ICLR 2020.
    """
    return shared(layers)


def free(nodes: int) -> Tying:
    r"""No two nodes share, $\theta_c = \phi_c$; all begin at the same theta."""
    start = np.ones(checked_nodes(nodes))
    return across(
        Operator(lambda phi: phi, lambda theta: theta, (nodes, nodes), _index.taken), start
    )


def by_group(groups) -> Tying:
    r"""Nodes of a group share, $\theta_c = \phi_{g(c)}$.

    Args:
      groups: `[N]`, every node's group, of any labels; phi's rows are the groups in sorted order.

    Example:
      >>> import jax.numpy as jnp, jaxmeta.tying as jt
      >>> jt.by_group(["bike", "walk", "bike"]).expand(jnp.array([1, 2])).tolist()
      [1, 2, 1]
    """
    if np.ndim(groups) != 1 or not len(groups):
        raise ValueError(
            f"groups must be one label a node, got shape {np.shape(groups)}; give [N] of them"
        )
    operator = gather(groups)
    return across(operator, np.ones(operator.shape[1]))


def partial(nodes: int, *names: str) -> Tying:
    r"""Partial tying of federated learning: named leaves are every node's own, all others shared.

    $$ \theta_c = (z_A, z_{P,c}) $$

    Args:
      nodes: N.
      names: Of the personal leaves, as `jaxmeta.named` takes them.

    Paper: Pillutla et al., Federated learning with partial model personalization, ICML 2022.
    """
    return applied({named(*names): free(nodes)}, rest=shared(nodes))


def laplacian(affinity, strength: float = 1.0) -> Tying:
    r"""Nodes of large affinity are preferred alike: none is tied, but

    $$ p = \lambda\, tr(\Theta^\top L \Theta) = \tfrac{\lambda}{2} \sum_{ij} a_{ij} |\theta_i
       - \theta_j|^2, \qquad L = D - A $$

    Args:
      affinity: A, `[N, N]`, symmetric and not negative; its diagonal does not matter.
      strength: lambda, at least 0.

    Raises:
      ValueError: For an affinity that is none.

    Paper: Evgeniou, Micchelli and Pontil, Learning multiple tasks with kernel methods, JMLR 2005.
    """
    affinity = np.asarray(affinity, float)
    _check.number("strength", strength, least=0)
    if (
        affinity.ndim != 2
        or affinity.shape[0] != affinity.shape[1]
        or not (affinity >= 0).all()
        or not np.allclose(affinity, affinity.T)
    ):
        raise ValueError(
            f"affinity must be [N, N], symmetric and not negative, got shape {affinity.shape} with "
            f"least entry {affinity.min(initial=np.inf)}; use jaxmeta.hierarchy.symmetrised and "
            "shift or clip it"
        )
    graph = strength * (np.diag(affinity.sum(1)) - affinity)

    def penalty(phi: PyTree):
        return total(
            jnp.vdot(leaf, jnp.tensordot(jnp.asarray(graph, leaf.dtype), leaf, 1))
            for leaf in jax.tree.leaves(phi)
        )

    return free(len(affinity))._replace(penalty=penalty)
