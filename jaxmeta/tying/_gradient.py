"""A step's gradient under a tying, node by node. Axis letters: `N` nodes."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from jaxmeta._pytree import nbytes
from jaxmeta.parallel import Mapper, over_tasks
from jaxmeta.tying._tying import Tying, nodes_of, nodewise


def value_and_grad(
    loss: Callable[..., Array], tying: Tying, over: Mapper | None = None
) -> Callable[..., tuple[Array, PyTree]]:
    r"""The mean of a loss over the nodes, and its gradient in phi, as `jax.value_and_grad` gives
    it, in less memory.

    $$ L = \tfrac1N \sum_c \ell(T(\phi)_c, d_c), \qquad
       \nabla_\phi L = \tfrac1N\, T'(\phi)^\top (\nabla_\theta \ell(\theta_c, d_c))_c $$

    A node's parameters are made where they are used, its gradient is taken while its activations
    are there, and the transpose is applied once: one array of the size of T(phi), the gradients, is
    all that is held, and where phi is no larger than one node's parameters not even that. The
    penalty is not in it: add `jax.value_and_grad(tying.penalty)(phi)`.

    Args:
      loss: `(theta, *d) -> scalar`, of one node.
      tying: Between nodes.
      over: How nodes are mapped, as tasks are; default `jaxmeta.over_tasks()`.

    Returns:
      `(phi, *data) -> (value, grad)`, data `[N, ...]`. For derivatives in data differentiate
      `tied`.

    Raises:
      ValueError: For data of another number of nodes.

    Example:
      >>> import jax.numpy as jnp, jaxmeta.tying as jt
      >>> step = jt.value_and_grad(lambda theta, d: (theta - d) ** 2, jt.by_group([0, 1, 0, 1]))
      >>> value, grad = step(
      ...     jnp.array([1.0, 2.0], "float32"), jnp.array([1.0, 2.0, 3.0, 4.0], "float32")
      ... )
      >>> float(value), grad.tolist()
      (2.0, [-1.0, -1.0])
    """
    over = over_tasks() if over is None else over

    def run(phi, *data):
        nodes = nodes_of(tying, phi)
        for leaf in jax.tree.leaves(data):
            if jnp.shape(leaf)[:1] != (nodes,):
                raise ValueError(
                    f"data must be of each of the {nodes} nodes, [{nodes}, ...], got shape "
                    f"{jnp.shape(leaf)}; use at_node for one node alone"
                )
        one = nbytes(jax.eval_shape(tying.expand, phi)) // nodes
        batched, task_bytes = (jnp.arange(nodes), data), one + nbytes(data) // nodes
        if nbytes(phi) <= one:

            def in_phi(phi, each):
                node, own = each
                return jax.value_and_grad(lambda phi: loss(nodewise(tying, phi)(node), *own))(
                    phi
                ), ()

            return over(in_phi, phi, batched, task_bytes)[0]
        theta, held = jax.closure_convert(
            nodewise(tying, phi), jnp.zeros((), int)
        )  # devices share what is handed over

        def in_theta(held, each):
            node, own = each
            value, grad = jax.value_and_grad(loss)(theta(node, *held), *own)
            return value, jax.tree.map(
                lambda leaf: leaf / nodes, grad
            )  # here, where it is in the cache

        value, grads = over(in_theta, held, batched, task_bytes)
        return value, jax.vjp(tying.expand, phi)[1](grads)[0]

    return run
