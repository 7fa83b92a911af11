"""Few-shot learning on real Omniglot: 1028/172/423 classes, 28x28, rotations as classes in training, Conv4 of 64 filters.

    JAXMETA_DATA=../shared/data python -m benchmarks.omniglot maml protonet

Each run is trained for at most half an hour on two CPU cores, its theta chosen on validation classes, and judged once on
600 episodes of the test classes, with 95 % intervals. Transductive: a query is normalised by its fellow queries' statistics,
as published MAML numbers are; inductive: by the support's alone.
"""

from __future__ import annotations

import argparse
import dataclasses

import jax

import jaxmeta as jm
from benchmarks._record import environment, write
from jaxmeta import data, experiment, training
from jaxmeta.evaluation import evaluate

COMMON = experiment.Configuration(data="omniglot", width=64, rotations=True)
PRESETS = {
    "maml": dict(algorithm="maml", ways=5, shots=1, queries=3, tasks=4, outer_rate=1e-3, steps=13_000),
    "protonet": dict(algorithm="protonet", ways=20, shots=1, queries=3, evaluation_ways=5, tasks=2, outer_rate=1e-3,
                     steps=2000),
}
VALIDATIONS, EPISODES = 10, 600


def run(name: str, steps: int | None, folder: str | None, resume: bool) -> dict:
    """Trains one preset and judges it."""
    dataset = data.load("omniglot")
    settings = PRESETS[name] | ({} if steps is None else {"steps": steps})
    configuration = experiment.complete(dataclasses.replace(COMMON, **settings), dataset)
    made = experiment.build(configuration, dataset, experiment.mapper(configuration.tasks))
    optimiser = training.outer_adam(configuration.outer_rate, configuration.steps)
    key_train, key_test = jax.random.split(jax.random.key(configuration.seed))
    fitted = jm.fit(key_train, made.algorithm, made.sample, optimiser, configuration.steps, tasks=configuration.tasks,
                    validation=made.validation, validate_every=configuration.steps // VALIDATIONS, episodes=200,
                    folder=folder, configuration=dataclasses.asdict(configuration), resume=resume,
                    progress=training.console())
    result = {"configuration": dataclasses.asdict(configuration), "seconds": fitted.seconds,
              "compile seconds": fitted.compile_seconds, "best": {"step": fitted.best.step, "accuracy": fitted.best.value}}
    over = experiment.mapper(EPISODES)
    for kind, inductive in {"transductive": False, "inductive": True}.items():
        judged = dataclasses.replace(configuration, inductive=inductive)
        bilevel, sample = experiment.evaluation(judged, dataset, "test")
        measured = evaluate(key_test, bilevel, fitted.theta, sample, EPISODES, over)
        result[kind] = {what: value._asdict() for what, value in measured.summary.items()}
        mean, half, _ = measured.summary["accuracy"]
        print(f"{name} {kind}: {100 * mean:.2f} +- {100 * half:.2f} % of {EPISODES} test episodes, trained "
              f"{fitted.seconds / 60:.1f} min", flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("presets", nargs="+", choices=PRESETS)
    parser.add_argument("--steps", type=int, help="outer steps, instead of the preset's")
    parser.add_argument("--runs", help="folder for the run folders, so that a run cut short can go on with --resume")
    parser.add_argument("--resume", action="store_true")
    given = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", 2)
    for name in given.presets:
        folder = given.runs and f"{given.runs}/{name}"
        result = run(name, given.steps, folder, given.resume)
        path = write(f"omniglot_{name}", {"environment": environment("jax", "jaxlib", "flax", "optax"), "run": result})
        print(f"wrote {path}", flush=True)


if __name__ == "__main__":
    main()
