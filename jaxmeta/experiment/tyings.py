"""Schemes of tying by name, and who shares with whom under one.

What `jaxmeta tying` is made of. A new scheme is one entry of `SCHEMES`. `N` nodes, `P` entries of a
node's parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from jaxmeta import tying as jt
from jaxmeta._pytree import paths
from jaxmeta._registry import chosen
from jaxmeta.hierarchy import Tree

LAYERS = ("dense1", "dense2", "head")  # of the model that is tied, from what is near the input


class Layout(NamedTuple):
    """What a scheme may look at: a tree over the nodes, and an example of one node's parameters."""

    tree: Tree
    example: PyTree

    @property
    def nodes(self) -> int:
        """N."""
        return self.tree.size


class Scheme(NamedTuple):
    """A way to share.

    Args:
      equation: In one line.
      make: `(layout, **settings) -> Tying` between the nodes.
      settings: Their names and defaults, numbers or text; what is given must be of the same kind.
    """

    equation: str
    make: Callable[..., jt.Tying]
    settings: Mapping[str, Any] = {}


def _groups(tree: Tree) -> Int[np.ndarray, " N"]:
    """Every node's group: the root's child above it."""
    return tree.paths[:, list(tree.children[tree.root])].argmax(1)


def _common(tree: Tree) -> Float[np.ndarray, "N N"]:
    """For every two nodes the share of their ancestors that is common, 0 on the diagonal."""
    both = tree.paths.astype(float) @ tree.paths.T
    return both / both.max() * (1 - np.eye(tree.size))


def _hashed(layout: Layout, ratio) -> jt.Tying:
    """Every kernel hashed to fewer entries, all nodes alike."""
    kernels = {
        path: leaf.shape
        for path, leaf in zip(paths(layout.example), jax.tree.leaves(layout.example))
        if leaf.ndim == 2
    }
    keys = jax.random.split(jax.random.key(0), len(kernels))
    return jt.applied(
        {
            (lambda path, own=own: path == own): jt.compose(
                jt.shared(layout.nodes), jt.hashed(key, shape, max(1, math.prod(shape) // ratio))
            )
            for key, (own, shape) in zip(keys, kernels.items())
        },
        rest=jt.shared(layout.nodes),
    )


def _layer(path: str) -> int:
    return next(place for place, layer in enumerate(LAYERS) if layer in path.split("/"))


SCHEMES: dict[str, Scheme] = {
    "shared": Scheme("theta_c = phi", lambda at: jt.shared(at.nodes)),
    "free": Scheme("theta_c = phi_c", lambda at: jt.free(at.nodes)),
    "by_group": Scheme(
        "theta_c = phi_g(c), g the root's child above c", lambda at: jt.by_group(_groups(at.tree))
    ),
    "branching": Scheme(
        "theta_c^(l) = phi^(l)_a, a the ancestor of c at depth l, l the layer",
        lambda at: jt.branching(at.tree, _layer),
    ),
    "along_tree": Scheme(
        "theta_c = sum of delta_n on the path to c, penalty |delta_n|^2 / 2 s^2",
        lambda at, scale: jt.along_tree(at.tree, scale, range(at.nodes)),
        {"scale": 1.0},
    ),
    "along_tree_learned": Scheme(
        "along_tree with s of every depth learned",
        lambda at, scale: jt.along_tree_learned(at.tree, scale, range(at.nodes)),
        {"scale": 1.0},
    ),
    "laplacian": Scheme(
        "theta_c = phi_c, penalty s/2 sum a_ij |theta_i - theta_j|^2, a the share of common "
        "ancestors",
        lambda at, strength: jt.laplacian(_common(at.tree), strength),
        {"strength": 1.0},
    ),
    "partial": Scheme(
        "theta_c = (z, z_c): the leaves named own are each node's, all others shared",
        lambda at, own: jt.partial(at.nodes, own),
        {"own": "head"},
    ),
    "low_rank": Scheme(
        "W_c = W + A_c B_c", lambda at, rank: jt.low_rank(at.nodes, rank), {"rank": 1}
    ),
    "templates": Scheme(
        "W_c = sum_t a_ct B_t", lambda at, count: jt.templates(at.nodes, count), {"count": 3}
    ),
    "hashed": Scheme(
        "W_c = W, W_i = sign(i) phi_h(i): kernels of 1/ratio as many entries, all nodes alike",
        _hashed,
        {"ratio": 4},
    ),
    "soft_by_group": Scheme(
        "theta_c = sum_g softmax(s_c)_g phi_g, s learned",
        lambda at, groups: jt.soft_by_group(at.nodes, groups),
        {"groups": 3},
    ),
    "soft_along_tree": Scheme(
        "along_tree of two levels with the groups learned, as in soft_by_group",
        lambda at, groups, scale: jt.soft_along_tree(at.nodes, (groups,), scale),
        {"groups": 3, "scale": 1.0},
    ),
}
"""By name, all between nodes."""


def balanced(nodes: int) -> Tree:
    """A balanced binary tree."""
    forms = list(range(nodes))
    while len(forms) > 1:
        forms = [
            tuple(pair) if len(pair := forms[at : at + 2]) > 1 else pair[0]
            for at in range(0, len(forms), 2)
        ]
    return Tree.from_nested(forms[0])


def read_settings(given: Sequence[str] | None) -> dict[str, str]:
    """`name=value` by name; ValueError for what is not of that form."""
    parted = [each.partition("=") for each in given or ()]
    for name, sign, value in parted:
        if not (name and sign and value):
            raise ValueError(
                f"a setting must be name=value, got {name + sign + value!r}; write for example "
                "rank=2"
            )
    return {name.strip(): value.strip() for name, _, value in parted}


def tying_of(name: str, layout: Layout, settings: Mapping[str, str] | None = None) -> jt.Tying:
    """The tying of a scheme, its settings given as text.

    Raises:
      ValueError: for a scheme or a setting that is not there, or a value of another kind.
    """
    scheme, settings = SCHEMES[chosen("scheme", name, SCHEMES)], settings or {}
    made = dict(scheme.settings)
    for key, text in settings.items():
        if key not in made:
            has = f"the settings {', '.join(made)}" if made else "no settings"
            raise ValueError(f"scheme '{name}' has {has}, got {key!r}; leave it out")
        try:
            made[key] = type(made[key])(text)
        except ValueError:
            raise ValueError(
                f"{key} of scheme '{name}' must be like {made[key]!r}, got {text!r}; give one such"
            ) from None
    return scheme.make(layout, **made)


class Sharing(NamedTuple):
    """Who shares with whom.

    Args:
      reached: `[N, m]`, which free parameters a node's parameters depend on.
      colours: By leaf `[N, P]`, a number for every entry; two entries have one number where they
        depend on the same free parameters in the same way.
      full: How many parameters the nodes have.
    """

    reached: Bool[np.ndarray, "N m"]
    colours: dict[str, Int[np.ndarray, "N P"]]
    full: int

    @property
    def free(self) -> int:
        """m, how many free parameters there are."""
        return self.reached.shape[1]

    @property
    def overlap(self) -> Float[np.ndarray, "N N"]:
        """For every two nodes the share, of all free parameters that they depend on, that is common
        to both."""
        both = self.reached.astype(float) @ self.reached.T
        own = self.reached.sum(1)
        return both / (own[:, None] + own[None] - both)


def sharing(tying: jt.Tying, example: PyTree) -> Sharing:
    """Reads off a tying's derivative at random free parameters who shares with whom; for examples
    of few parameters."""
    phi = tying.init(jax.random.key(0), example)
    flat, unravel = jax.flatten_util.ravel_pytree(phi)
    flat = flat + jax.random.normal(jax.random.key(1), flat.shape, flat.dtype)

    def leaves(flat) -> list[Array]:
        return [
            leaf.reshape(leaf.shape[0], -1) for leaf in jax.tree.leaves(tying.expand(unravel(flat)))
        ]

    slopes = [np.asarray(leaf) for leaf in jax.jit(jax.jacrev(leaves))(flat)]  # [N, P, m]
    colours = {}
    for path, slope in zip(paths(example), slopes):
        rows = np.unique(slope.reshape(-1, flat.size).round(5), axis=0, return_inverse=True)[1]
        colours[path] = rows.reshape(slope.shape[:2])
    return Sharing(
        np.any([(slope != 0).any(1) for slope in slopes], axis=0),
        colours,
        sum(leaf.size for leaf in colours.values()),
    )


def small_example(hidden: int = 3) -> PyTree:
    """Parameters of the model that `jaxmeta tying run` ties, very small: for `sharing`."""
    from jaxmeta.models import mlp

    return mlp((hidden, hidden), 2).init(jax.random.key(0), jnp.ones((1, 2)))
