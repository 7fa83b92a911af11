"""Linear tyings between nodes: every leaf of theta is `[N, ...]`. Axis letters: `N` nodes, `C`
concepts, `D` depths."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxmeta import _check, _index
from jaxmeta._pytree import paths
from jaxmeta.tying._operator import Operator, checked_nodes, gather, path_sums, repeat, rows
from jaxmeta.tying._tying import Tying, identity, prefers_nothing, total


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


def branching(tree, depth: Callable[[str], int]) -> Tying:
    r"""Branched networks: concepts share a layer as long as their paths go together.

    $$ \theta^{(l)}_c = \phi^{(l)}_{a(c)}, \qquad
       a(c) = \text{the ancestor of } c \text{ at depth } \min(d(l), depth(c)) $$

    Args:
      tree: A `jaxmeta.hierarchy.Tree`; its C concepts are the nodes.
      depth: A leaf's depth d by its path, as in 'body/dense1/kernel': 0 is shared by all, deeper by
        fewer.

    Papers: Vandenhende et al., Branched multi-task networks, BMVC 2020; Lu et al., Fully-adaptive
    feature sharing, CVPR 2017.
    """
    depths, parents = np.array(tree.depths), np.array(tree.parents)
    at = {int(depths.max()): np.arange(tree.size)}
    for level in reversed(range(depths.max())):
        below = at[level + 1]
        at[level] = np.where(depths[below] > level, parents[below], below)
    return branched(at, depth)


def branched(groups, depth: Callable[[str], int]) -> Tying:
    """Nodes share a leaf by the groups of its depth.

    Args:
      groups: Of every depth from 0 on, `[N]`.
      depth: A leaf's depth by its path; what is deeper than all is at the last.
    """
    tyings = {level: by_group(labels) for level, labels in groups.items()}

    def by_leaf(of):
        def run(tree_of_leaves, *key):
            leaves, structure = jax.tree.flatten(tree_of_leaves)
            return jax.tree.unflatten(
                structure,
                [
                    of(tyings[level], leaf, *key)
                    for level, leaf in zip(leaf_depths(tree_of_leaves, depth, max(tyings)), leaves)
                ],
            )

        return run

    start = by_leaf(lambda tying, leaf, key: tying.init(key, leaf))
    return Tying(
        lambda key, theta: start(theta, key),
        by_leaf(lambda tying, leaf: tying.expand(leaf)),
        at=lambda phi: lambda node: by_leaf(lambda tying, leaf: tying.at(leaf)(node))(phi),
    )


def leaf_depths(tree_of_leaves: PyTree, depth: Callable[[str], int], deepest: int) -> list[int]:
    """Of every leaf its depth by its path, at most the deepest."""
    return [
        min(_check.whole_number(f"the depth of '{path}'", depth(path)), deepest)
        for path in paths(tree_of_leaves)
    ]


def along_tree(tree, scales=1.0, nodes=None) -> Tying:
    r"""Partial pooling: sums along the path from the root.

    $$ \theta_c = \sum_{n \in path(c)} \delta_n, \qquad
       p = \sum_{n \ne root} \frac{|\delta_n|^2}{2 s_{depth(n)}^2} $$

    It is the prior $\theta_{child} \sim N(\theta_{parent}, s^2)$ with a flat one on the root: s to
    0 is `shared`, s to infinity leaves nodes independent.

    Args:
      tree: A `jaxmeta.hierarchy.Tree`.
      scales: s, above 0, one for all depths or `[D]` for depths 1 to D; `inf` prefers nothing.
      nodes: The numbers of the nodes whose theta is given; default all. `range(tree.size)` are the
        concepts.

    Returns:
      A `Tying` whose phi is delta, `[tree.nodes, ...]`; it begins with theta at the root and no
      deltas.

    Example:
      >>> import jax.numpy as jnp, jaxmeta.tying as jt
      >>> from jaxmeta.hierarchy import Tree
      >>> jt.along_tree(Tree.from_nested((0, (1, 2)))).expand(jnp.array([1, 2, 3, 10, 20])).tolist()
      [11, 32, 33, 10, 30]

    Papers: Gelman and Hill, Data analysis using regression and multilevel models, 2007; Gopal and
    Yang, Recursive regularization, KDD 2013.
    """
    operator = path_sums(tree.parents)
    start = np.arange(tree.nodes) == tree.root
    return across(
        operator if nodes is None else rows(operator, nodes),
        start,
        depth_prior(tree.depths, scales),
    )


def depth_prior(depths, scales) -> Callable[[PyTree], jax.Array]:
    """The penalty of differences whose leaves are `[nodes, ...]`,
    $\\sum_n |\\delta_n|^2 / 2 s_{depth(n)}^2$, 0 at depth 0.

    Args:
      depths: Of every node, from 0 on.
      scales: s, above 0, one for all depths or `[D]` for depths 1 to D.
    """
    scales, depths = checked_scales(max(depths), scales), np.asarray(depths)
    weights = np.where(depths > 0, 1 / (2 * np.append(np.inf, scales)[depths] ** 2), 0)

    def penalty(delta):
        squares = total(_square_by_row(leaf) for leaf in jax.tree.leaves(delta))
        return jnp.sum(weights.astype(squares.dtype) * squares)

    return penalty


def along_tree_learned(tree, scales=1.0, nodes=None, strength: float = 1.0) -> Tying:
    r"""`along_tree` with scales by depth that are learned: phi is `{"delta", "log_scale": [D]}`.

    $$ p = \sum_d \Big( \frac{\sum_{n: depth\,d} |\delta_n|^2 + k s_{0,d}^2}{2 s_d^2} + (m_d
       + k) \log s_d \Big) $$

    with $m_d$ the number of entries of delta at depth d. With k = 0 it falls without bound as s and
    delta go to 0, so k imagined entries of the first scale's size keep it from there (ours).

    Args:
      tree, scales, nodes: As in `along_tree`; scales are what log_scale begins at.
      strength: k, above 0.
    """
    _check.number("strength", strength, above=0)
    first = checked_scales(max(tree.depths), scales)
    if not np.isfinite(first).all():
        raise ValueError(
            f"scales to begin with must be finite, got {first.tolist()}; give for example 1.0"
        )
    depths = np.array(tree.depths)
    plain = along_tree(tree, first, nodes)

    def init(key, theta):
        kind = jnp.result_type(*jax.tree.leaves(theta))
        return {"delta": plain.init(key, theta), "log_scale": jnp.asarray(np.log(first), kind)}

    def penalty(phi):
        leaves, log_scale = jax.tree.leaves(phi["delta"]), phi["log_scale"]
        squares = total(_square_by_row(leaf) for leaf in leaves)
        squares = jax.ops.segment_sum(squares, depths, len(first) + 1)[1:]
        counts = np.bincount(depths)[1:] * sum(leaf[0].size for leaf in leaves)
        imagined = (strength * first**2).astype(squares.dtype)
        return jnp.sum(
            (squares + imagined) / (2 * jnp.exp(2 * log_scale))
            + (counts + strength).astype(squares.dtype) * log_scale
        )

    return Tying(
        init, lambda phi: plain.expand(phi["delta"]), penalty, lambda phi: plain.at(phi["delta"])
    )


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


def checked_scales(depth: int, scales) -> np.ndarray:
    """`[depth]`, a scale above 0 for every depth below the root."""
    scales = np.asarray(scales, float)
    if scales.shape not in ((), (depth,)) or not (scales > 0).all():
        raise ValueError(
            f"scales must be one number above 0 or one for each of the {depth} depths below the "
            f"root, got {scales.tolist()}; use a small one to tie and jax.numpy.inf to prefer "
            "nothing"
        )
    return np.broadcast_to(scales, (depth,))


def _square_by_row(leaf):
    return jnp.sum(leaf.reshape(leaf.shape[0], -1) ** 2, axis=1)
