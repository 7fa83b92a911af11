"""What are episodes worth whose query shares samples with the support?

    JAXMETA_DATA=../shared/data python -m benchmarks.bouts [--steps 100] [--table]

Windows of a recording overlap by half. 5-way episodes of one person are drawn from all windows, as
jaxmeta drew them once, and from different recordings for support and query, as it draws them where
a person has two (`jaxmeta.data.Dataset.apart`). Told is the share of queries that have half of
their samples in common with a support window of their class; the accuracy of the nearest raw
window; and that of a ProtoNet trained on either kind of episodes (conv1d, 5 shots) and judged on
both, on test persons.
"""

from __future__ import annotations

import argparse
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

import jaxmeta as jm
from benchmarks._record import environment, read, write
from jaxmeta import data, experiment, training
from jaxmeta.evaluation import evaluate, interval

SETS, SHOTS, WAYS, QUERIES, TASKS, EPISODES = ("hapt", "watch", "phone_watch"), (1, 5), 5, 5, 4, 600
KINDS = {
    "all windows": lambda whole: dataclasses.replace(whole, bouts=None, recordings=None),
    "recordings apart": lambda whole: whole,
}


def drawn(key, sample):
    """Many episodes, stacked."""
    return jax.jit(lambda keys: jax.lax.map(sample, keys))(jax.random.split(key, EPISODES))


def overlapping(key, part: data.Dataset, shots: int) -> float:
    """The share of queries that begin or end with half of a support window of their class."""
    half = part.inputs.shape[1] // 2
    names = {}
    ends = np.array(
        [
            [
                names.setdefault(each.tobytes(), len(names))
                for each in (window[:half], window[half : 2 * half])
            ]
            for window in part.inputs
        ]
    )
    pool = jm.pool(np.arange(len(part))[:, None], part.labels, part.groups, part.apart)
    tasks = drawn(key, jm.episodes(pool, WAYS, shots, QUERIES))
    support, query = (
        np.asarray(each.x)[..., 0].reshape(EPISODES, WAYS, -1)
        for each in (tasks.support, tasks.query)
    )
    first, last = (
        ends[query][..., :, None, end] == ends[support][..., None, :, 1 - end] for end in (0, 1)
    )
    return float((first | last).any(-1).mean())


def nearest(key, sample) -> np.ndarray:
    """By episode, how many queries have the class of the support window that is nearest, in
    Euclidean distance."""

    def one(key):
        task = sample(key)
        support, query = (each.x.reshape(len(each.x), -1) for each in (task.support, task.query))
        squared = (support**2).sum(1) - 2 * query @ support.T
        return jnp.mean(task.support.y[squared.argmin(1)] == task.query.y)

    return np.asarray(drawn(key, one))


def run(name: str, steps: int, seed: int) -> dict:
    """One set."""
    wholes = {kind: make(data.load(name)) for kind, make in KINDS.items()}
    keys = jax.random.split(jax.random.key(seed), 3)
    found = {}
    for shots in SHOTS:
        settings = experiment.Configuration(
            algorithm="protonet", data=name, ways=WAYS, shots=shots, queries=QUERIES, seed=seed
        )
        configuration = experiment.complete(settings, wholes["recordings apart"])
        made = {kind: experiment.build(configuration, whole) for kind, whole in wholes.items()}
        found[f"{shots} shots"] = of = {
            kind: {
                "overlapping": overlapping(keys[0], wholes[kind].split("test"), shots),
                "nearest": _json(nearest(keys[0], each.test.sample)),
            }
            for kind, each in made.items()
        }
        for kind, each in made.items() if shots == 5 else ():
            theta = jm.fit(
                keys[1],
                each.algorithm,
                each.sample,
                each.optimiser,
                steps,
                tasks=TASKS,
                progress=training.silent,
            ).theta
            of[kind]["ProtoNet, judged on"] = {
                other: _json(
                    evaluate(
                        keys[2],
                        test.bilevel,
                        experiment.at_evaluation(configuration, theta, test.bilevel),
                        test.sample,
                        EPISODES,
                    ).values["accuracy"]
                )
                for other, test in ((other, each.test) for other, each in made.items())
            }
        print(name, shots, of, flush=True)
    return found


def _json(values):
    of = interval(values)
    return {"accuracy": of.mean, "half": of.half}


def table(sets: dict) -> str:
    """A line a set and number of shots."""

    def cell(of):
        return f"{100 * of['accuracy']:.1f} ± {100 * of['half']:.1f}"

    def both(values):
        return " / ".join(values[kind] for kind in KINDS)

    lines = [
        "| all windows / recordings apart | queries that overlap | nearest window | ProtoNet, "
        "trained on all | trained on recordings apart |",
        "|---|---|---|---|---|",
    ]
    for name, found in sets.items():
        for shots, of in found["found"].items():
            columns = [
                {kind: f"{100 * one['overlapping']:.1f} %" for kind, one in of.items()},
                {kind: cell(one["nearest"]) for kind, one in of.items()},
                *(
                    {other: cell(one) for other, one in each["ProtoNet, judged on"].items()}
                    for each in of.values()
                    if "ProtoNet, judged on" in each
                ),
            ]
            lines.append(
                f"| {name}, {shots} | "
                + " | ".join(map(both, columns))
                + " |"
                + " |" * (4 - len(columns))
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument(
        "--steps", type=int, default=100, help="meta-batches of 4 episodes that a net is trained on"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", action="store_true", help="print what the result has")
    given = parser.parse_args()
    sets = read("bouts", parser if given.table else None)
    for name in () if given.table else given.sets:  # what the result has of other sets stays
        sets[name] = {
            "environment": environment("jax", "jaxlib", "flax", "optax"),
            "seed": given.seed,
            "steps": given.steps,
            "found": run(name, given.steps, given.seed),
        }
        write("bouts", sets)
    print(table(sets))


if __name__ == "__main__":
    main()
