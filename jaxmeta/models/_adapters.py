"""Any flax linen, flax nnx or equinox module as a `Model`. Axis letters: `n` examples."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable

import jax

from ._model import Model


def _stateful(kind: str, what: object) -> ValueError:
    return ValueError(
        f"{kind} must keep parameters only, got {what}; a model is a pure function, so normalise "
        "by the batch at hand (jaxmeta.models.batch_norm), by layer or by group, and leave out "
        "dropout and other state"
    )


def linen(module) -> Model:
    r"""A flax linen module as a model.

    $$ \mathrm{apply}(\phi, x) = \texttt{module.apply}(\{\texttt{"params"}: \phi\}, x) $$

    Args:
      module: A linen module called on a batch `[n, ...]`. If its `__call__` takes `reference`, it
        is handed on.

    Returns:
      A `Model`; its parameters are the nested dict of the collection `params`. Equal modules give
      one and the same model, for which programs are compiled once, unless a field cannot be hashed.

    Raises:
      ValueError: At init, for a module with other collections (running batch statistics, caches).

    Example:
      >>> import flax.linen as nn, jax, jax.numpy as jnp
      >>> model = linen(nn.Dense(3))
      >>> params = model.init(jax.random.key(0), jnp.ones((2, 4)))
      >>> model.apply(params, jnp.ones((2, 4))).shape
      (2, 3)
    """
    try:
        hash(module)
    except TypeError:
        return _linen.__wrapped__(module)
    return _linen(module)


@functools.lru_cache(maxsize=256)
def _linen(module) -> Model:
    takes_reference = "reference" in inspect.signature(type(module).__call__).parameters

    def init(key, x):
        variables = dict(module.init(key, x))
        params = variables.pop("params", {})
        if variables:
            raise _stateful(
                f"linen module {type(module).__name__}", f"the collections {sorted(variables)}"
            )
        return params

    def apply(params, x, reference=None):
        more = {"reference": reference} if takes_reference else {}
        return module.apply({"params": params}, x, **more)

    return Model(init, apply)


def nnx(make: Callable) -> Model:
    r"""A flax nnx module as a model.

    $$ \mathrm{apply}(\phi, x) = \texttt{merge}(\texttt{graph}, \phi)(x) $$

    Args:
      make: `(rngs: nnx.Rngs) -> module`; the module is called on a batch `[n, ...]` and, if its
        `__call__` takes `reference`, on that.

    Returns:
      A `Model`; its parameters are the pure nested dict of the module's `nnx.Param` state.

    Raises:
      ValueError: For a module with other state (batch statistics, dropout's random state).

    Example:
      >>> from flax import nnx as framework
      >>> import jax, jax.numpy as jnp
      >>> model = nnx(lambda rngs: framework.Linear(4, 3, rngs=rngs))
      >>> params = model.init(jax.random.key(0), jnp.ones((2, 4)))
      >>> sorted(params), model.apply(params, jnp.ones((2, 4))).shape
      (['bias', 'kernel'], (2, 3))
    """
    from flax import nnx as framework

    abstract = framework.eval_shape(lambda: make(framework.Rngs(0)))
    graph, slots, rest = framework.split(abstract, framework.Param, ...)
    name = type(abstract).__name__
    if jax.tree.leaves(rest):
        variables = jax.tree.leaves(rest, is_leaf=lambda node: isinstance(node, framework.Variable))
        kinds = {type(leaf).__name__ for leaf in variables}
        raise _stateful(f"nnx module {name}", f"state of kind {sorted(kinds)}")
    takes_reference = "reference" in inspect.signature(type(abstract).__call__).parameters

    def init(key, x):
        return framework.to_pure_dict(framework.state(make(framework.Rngs(key)), framework.Param))

    def apply(params, x, reference=None):
        more = {"reference": reference} if takes_reference else {}
        state = jax.tree.map(lambda leaf: leaf, slots)
        framework.replace_by_pure_dict(state, params)
        return framework.merge(graph, state)(x, **more)

    return Model(init, apply)


def equinox(make: Callable) -> Model:
    r"""An equinox module as a model; the module takes one example, as is the custom there, and is
    mapped over n.

    $$ \mathrm{apply}(\phi, x)_n = \texttt{combine}(\phi, \texttt{static})(x_n) $$

    Args:
      make: `(key) -> module`, called with one example `[...]`.

    Returns:
      A `Model`; its parameters are the module with all but its inexact arrays removed. It ignores
      `reference`.

    Raises:
      ValueError: For a module with state (`equinox.nn.BatchNorm` and others that hold a
        `StateIndex`).

    Example:
      >>> import equinox as eqx, jax, jax.numpy as jnp
      >>> model = equinox(lambda key: eqx.nn.Linear(4, 3, key=key))
      >>> params = model.init(jax.random.key(0), jnp.ones((2, 4)))
      >>> model.apply(params, jnp.ones((2, 4))).shape
      (2, 3)
    """
    import equinox as framework

    is_state = lambda node: isinstance(node, framework.nn.StateIndex)
    sample = make(jax.random.key(0))
    if any(map(is_state, jax.tree.leaves(sample, is_leaf=is_state))):
        raise _stateful(f"equinox module {type(sample).__name__}", "a StateIndex")
    static = framework.partition(sample, framework.is_inexact_array)[1]

    def init(key, x):
        return framework.filter(make(key), framework.is_inexact_array)

    def apply(params, x, reference=None):
        return jax.vmap(framework.combine(params, static))(x)

    return Model(init, apply)
