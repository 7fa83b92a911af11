"""What a meta-gradient costs beside plain training, for long inner runs of a parameter-heavy net.

    python -m benchmarks.long_runs                      # K = 16, 64, 256
    python -m benchmarks.long_runs --budget 64          # K = 4096 under 64 MB of temporaries

MLP 784-256-256-10, K steps of SGD with momentum on 32 examples; the gradient is for the start and
for every step's rate. What is timed is four outer steps in one compiled loop (`--outer`), as
`jm.fit` takes them: a program of one step would get its temporaries from the system anew each time,
and clearing their pages takes as long as a third of the computation.
"""

import argparse
import math
import statistics

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxmeta as jm
from benchmarks._record import compiled, environment, interleaved, median_ratio, several, write
from jaxmeta.base import Bilevel
from jaxmeta.estimator import plan

KEY = jax.random.key(0)
SYSTEMS = {
    "reverse over reverse": jm.unrolled(gradient=jax.grad),
    "reverse, each step recomputed": jm.unrolled(jm.each_step, jax.grad),
    "linearised, all stored": jm.unrolled(),
    "linearised, parameters rebuilt": jm.unrolled(jm.rebuilding()),
    "linearised in segments": jm.unrolled(jm.segments()),
    "mixed, all stored": jm.mixed(),
    "mixed, each step recomputed": jm.mixed(jm.each_step),
    "mixed, binomial with 16 slots": jm.mixed(jm.binomial(16)),
}


def problem(steps, seed):
    """The bilevel problem, theta and a batch of one task."""
    learner = jm.gradient(
        jm.models.mlp((256, 256), outputs=10), jm.cross_entropy, optax.sgd(0.05), steps
    )
    bilevel = Bilevel(
        jm.compose(jm.initialisation(), jm.step_sizes(1.0, steps=steps), jm.momentum(0.9)), learner
    )
    rng = np.random.default_rng(seed)

    def examples():
        return jm.Examples(
            jnp.asarray(rng.normal(size=(1, 32, 784)), jnp.float32),
            jnp.asarray(rng.integers(0, 10, (1, 32))),
        )

    tasks = jm.Task(examples(), examples(), jnp.zeros(1, int))
    return bilevel, jax.jit(bilevel.init)(KEY, jax.tree.map(lambda x: x[0], tasks)), tasks


def plain(bilevel):
    """Training alone: the outer loss, no derivative of it."""

    def step(theta, tasks):
        loss = jm.outcome(KEY, bilevel, theta, jax.tree.map(lambda x: x[0], tasks))[0]
        return loss, jax.tree.map(lambda x: loss, theta)

    return step


def meta(estimator, bilevel):
    """The outer loss and its gradient."""

    def step(theta, tasks):
        estimate, _ = estimator.estimate(KEY, bilevel, theta, tasks, ())
        return estimate.loss, estimate.grad

    return step


def measure(steps, systems, base, outer, rounds, seed):
    """All systems interleaved; ratios to the system `base`. The gradients are asserted to agree."""
    bilevel, theta, tasks = problem(steps, seed)
    runs, rows = {}, {}
    for name, estimator in systems.items():
        step = plain(bilevel) if estimator is None else meta(estimator, bilevel)
        runs[name], rows[name] = compiled(several(step, outer), theta, tasks)
        _, _, norms = runs[name]()  # warm
        rows[name]["norm"] = None if estimator is None else float(norms[0])
    norms = [row["norm"] for row in rows.values() if row["norm"] is not None]
    assert max(norms) / min(norms) < 1 + 1e-3, f"the systems' gradients differ: {norms}"
    for name, times in interleaved(runs, rounds).items():
        times = [time / outer for time in times]
        rows[name] |= {"ms": times, "median_ms": statistics.median(times)}
    for row in rows.values():
        row["times_base"] = median_ratio(row["ms"], rows[base]["ms"])
    carry = sum(leaf.nbytes for leaf in jax.tree.leaves(theta[0])) / 1e6
    print(
        f"\nK = {steps}: the trajectory of the parameters is {steps * carry:.0f} MB; "
        f"times {base} [95 %]"
    )
    for name, row in rows.items():
        ratio = row["times_base"]
        print(
            f"  {name:48.48s}{row['median_ms']:10.1f} ms {ratio['ratio']:6.2f} "
            f"[{ratio['low']:.2f}, {ratio['high']:.2f}]{row['temporary_mb']:9.1f} MB "
            f"{row['compile_s']:6.1f} s"
        )
    return {"parameters_mb": carry, "base": base, "systems": rows}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, nargs="+")
    parser.add_argument("--budget", type=float, help="MB of temporaries: auto against storing all")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument(
        "--outer", type=int, help="outer steps in a compiled loop: 4, with a budget 1"
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name")
    options = parser.parse_args()

    record = {
        "environment": environment("jax", "jaxlib", "optax"),
        "seed": options.seed,
        "settings": {},
    }
    for steps in options.steps or ([4096] if options.budget else [16, 64, 256]):
        if options.budget:
            bilevel, theta, tasks = problem(steps, options.seed)
            choice = plan(math.floor(1e6 * options.budget), bilevel, theta, tasks)
            stored = "linearised, all stored"
            systems = {stored: SYSTEMS[stored], choice.name: choice.estimator}
            record["settings"][f"K{steps}"] = measure(
                steps, systems, stored, options.outer or 1, options.rounds, options.seed
            )
        else:
            systems = {"plain training": None} | {name: SYSTEMS[name] for name in options.systems}
            record["settings"][f"K{steps}"] = measure(
                steps, systems, "plain training", options.outer or 4, options.rounds, options.seed
            )
    name = options.name or ("long_runs_budget" if options.budget else "long_runs")
    print(f"\nwrote {write(name, record)}")


if __name__ == "__main__":
    main()
