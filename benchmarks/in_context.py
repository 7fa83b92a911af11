"""Do readers in context read labels? Accuracy with the support shuffled and with the labels
renamed, beside that as it is.

    python -m benchmarks.in_context            # 10 to 20 minutes on one core

A reader that learned which place says which label loses accuracy where the support comes in another
order, one that learned which class stands under which label where labels are renamed. Both are
trained on glyphs, 5-way 1-shot.
"""

from __future__ import annotations

import argparse

import jax
import numpy as np

import jaxmeta as jm
from benchmarks._record import environment, read, write
from jaxmeta import data, experiment, training
from jaxmeta.evaluation import interval, paired_difference

WAYS, EPISODES = 5, 1200


def shuffled(key, task):
    order = jax.random.permutation(key, len(task.support.y))
    return task._replace(support=jax.tree.map(lambda leaf: leaf[order], task.support))


def renamed(key, task):
    name = jax.random.permutation(key, WAYS)
    support, query = (part._replace(y=name[part.y]) for part in (task.support, task.query))
    return task._replace(support=support, query=query)


AS = {"as it is": lambda key, task: task, "support shuffled": shuffled, "labels renamed": renamed}


def run(algorithm: str, steps: int, seed: int = 0) -> dict:
    """Trains a reader and judges it on the same episodes in every form."""
    dataset = data.load("glyphs")
    configuration = experiment.complete(
        experiment.Configuration(
            algorithm=algorithm,
            data="glyphs",
            ways=WAYS,
            shots=1,
            width=16,
            norm="layer",
            tasks=8,
            steps=steps,
            seed=seed,
        ),
        dataset,
    )
    made = experiment.build(configuration, dataset)
    key_fit, key_test = jax.random.split(jax.random.key(seed))
    fitted = jm.fit(
        key_fit,
        made.algorithm,
        made.sample,
        made.optimiser,
        steps,
        tasks=configuration.tasks,
        progress=training.console(),
    )

    def accuracy(change, key):
        key_task, key_change, key_outcome = jax.random.split(key, 3)
        return jm.outcome(
            key_outcome,
            made.test.bilevel,
            fitted.theta,
            change(key_change, made.test.sample(key_task)),
        )[1]["accuracy"]

    keys, found = jax.random.split(key_test, EPISODES), {}
    for name, change in AS.items():
        values = np.asarray(
            jax.jit(
                lambda keys, change=change: jax.lax.map(lambda key: accuracy(change, key), keys)
            )(keys)
        )
        plain = values if name == "as it is" else plain
        mean, half, _ = interval(values)
        gain, gain_half, _ = paired_difference(values, plain)
        found[name] = {"accuracy": mean, "half": half, "over as it is": gain, "its half": gain_half}
        print(
            f"{algorithm}, {name}: {100 * mean:.1f} +- {100 * half:.1f} %, {100 * gain:+.1f} +- "
            f"{100 * gain_half:.1f}",
            flush=True,
        )
    return {
        "environment": environment("jax", "jaxlib", "flax", "optax"),
        "seed": seed,
        "steps": steps,
        "seconds": fitted.seconds,
        "episodes": EPISODES,
        "found": found,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--only", nargs="+", default=("black_box", "snail"), choices=("black_box", "snail")
    )
    parser.add_argument("--steps", type=int, default=500)
    given = parser.parse_args()
    for algorithm in given.only:
        result = run(algorithm, given.steps)
        write("in_context", read("in_context") | {algorithm: result})


if __name__ == "__main__":
    main()
