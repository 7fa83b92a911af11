"""Models under a tying. Axis letters: `N` nodes, `n` examples a node."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from jaxmeta import _check
from jaxmeta.models import Model
from jaxmeta.parallel import Mapper, over_tasks
from jaxmeta.tying._operator import checked_nodes
from jaxmeta.tying._tying import Tying


def tied(model: Model, tying: Tying, over: Mapper | None = None) -> Model:
    r"""A model of all nodes, $y_c = f(T(\phi)_c, x_c)$; any module of flax or equinox by the
    adapters of `jaxmeta.models`.

    Args:
      model: Of one node.
      tying: Between nodes.
      over: How nodes are mapped, as tasks are; default `jaxmeta.over_tasks()`.

    Returns:
      A `Model` whose parameters are phi, from `x: [N, n, ...]` to `[N, n, ...]`. For one node alone
      apply the model to `at_node(tying, phi, node)`; to train by a loss a node, `value_and_grad`
      needs neither T(phi) nor all activations whole.

    Example:
      >>> import jax, jax.numpy as jnp, jaxmeta as jm, jaxmeta.tying as jt
      >>> model = jt.tied(jm.models.mlp([8], 2), jt.low_rank(nodes=5, rank=1))
      >>> x = jnp.ones((5, 3, 4))
      >>> model.apply(model.init(jax.random.key(0), x), x).shape
      (5, 3, 2)
    """
    over = over_tasks() if over is None else over

    def init(key, x):
        key_model, key_tying = jax.random.split(key)
        return tying.init(key_tying, model.init(key_model, x[0]))

    def apply(phi, x, reference=None):
        theta = tying.expand(phi)
        nodes = jax.tree.leaves(theta)[0].shape[0]
        if x.shape[0] != nodes:
            raise ValueError(
                f"a tied model takes a batch of each of its {nodes} nodes, [{nodes}, n, ...], got "
                f"shape {x.shape}; use at_node for one node alone"
            )
        given = (theta, x) if reference is None else (theta, x, reference)
        return over(lambda _, one: ((), model.apply(*one)), (), given)[1]

    return Model(init, apply)


def scan_layers(apply: Callable[[PyTree, Array], Array], theta: PyTree, x: Array) -> Array:
    r"""Layers of one shape one after the other, $x \leftarrow f(\theta_l, x)$, by a scan.

    Args:
      apply: `(theta_l, x) -> x`, one layer.
      theta: `[layers, ...]`, as a tying between layers gives them: `universal`, `templates`,
        `along_tree`.
      x: What goes in.

    >>> import jax.numpy as jnp, jaxmeta.tying as jt
    >>> theta = jt.universal(3).expand(jnp.array(2.0))
    >>> float(jt.scan_layers(lambda w, x: w * x, theta, jnp.ones((), theta.dtype)))
    8.0
    """
    return jax.lax.scan(lambda x, layer: (apply(layer, x), None), x, theta)[0]


def cross_stitch(nodes: int, own: float = 0.9) -> Model:
    r"""A cross-stitch unit: activations of the nodes are mixed,
    $\tilde h_a = \sum_b \alpha_{ab} h_b$.

    It ties what nodes compute and not what they are, so it is a `Model` that stands between layers:
    its one parameter is alpha `[N, N]`, which begins at `own` on the diagonal and shares the rest
    equally (the paper's 0.9 and 0.1). Common re-implementations have one alpha a channel; the paper
    moves alpha by a far larger rate than the nets.

    Args:
      nodes: N.
      own: Between 0 and 1.

    Returns:
      A `Model` from `h: [N, n, ...]` to the same shape.

    Paper: Misra et al., Cross-stitch networks for multi-task learning, CVPR 2016.
    """
    checked_nodes(nodes)
    _check.number("own", own, least=0)

    def init(key, x):
        eye = jnp.eye(nodes, dtype=x.dtype)
        return own * eye + (1 - own) / max(1, nodes - 1) * (1 - eye)

    return Model(init, lambda alpha, x, reference=None: jnp.tensordot(alpha, x, 1))
