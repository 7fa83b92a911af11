"""Recomputing a long run backwards from a reversible update, against storing carries: does it win?

    python -m benchmarks.reversible                     # K = 256, 1024, 4096

It wins over the binomial schedule, on a condition given below. At K = 256 that takes 1.87 [1.74,
1.94] times as long with 16 slots and 7.6 times the memory (62 against 8.1 MB), and 2.55 [2.44,
3.07] times with 4 slots and still 2.8 times the memory. At K = 1024 it is 1.92 [1.76, 1.92] and
3.28 [2.83, 3.31] times, at 3.9 and 1.5 times the memory (11.0 MB). Segments take 1.20 [1.15, 1.24]
and 1.21 [1.13, 1.22] times as long at 8 and 11 times the memory; storing all takes 1.01 [1.00,
1.05] and 1.09 [1.02, 1.09] times as long at 48 and 139 times the memory. Five rounds. K = 4096 was
timed to no end; with the prototype of this estimator the start came back exactly there, the
gradient was off by 6e-5, and the temporaries were 26 MB.

`jm.reversible` is Maclaurin's, with one 32-bit word a number: parameters and momenta are integers.
What a step subtracts from the parameters is the momentum times the rate, rounded to their grid, so
that adding it undoes the step. The decay is where digits are lost, log2(10/9) = 0.152 bits a step
and number. Maclaurin's exact 9/10, a division and a multiplication with a word of lost digits, was
tried first and cost 0.39 ms a step each way, 40 % of a plain training step; here the decay shrinks
the unit of the momenta instead, a scalar, and every 26 steps the unit is made 16 times as large,
with 4 bits a number put away. That is all that is stored: K / 53 words of 8 bits. The way back
takes the gradient at the parameters just undone and its derivative along the cotangent of the
momenta in one pass, and ends at the very bits of the start, which is asserted.

The condition: the gradient must come out the same, bit for bit, in two different loops of the
program. It did in every check, but nothing promises it, and any difference grows by 10/9 a step on
the way back. The plans of jaxmeta.estimator need no such promise, and no particular optimiser.

Reference: Maclaurin, Duvenaud and Adams, Gradient-based hyperparameter optimization through
reversible learning, ICML 2015.
"""

import argparse
import math

import jax
import optax

import jaxmeta as jm
from benchmarks._record import compiled, environment, several, write
from benchmarks.long_runs import KEY, SYSTEMS, measure, meta, problem
from jaxmeta.base import query_loss
from jaxmeta.estimator import closeness


def slots_within(megabytes, bilevel, theta, tasks) -> int:
    """How many slots of the binomial schedule these temporaries have room for; 4 if for fewer, with
    which the time would grow almost as K^2."""
    _, about = compiled(several(meta(jm.mixed(jm.binomial(4)), bilevel), 1), theta, tasks)
    carry = 2 * sum(leaf.nbytes for leaf in jax.tree.leaves(theta[0])) / 1e6
    return 4 + max(0, math.floor((megabytes - about["temporary_mb"]) / carry))


def check(bilevel, theta, tasks, systems, stored):
    """How near each system's gradient is to the one that stores all; whether the start came back,
    and the end's error."""

    def outer(key, learner, walked, task):
        return query_loss(key, learner, walked, task)[0], walked.end

    def estimates(estimator):
        return jax.jit(
            lambda theta, tasks: estimator.estimate(
                KEY, bilevel._replace(outer=outer), theta, tasks, ()
            )[0]
        )(theta, tasks)

    def adapted(theta, tasks):
        task = jax.tree.map(lambda x: x[0], tasks)
        return jm.adapt(KEY, bilevel.bias.shape(theta, task, bilevel.learner), task)

    exact, rows = estimates(systems[stored]), {}
    for name, estimator in systems.items():
        if name == stored:
            continue
        found = estimates(estimator)
        rows[name] = {key: float(x) for key, x in closeness(found.grad, exact.grad).items()}
        if "exact" in found.info:
            assert found.info["exact"].all() and found.info["inside"].all(), (
                "the start did not come back bit for bit"
            )
            end = jax.tree.map(lambda x: x[0], found.info["aux"])
            off = optax.tree.sub(end, phi := jax.jit(adapted)(theta, tasks))
            rows[name]["end_relative_error"] = float(optax.tree.norm(off) / optax.tree.norm(phi))
            rows[name]["path_relative_error"] = float(
                optax.tree.norm(off) / optax.tree.norm(optax.tree.sub(phi, theta[0]))
            )
    return rows


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, nargs="+", default=[256, 1024, 4096])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    own, stored = "reversible", "linearised, all stored"
    record = {
        "environment": environment("jax", "jaxlib", "optax"),
        "seed": options.seed,
        "settings": {},
    }
    for steps in options.steps:
        bilevel, theta, tasks = problem(steps, options.seed)
        systems = {own: jm.reversible()} | {
            name: SYSTEMS[name]
            for name in (stored, "linearised in segments", "mixed, binomial with 16 slots")
        }
        checks = check(bilevel, theta, tasks, systems, stored)
        print(f"\nK = {steps}: against storing all")
        for name, row in checks.items():
            print(
                f"  {name:32.32s}" + "".join(f"  {key} {value:.3g}" for key, value in row.items()),
                flush=True,
            )
        outer = max(1, min(4, 1024 // steps))
        _, about = compiled(several(meta(systems[own], bilevel), 1), theta, tasks)
        slots = slots_within(about["temporary_mb"], bilevel, theta, tasks)
        systems[f"mixed, binomial with {slots} slots"] = jm.mixed(jm.binomial(slots))
        record["settings"][f"K{steps}"] = {"outer": outer, "checks": checks} | measure(
            steps, systems, own, outer, options.rounds, options.seed
        )
        write("reversible", record)


if __name__ == "__main__":
    main()
