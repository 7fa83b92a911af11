"""How far what was learned on glyphs carries: to Omniglot, digits and MNIST, more steps, shots and
ways; and is it calibrated?

    JAXMETA_DATA=../shared/data python -m benchmarks.across [--cells maml anil protonet] [--table]

Nets are trained on episodes of `glyphs`, strokes of vector fonts, 5-way 1-shot (MAML, ANIL) or
20-way 1-shot (ProtoNet) and judged, normalised by the support alone, on 600 episodes: of glyphs'
and Omniglot's test classes, and of all ten digits of two other sets. Calibration is the expected
error of 15 bins over all queries. No raw data of the other sets were seen.
"""

from __future__ import annotations

import argparse
import dataclasses

import jax
import numpy as np

from benchmarks._record import environment, read, write
from benchmarks.fewshot import gradient_cell, keys, metric_cell, trained
from jaxmeta import data, experiment
from jaxmeta.evaluation import calibration, curve, evaluate, interval

CELLS = {
    "maml": gradient_cell("maml", 1500),
    "anil": gradient_cell("anil", 1500),
    "protonet": metric_cell("protonet", 600),
}
EPISODES, MOST, QUERIES = 600, 10, 3
SETS = ("glyphs", "omniglot", "digits", "mnist")
TESTS = ((5, 1), (5, 5))  # ways and shots, on every set
MORE = ((5, 2), (5, 10), (2, 1), (10, 1), (20, 1))  # and on Omniglot


def whole(name: str):
    """The set with all that may be asked for as its test: digits are too few to be split."""
    dataset = data.load(name)
    if name not in ("digits", "mnist"):
        return dataset
    return dataclasses.replace(
        dataset, splits={"test": np.arange(len(dataset.class_names), dtype=np.int32)}
    )


def judged(configuration, theta, dataset, ways: int, shots: int):
    """Bilevel problem, theta and sampler."""
    changed = dataclasses.replace(
        configuration, evaluation_ways=ways, evaluation_shots=shots, queries=QUERIES
    )
    bilevel, sample = experiment.evaluation(changed, dataset, "test")
    return bilevel, experiment.at_evaluation(changed, theta, bilevel), sample


def calibrated(key, bilevel, theta, sample, ways: int):
    """The calibration of all queries of the episodes."""

    def one(key):
        key_sample, key_learn = jax.random.split(key)
        task = sample(key_sample)
        return experiment.probabilities(key_learn, bilevel, theta, task), task.query.y

    chances, labels = jax.jit(lambda keys: jax.lax.map(one, keys))(jax.random.split(key, EPISODES))
    found = calibration(np.asarray(chances).reshape(-1, ways), np.asarray(labels).ravel())
    return {"error": found.error, "over": found.over}


def run(cell, seed: int) -> dict:
    """Trains one net and judges it everywhere."""
    configuration, fitted = trained({**cell.settings, "data": "glyphs"}, seed, None)
    key = keys(seed)[1]
    found = {
        "configuration": dataclasses.asdict(configuration),
        "seconds": fitted.seconds,
        "sets": {},
    }
    for name in SETS:
        dataset = whole(name)
        tests = {}
        for ways, shots in TESTS + (MORE if name == "omniglot" else ()):
            problem = judged(configuration, fitted.theta, dataset, ways, shots)
            tests[f"{ways}-way {shots}-shot"] = _json(
                interval(evaluate(key, *problem, EPISODES).values["accuracy"])
            )
        problem = judged(configuration, fitted.theta, dataset, 5, 1)
        found["sets"][name] = {"tests": tests, "calibration": calibrated(key, *problem, 5)}
        if name == "omniglot" and configuration.inner_steps:
            found["steps"] = [
                _json(each) for each in curve(key, *problem, EPISODES, MOST).summary["accuracy"]
            ]
        print(configuration.algorithm, name, found["sets"][name], flush=True)
    return found


def _json(of):
    return {"accuracy": of.mean, "half": of.half}


def table(cells: dict) -> str:
    """Three tables: sets, then shots and ways, then steps."""

    def cell(value):
        return f"{100 * value['accuracy']:.1f} ± {100 * value['half']:.1f}"

    def rows(head, lines):
        return "\n".join(
            [
                f"| {' | '.join(head)} |",
                "|" + "---|" * len(head),
                *(f"| {' | '.join(line)} |" for line in lines),
            ]
        )

    tests = [f"{ways}-way {shots}-shot" for ways, shots in TESTS]
    sets = rows(
        ["", *(f"{name}, {what}" for name in SETS for what in (*tests, "ECE"))],
        [
            [
                name,
                *(
                    text
                    for each in map(of["sets"].get, SETS)
                    for text in (
                        *(cell(each["tests"][test]) for test in tests),
                        f"{100 * each['calibration']['error']:.1f}",
                    )
                ),
            ]
            for name, of in cells.items()
        ],
    )
    every = [f"{ways}-way {shots}-shot" for ways, shots in sorted(TESTS + MORE)]
    more = rows(
        ["Omniglot", *every],
        [
            [name, *(cell(of["sets"]["omniglot"]["tests"][test]) for test in every)]
            for name, of in cells.items()
        ],
    )
    steps = rows(
        ["steps", *map(str, range(MOST + 1))],
        [[name, *map(cell, of["steps"])] for name, of in cells.items() if "steps" in of],
    )
    return "\n\n".join([sets, more, steps])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=list(CELLS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--devices", type=int, default=2, help="CPU devices that tasks are shared out over"
    )
    parser.add_argument("--table", action="store_true", help="print what the result has")
    given = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", given.devices)
    cells = read("across", parser if given.table else None)
    for name in () if given.table else given.cells:  # what the result has of other cells stays
        about = {"environment": environment("jax", "jaxlib", "flax", "optax"), "seed": given.seed}
        cells[name] = about | run(CELLS[name], given.seed)
        write("across", cells)
    print(table(cells))


if __name__ == "__main__":
    main()
