"""Leaves by name: which leaves of a tree somebody claims, taking them out and putting them back."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from jaxmeta.base import Count

Where = Callable[[str], bool]
"""Which leaves are meant: a predicate on a leaf's path, its names joined by '/', as in
'head/kernel'."""


def counted(tree: PyTree, begun=0, done=0) -> PyTree:
    """The tree whose counts are so much higher."""
    return jax.tree.map(
        lambda part: (
            Count(part.begun + begun, part.done + done) if isinstance(part, Count) else part
        ),
        tree,
        is_leaf=_counts,
    )


def counts(tree: PyTree) -> bool:
    """Whether a part of the tree counts steps."""
    return any(map(_counts, jax.tree.leaves(tree, is_leaf=_counts)))


def _counts(part) -> bool:
    return isinstance(part, Count)


def everything(path: str) -> bool:
    """The `where` that means every leaf."""
    return True


def named(*names: str) -> Where:
    """The leaves whose path has one of these names in it.

    >>> named("head")("head/kernel"), named("head")("body/kernel")
    (True, False)
    """
    return lambda path: not set(names).isdisjoint(path.split("/"))


def excluding(*names: str) -> Where:
    """The leaves whose path has none of these names in it."""
    return lambda path: set(names).isdisjoint(path.split("/"))


def paths(tree: PyTree) -> list[str]:
    """The path of every leaf, its names joined by '/'."""
    return [
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, _ in jax.tree_util.tree_leaves_with_path(tree)
    ]


def take(tree: PyTree, where: Where) -> PyTree:
    """The tree with None in the place of every leaf that `where` does not mean, and of every
    `Count`."""
    tree = jax.tree.map(lambda part: None if _counts(part) else part, tree, is_leaf=_counts)
    leaves, structure = jax.tree.flatten(tree)
    return jax.tree.unflatten(
        structure, [leaf if where(path) else None for path, leaf in zip(paths(tree), leaves)]
    )


def claim(phi: PyTree, where: Where) -> PyTree:
    """`take` for the parameters phi of a learner; refuses, by ValueError, to claim nothing."""
    theta = take(phi, where)
    names = paths(take(phi, everything))
    if names and not jax.tree.leaves(theta):
        raise ValueError(
            "where must mean at least one leaf of the learner's parameters, got none of "
            f"{', '.join(names[:8])}; name one of them, for example with jaxmeta.named"
        )
    return theta


def leave(tree: PyTree, where: Where) -> PyTree:
    """The tree with None in the place of every leaf that `where` means: what `take` did not
    take."""
    return jax.tree.map(
        lambda taken, rest: rest if taken is None else None,
        take(tree, where),
        tree,
        is_leaf=lambda leaf: leaf is None,
    )


def merge(first: PyTree, second: PyTree) -> PyTree:
    """Puts together what `take` and `leave` parted: the leaves of first, and those of second where
    first has None."""
    return jax.tree.map(
        lambda a, b: b if a is None else a, first, second, is_leaf=lambda leaf: leaf is None
    )


def moving(tree: PyTree) -> PyTree:
    """The tree with None in the place of every leaf that is no real or complex number: whole
    numbers, booleans, keys. They are constants of both levels. A tree without such leaves comes
    back as it is."""
    return (
        tree
        if all(map(_moves, jax.tree.leaves(tree)))
        else jax.tree.map(lambda leaf: leaf if _moves(leaf) else None, tree)
    )


def constants(tree: PyTree) -> PyTree:
    """What `moving` leaves out."""
    return jax.tree.map(lambda leaf: None if _moves(leaf) else leaf, tree)


def _moves(leaf) -> bool:
    if not hasattr(leaf, "dtype") and not isinstance(leaf, bool | int | float | complex):
        raise ValueError(
            f"parameters must be arrays or numbers, got {type(leaf).__name__} {leaf!r}; close over "
            "it, or keep it where the model is made"
        )
    return jnp.issubdtype(
        leaf.dtype if hasattr(leaf, "dtype") else jnp.result_type(leaf), jnp.inexact
    )


def nbytes(tree: PyTree) -> int:
    """Bytes in all leaves; shapes are enough."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def leaves_dtype(tree: PyTree):
    """What the leaves' dtypes promote to; float of none."""
    leaves = jax.tree.leaves(tree)
    return jnp.result_type(*leaves) if leaves else float
