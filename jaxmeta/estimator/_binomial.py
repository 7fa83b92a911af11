"""Reversing a run from few stored carries, with the fewest steps computed again."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxmeta import _check
from jaxmeta._linear import closed, linear_map, replaced, with_derivative
from jaxmeta.estimator._remat import Plan, length


def binomial(slots: int) -> Plan:
    """A plan that stores at most so many carries at a time, and reverses with the fewest steps run
    again that this allows.

    Nothing is stored on the way forward. With s slots and r runs more C(s + r, r) steps can be
    reversed: at a given memory work grows with the logarithm of K. The schedule is worked out
    beforehand and followed by loops inside the compiled program, whose size does not depend on K.
    Second derivatives are right, but store all steps.

    Args:
      slots: Carries stored at a time, the first included, at least 1.

    Reference: Griewank and Walther, Algorithm 799: revolve, ACM TOMS 2000.
    """
    _check.whole_number("slots", slots, least=1)

    def plan(step, carry, xs):
        steps = length(xs)
        if steps <= 1:
            return lax.scan(step, carry, xs)
        state, structure = jax.tree.flatten(carry)
        inputs = jax.tree.leaves(xs)
        run, rest, (_, y) = closed(step, carry, jax.tree.map(lambda x: x[0], xs))
        a, b = len(state), len(state) + len(inputs)

        def one(state, x, rest):
            results = run(*state, *x, *rest)
            return results[:a], results[a:]

        def chain(*args):
            end, ys = lax.scan(
                lambda state, x: one(state, x, args[b:]), list(args[:a]), list(args[a:b])
            )
            return [*end, *ys]

        order = schedule(steps, min(slots, steps - 1))

        def reverse(args, kept, moving, cotangents):
            return _reverse(one, a, b, *order, args, moving, cotangents)

        results = with_reverse(chain, reverse, a)(*state, *inputs, *rest)
        return jax.tree.unflatten(structure, results[:a]), jax.tree.unflatten(
            jax.tree.structure(y), results[a:]
        )

    return plan


def with_reverse(chain, reverse, first: int, plain=None):
    """The function `chain(*args) -> [results]` of arrays, with a way of its own back through it.

    All derivatives are there: forward mode and second derivatives are those of `plain`, which
    stores all steps.

    Args:
      reverse: `(args, kept, moving, {place: cotangent of that result}) -> [cotangents of args[i]
        for i in moving]`, `kept` being the results that are no real numbers.
      first: The first so many arguments count as moving, where they are real: a state without a
        derivative at first may have one after a step.
      plain: The function whose derivative is meant, on the places of the real results; default
        `chain`.
    """
    plain = chain if plain is None else plain

    def rule(args, moving, dots):
        count, results = (
            len(args),
            function(*args),
        )  # Not `chain`: who differentiates this in turn must find the rule.
        real = [i for i, x in enumerate(results) if _real(x)]
        kept = [x for x in results if not _real(x)]
        dots = dict(zip(moving, dots))
        moving = sorted({i for i in range(first) if _real(args[i])} | set(dots))
        part = count + len(kept)

        def varied(args):
            def of(*values):
                results = plain(*replaced(args, moving, values))
                return [results[i] for i in real]

            return of, [args[i] for i in moving]

        def forward(dots, *fixed):
            return jax.jvp(*varied(fixed[:count]), dots)[1]

        def plainly(*both):
            of, at = varied(both[:count])
            return list(jax.vjp(of, *at)[1](list(both[part:])))

        def reversed_(*both):
            return reverse(both[:count], both[count:part], moving, dict(zip(real, both[part:])))

        def again(both, places, dots):
            _, more = jax.jvp(
                lambda *values: plainly(*replaced(both, places, values)),
                [both[i] for i in places],
                dots,
            )
            return backward(*both), more

        backward = with_derivative(reversed_, again)
        turned = linear_map(
            forward,
            lambda v, *fixed: backward(*fixed, *v),
            [dots.get(i, jnp.zeros_like(args[i])) for i in moving],
            *args,
            *kept,
            like=[results[i] for i in real],
        )
        tangents = dict(zip(real, turned))
        return results, [tangents.get(i) for i in range(len(results))]

    function = with_derivative(chain, rule)
    return function


def _reverse(one, a, b, legs, ranges, args, moving, cotangents):
    """The cotangents of the arguments in the places `moving`, from those of the results."""
    first, inputs, rest = list(args[:a]), list(args[a:b]), list(args[b:])
    legs = jnp.asarray(legs)
    of_state = [i for i in moving if i < a]
    of_inputs = [i for i in moving if a <= i < b]
    of_rest = [i for i in moving if i >= b]
    stored = [
        jnp.zeros((1 + int(ranges[:, 2].max()), *x.shape), x.dtype).at[0].set(x) for x in first
    ]

    def at(stacked, place):
        return [lax.dynamic_index_in_dim(x, place, keepdims=False) for x in stacked]

    def leg(index, stored):
        slot, low, high = legs[index]
        state = lax.fori_loop(
            low, high, lambda k, state: one(state, at(inputs, k), rest)[0], at(stored, slot)
        )
        return [
            lax.dynamic_update_index_in_dim(all_, x, slot + 1, 0) for all_, x in zip(stored, state)
        ]

    def back(carry, one_range_and_ys):
        stored, ct_state, ct_rest = carry
        (low, high, slot), k, ct_ys = one_range_and_ys
        stored = lax.fori_loop(low, high, leg, stored)
        state, x = at(stored, slot), at(inputs, k)

        def of(values_state, values_inputs, values_rest):
            end, ys = one(
                replaced(state, of_state, values_state),
                replaced(x, [i - a for i in of_inputs], values_inputs),
                replaced(rest, [i - b for i in of_rest], values_rest),
            )
            return [end[i] for i in of_state], [y for y in ys if _real(y)]

        values = (
            [state[i] for i in of_state],
            [x[i - a] for i in of_inputs],
            [rest[i - b] for i in of_rest],
        )
        ct_state, ct_x, more = jax.vjp(of, *values)[1]((ct_state, ct_ys))
        return (stored, ct_state, jax.tree.map(jnp.add, ct_rest, more)), ct_x

    start = (stored, [cotangents[i] for i in of_state], [jnp.zeros_like(args[i]) for i in of_rest])
    steps = np.arange(len(ranges))
    ct_ys = [ct for i, ct in cotangents.items() if i >= a]
    (_, ct_state, ct_rest), ct_inputs = lax.scan(back, start, (ranges, steps, ct_ys), reverse=True)
    return [*ct_state, *ct_inputs, *ct_rest]


def _real(x) -> bool:
    return jnp.issubdtype(x.dtype, jnp.inexact)


def schedule(steps: int, slots: int) -> tuple[np.ndarray, np.ndarray]:
    """How to reverse a run: `(legs, ranges)`.

    Returns:
      legs: `[L, 3]` of (slot, low, high): run from step low, whose carry is in the slot, to step
        high; store in slot + 1.
      ranges: `[K, 3]` of (low, high, slot): before step k is reversed, legs low to high are run;
        its carry is then in the slot.
    """
    legs, ranges, positions = [], [], [0]
    for k in reversed(range(steps)):
        low = len(legs)
        while positions[-1] < k:
            slot = len(positions) - 1
            ahead = positions[-1] + _first(k + 1 - positions[-1], slots - slot)
            legs.append((slot, positions[-1], ahead))
            positions.append(ahead)
        ranges.append((low, len(legs), len(positions) - 1))
        positions.pop()
    return np.asarray(legs, np.int32).reshape(-1, 3), np.asarray(ranges[::-1], np.int32)


def _first(steps: int, slots: int) -> int:
    """How far to run before the next carry is stored, for the fewest runs in all."""

    def most(slots, runs):  # steps that can be reversed
        return math.comb(slots + runs, runs) if runs >= 0 else 0

    runs = next(r for r in range(1, steps) if most(slots, r) >= steps)
    return max(1, most(slots, runs - 2), steps - most(slots - 1, runs))
