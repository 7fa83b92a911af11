"""Temperatures that fall while structure is learned."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from jaxmeta import _check
from jaxmeta._pytree import Where, leave, merge, named, take
from jaxmeta.tying._tying import Tying


def annealed(make: Callable[[jax.Array], Tying], temperature: float = 1.0) -> Tying:
    r"""A tying whose temperature is carried in phi, for loops that hold the tying fixed: $\theta = T_{t}(\phi)$.

    Args:
      make: `(temperature) -> Tying`, as `lambda t: soft_by_group(24, 4, t)`.
      temperature: What t begins at, above 0.

    Returns:
      A `Tying` whose phi is `{"structure": log t, "tied": that of the tying}`. Nothing keeps an optimiser from learning t; one
      made by `annealing` sets it. To decide, `make(t)` and `phi["tied"]` are what the functions that harden take.
    """
    _check.number("temperature", temperature, above=0)

    def at(phi):
        return make(jnp.exp(phi["structure"]["log_temperature"])), phi["tied"]

    def init(key, theta):
        tied = make(temperature).init(key, theta)
        kind = jnp.result_type(*jax.tree.leaves(tied))
        return {"structure": {"log_temperature": jnp.log(jnp.asarray(temperature, kind))}, "tied": tied}

    def expand(phi):
        tying, tied = at(phi)
        return tying.expand(tied)

    def penalty(phi):
        tying, tied = at(phi)
        return tying.penalty(tied)

    return Tying(init, expand, penalty)


def annealing(optimiser: optax.GradientTransformation, schedule: optax.Schedule,
              where: Where = named("log_temperature")) -> optax.GradientTransformationExtraArgs:
    """An optimiser, and beside it temperatures that follow a schedule whatever their gradient.

    Args:
      optimiser: Of all other leaves; it never sees these.
      schedule: `(step) -> temperature`, above 0, as `optax.exponential_decay(2.0, 100, 0.7, end_value=0.1)`; after i updates the
        temperature is `schedule(i)`.
      where: The leaves that hold the logarithm of a temperature.

    >>> import jax.numpy as jnp
    >>> moved = annealing(optax.sgd(0.1), optax.constant_schedule(1.0))
    >>> phi = {"log_temperature": jnp.array(0.5), "tied": jnp.array(3.0)}
    >>> updates, _ = moved.update(phi, moved.init(phi), phi)
    >>> {name: round(float(leaf), 3) for name, leaf in optax.apply_updates(phi, updates).items()}
    {'log_temperature': 0.0, 'tied': 2.7}
    """
    inner = optax.with_extra_args_support(optimiser)

    def init(phi):
        return jnp.zeros((), int), inner.init(leave(phi, where))

    def update(grads, state, phi=None, **more):
        if phi is None:
            raise ValueError("annealing must be told where the temperature is, got no parameters; call update(grads, state, phi)")
        step, memory = state
        updates, memory = inner.update(leave(grads, where), memory, leave(phi, where), **more)
        due = jax.tree.map(lambda leaf: jnp.log(schedule(step + 1)).astype(leaf.dtype) - leaf, take(phi, where))
        return merge(due, updates), (step + 1, memory)

    return optax.GradientTransformationExtraArgs(init, update)
