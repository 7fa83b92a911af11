r"""Backwards from the end of learning by undoing its steps, which takes arithmetic that forgets
nothing.

Momentum followed by an update A of the momenta alone can be undone,

$$ m_{k+1} = \gamma m_k + g(\phi_k), \quad \phi_{k+1} = \phi_k + A_k(m_{k+1}) \qquad
   \Rightarrow \qquad
   \phi_k = \phi_{k+1} - A_k(m_{k+1}), \quad m_k = (m_{k+1} - g(\phi_k)) / \gamma, $$

exactly in fixed point: phi and m are whole numbers, and what is added to them is rounded to whole
numbers. The decay is the unit of the momenta, which shrinks by gamma a step; where that has made it
16 times as small it is made 16 times as large, and four bits of each momentum are put away. That is
the entropy that the decay destroys, `log2(1 / gamma)` bits a step.

Axis letters: `K` steps, `B` blocks, a block being two groups of steps between which four bits are
put away.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from jaxmeta._linear import replaced

_BITS, _GROUPS = (
    4,
    2,
)  # bits that leave a momentum at the end of a group of steps; groups to a word of 8


class Args(NamedTuple):
    """All that a run depends on: leaves of phi_0 and of the update's memory, what each step is
    given `[K]` (its key; its number too where the learner sees by step), what the two halves of a
    step close over."""

    phi: list
    witness: Any
    given: list
    memory: list
    slope: list
    move: list


class Kept(NamedTuple):
    """What the way back needs besides: the end, in fixed point, the bits put away `[B]`, the
    update's memories `[K]`."""

    inside: Any
    x: list
    m: list
    words: list
    memories: list


class Number(NamedTuple):
    """How the numbers of one leaf are held in fixed point: the size that they stay below is half
    the range of a word, so that what leaves it is seen before it wraps around."""

    dtype: Any

    @property
    def wide(self):
        return jnp.promote_types(self.dtype, jnp.float32)

    @property
    def word(self):
        return jnp.int64 if self.wide == jnp.float64 else jnp.int32

    def unit(self, size, scale):
        return jnp.asarray(scale, self.wide) * (size * 2.0 ** (2 - jnp.iinfo(self.word).bits))

    def fixed(self, x, size, scale=1.0):
        """Rounded to nearest; too large ones saturate, and what is not a number is as far out as
        can be."""
        whole = jnp.round(x.astype(self.wide) * (1 / self.unit(size, scale))).astype(self.word)
        return jnp.where(jnp.isnan(x), jnp.iinfo(self.word).min, whole)

    def real(self, x, size, scale=1.0):
        return (x.astype(self.wide) * self.unit(size, scale)).astype(self.dtype)


class Run(NamedTuple):
    """A run of K steps as a function of `Args`: `slope(*phi, *given, *args.slope) -> g`,
    `move(*momenta, *memory, *args.move) -> (*updates, *memory)`."""

    slope: Any
    move: Any
    structure: Any
    numbers: list
    bounds: Any
    scales: Any
    decay: float
    phi: float
    momenta: float

    def plain(self, *args):
        """The end in floating point: what is differentiated where not all is reversed once."""
        args, n = self.structure.unflatten(args), len(self.numbers)

        def step(state, given):
            phi, momenta, memory = state
            momenta = [
                self.decay * m + g for m, g in zip(momenta, self.slope(*phi, *given, *args.slope))
            ]
            moved = self.move(*momenta, *memory, *args.move)
            return ([x + u.astype(x.dtype) for x, u in zip(phi, moved)], momenta, moved[n:]), None

        return lax.scan(step, (args.phi, optax.tree.zeros_like(args.phi), args.memory), args.given)[
            0
        ][0]

    def chain(self, *args):
        """The end's phi and `Kept`."""
        args, n = self.structure.unflatten(args), len(self.numbers)
        bounds, scales = jnp.asarray(self.bounds), jnp.asarray(self.scales)

        def step(k, state):
            x, m, memory, memories, outside = state
            memories = [
                lax.dynamic_update_index_in_dim(all_, one, k, 0)
                for all_, one in zip(memories, memory)
            ]
            phi = self.reals(x, self.phi)
            grads = self.slope(*phi, *_each_at(args.given, k), *args.slope)
            m = self.plus(m, grads, self.momenta, scales[k])
            moved = self.move(*self.reals(m, self.momenta, scales[k]), *memory, *args.move)
            x = self.plus(x, moved[:n], self.phi)
            return x, m, moved[n:], memories, outside | _outside(x, m)

        def group(index, state, bounds):
            x, m, words, *rest = state
            x, m, *rest = lax.fori_loop(bounds[index], bounds[index + 1], step, (x, m, *rest))
            return x, *_each(_narrow, m, words), *rest

        def block(state, bounds):
            x, m, *rest = state
            state = x, m, [jnp.zeros(a.shape, jnp.uint8) for a in x], *rest
            x, m, words, *rest = lax.fori_loop(
                0, _GROUPS, lambda index, state: group(index, state, bounds), state
            )
            return (x, m, *rest), words

        x = [number.fixed(a, self.phi) for number, a in zip(self.numbers, args.phi)]
        memories = [
            jnp.zeros((len(self.scales), *jnp.shape(a)), jnp.result_type(a)) for a in args.memory
        ]
        state = x, optax.tree.zeros_like(x), args.memory, memories, _outside(x, x)
        (x, m, _, memories, outside), words = lax.scan(block, state, bounds)
        return self.reals(x, self.phi) + jax.tree.leaves(Kept(~outside, x, m, words, memories))

    def reverse(self, args, kept, moving, cotangents):
        """The steps undone from the last to the first, their cotangents with them."""
        n, places = len(self.numbers), self.structure.unflatten(range(len(args)))
        args = self.structure.unflatten(args)
        kept = jax.tree.unflatten(
            jax.tree.structure(Kept(0, *[[0] * n] * 3, [0] * len(args.memory))), kept
        )
        bounds, scales = jnp.asarray(self.bounds), jnp.asarray(self.scales)
        of_slope, of_move = (
            [i for i, place in enumerate(part) if place in moving]
            for part in (places.slope, places.move)
        )

        def step(k, state):
            x, m, ct_x, ct_m, ct_slope, ct_move = state
            memory = [_at(a, k) for a in kept.memories]

            def move(momenta, values):
                moved = self.move(*momenta, *memory, *replaced(args.move, of_move, values))
                return [u.astype(number.dtype) for u, number in zip(moved, self.numbers)]

            def slope(phi, values):
                return self.slope(
                    *phi, *_each_at(args.given, k), *replaced(args.slope, of_slope, values)
                )

            updates, pull = jax.vjp(
                move, self.reals(m, self.momenta, scales[k]), [args.move[i] for i in of_move]
            )
            more, more_move = pull(ct_x)
            # What follows waits for the sums in `more_move`, which XLA could else take last, and
            # would copy m and ct_x for it.
            waited = sum(0 * jnp.ravel(ct)[:1].sum() for ct in more_move)
            more, updates = (
                [a + jnp.asarray(waited, a.dtype) for a in each] for each in (more, updates)
            )
            ct_m = optax.tree.add(ct_m, more)
            x = self.plus(x, updates, self.phi, sign=-1)
            grads, pull = jax.vjp(slope, self.reals(x, self.phi), [args.slope[i] for i in of_slope])
            more, more_slope = pull(ct_m)
            m = self.plus(m, grads, self.momenta, scales[k], sign=-1)
            return (
                x,
                m,
                optax.tree.add(ct_x, more),
                [self.decay * ct for ct in ct_m],
                optax.tree.add(ct_slope, more_slope),
                optax.tree.add(ct_move, more_move),
            )

        def group(index, state, bounds):
            x, m, words, *cts = state
            m, words = _each(_widen, m, words)
            low, high = bounds[index], bounds[index + 1]
            x, m, *cts = lax.fori_loop(
                0, high - low, lambda i, state: step(high - 1 - i, state), (x, m, *cts)
            )
            return x, m, words, *cts

        def block(state, bounds_and_words):
            bounds, words = bounds_and_words
            x, m, *cts = state
            x, m, _, *cts = lax.fori_loop(
                0,
                _GROUPS,
                lambda i, state: group(_GROUPS - 1 - i, state, bounds),
                (x, m, words, *cts),
            )
            return (x, m, *cts), None

        end = [cotangents[i] for i in range(n)]
        state = (
            kept.x,
            kept.m,
            end,
            optax.tree.zeros_like(end),
            [jnp.zeros_like(args.slope[i]) for i in of_slope],
            [jnp.zeros_like(args.move[i]) for i in of_move],
        )
        (x, m, ct_phi, _, ct_slope, ct_move), _ = lax.scan(
            block, state, (bounds, kept.words), reverse=True
        )
        start = [number.fixed(a, self.phi) for number, a in zip(self.numbers, args.phi)]
        wrong = sum(jnp.sum(a != b) for a, b in zip([*x, *m], [*start, *optax.tree.zeros_like(m)]))
        found = dict(zip(places.phi, ct_phi)) | {places.witness: wrong.astype(args.witness.dtype)}
        found |= {places.slope[i]: ct for i, ct in zip(of_slope, ct_slope)}
        found |= {places.move[i]: ct for i, ct in zip(of_move, ct_move)}
        return [found[i] for i in moving]

    def reals(self, x, size, scale=1.0):
        return [number.real(a, size, scale) for number, a in zip(self.numbers, x)]

    def plus(self, x, more, size, scale=1.0, sign=1):
        return [
            a + sign * number.fixed(b, size, scale) for number, a, b in zip(self.numbers, x, more)
        ]


def schedule(steps: int, decay: float) -> tuple[np.ndarray, np.ndarray]:
    """`(bounds, scales)`: of B blocks `[B, 3]`, whose group g takes the steps from bounds[g] to
    bounds[g + 1]; and `[K]`, the unit of the momenta at the end of each step, from 1 to 16 of the
    finest."""
    size = _BITS / -math.log2(decay)
    blocks = math.ceil(steps / (_GROUPS * size))
    ends = np.floor(size * np.arange(blocks * _GROUPS + 1)).astype(int)
    group = np.searchsorted(ends, np.arange(steps), side="right") - 1
    scales = 2.0**_BITS * decay ** (np.arange(steps) + 1.0) * 2.0 ** (_BITS * group)
    bounds = np.minimum(ends, steps)
    return bounds[_GROUPS * np.arange(blocks)[:, None] + np.arange(_GROUPS + 1)], scales


def _narrow(momentum, word):
    """A momentum in a unit 2^4 as large, rounded to nearest; the digits that this takes go into the
    word."""
    momentum = momentum + 2 ** (_BITS - 1)
    return momentum >> _BITS, (word << _BITS) | (momentum & (2**_BITS - 1)).astype(jnp.uint8)


def _widen(momentum, word):
    """The inverse of `_narrow`."""
    return (momentum << _BITS | (word & (2**_BITS - 1)).astype(momentum.dtype)) - 2 ** (
        _BITS - 1
    ), word >> _BITS


def _each(function, a, b):
    return [list(both) for both in zip(*map(function, a, b))]


def _at(stacked, k):
    return lax.dynamic_index_in_dim(stacked, k, keepdims=False)


def _each_at(stacked, k):
    return [_at(each, k) for each in stacked]


def _outside(x, m):
    """Whether any number has left the inner half of its word, where the two highest bits are the
    same."""
    out = [lax.reduce_or((a ^ a << 1) | (b ^ b << 1), range(a.ndim)) < 0 for a, b in zip(x, m)]
    return jnp.any(jnp.stack(out))
