"""Activities of a new person from a few examples of each: HAPT, by person.

    JAXMETA_DATA=../shared/data python -m benchmarks.har [--shots 1 5] [--table]

Five folds over 30 persons: 18 to learn from, 6 to choose settings on, 6 that are new. A task is a
person's six activities under their own names: k windows of each from one recording, judged on
windows of the other, in which the phone was put on anew. All methods have the same net (`conv1d`),
the same tasks and, normalised by the support alone, see each query by itself:

  scratch     drawn anew and trained on the support by Adam
  pooled      one model of all persons' windows, as it is (0 steps) or fine-tuned on the support
  MAML        3 inner steps of 0.1 in training
  ProtoNet    class means

How many steps are taken (up to 20), and at which of three rates the pooled model is fine-tuned, is
chosen on the validation persons of each fold. Intervals are over the 30 persons, each of whom is
new once, and paired.
"""

from __future__ import annotations

import argparse

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxmeta as jm
from benchmarks._record import environment, read, write
from benchmarks.tying_study import recorded
from jaxmeta import data, experiment, models, training
from jaxmeta.base import Bilevel
from jaxmeta.bias import initialisation
from jaxmeta.evaluation import curve, t_interval
from jaxmeta.tasks import inductive, sessions

FOLDS, STEPS, TASKS, QUERIES, MOST, EPISODES = 5, 300, 8, 2, 20, 20
RATES = (0.01, 0.03, 0.1)
OUTER = inductive(jm.query_loss)


def net(outputs):
    return models.conv1d(outputs, filters=32)


def problems(tasks: int) -> dict[str, tuple[jm.Algorithm | None, list[Bilevel]]]:
    """By method: as it is trained, and the settings it may be judged with."""
    over = experiment.mapper(tasks)

    def descent(rate, steps):
        return jm.gradient(net(6), update=optax.sgd(rate), steps=steps)

    scratch = experiment.from_scratch(
        experiment.Configuration(model="conv1d", width=32, norm="batch", evaluation_ways=6), MOST
    )
    pooled = jm.maml(descent(RATES[0], 0), over=over, outer=OUTER)
    return {
        "scratch": (None, [scratch._replace(outer=OUTER)]),
        "pooled": (
            pooled,
            [Bilevel(initialisation(), descent(rate, MOST), OUTER) for rate in RATES],
        ),
        "MAML": (
            jm.maml(descent(0.1, 3), over=over, outer=OUTER),
            [Bilevel(initialisation(), descent(0.1, MOST), OUTER)],
        ),
        "ProtoNet": (
            jm.protonet(net(None), 6, over=over, outer=OUTER),
            [jm.protonet(net(None), 6, outer=OUTER).bilevel],
        ),
    }


def sampler(x, labels, persons, recordings, who, shots, queries):
    """Tasks of these persons, learned in one recording and judged in the other; in turns which is
    which."""
    pools = []
    for first in (0, 1):
        rows = [
            np.flatnonzero(np.isin(persons, who) & (recordings == (first + turn) % 2))
            for turn in (0, 1)
        ]
        groups = [2 * np.searchsorted(who, persons[each]) + turn for turn, each in enumerate(rows)]
        pools.append(
            jm.pool(x[np.concatenate(rows)], labels[np.concatenate(rows)], np.concatenate(groups))
        )
    sample = sessions(*pools, shots, queries)
    if not sample.args[2].all():
        raise ValueError(
            f"every person needs {shots} and {queries} windows of each activity in both "
            "recordings; take fewer"
        )
    return sample


def accuracies(key, bilevels, theta, sample, persons: int):
    """`[settings, persons, steps + 1]`: of each person in 2 ways round."""

    def walk(bilevel, person):
        steps = MOST if bilevel.learner.steps else 0
        return (
            curve(key, bilevel, theta, only(sample, person), EPISODES, steps)
            .values["accuracy"]
            .mean(0)
        )

    return np.array([[walk(each, person) for person in range(persons)] for each in bilevels])


def only(sample, person):
    """The sampler of one person's tasks."""
    support, query, eligible = sample.args
    mine = jnp.arange(len(eligible)) // 2 == person
    return jax.tree_util.Partial(sample.func, support, query, eligible & mine)


def run(shots: int, seed: int) -> dict:
    """All folds."""
    windows, (labels, persons, recordings, _) = recorded()
    found = {"persons": [], "accuracy": {}, "chosen": {}}
    for fold in data.folds(persons, FOLDS, seed):
        train, validation, test = (np.unique(persons[part]) for part in fold)
        mean, deviation = (f(windows[fold.train], axis=(0, 1)) for f in (np.mean, np.std))
        x = ((windows - mean) / deviation).astype(np.float32)
        drawn = [
            sampler(x, labels, persons, recordings, who, shots, queries)
            for who, queries in ((train, QUERIES), (validation, 8), (test, 8))
        ]
        key = jax.random.key(seed)
        found["persons"] += test.tolist()
        for name, (algorithm, judged) in problems(TASKS).items():
            theta = (
                ()
                if algorithm is None
                else jm.fit(
                    key,
                    algorithm,
                    drawn[0],
                    training.outer_adam(3e-3, STEPS),
                    STEPS,
                    tasks=TASKS,
                    progress=training.silent,
                ).theta
            )
            chosen_on = accuracies(key, judged, theta, drawn[1], len(validation)).mean(1)
            setting, steps = np.unravel_index(chosen_on.argmax(), chosen_on.shape)
            reported = accuracies(key, [judged[setting]], theta, drawn[2], len(test))[0]
            kinds = {name: (int(setting), int(steps))}
            if name == "pooled":
                kinds["pooled, not tuned"] = int(setting), 0
            for kind, (which, step) in kinds.items():
                found["accuracy"].setdefault(kind, []).extend(reported[:, step].tolist())
                found["chosen"].setdefault(kind, []).append([which, step])
                print(
                    f"{shots} shots, {kind}: {100 * reported[:, step].mean():.1f} % by {which}, "
                    f"{step} steps",
                    flush=True,
                )
    return found


def table(runs: dict) -> str:
    """Accuracies, and the gains of MAML and ProtoNet in pairs."""

    def cell(values, sign=""):
        mean, half = t_interval(100 * np.asarray(values))
        return f"{mean:{sign}.1f} ± {half:.1f}"

    names = next(iter(runs.values()))["accuracy"]
    lines = [
        "| | " + " | ".join(f"{shots} a class" for shots in runs) + " |",
        "|---|" + "---|" * len(runs),
    ]
    lines += [
        f"| {name} | " + " | ".join(cell(each["accuracy"][name]) for each in runs.values()) + " |"
        for name in names
    ]
    for name in ("MAML", "ProtoNet"):
        for other in ("scratch", "pooled"):
            gains = (
                cell(np.subtract(each["accuracy"][name], each["accuracy"][other]), "+")
                for each in runs.values()
            )
            lines.append(f"| {name} over {other} | " + " | ".join(gains) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", action="store_true", help="print what the result has")
    given = parser.parse_args()
    runs = read("har", parser if given.table else None)
    for shots in (
        () if given.table else given.shots
    ):  # what the result has of other numbers of shots stays
        about = {"environment": environment("jax", "jaxlib", "flax", "optax"), "seed": given.seed}
        runs[str(shots)] = about | run(shots, given.seed)
        write("har", runs)
    print(table(runs))


if __name__ == "__main__":
    main()
