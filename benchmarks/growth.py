"""How time and memory of a meta-gradient grow with inner steps, with tasks and with parameters.

    python -m benchmarks.growth

Writes `results/growth.json` and `results/growth.png`. Slopes are least squares of log cost over log
size in the upper half of the sizes: 1 is in proportion, 1/2 the square root.
"""

import argparse
import statistics

import jax
import matplotlib
import numpy as np
import optax

import jaxmeta as jm
from benchmarks._record import RESULTS, compiled, environment, interleaved, write
from benchmarks.long_runs import meta
from jaxmeta.base import Bilevel

matplotlib.use("Agg")
import matplotlib.pyplot as plt

ROADS = {
    "reverse over reverse": jm.unrolled(gradient=jax.grad),
    "linearised, all stored": jm.unrolled(),
    "linearised in segments": jm.unrolled(jm.segments()),
    "mixed, binomial with 8 slots": jm.mixed(jm.binomial(8)),
}


def problem(steps=5, tasks=1, width=40, shots=10):
    """MAML on sinusoids, with a rate for each step."""
    learner = jm.gradient(
        jm.models.mlp((width, width), outputs=1), jm.squared_error, optax.sgd(0.01), steps
    )
    bilevel = Bilevel(jm.compose(jm.initialisation(), jm.step_sizes(1.0, steps=steps)), learner)
    batch = jax.jit(jax.vmap(jm.sinusoids(shots=shots)))(jax.random.split(jax.random.key(1), tasks))
    theta = jax.jit(bilevel.init)(jax.random.key(0), jax.tree.map(lambda x: x[0], batch))
    return bilevel, theta, batch


AXES = {
    "steps": ([1, 4, 16, 64, 256, 1024, 4096], lambda size: problem(steps=size), ROADS),
    "tasks": (
        [1, 4, 16, 64, 256, 1024],
        lambda size: problem(tasks=size),
        dict(list(ROADS.items())[:2]),
    ),
    "parameters": (
        [16, 32, 64, 128, 256, 512, 1024],
        lambda size: problem(steps=16, width=size, shots=32),
        dict(list(ROADS.items())[:3]),
    ),
}


def slope(sizes, costs):
    """Of log cost over log size, in the upper half."""
    half = len(sizes) // 2
    return float(np.polyfit(np.log(sizes[half:]), np.log(costs[half:]), 1)[0])


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    record = {
        "environment": environment("jax", "jaxlib", "optax"),
        "rounds": options.rounds,
        "axes": {},
    }
    figure, panels = plt.subplots(2, 3, figsize=(14, 7), constrained_layout=True)
    for (axis, (sizes, make, roads)), column in zip(AXES.items(), panels.T):
        rows = {name: {"size": [], "ms": [], "mb": [], "compile_s": []} for name in roads}
        for size in sizes:
            bilevel, theta, tasks = make(size)
            count = (
                sum(leaf.size for leaf in jax.tree.leaves(theta[0]))
                if axis == "parameters"
                else size
            )
            runs, about = {}, {}
            for name, estimator in roads.items():
                runs[name], about[name] = compiled(meta(estimator, bilevel), theta, tasks)
                runs[name]()
            for name, times in interleaved(runs, options.rounds).items():
                for what, value in {
                    "size": count,
                    "ms": statistics.median(times),
                    "mb": about[name]["temporary_mb"],
                    "compile_s": about[name]["compile_s"],
                }.items():
                    rows[name][what].append(value)
            shown = {
                name: (round(row["ms"][-1], 2), round(row["mb"][-1], 3))
                for name, row in rows.items()
            }
            print(axis, size, shown, flush=True)
        for name, row in rows.items():
            row["slopes"] = {what: slope(row["size"], row[what]) for what in ("ms", "mb")}
            for panel, what in zip(column, ("ms", "mb")):
                panel.loglog(
                    row["size"],
                    row[what],
                    marker="o",
                    label=f"{name}, slope {row['slopes'][what]:.2f}",
                )
        for panel, what in zip(column, ("milliseconds", "temporary MB")):
            panel.set(xlabel=axis, ylabel=what)
            panel.legend(fontsize=8)
            panel.grid(alpha=0.3)
        record["axes"][axis] = rows
    RESULTS.mkdir(exist_ok=True)
    figure.savefig(RESULTS / "growth.png", dpi=110)
    print(f"wrote {write('growth', record)}")


if __name__ == "__main__":
    main()
