"""Trees that are learned: every node routed softly to a parent. Axis letters: `N` concepts, `M` all
nodes, `L` levels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from jaxmeta import _check, _index
from jaxmeta._pytree import leaves_dtype
from jaxmeta.tying._along_tree import along_tree, checked_scales, depth_prior
from jaxmeta.tying._branching import branched, leaf_depths
from jaxmeta.tying._operator import checked_nodes, product
from jaxmeta.tying._soft_groups import Hardened, assignment, group_means, likeliest
from jaxmeta.tying._tying import Tying


def soft_ancestors(structure: Sequence[Array], temperature=1.0) -> list[Float[Array, "N n"]]:
    r"""How much every node of every level is the ancestor of a concept, $A_l = A_{l+1} R_l$,
    $R_l = softmax(S_l / t)$.

    Args:
      structure: Logits of a child's parents: `[n_2, n_1], ..., [n_L, n_{L-1}], [N, n_L]`.
      temperature: As in `assignment`.

    Returns:
      Of every depth from 0 to L + 1 `[N, n]`: the root's ones, the levels', the concepts' own
      identity. Rows add up to 1.

    >>> import jax.numpy as jnp
    >>> [level.shape for level in soft_ancestors([jnp.zeros((4, 2)), jnp.zeros((9, 4))])]
    [(9, 1), (9, 2), (9, 4), (9, 9)]
    """
    nodes, dtype = len(structure[-1]), structure[-1].dtype
    levels = [jnp.eye(nodes, dtype=dtype)]
    for logits in reversed(structure):
        levels.append(levels[-1] @ assignment(logits, temperature))
    return [jnp.ones((nodes, 1), dtype), *reversed(levels)]


def soft_along_tree(
    nodes: int, widths: Sequence[int], scales=1.0, temperature=1.0, spread: float = 0.1
) -> Tying:
    r"""Partial pooling along a tree that is itself learned: `along_tree` relaxed.

    $$ \theta_c = \delta_{root} + \sum_{l=1}^{L} s_l \sum_{j} (A_l)_{cj}\, \delta_{lj}
       + s_{L+1} \delta_c, \qquad
       p = \sum_{n \ne root} |\delta_n|^2 / 2 $$

    with A of `soft_ancestors`: every concept has a softmax over the nodes of the deepest level,
    every node one over those of the level above. Differences begin at 0 and the root at theta, so
    that every concept begins at theta; logits begin as Gaussian noise, without which all nodes of a
    level would have one gradient for ever. It is the prior of `along_tree`; differences are in
    units of its scales, for optimisers as Adam move all entries alike: in units of theta the
    concepts' own differences would learn all there is to learn before their price told.

    Args:
      nodes: N, the concepts.
      widths: `(n_1, ..., n_L)`, the most nodes of every level, from the root down; those that
        nobody goes to vanish when hardened.
      scales: s, above 0 and finite, one for all depths or one for each of 1 to L + 1, the last that
        of the concepts' own.
      temperature, spread: As in `soft_by_group`.

    Returns:
      A `Tying` whose phi is `{"structure": logits as in soft_ancestors, "delta": [M, ...]}`; rows
      are the concepts, the root, and the levels from the root down. `harden_along_tree` decides.

    Papers: ours, of sums along a path as in Gopal and Yang, KDD 2013, and soft routes as in Yao et
    al., Hierarchically structured meta-learning, ICML 2019.
    """
    start_structure = _logits(nodes, widths, temperature, spread)
    units = _units(nodes, widths, scales)
    root = np.arange(len(units)) == nodes

    def init(key, theta):
        def rows(leaf):
            return jnp.asarray(root, leaf.dtype).reshape(-1, *[1] * leaf.ndim) * leaf[None]

        return {"structure": start_structure(key, theta), "delta": jax.tree.map(rows, theta)}

    def paths(phi):
        *above, own = soft_ancestors(phi["structure"], temperature)
        return jnp.concatenate([own, *above], axis=1) * jnp.asarray(units, own.dtype)[None]

    def summed(paths, delta):
        return jax.tree.map(lambda leaf: product(paths, leaf), delta)

    def at(phi):
        all_paths = paths(phi)
        return lambda node: summed(_index.taken(all_paths, node), phi["delta"])

    prior = depth_prior((~root).astype(int), 1.0)
    return Tying(
        init, lambda phi: summed(paths(phi), phi["delta"]), lambda phi: prior(phi["delta"]), at
    )


def soft_branching(
    nodes: int,
    widths: Sequence[int],
    depth: Callable[[str], int],
    temperature=1.0,
    spread: float = 0.1,
) -> Tying:
    r"""Branched networks whose branches are learned: `branching` relaxed.

    $$ \theta^{(l)}_c = \sum_j (A_{d(l)})_{cj}\, \phi^{(l)}_j $$

    Branches of a layer keep together below it, since a branch is routed to one of the layer before.

    Args:
      nodes: N, the concepts.
      widths: Branches of depths 1 to L.
      depth: A leaf's depth d by its path: 0 is shared by all, L + 1 every concept's own.
      temperature, spread: As in `soft_by_group`; every branch begins at theta.

    Returns:
      A `Tying` whose phi is
      `{"structure": logits as in soft_ancestors, "bank": leaves [n_d, ...]}`; `harden_branching`
      decides.

    Papers: Guo, Lee and Ulbricht, Learning to branch for multi-task learning, ICML 2020 (there by
    straight-through Gumbel samples).
    """
    start_structure = _logits(nodes, widths, temperature, spread)
    counts = [1, *widths, nodes]

    def init(key, theta):
        leaves, shape = jax.tree.flatten(theta)
        bank = [
            jnp.broadcast_to(leaf, (counts[level], *leaf.shape))
            for level, leaf in zip(leaf_depths(theta, depth, len(widths) + 1), leaves)
        ]
        return {"structure": start_structure(key, theta), "bank": jax.tree.unflatten(shape, bank)}

    def mixed(levels, bank):
        leaves, shape = jax.tree.flatten(bank)
        depths = leaf_depths(bank, depth, len(levels) - 1)
        return jax.tree.unflatten(
            shape, [product(levels[level], leaf) for level, leaf in zip(depths, leaves)]
        )

    def at(phi):
        levels = soft_ancestors(phi["structure"], temperature)
        return lambda node: mixed([_index.taken(level, node) for level in levels], phi["bank"])

    return Tying(
        init, lambda phi: mixed(soft_ancestors(phi["structure"], temperature), phi["bank"]), at=at
    )


def decided_tree(structure: Sequence[Array]):
    """The tree in which every node goes to its likeliest parent, without nodes that nobody goes to
    or one alone.

    Args:
      structure: Logits as in `soft_ancestors`; concrete, not traced.

    Returns:
      A `jaxmeta.hierarchy.Tree` over the concepts 0 to N - 1.

    >>> import jax.numpy as jnp
    >>> decided_tree(
    ...     [jnp.eye(3)[jnp.array([0, 0, 2, 2])], jnp.eye(4)[jnp.array([0, 1, 1, 3, 3])]]
    ... ).nested()
    ((0, (1, 2)), (3, 4))
    """
    from jaxmeta.hierarchy import Tree

    ancestors = _decided(structure)

    def nested(members, depth):
        if len(members) == 1:
            return int(members[0])
        at = ancestors[depth][members]
        parts = [nested(members[at == node], depth + 1) for node in np.unique(at)]
        return tuple(parts) if len(parts) > 1 else parts[0]

    return Tree.from_nested(nested(np.arange(len(ancestors[0])), 0))


def harden_along_tree(phi: PyTree, scales=1.0, tree_scales=1.0) -> Hardened:
    """The tree of `soft_along_tree`, decided, and the differences at its nodes.

    Args:
      phi: Of the soft tree; concrete, not traced.
      scales: As given to it.
      tree_scales: Of the decided tree, whose depths are others where nodes were unused.

    Returns:
      A `Hardened` whose tying is `along_tree(tree, tree_scales, nodes=range(N))`; differences are
      in units of theta. Nodes that fall together, as one and its only child, have the sum of their
      differences.
    """
    ancestors = _decided(phi["structure"])
    counts = [1, *(logits.shape[1] for logits in phi["structure"]), len(ancestors[0])]
    *above, own = [
        np.arange(count)[:, None] == at[None] for count, at in zip(counts, ancestors)
    ]  # members: [n, N]
    tree, members = decided_tree(phi["structure"]), np.concatenate([own, *above])
    same = (tree.members[:, None] == members[None]).all(-1)
    sums = same * _units(tree.size, counts[1:-1], scales)
    delta = jax.tree.map(lambda leaf: product(sums, leaf), phi["delta"])
    return Hardened(tree, along_tree(tree, tree_scales, range(tree.size)), delta)


def harden_branching(tying: Tying, phi: PyTree, depth: Callable[[str], int]) -> Hardened:
    """The branches of `soft_branching`, decided.

    Args:
      tying: The soft one, at the temperature at which phi is meant.
      phi: Its free parameters; concrete, not traced.
      depth: As given to it.

    Returns:
      A `Hardened` whose structure is the tree of the branches; every branch is the mean of its
      concepts.
    """
    ancestors = dict(enumerate(_decided(phi["structure"])))
    leaves, shape = jax.tree.flatten(tying.expand(phi))
    bank = [
        group_means(ancestors[level], leaf)
        for level, leaf in zip(leaf_depths(phi["bank"], depth, max(ancestors)), leaves)
    ]
    return Hardened(
        decided_tree(phi["structure"]), branched(ancestors, depth), jax.tree.unflatten(shape, bank)
    )


def _decided(structure) -> list[np.ndarray]:
    """Of every depth from 0 to L + 1 `[N]`, the number of every concept's ancestor within its
    level."""
    ancestors = [np.arange(len(structure[-1]))]
    for logits in reversed(structure):
        ancestors.append(likeliest(logits)[ancestors[-1]])
    return [np.zeros(len(structure[-1]), int), *reversed(ancestors)]


def _units(nodes, widths, scales) -> Float[np.ndarray, " M"]:
    """What a difference of 1 is in theta: the scale of its depth, 1 at the root."""
    scales = checked_scales(len(widths) + 1, scales)
    if not np.isfinite(scales).all():
        raise ValueError(
            "scales of a soft tree must be finite, as they are the units of its differences, got "
            f"{scales.tolist()}; give a strength of 0 to prefer nothing"
        )
    return np.concatenate([np.full(nodes, scales[-1]), [1.0], np.repeat(scales[:-1], widths)])


def checked_levels(nodes, widths, spread) -> None:
    """Refuses a tree to be learned that has no levels, or levels without nodes."""
    checked_nodes(nodes)
    _check.number("spread", spread, above=0)
    if not len(widths):
        raise ValueError(
            "a soft tree must have at least one level between root and concepts, got no widths; "
            "use along_tree(Tree.star(nodes)) for none"
        )
    for width in widths:
        _check.whole_number("the width of a level", width, least=1)


def _logits(nodes, widths, temperature, spread) -> Callable:
    checked_levels(nodes, widths, spread)

    def start(key, theta):
        dtype = leaves_dtype(theta)
        shapes = list(zip([*widths[1:], nodes], widths))
        return tuple(
            spread * temperature * jax.random.normal(own, shape, dtype)
            for own, shape in zip(jax.random.split(key, len(shapes)), shapes)
        )

    return start
