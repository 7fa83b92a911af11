"""A flat classifier read as a tree, and trained as both: the soft decision tree of NBDT.

`C` concepts, `I` inner nodes, `A` children at most, `n` examples.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from jaxmeta import _index
from jaxmeta.hierarchy._classifier import layout, log_softmax
from jaxmeta.hierarchy._joint import hierarchical_cross_entropy
from jaxmeta.hierarchy._tree import Tree


def soft_tree(tree: Tree, logits: Float[Array, "n C"]) -> Float[Array, "n I A"]:
    r"""`log P(child | node, x)`, as a `Classifier` gives it: a child's logit is the mean of the
    leaves' logits under it.

    $$ P(u \mid t, x) = \operatorname{softmax}_u \frac1{|u|} \sum_{c \in u} \text{logits}_c(x) $$

    With the last layer `W` that is the dot product of the features and the mean of the rows of W
    under the child; decode it by `path_product` (soft) or `greedy` (hard).

    >>> found = jnp.exp(soft_tree(Tree.from_nested((0, (1, 2))), jnp.array([[1.0, 0.0, 2.0]])))
    >>> [[f"{probability:.3f}" for probability in node] for node in found[0]]
    [['0.500', '0.500'], ['0.119', '0.881']]

    Paper: Wan et al., "NBDT: neural-backed decision trees", 2021.
    """
    arrays = layout(tree)
    under = jnp.asarray(
        arrays.shares / arrays.shares.sum(axis=1, keepdims=True).clip(1), logits.dtype
    )
    means = jnp.einsum("nc,ica->nia", logits, under)
    return jax.vmap(log_softmax, in_axes=(1, 0), out_axes=1)(means, jnp.asarray(arrays.mask))


def soft_tree_loss(
    tree: Tree, logits: Float[Array, "n C"], y: Int[Array, " n"], weight: float = 1.0
) -> Float[Array, " n"]:
    r"""The cross-entropy of a flat classifier and, weighted, that of its soft tree, of every
    example.

    $$ -\log \operatorname{softmax}(\text{logits})_y - w \log P_\text{tree}(y \mid x) $$

    This is the paper's equation; its authors' code takes a softmax of the tree's probabilities once
    more, which weighs the tree less (their gradient is about half as long).

    Args:
      tree: Over the C classes, such as `nbdt_tree` of the last layer.
      logits: Of the flat classifier; the loss may be differentiated in them.
      y: Leaves.
      weight: w, in the authors' code 1, for TinyImageNet 10; the published version weighs both
        terms anew in the course of training.

    Returns:
      `[n]`, in nats; under jit NaN for a leaf that there is not.

    Raises:
      ValueError: for leaves that are known and not 0 to C-1.

    >>> print(
    ...     soft_tree_loss(Tree.from_nested((0, (1, 2))), jnp.zeros((1, 3)), jnp.array([2])).round(
    ...         4
    ...     )
    ... )  # log 3 + log 4
    [2.4849]

    Paper: Wan et al., "NBDT: neural-backed decision trees", 2021.
    """
    y = jnp.asarray(_index.checked("y", y, tree.size, "number concepts as tree.leaf does"))
    flat = optax.softmax_cross_entropy_with_integer_labels(logits, y)
    return flat + weight * hierarchical_cross_entropy(tree, soft_tree(tree, logits), y)
