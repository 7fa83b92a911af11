"""What share of a whole training run is not the model's arithmetic: sampling, optimiser, records,
progress, host.

    JAXMETA_DATA=../shared/data python -m benchmarks.whole_run [--rounds 5]

On Omniglot, Conv4 of 64 filters. `fit` is `jm.fit` as it is used, from compilation to its end, with
records, progress and a checkpoint; `program` its compiled program alone, called once for as many
steps; `arithmetic` the estimates alone, on a batch drawn before, in one program. Rounds interleave.
The share is 1 - arithmetic / fit.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time

import jax
import jax.numpy as jnp

import jaxmeta as jm
from benchmarks._record import compiled, environment, interleaved, median_ratio, several, write
from benchmarks.fewshot import COMMON, PRESETS
from jaxmeta import data, experiment, training
from jaxmeta.training import initial_state, outer_steps

STEPS = 100


def systems(name: str):
    """The three by name, each `() -> None` for as many steps; and a list of the milliseconds before
    each fit's first step."""
    dataset = data.load("omniglot")
    configuration = experiment.complete(
        experiment.Configuration(**COMMON, **PRESETS["hour"][name].settings), dataset
    )
    made = experiment.build(configuration, dataset, experiment.mapper(configuration.tasks))
    key = jax.random.key(0)
    algorithm, tasks = (
        made.algorithm,
        jax.vmap(made.sample)(jax.random.split(key, configuration.tasks)),
    )
    optimiser = training.outer_muon(configuration.outer_rate, STEPS)
    state = initial_state(key, algorithm, optimiser, tasks)

    def estimate(theta, tasks):
        found, _ = algorithm.estimator.estimate(
            key, algorithm.bilevel, theta, tasks, state.estimator
        )
        return found.loss, found.grad

    steps = outer_steps(algorithm, optimiser, configuration.tasks, STEPS)
    program, _ = compiled(steps, state, key, made.sample, jnp.int32(STEPS))
    arithmetic, _ = compiled(several(estimate, STEPS), state.theta, tasks)
    before = []

    def fit():
        begin, show = time.perf_counter(), training.console()

        def progress(event):
            if event.kind == "compiled":
                before.append(1e3 * (time.perf_counter() - begin))
            show(event)

        with tempfile.TemporaryDirectory() as folder:
            jm.fit(
                key,
                algorithm,
                made.sample,
                optimiser,
                STEPS,
                tasks=configuration.tasks,
                folder=folder,
                configuration=dataclasses.asdict(configuration),
                progress=progress,
                checkpoint_every=STEPS,
            )

    return {"fit": fit, "program": program, "arithmetic": arithmetic}, before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", nargs="+", default=["maml", "protonet"], choices=PRESETS["hour"])
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", 2)
    record = {}
    for name in given.cells:
        runs, before = systems(name)
        times = interleaved(runs, given.rounds)
        times["fit"] = [whole - apart for whole, apart in zip(times["fit"], before)]
        ratio = median_ratio(times["arithmetic"], times["fit"])
        record[name] = {
            "steps": STEPS,
            "milliseconds": {what: [each / STEPS for each in of] for what, of in times.items()},
            "share": {
                "share": 1 - ratio["ratio"],
                "low": 1 - ratio["high"],
                "high": 1 - ratio["low"],
            },
        }
        middle = {what: sorted(of)[len(of) // 2] / STEPS for what, of in times.items()}
        print(
            f"{name}: "
            + ", ".join(f"{what} {each:.1f} ms a step" for what, each in middle.items())
            + f"; not arithmetic {100 * record[name]['share']['share']:.1f} %",
            flush=True,
        )
    print(
        "wrote "
        f"{write('whole_run', {'environment': environment('jax', 'jaxlib'), 'cells': record})} at "
        f"{time.ctime()}"
    )


if __name__ == "__main__":
    main()
