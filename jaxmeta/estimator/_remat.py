"""What of a run is stored and what is computed again: plans, each standing for `jax.lax.scan`.

A plan is called as `plan(step, carry, xs) -> (carry, ys)`. All nest and can be differentiated
again, in either direction: those here are plain scans and rematerialisations. A `within` is the
plan of the steps of one part, run when the derivative returns to it.

Memory below counts carries (parameters and optimiser state) over K steps; work counts runs of the
steps forward beyond the one that storing all needs.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from jaxmeta import _check

Plan = Callable
"""Stands for `jax.lax.scan`: `plan(step, carry, xs) -> (carry, ys)`, xs and ys stacked
`[K, ...]`."""

_SHORT = 8


def storing(step, carry, xs):
    """Stores all: no step is run again. At most 8 steps are written out one after the other, more
    are scanned.

    What a scan stores it stacks, and later takes from the stack, which for few large steps takes as
    long as a third of the computation (a Conv4 on a CPU, benchmarks/README.md); written out,
    compiling takes up to twice as long.
    """
    steps = length(xs)
    if not 0 < steps <= _SHORT:
        return jax.lax.scan(step, carry, xs)
    kept = []
    for index in range(steps):
        carry, y = step(carry, jax.tree.map(lambda x: x[index], xs))
        kept.append(y)
    return carry, jax.tree.map(lambda *ys: jnp.stack(ys), *kept)


def each_step(step, carry, xs):
    """Stores the carry before every step: K carries, one run more. Worth it where activations
    outweigh parameters."""
    return jax.lax.scan(jax.checkpoint(step, prevent_cse=False), carry, xs)


def saving(*names: str) -> Plan:
    """As `each_step`, but what has one of these checkpoint names is stored besides, and not
    computed again.

    Args:
      names: 'inner_gradient', which every inner step has, or names given with
        `jax.ad_checkpoint.checkpoint_name`.
    """
    policy = jax.checkpoint_policies.save_only_these_names(*names)
    return lambda step, carry, xs: jax.lax.scan(
        jax.checkpoint(step, policy=policy, prevent_cse=False), carry, xs
    )


def segments(*counts: int, within: Plan = storing) -> Plan:
    """Stores the carry before each of n_1 segments, within a segment before each of n_2 parts of
    it, and so on.

    Args:
      counts: n_1, n_2, ..., each at least 1; None given means one level of sqrt(K). Memory is their
        sum and the steps of one innermost part, K / (n_1 n_2 ...); work is as many runs as there
        are levels.
      within: The plan of the innermost parts.

    Reference: Chen et al., Training deep nets with sublinear memory cost, 2016.
    """
    for count in counts:
        _check.whole_number("a count of segments", count, least=1)

    def plan(step, carry, xs):
        return _levels(step, carry, xs, counts or (max(1, math.isqrt(length(xs))),), within)

    return plan


def rebuilding(*counts: int) -> Plan:
    """As `segments`, but no step is run again: parameters, gradients and moments are rebuilt from
    the activations, which are stored.

    What is computed again is what has as many elements as a matrix of the carry: the products that
    make gradients, and the update. Worth it where parameters outweigh activations, for time too, as
    what was rebuilt is still in the cache when it is read. Differentiated around a map over tasks,
    not within it as estimators do, it stores all.

    Args:
      counts: As in `segments`; none given means segments of 8 steps, which `storing` writes out one
        after the other.
    """
    for count in counts:
        _check.whole_number("a count of segments", count, least=1)

    def plan(step, carry, xs):
        sizes = {jnp.size(x) for x in jax.tree.leaves(carry) if jnp.ndim(x) > 1}

        def small(primitive, *args, **params):
            # A call of a function with a rule of its own, relu for example, has a program and no
            # abstract evaluation.
            results = (
                params["call_jaxpr"].out_avals
                if "call_jaxpr" in params
                else jax.tree.leaves(primitive.abstract_eval(*args, **params)[0])
            )
            return all(x.size not in sizes for x in results)

        return _levels(step, carry, xs, counts or (math.ceil(length(xs) / _SHORT),), storing, small)

    return plan


def offloading(step, carry, xs):
    """As `each_step`, with the carries in the host's memory, where the backend has one of its own.

    Raises:
      ValueError: If the default device has no pinned host memory.
    """
    kinds = {memory.kind for memory in jax.devices()[0].addressable_memories()}
    if not {"device", "pinned_host"} <= kinds:
        raise ValueError(
            "offloading needs a device with memory of its own beside 'pinned_host', got "
            f"{sorted(kinds)} on {jax.default_backend()}; take segments() or binomial(slots) there"
        )
    policy = jax.checkpoint_policies.save_and_offload_only_these_names(
        names_which_can_be_saved=[],
        names_which_can_be_offloaded=["inner_state"],
        offload_src="device",
        offload_dst="pinned_host",
    )

    def named(carry, x):
        return step(checkpoint_name(carry, "inner_state"), x)

    return jax.lax.scan(jax.checkpoint(named, policy=policy, prevent_cse=False), carry, xs)


def _levels(step, carry, xs, counts, within, policy=None):
    if not counts:
        return within(step, carry, xs)
    steps = length(xs)
    size = max(1, math.ceil(steps / counts[0]))
    whole = steps // size

    def part(carry, xs):
        return _levels(step, carry, xs, counts[1:], within, policy)

    parts = jax.tree.map(lambda x: x[: whole * size].reshape(whole, size, *x.shape[1:]), xs)
    carry, ys = jax.lax.scan(jax.checkpoint(part, policy=policy, prevent_cse=False), carry, parts)
    ys = jax.tree.map(lambda y: y.reshape(whole * size, *y.shape[2:]), ys)
    if whole * size == steps:
        return carry, ys
    carry, more = jax.checkpoint(part, policy=policy)(
        carry, jax.tree.map(lambda x: x[whole * size :], xs)
    )
    return carry, jax.tree.map(lambda a, b: jnp.concatenate([a, b]), ys, more)


def length(xs) -> int:
    """K, of what is stacked `[K, ...]`."""
    return jax.tree.leaves(xs)[0].shape[0]
