"""What learning to learn a transformer costs, by how its inner gradient is differentiated and what
is stored.

    python -m benchmarks.inner_transformer [--settings small deep] [--systems 'mixed' ...]
        [--rounds 5]

One task: theta is the initialisation and a step size for each of K inner steps; the gradient of the
query's cross entropy for theta through all of them. 'reverse' differentiates the inner gradient by
reverse mode, 'mixed' by forward over reverse (`recomputing`). Named behind is what is computed
again rather than stored: 'steps' (every inner step), 'blocks' (every block of the transformer), but
for the inner gradients where those are 'saved'. 'plain training' is the K steps and the query's
loss alone. Losses and norms of the gradients must agree. Rounds interleave the systems.
"""

from __future__ import annotations

import argparse
import statistics
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

import jaxmeta as jm
from benchmarks._record import compiled, environment, interleaved, median_ratio, write
from jaxmeta.estimator import each_step, recomputing, saving
from jaxmeta.models import transformer

STORED = jax.lax.scan
KEPT = saving("inner_gradient")
SYSTEMS = {  # the inner gradient, the plan of the inner steps, the plan of the blocks
    "reverse over reverse": (jax.grad, STORED, STORED),
    "reverse, steps": (jax.grad, each_step, STORED),
    "reverse, steps and blocks": (jax.grad, each_step, each_step),
    "reverse, steps and blocks, gradients saved": (jax.grad, KEPT, each_step),
    "mixed": (recomputing, STORED, STORED),
    "mixed, steps": (recomputing, each_step, STORED),
    "mixed, blocks": (recomputing, STORED, each_step),
    "mixed, steps and blocks": (recomputing, each_step, each_step),
    "mixed, steps and blocks, gradients saved": (recomputing, KEPT, each_step),
    "plain training": None,
}
BASELINES = "reverse over reverse", "reverse, steps and blocks"
TOLERANCE, WAYS, CHANNELS = 1e-3, 5, 9


class Setting(NamedTuple):
    blocks: int
    width: int
    hidden: int
    length: int
    batch: int
    steps: int
    update: str


# A second derivative of Adam needs the root's argument above zero.
UPDATES = {"momentum": optax.sgd(0.05, momentum=0.9), "adam": optax.adam(1e-3, eps_root=1e-8)}
SETTINGS = {
    "small": Setting(2, 128, 512, 64, 16, 8, "momentum"),
    "deep": Setting(16, 64, 64, 64, 16, 4, "adam"),
    "deep_wide": Setting(16, 64, 256, 64, 16, 4, "adam"),
}


def problem(setting: Setting, seed: int):
    """One task `[T = 1, ...]`: windows of noise around a mean of their class, and the labels."""
    keys = jax.random.split(jax.random.key(seed), 3)
    y = jnp.arange(setting.batch) % WAYS
    means = jax.random.normal(keys[0], (WAYS, setting.length, CHANNELS))
    support, query = (
        jm.Examples(means[y] + jax.random.normal(key, (setting.batch, *means.shape[1:])), y)
        for key in keys[1:]
    )
    return jax.tree.map(lambda x: x[None], jm.Task(support, query, jnp.zeros((), int)))


def bilevel(setting: Setting, blocks) -> jm.Bilevel:
    model = transformer(
        WAYS,
        setting.width,
        setting.blocks,
        hidden=setting.hidden,
        activation=jax.nn.relu,
        remat=blocks,
    )
    learner = jm.gradient(model, jm.cross_entropy, UPDATES[setting.update], setting.steps)
    return jm.Bilevel(
        jm.compose(jm.initialisation(), jm.step_sizes(1.0, steps=setting.steps)),
        learner,
        jm.query_loss,
    )


def system(setting: Setting, plans):
    """`(theta, tasks) -> (loss, gradient)`, or the loss alone for plain training."""

    def train(theta, tasks):
        task = jax.tree.map(lambda x: x[0], tasks)
        return jm.outcome(jax.random.key(0), bilevel(setting, STORED), theta, task)[0]

    def estimate(theta, tasks):
        gradient, steps, blocks = plans
        result, _ = jm.unrolled(steps, gradient).estimate(
            jax.random.key(0), bilevel(setting, blocks), theta, tasks, ()
        )
        return result.loss, result.grad

    return estimate if plans else train


def measure(setting: Setting, names, rounds: int, seed: int) -> dict:
    """All systems at one setting."""
    tasks = problem(setting, seed)
    one = jax.tree.map(lambda x: x[0], tasks)
    problem_ = bilevel(setting, STORED)
    theta = jax.jit(lambda key: problem_.bias.init(key, one, problem_.learner))(
        jax.random.key(seed)
    )
    runs, rows = {}, {}
    for name in names:
        runs[name], rows[name] = compiled(system(setting, SYSTEMS[name]), theta, tasks)
        loss, *grad = jax.tree.leaves(runs[name]())
        rows[name] |= {"loss": float(loss)} | (
            {"norm": float(optax.tree.norm(grad))} if grad else {}
        )
        for what in set(rows[name]) & {"loss", "norm"}:
            gap = abs(rows[name][what] / rows[names[0]][what] - 1)
            assert gap < TOLERANCE, f"{name} and {names[0]} differ in the {what} by {gap:.1e}"
    times = interleaved(runs, rounds)
    for name in names if rounds else ():
        rows[name] |= {"ms": times[name], "median_ms": statistics.median(times[name])}
        rows[name] |= {
            f"times_{base}": median_ratio(times[name], times[base])
            for base in BASELINES
            if base in times
        }
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument(
        "--rounds", type=int, default=5, help="0 compiles, and reports memory alone"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--name", default="inner_transformer", help="the JSON's name in benchmarks/results"
    )
    given = parser.parse_args()
    record = {
        "environment": environment("jax", "jaxlib", "flax", "optax"),
        "seed": given.seed,
        "rounds": given.rounds,
        "settings": {},
    }
    for name in given.settings:
        setting = SETTINGS[name]
        rows = measure(setting, given.systems, given.rounds, given.seed)
        record["settings"][name] = {**setting._asdict(), "systems": rows}
        print(
            f"\n{name}: {setting}\nMB, seconds to compile, median ms, times the baselines' ms "
            f"[95 %]: {', '.join(BASELINES)}"
        )
        for system_, row in rows.items():
            ratios = [row[f"times_{base}"] for base in BASELINES if f"times_{base}" in row]
            shown = "".join(f"  {r['ratio']:.2f} [{r['low']:.2f}, {r['high']:.2f}]" for r in ratios)
            print(
                f"  {system_:42s}{row['temporary_mb']:9.1f}{row['compile_s']:6.1f}"
                f"{row.get('median_ms', 0):9.1f}{shown}"
            )
    print(f"\nwrote {write(given.name, record)}")


if __name__ == "__main__":
    main()
