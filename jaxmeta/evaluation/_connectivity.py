"""Linear mode connectivity: the barrier between two nets, after their hidden units are put in the
same order.

Axis letters: `P` points of the segment.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from jaxmeta import _check
from jaxmeta._pytree import paths

Axes = Mapping[str, tuple[str | None, ...]]
"""Which axes are permuted together: a group's name, or None, for every axis of a leaf, by the
leaf's path."""


class Barrier(NamedTuple):
    """The loss along a segment.

    Args:
      height: The most by which it exceeds the line between its ends, at least 0, in the loss's
        unit.
      t: Where it was taken, `[P]` from 0 to 1.
      losses: `[P]`.
    """

    height: Float[Array, ""]
    t: Float[Array, " P"]
    losses: Float[Array, " P"]


def barrier(loss: Callable, first: PyTree, second: PyTree, points: int = 25) -> Barrier:
    r"""The loss barrier on the line from one net to another.

    $$ \max_t L((1 - t) a + t b) - ((1 - t) L(a) + t L(b)) $$

    Args:
      loss: `params -> scalar`.
      first, second: Parameters a and b.
      points: P, the points taken, both ends among them; at least 3. They are taken one after
        another.

    Raises:
      ValueError: If the two are of different nets, or there are too few points.

    >>> height, t, losses = barrier(lambda w: (w**2 - 1) ** 2, -1.0, 1.0, points=3)
    >>> float(height), losses.tolist()
    (1.0, [0.0, 1.0, 0.0])

    Frankle et al., "Linear mode connectivity and the lottery ticket hypothesis", ICML 2020, measure
    from the mean of the two ends, which is the same where these are equal.

    Paper: Entezari et al., "The role of permutation invariance in linear mode connectivity of
    neural networks", ICLR 2022.
    """
    _check.whole_number("points", points, least=3)
    _check.same_structure(
        "the second net", first, second, "give parameters of two nets of one architecture"
    )
    t = jnp.linspace(0, 1, points)

    def at(t):
        return loss(
            jax.tree.map(
                lambda a, b: ((1 - t) * a + t * b).astype(jnp.result_type(a, b)), first, second
            )
        )

    losses = jax.lax.map(at, t)
    return Barrier(jnp.max(losses - ((1 - t) * losses[0] + t * losses[-1])), t, losses)


def sequential_axes(params: PyTree) -> dict[str, tuple[str | None, ...]]:
    """The axes that are permuted together in nets of one layer after another: `mlp`, `conv4`,
    `conv1d`.

    The outputs of a kernel are one group with the inputs of the next and with the vectors of the
    same layer, which is told by folder or number (`norm2/scale` goes with `conv2/kernel`). Inputs
    of the first and outputs of the last stay where they are. Layers are in order of their paths,
    numbers as numbers.

    Args:
      params: Parameters; shapes are enough.

    Raises:
      ValueError: For leaves that are neither kernels (last axes inputs, outputs) nor vectors of
        such a layer.

    >>> import numpy as np
    >>> layer = {"kernel": np.ones((2, 5)), "bias": np.ones(5)}
    >>> sequential_axes({"dense1": layer, "head": {"kernel": np.ones((5, 3))}})
    {'dense1/kernel': (None, '1'), 'head/kernel': ('1', None), 'dense1/bias': ('1',)}
    """
    shapes = dict(zip(paths(params), map(jnp.shape, jax.tree.leaves(params))))
    ordered = sorted(
        shapes,
        key=lambda path: [
            int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path)
        ],
    )
    kernels = [path for path in ordered if len(shapes[path]) > 1]
    groups = {_layer(path): _layer(path) for path in kernels[:-1]} | {
        _layer(path): None for path in kernels[-1:]
    }
    if len(groups) < len(kernels):
        raise ValueError(
            f"sequential_axes tells layers by number, got two of one number among {kernels}; give "
            "the axes of this net yourself, as a dict of group names by path"
        )
    axes, before = {}, None
    for path in kernels:
        axes[path] = (*[None] * (len(shapes[path]) - 2), before, before := groups[_layer(path)])
    for path in ordered:
        if path not in axes:
            if len(shapes[path]) != 1 or _layer(path) not in groups:
                raise ValueError(
                    f"sequential_axes knows kernels and the vectors of their layers, got '{path}' "
                    f"of shape {shapes[path]}; give the axes of this net yourself, as a dict of "
                    "group names by path"
                )
            axes[path] = (groups[_layer(path)],)
    return axes


def permuted(params: PyTree, permutations: Mapping[str, np.ndarray], axes: Axes) -> PyTree:
    """The parameters with the units of every group in another order: unit i becomes what unit
    `permutations[group][i]` was.

    Groups that are not among the permutations stay; what is no permutation is refused. A net's
    function stays what it was if `axes` are right. An axis r times as long as its group (inputs
    after flattened places) is r blocks of it.

    >>> import numpy as np
    >>> permuted(
    ...     {"bias": np.array([5.0, 6.0, 7.0])},
    ...     {"hidden": np.array([2, 0, 1])},
    ...     {"bias": ("hidden",)},
    ... )
    {'bias': array([7., 5., 6.])}
    """
    for group, order in permutations.items():
        if not np.array_equal(np.sort(order), np.arange(len(order))):
            raise ValueError(
                f"the order of group '{group}' must name each of its {len(order)} units once, got "
                f"{np.asarray(order).tolist()}; give a permutation"
            )

    def one(path, leaf):
        for axis, group in enumerate(axes[path]):
            if group in permutations:
                order = permutations[group]
                blocks = leaf.reshape(*leaf.shape[:axis], -1, len(order), *leaf.shape[axis + 1 :])
                leaf = blocks.take(order, axis=axis + 1).reshape(leaf.shape)
        return leaf

    return jax.tree.unflatten(
        jax.tree.structure(params), map(one, paths(params), jax.tree.leaves(params))
    )


class Matching(NamedTuple):
    """What `weight_matching` found.

    Args:
      params: The second net, its units in the order of the first's.
      permutations: Of every group, `[width]`, for `permuted`.
      product: `<a, pi(b)>`, what was maximised.
      sweeps: How often all groups were gone through.
      converged: Did no group gain in the last of them? Else the sweeps ran out.
    """

    params: PyTree
    permutations: dict[str, np.ndarray]
    product: float
    sweeps: int
    converged: bool


def weight_matching(
    key, first: PyTree, second: PyTree, axes: Axes | None = None, sweeps: int = 100
) -> Matching:
    r"""Orders the hidden units of a net as those of another, by weights alone.

    $$ \max_\pi \; \langle a, \pi(b) \rangle, $$
    group by group in random order, each a linear assignment with the others held, until no group
    gains. The result is a local maximum and depends on the key, the more so the deeper and narrower
    the nets: of several keys, take the one of the largest `product`.

    Args:
      key: Draws the order of groups.
      first: a, which stays.
      second: b, which is permuted.
      axes: Which axes go together; None takes `sequential_axes(first)`.
      sweeps: At most so many.

    Returns:
      A `Matching`, on the host: it is no part of a jitted program.

    Raises:
      ValueError: If the two are of different nets or not finite, or `axes` do not fit them.

    >>> import jax, numpy as np
    >>> a, b, order = np.array([[1.0, 2.0, 3.0]]), np.array([[4.0], [5.0], [6.0]]), [2, 0, 1]
    >>> net = {"l1": {"kernel": a}, "l2": {"kernel": b}}
    >>> other = {"l1": {"kernel": a[:, order]}, "l2": {"kernel": b[order]}}
    >>> weight_matching(jax.random.key(0), net, other).permutations["1"].tolist()
    [1, 2, 0]

    Paper: Ainsworth, Hayase and Srinivasa, "Git re-basin: merging models modulo permutation
    symmetries", 2023, algorithm 1.
    """
    from scipy.optimize import linear_sum_assignment

    _check.same_structure(
        "the second net", first, second, "give parameters of two nets of one architecture"
    )
    _check.whole_number("sweeps", sweeps, least=1)
    axes = sequential_axes(first) if axes is None else axes
    first, moved = (jax.tree.map(np.asarray, tree) for tree in (first, second))
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((first, moved))):
        raise ValueError(
            "parameters must be finite to be matched, got NaN or infinity; look at how the nets "
            "were trained"
        )
    orders = {group: np.arange(width) for group, width in _widths(first, axes).items()}
    generator = np.random.default_rng(np.asarray(jax.random.bits(key, (4,))))
    sweep, gained = 0, True
    while gained and sweep < sweeps:
        sweep, gained = sweep + 1, False
        for group in generator.permutation(sorted(orders)).tolist():
            likeness = _likeness(group, len(orders[group]), first, moved, axes)
            order = linear_sum_assignment(likeness, maximize=True)[1]
            gain = likeness[np.arange(len(order)), order].sum() - np.trace(likeness)
            if (
                gain > 1e-6 * np.abs(likeness).max()
            ):  # less is rounding, and would go in circles between ties
                gained, orders[group] = True, orders[group][order]
                moved = permuted(moved, {group: order}, axes)
    product = sum(
        float(np.vdot(a, b)) for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(moved))
    )
    return Matching(jax.tree.map(jnp.asarray, moved), orders, product, sweep, not gained)


def _layer(path: str) -> str:
    """What a kernel shares with the vectors of its layer: the folder, of whose last name only the
    number counts, if any."""
    return re.sub(r"[^/\d]+(?=\d+$)", "", path.rpartition("/")[0])


def _widths(params, axes) -> dict[str, int]:
    """The units of every group: its shortest axis, of which every other must be a multiple."""
    found = {}
    for path, leaf in zip(paths(params), jax.tree.leaves(params)):
        if path not in axes or len(axes[path]) != leaf.ndim:
            raise ValueError(
                f"axes must name every axis of the leaf '{path}' of shape {leaf.shape}, got "
                f"{axes.get(path)}; give a group or None for each"
            )
        for axis, group in enumerate(axes[path]):
            if group is not None:
                found.setdefault(group, []).append(leaf.shape[axis])
    for group, sizes in found.items():
        if any(size % min(sizes) for size in sizes):
            raise ValueError(
                f"the axes of group '{group}' must be multiples of the shortest, got lengths "
                f"{sizes}; permute together only what belongs together"
            )
    return {group: min(sizes) for group, sizes in found.items()}


def _likeness(group, width, first, second, axes):
    """Of each unit of the first net with each of the second, the sum of products of their
    weights."""
    total = np.zeros((width, width))
    for path, *pair in zip(paths(first), jax.tree.leaves(first), jax.tree.leaves(second)):
        for axis, name in enumerate(axes[path]):
            if name == group:
                rows = [
                    np.moveaxis(
                        leaf.reshape(*leaf.shape[:axis], -1, width, *leaf.shape[axis + 1 :]),
                        axis + 1,
                        0,
                    )
                    .reshape(width, -1)
                    .astype(np.float64)
                    for leaf in pair
                ]
                total += rows[0] @ rows[1].T
    return total
