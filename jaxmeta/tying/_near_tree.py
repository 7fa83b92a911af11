"""Trees that are learned by nearness: every node prefers the nearest parents. Axis letters: `N`
concepts, `n` of a level."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from jaxmeta import _check, _index
from jaxmeta._sums import widened
from jaxmeta.tying._along_tree import checked_scales
from jaxmeta.tying._soft_groups import Hardened, likeliest
from jaxmeta.tying._soft_tree import checked_levels, harden_along_tree
from jaxmeta.tying._tying import Tying, total


def near_tree(
    nodes: int, widths: Sequence[int], scales=1.0, temperature=1.0, spread: float = 0.01
) -> Tying:
    r"""Nodes share nothing, but are preferred near the nodes of a tree, which is learned with them:
    the prior of `along_tree`, of all trees at once.

    $$ p = \sum_j \frac{|\mu_{1j} - \mu_{root}|^2}{2 s_1^2}
       - \sum_{l=1}^{L} \sum_i \tau d \log \frac{1}{n_l} \sum_{j=1}^{n_l}
       \exp\Big({-\frac{|\mu_{l+1,i} - \mu_{lj}|^2}{2 s_{l+1}^2 \tau d}}\Big), \qquad
       \mu_{L+1} = \theta $$

    with d the entries of a node's theta. As $\tau \to 0$ every node goes to its nearest parent, and
    p is that of `along_tree` in the best tree; where $\tau$ is large all nodes of a level are drawn
    to one place. Between, they part as it falls, the coarse levels before the fine ones
    (deterministic annealing): lower it during learning, from about 10 to 0.1, for routes are then
    decided by solutions that are there, and not, as logits of `soft_along_tree` are, before there
    are any.

    Args:
      nodes: N, the concepts.
      widths: `(n_1, ..., n_L)`, nodes of every level, from the root down.
      scales: s, above 0 and finite, one for all depths or one for each of 1 to L + 1, the last that
        of the concepts' own.
      temperature: tau, above 0, a number or a traced scalar; only numbers are checked.
      spread: Deviation of a level's nodes at first, in units of its scale: together, they would
        stay so. They need a little noise while they are drawn together, as of
        `jaxmeta.estimator.perturbed(..., jax.random.normal, 0.01, named("structure"))`.

    Returns:
      A `Tying` whose phi is `{"theta": [N, ...], "structure": (the root [1, ...], [n_1, ...], ...,
      [n_L, ...])}`. `harden_near_tree` decides.

    Example:
      >>> import jax.numpy as jnp, jaxmeta.tying as jt
      >>> phi = {
      ...     "theta": jnp.array([1.0, 2.0, 9.0]),
      ...     "structure": (jnp.array([5.0]), jnp.array([2.0, 8.0])),
      ... }
      >>> float(
      ...     jt.near_tree(3, (2,), temperature=0.01).penalty(phi).round(1)
      ... )  # (3^2 + 3^2) / 2 + (1 + 0 + 1) / 2
      10.0

    Papers: ours, of Rose, Deterministic annealing for clustering, compression, classification,
    regression, and related optimization problems, Proceedings of the IEEE 1998, and the prior of
    Gopal and Yang, KDD 2013.
    """
    checked_levels(nodes, widths, spread)
    if not isinstance(temperature, jax.Array):
        _check.number("temperature", temperature, above=0)
    scales = checked_scales(len(widths) + 1, scales)
    if not np.isfinite(scales).all():
        raise ValueError(
            f"scales of a tree by nearness must be finite, got {scales.tolist()}; give a strength "
            "of 0 to prefer nothing"
        )

    def init(key, theta):
        leaves, shape = jax.tree.flatten(theta)

        def level(key, width, scale):
            return jax.tree.unflatten(
                shape,
                [
                    leaf[None]
                    + scale * spread * jax.random.normal(own, (width, *leaf.shape), leaf.dtype)
                    for leaf, own in zip(leaves, jax.random.split(key, len(leaves)))
                ],
            )

        levels = [
            level(own, width, scale)
            for own, width, scale in zip(
                jax.random.split(key, len(widths)), widths, scales.tolist()
            )
        ]
        return {"theta": _repeated(theta, nodes), "structure": (_repeated(theta, 1), *levels)}

    def penalty(phi):
        first, *squares = _squares(widened(phi))
        tau = temperature * sum(leaf[0].size for leaf in jax.tree.leaves(phi["theta"]))
        found = jnp.sum(first) / (2 * scales[0].item() ** 2)
        for square, scale in zip(squares, scales[1:].tolist()):
            nearness = (
                jax.nn.logsumexp(-square / (2 * scale**2 * tau), axis=1)
                - np.log(square.shape[1]).item()
            )
            found -= tau * jnp.sum(nearness)
        return found

    return Tying(
        init,
        lambda phi: phi["theta"],
        penalty,
        lambda phi: lambda node: jax.tree.map(lambda leaf: _index.taken(leaf, node), phi["theta"]),
    )


def harden_near_tree(phi: PyTree, tree_scales=1.0) -> Hardened:
    """The tree of `near_tree` in which every node goes to its nearest parent, and the differences
    at its nodes.

    Args:
      phi: Concrete, not traced.
      tree_scales: Of the decided tree, whose depths are others where nodes were unused.

    Returns:
      A `Hardened` whose tying is `along_tree(tree, tree_scales, nodes=range(N))`; theta is as it
      was.
    """
    squares = _squares(phi)
    parents = [likeliest(-square) for square in squares]

    def differences(*levels):
        *between, own = [
            child - parent[at] for parent, child, at in zip(levels, levels[1:], parents)
        ]
        return jnp.concatenate([own, levels[0], *between])  # rows as those of `soft_along_tree`

    delta = jax.tree.map(differences, *phi["structure"], phi["theta"])
    return harden_along_tree(
        {"structure": [-square for square in squares[1:]], "delta": delta}, 1.0, tree_scales
    )


def _repeated(theta, count):
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (count, *jnp.shape(leaf))), theta)


def _squares(phi) -> list[Float[Array, "n m"]]:
    """Of every level below the root, the squared distances of its nodes to those above."""

    def of_leaf(*levels):
        flat = [
            (level - levels[0]).reshape(len(level), -1) for level in levels
        ]  # from the root: little is cancelled
        norms = [jnp.sum(level**2, axis=1) for level in flat]
        return [
            below[:, None] + above[None] - 2 * child @ parent.T
            for parent, child, above, below in zip(flat, flat[1:], norms, norms[1:])
        ]

    every = [
        of_leaf(*leaves) for leaves in zip(*map(jax.tree.leaves, [*phi["structure"], phi["theta"]]))
    ]
    return [total(squares) for squares in zip(*every)]
