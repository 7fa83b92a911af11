"""Is MetaOptNet's support vector machine solved, and at what cost beside 15 sweeps of one-example
steps on its dual?

    JAXMETA_DATA=../shared/data python -m benchmarks.machine [--rounds 15]

Features of an untrained Conv4 of 64 filters, episodes of Omniglot's test classes. The gap between
primal and dual value bounds how far weights are from the optimal ones, `|W - W*| <= sqrt(2 gap)`,
so that no other solver has to be believed. Times are medians of interleaved rounds of compiled
programs, for one task and for four under vmap.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import statistics

import jax
import jax.numpy as jnp
import numpy as np

import jaxmeta as jm
from benchmarks._record import compiled, environment, interleaved, median_ratio, write
from jaxmeta import data, experiment
from jaxmeta.learner import crammer_singer

COST, EPISODES = 0.1, {(5, 1): 20, (5, 5): 20, (20, 1): 8, (20, 5): 8}


def swept(gram, own, cost, sweeps: int = 15):
    """The head as it was: `sweeps` over the examples, each minimising exactly in one example's
    variables."""

    def step(alpha, i):
        curvature = jnp.maximum(gram[i, i], jnp.finfo(gram.dtype).tiny)
        most = cost * own[i]
        v = most - alpha[i] + (gram[i] @ alpha - own[i]) / curvature
        high = jnp.sort(v)[::-1]
        shifts = (jnp.cumsum(high) - cost) / jnp.arange(1, len(v) + 1, dtype=v.dtype)
        return alpha.at[i].set(most - jax.nn.relu(v - shifts[jnp.sum(high > shifts) - 1])), None

    return jax.lax.scan(step, jnp.zeros_like(own), jnp.tile(jnp.arange(len(gram)), sweeps))[0]


SOLVERS = {"15 sweeps": swept, "solved": crammer_singer}


@functools.cache
def features(ways: int, shots: int, seed: int):
    """Support features `[T, n, D]` and labels, and the queries', of the test classes."""
    dataset, encoder = data.load("omniglot"), jm.models.conv4(None, filters=64)
    settings = experiment.Configuration(
        algorithm="protonet", data="omniglot", width=64, ways=ways, shots=shots, queries=3
    )
    sample = experiment.build(experiment.complete(settings, dataset), dataset).test.sample
    tasks = jax.vmap(sample)(jax.random.split(jax.random.key(seed), EPISODES[ways, shots]))
    theta = jax.jit(encoder.init)(jax.random.key(seed), tasks.support.x[0])
    embedded = jax.jit(lambda x: jax.lax.map(functools.partial(encoder.apply, theta), x))
    return embedded(tasks.support.x), tasks.support.y, embedded(tasks.query.x), tasks.query.y


def judged(alpha, x, y, query, labels) -> dict:
    """Accuracy, relative duality gap and the bound on `|W - W*| / |W|` of one task, in float64."""
    alpha, x, query = (np.asarray(part, np.float64) for part in (alpha, x, query))
    weights, each = x.T @ alpha, np.arange(len(y))
    scores = x @ weights
    margins = (scores - scores[each, y][:, None] + (np.arange(scores.shape[1]) != y[:, None])).max(
        1
    )
    dual = alpha[each, y].sum() - (weights**2).sum() / 2
    gap = max(float((weights**2).sum() / 2 + COST * margins.sum() - dual), 0.0)
    return {
        "accuracy": 100 * np.mean((query @ weights).argmax(1) == labels),
        "gap": gap / dual,
        "distance": (2 * gap) ** 0.5 / np.linalg.norm(weights),
    }


def measure(ways: int, shots: int, dtype: str, rounds: int, seed: int) -> dict:
    x, y, query, labels = features(ways, shots, seed)
    x, y, own = x.astype(dtype), np.asarray(y), jax.nn.one_hot(y, ways, dtype=dtype)
    row = {"ways": ways, "shots": shots, "dtype": dtype, "solvers": {}}
    programs = {}
    for name, solver in SOLVERS.items():

        def alone(x, own, solver=solver):
            return solver(x @ x.T, own, COST)

        alpha = jax.jit(jax.vmap(alone))(x, own)
        each = [judged(*parts) for parts in zip(alpha, x, y, query, np.asarray(labels))]
        row["solvers"][name] = {
            "accuracy": float(np.mean([one["accuracy"] for one in each])),
            **{key: float(max(one[key] for one in each)) for key in ("gap", "distance")},
        }
        programs[name, 1], programs[name, 4] = (
            compiled(alone, x[0], own[0])[0],
            compiled(jax.vmap(alone), x[:4], own[:4])[0],
        )
        programs[name, 1](), programs[name, 4]()
    times = interleaved(programs, rounds)
    for (name, tasks), ms in times.items():
        row["solvers"][name][f"ms of {tasks}"] = statistics.median(ms)
    row["times 15 sweeps"] = {
        tasks: median_ratio(times["solved", tasks], times["15 sweeps", tasks]) for tasks in (1, 4)
    }
    return row


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name", default="machine", help="the JSON's name in benchmarks/results")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    rows = []
    for (ways, shots), dtype in itertools.product(EPISODES, ("float32", "float64")):
        row = measure(ways, shots, dtype, options.rounds, options.seed)
        rows.append(row)
        swept, solved = row["solvers"].values()
        ratio = row["times 15 sweeps"]
        print(
            f"| {row['ways']}-way {row['shots']}-shot, {row['dtype']} | {swept['accuracy']:.1f} | "
            f"{solved['accuracy']:.1f} | {swept['gap']:.1e} | {solved['gap']:.1e} | "
            f"{solved['distance']:.0e} | {solved['ms of 1']:.2f} | {ratio[1]['ratio']:.2f} | "
            f"{ratio[4]['ratio']:.2f} |",
            flush=True,
        )
    where = {"device": str(jax.devices()[0])} | environment("jax", "jaxlib")
    write(options.name, {"environment": where, "seed": options.seed, "cost": COST, "rows": rows})


if __name__ == "__main__":
    main()
