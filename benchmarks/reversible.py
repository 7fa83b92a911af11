"""Recomputing a long run backwards from a reversible update, against storing carries: does it win?

    python -m benchmarks.reversible                     # K = 256, 1024, 4096

It wins over the binomial schedule at K = 256, on a condition given below: that takes 1.80 [1.63, 2.51] times as long with 16
slots and 8 times the memory (62 against 7.6 MB), and 2.32 [1.43, 3.78] times with 4 slots and still 3 times the memory. At
K = 1024 it is 1.69 [0.67, 2.19] and 2.67 [1.15, 4.02] times, at 4 and 1.6 times the memory (10.6 MB). Segments take as long
within the intervals, at 8 and 11 times the memory. The machine was busy with other work, so the intervals are wide, and timing
K = 4096 did not get to its end; there the start came back exactly, the gradient was off by 6e-5, and the temporaries are 26 MB.

The prototype is Maclaurin's, with one 32-bit word a number: parameters and momenta are integers. What a step subtracts from
the parameters is the momentum times the rate, rounded to their grid, so that adding it undoes the step. The decay is where
digits are lost, log2(10/9) = 0.152 bits a step and number. Maclaurin's exact 9/10, a division and a multiplication with a word
of lost digits, was tried first and cost 0.39 ms a step each way, 40 % of a plain training step; here the decay shrinks the
unit of the momenta instead, a scalar, and every 26 steps the unit is made 16 times as large, with 4 bits a number put away.
That is all that is stored: K / 53 words of 8 bits. The way back takes the gradient at the parameters just undone and its
derivative along the cotangent of the momenta in one pass, and ends at the very bits of the start, which is asserted.

The condition: the gradient must come out the same, bit for bit, in two different loops of the program. It did in every check,
but nothing promises it, and any difference grows by 10/9 a step on the way back. The plans of jaxmeta.estimator need no such
promise, and no particular optimiser.

Reference: Maclaurin, Duvenaud and Adams, Gradient-based hyperparameter optimization through reversible learning, ICML 2015.
"""

import argparse
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxmeta as jm
from benchmarks._record import compiled, environment, several, write
from benchmarks.long_runs import KEY, SYSTEMS, measure, meta, problem
from jaxmeta.base import Bilevel, Estimate, Estimator
from jaxmeta.estimator._estimate import closeness, stateless

RATE, DECAY = 0.05, 0.9  # of `long_runs.problem`
GRID = 2.0**28  # parameters within 8
FINEST = 2.0**-29  # the least unit of momenta, which are then within 4
BITS, GROUPS = 4, 2  # bits that leave a momentum at the end of a group of steps, groups to a word


def schedule(steps: int):
    """`(bounds, units)`: of B blocks `[B, GROUPS + 1]`, group g taking the steps from bounds[g] to bounds[g + 1]; and `[K]`,
    the momenta's unit at the end of each step."""
    size = BITS / -math.log2(DECAY)
    blocks = math.ceil(steps / (GROUPS * size))
    ends = np.floor(size * np.arange(blocks * GROUPS + 1)).astype(int)
    group = np.searchsorted(ends, np.arange(steps), side="right") - 1
    units = FINEST * 2.0**BITS * DECAY ** (np.arange(steps) + 1.0) * 2.0 ** (BITS * group)
    bounds = np.minimum(ends, steps)
    return bounds[GROUPS * np.arange(blocks)[:, None] + np.arange(GROUPS + 1)], units.astype(np.float32)


def narrow(momentum, word):
    """A momentum in a unit 2^BITS as large, rounded to nearest; the digits that this takes go into the word."""
    momentum = momentum + 2 ** (BITS - 1)
    return momentum >> BITS, (word << BITS) | (momentum & (2**BITS - 1)).astype(jnp.uint8)


def widen(momentum, word):
    """The inverse of `narrow`."""
    return (momentum << BITS | (word & (2**BITS - 1)).astype(jnp.int32)) - 2 ** (BITS - 1), word >> BITS


def fixed(x, unit):
    return jax.tree.map(lambda x: jnp.round(x * np.float32(1) / unit).astype(jnp.int32), x)


def real(x, unit):
    return jax.tree.map(lambda x: x.astype(jnp.float32) * unit, x)


def train(slope, start, rates):
    """Parameters and momenta at the end, both integers, and the words that have been put away."""
    bounds, units = map(jnp.asarray, schedule(len(rates)))

    def step(k, state):
        x, m = state
        m = optax.tree.add(m, fixed(slope(real(x, 1 / GRID)), units[k]))
        return optax.tree.sub(x, fixed(real(m, RATE * rates[k] * units[k]), 1 / GRID)), m

    def group(index, state, bounds):
        x, m, words = state
        x, m = jax.lax.fori_loop(bounds[index], bounds[index + 1], step, (x, m))
        return x, *_pairs(narrow, m, words)

    def block(state, bounds):
        words = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.uint8), state[0])
        x, m, words = jax.lax.fori_loop(0, GROUPS, lambda index, state: group(index, state, bounds), (*state, words))
        return (x, m), words

    x = fixed(start, 1 / GRID)
    return jax.lax.scan(block, (x, jax.tree.map(jnp.zeros_like, x)), bounds)


def undo(slope, end, words, ct, rates):
    """From the cotangents of the end's parameters those of the start's and of the rates; and the start, undone."""
    bounds, units = map(jnp.asarray, schedule(len(rates)))

    def step(k, state):
        x, m, ct_x, ct_m, ct_rates = state
        along = -RATE * units[k] * sum(jax.tree.leaves(jax.tree.map(lambda m, v: jnp.sum(m * v), m, ct_x)))
        # What comes after waits for the product, which XLA could else take last, and would copy its factors for it.
        rate = rates[k] + 0 * along
        ct_m = jax.tree.map(lambda a, b: DECAY * a - RATE * rate * b, ct_m, ct_x)
        x = optax.tree.add(x, fixed(real(m, RATE * rate * units[k]), 1 / GRID))
        grads, turned = jax.jvp(slope, (real(x, 1 / GRID),), (ct_m,))
        m = optax.tree.sub(m, fixed(grads, units[k]))
        return x, m, optax.tree.add(ct_x, turned), ct_m, ct_rates.at[k].set(along)

    def group(index, state, bounds):
        x, m, words, *cts = state
        m, words = _pairs(widen, m, words)
        low, high = bounds[index], bounds[index + 1]
        x, m, *cts = jax.lax.fori_loop(0, high - low, lambda i, state: step(high - 1 - i, state), (x, m, *cts))
        return x, m, words, *cts

    def block(state, bounds_and_words):
        bounds, words = bounds_and_words
        x, m, *cts = state
        x, m, _, *cts = jax.lax.fori_loop(0, GROUPS, lambda i, state: group(GROUPS - 1 - i, state, bounds), (x, m, words, *cts))
        return (x, m, *cts), None

    start = (*end, ct, optax.tree.zeros_like(ct), jnp.zeros_like(rates))
    (x, m, ct, _, ct_rates), _ = jax.lax.scan(block, start, (bounds, words), reverse=True)
    return ct, ct_rates, (x, m)


def _pairs(function, a, b):
    leaves, structure = jax.tree.flatten(a)
    return [jax.tree.unflatten(structure, x) for x in zip(*map(function, leaves, jax.tree.leaves(b)))]


def reversible() -> Estimator:
    """The reversible update for the problem of `long_runs`, one task; `info` tells whether the start came back exactly."""

    def estimate(key, bilevel: Bilevel, theta, tasks, state):
        task = jax.tree.map(lambda x: x[0], tasks)
        start, rates = theta

        def slope(phi):
            return jax.grad(lambda phi: bilevel.learner.loss(key, phi, task.support)[0])(phi)

        end, words = train(slope, start, rates)
        phi = real(end[0], 1 / GRID)
        loss, ct = jax.value_and_grad(lambda phi: bilevel.learner.loss(key, phi, task.query)[0])(phi)
        ct, ct_rates, (x, m) = undo(slope, end, words, ct, rates)
        wrong = jax.tree.map(lambda a, b: jnp.sum(a != b), (x, m), (fixed(start, 1 / GRID), jax.tree.map(jnp.zeros_like, m)))
        return Estimate(loss, (ct, ct_rates), {"wrong": optax.tree.sum(wrong), "phi": phi}), ()

    return Estimator(stateless, estimate)


def slots_within(megabytes, bilevel, theta, tasks) -> int:
    """How many slots of the binomial schedule these temporaries have room for; 4 if for fewer, with which the time would grow
    almost as K^2."""
    _, about = compiled(several(meta(jm.mixed(jm.binomial(4)), bilevel), 1), theta, tasks)
    carry = 2 * sum(leaf.nbytes for leaf in jax.tree.leaves(theta[0])) / 1e6
    return 4 + max(0, math.floor((megabytes - about["temporary_mb"]) / carry))


def check(bilevel, theta, tasks, systems, stored):
    """How near each system's gradient is to the one that stores all; whether the start came back, and the end's error."""

    def estimates(estimator):
        return jax.jit(lambda theta, tasks: estimator.estimate(KEY, bilevel, theta, tasks, ())[0])(theta, tasks)

    def adapted(theta, tasks):
        task = jax.tree.map(lambda x: x[0], tasks)
        return jm.adapt(KEY, bilevel.bias.shape(theta, task, bilevel.learner), task)

    exact, rows = estimates(systems[stored]), {}
    for name, estimator in systems.items():
        if name == stored:
            continue
        found = estimates(estimator)
        rows[name] = {key: float(x) for key, x in closeness(found.grad, exact.grad).items()}
        if "wrong" in found.info:
            assert found.info["wrong"] == 0, f"the start did not come back bit for bit: {found.info['wrong']} numbers differ"
            off = optax.tree.sub(found.info["phi"], phi := jax.jit(adapted)(theta, tasks))
            rows[name]["end_relative_error"] = float(optax.tree.norm(off) / optax.tree.norm(phi))
            rows[name]["path_relative_error"] = float(optax.tree.norm(off) / optax.tree.norm(optax.tree.sub(phi, theta[0])))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, nargs="+", default=[256, 1024, 4096])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    own, stored = "reversible, in fixed point", "linearised, all stored"
    record = {"environment": environment("jax", "jaxlib", "optax"), "seed": options.seed, "settings": {}}
    for steps in options.steps:
        bilevel, theta, tasks = problem(steps, options.seed)
        systems = {own: reversible()} | {name: SYSTEMS[name] for name in (
            stored, "linearised in segments", "mixed, binomial with 16 slots")}
        checks = check(bilevel, theta, tasks, systems, stored)
        print(f"\nK = {steps}: against storing all")
        for name, row in checks.items():
            print(f"  {name:32.32s}" + "".join(f"  {key} {value:.3g}" for key, value in row.items()), flush=True)
        outer = max(1, min(4, 1024 // steps))
        _, about = compiled(several(meta(systems[own], bilevel), 1), theta, tasks)
        slots = slots_within(about["temporary_mb"], bilevel, theta, tasks)
        systems[f"mixed, binomial with {slots} slots"] = jm.mixed(jm.binomial(slots))
        record["settings"][f"K{steps}"] = {"outer": outer, "checks": checks} | measure(
            steps, systems, own, outer, options.rounds, options.seed)
        write("reversible", record)


if __name__ == "__main__":
    main()
