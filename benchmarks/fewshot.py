"""Few-shot learning on real Omniglot beside the papers: 1028/172/423 classes, 28x28, rotations as
classes in training, Conv4.

    # every method, an hour on two cores
    JAXMETA_DATA=../shared/data python -m benchmarks.fewshot --preset quick
    # up to an hour a cell, on two cores
    JAXMETA_DATA=../shared/data python -m benchmarks.fewshot --preset hour
    # the papers' budgets, on one GPU
    JAXMETA_DATA=../shared/data python -m benchmarks.fewshot --preset full
    python -m benchmarks.fewshot --preset hour --table

A cell is one trained net. Its theta is chosen on validation classes and judged once on 600 episodes
of the test classes, the same ones for all cells. Inductive: a query is normalised by the support's
statistics; transductive: by its fellow queries', as published MAML numbers are. Both are reported
by two protocols: test characters as they were drawn, which is harder at 20 ways, and with turned
characters as classes too, 1,692 for 423, as in the papers. A cell that the result has is not run
again; one that was cut short goes on from its folder.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import sys
from typing import NamedTuple

import jax
import numpy as np

import jaxmeta as jm
from benchmarks._record import environment, read, write
from jaxmeta import data, experiment, training
from jaxmeta.evaluation import curve, evaluate, interval, paired_difference


class Cell(NamedTuple):
    """A net to train: settings of its `Configuration`, the `(ways, shots)` it is judged at, and the
    most inner steps it may be judged after, at these multiples of its inner rate, as validation
    episodes choose; 0 for the steps and rate it has. Muon trains it at the outer rate of the
    settings, or, where that is None, what its method has of itself."""

    settings: dict
    tests: tuple[tuple[int, int], ...] = ((5, 1),)
    most: int = 0
    rates: tuple[float, ...] = (1.0,)


COMMON = dict(data="omniglot", width=64, rotations=True, inductive=True)
EPISODES, VALIDATION, VALIDATIONS, QUERIES = 600, 200, 10, 3
_BOTH = ((5, 1), (20, 1))
_FIVE, _TWENTY = dict(ways=5, queries=3), dict(ways=20, shots=1, queries=3)
KINDS = {
    "inductive": {},
    "transductive": {"inductive": False},
    "inductive, turned": {"evaluation_rotations": True},
    "transductive, turned": {"inductive": False, "evaluation_rotations": True},
}
_OWN = ("reptile", "imaml", "cavia_conv4")  # trained by their papers' outer optimisers


def gradient_cell(algorithm, steps, tasks=4, tests=((5, 1),), most=0, rates=(1.0,), **more):
    """Trained 5-way 1-shot, as MAML is."""
    rate = None if algorithm in _OWN else 5e-3
    return Cell(
        dict(algorithm=algorithm, tasks=tasks, outer_rate=rate, steps=steps) | _FIVE | more,
        tests,
        most,
        rates,
    )


def metric_cell(algorithm, steps, tests=_BOTH, **more):
    """Trained 20-way 1-shot, as prototypical networks are."""
    return Cell(
        dict(algorithm=algorithm, tasks=2, outer_rate=5e-3, steps=steps) | _TWENTY | more, tests
    )


_GRADIENT = (
    "maml",
    "fomaml",
    "anil",
    "boil",
    "meta_sgd",
    "meta_curvature",
    "alfa",
    "l2f",
    "cavia",
    "cavia_conv4",
    "proto_maml",
    "t_net",
    "leo",
)
_SLOWER = ("maml_plus_plus", "bootstrapped_maml", "reptile", "imaml")  # of more inner steps
_METRIC = (
    "protonet",
    "scaled_protonet",
    "matching_net",
    "local_matching_net",
    "relation_net",
    "r2d2",
    "metaoptnet",
    "baseline_plus_plus",
)
_HARDER = dict(
    model="conv4_margin", warps=True, ways=60, queries=2, tasks=1
)  # more classes to tell apart, for as many images
_BUDGET = 60_000  # meta-batches, with 32 tasks of 5 ways or 16 of 20: Finn et al., 2017

PRESETS = {
    "quick": {
        **{name: gradient_cell(name, 1000) for name in (*_GRADIENT, "black_box", "snail")},
        **{name: gradient_cell(name, 500) for name in _SLOWER},
        **{name: metric_cell(name, 300) for name in _METRIC},
    },
    "hour": {
        "protonet": metric_cell("protonet", 10_000),
        "protonet_margin": metric_cell("protonet", 4500, model="conv4_margin"),
        "protonet_60_way": metric_cell("protonet", 6000, **_HARDER),
        "scaled_protonet_60_way": metric_cell("scaled_protonet", 6000, **_HARDER),
        "local_matching_60_way": metric_cell(
            "local_matching_net",
            2000,
            **_HARDER | dict(model="conv_places", queries=1),
            evaluation_ways=20,
        ),
        "r2d2_60_way": metric_cell("r2d2", 6000, **_HARDER),
        "maml": gradient_cell("maml", 30_000, most=10),
        "anil": gradient_cell(
            "anil",
            10_000,
            2,
            most=10,
            rates=(1, 1 / 2, 1 / 4, 1 / 8, 1 / 16),
            ways=20,
            queries=1,
            evaluation_ways=5,
            inner_rate=1.6,
        ),
        "maml_plus_plus": gradient_cell(
            "maml_plus_plus",
            6000,
            2,
            ((20, 1),),
            ways=20,
            queries=1,
            model="conv4_margin",
            inner_rate=0.3,
            inner_steps=2,
            evaluation_steps=2,
        ),
    },
    "full": {
        **{
            f"{name}_{ways}w{shots}s": gradient_cell(
                name,
                _BUDGET,
                32 if ways == 5 else 16,
                ((ways, shots),),
                ways=ways,
                shots=shots,
                queries=15,
            )
            for name in (*_GRADIENT, *_SLOWER)
            for ways in (5, 20)
            for shots in (1, 5)
        },
        **{
            f"{name}_{shots}s": metric_cell(
                name,
                _BUDGET // 3,
                ((5, shots), (20, shots)),
                ways=60,
                shots=shots,
                queries=5,
                tasks=1,
            )
            for name in _METRIC
            for shots in (1, 5)
        },
    },
}

_SNELL, _FINN = "Snell et al. 2017", "Finn et al. 2017"
PUBLISHED = {  # (algorithm, ways, shots) -> accuracy in %, source
    **{
        ("maml", *at): (value, _FINN)
        for at, value in {(5, 1): 98.7, (5, 5): 99.9, (20, 1): 95.8, (20, 5): 98.9}.items()
    },
    **{
        ("protonet", *at): (value, _SNELL)
        for at, value in {(5, 1): 98.8, (5, 5): 99.7, (20, 1): 96.0, (20, 5): 98.9}.items()
    },
    **{
        ("maml_plus_plus", *at): (value, "Antoniou et al. 2019")
        for at, value in {(5, 1): 99.47, (5, 5): 99.85, (20, 1): 97.65, (20, 5): 99.33}.items()
    },
    **{
        ("fomaml", *at): (value, "Nichol et al. 2018")
        for at, value in {(5, 1): 98.3, (5, 5): 99.2, (20, 1): 89.4, (20, 5): 97.9}.items()
    },
}


def trained(settings: dict, seed: int, folder: pathlib.Path | None):
    """The configuration, complete, and what came of training it."""
    configuration = experiment.Configuration(**COMMON | settings, seed=seed)
    dataset = data.load(configuration.data)
    configuration = experiment.complete(configuration, dataset)
    made = experiment.build(configuration, dataset, experiment.mapper(configuration.tasks))
    optimiser = (
        made.optimiser
        if settings["outer_rate"] is None
        else training.outer_muon(configuration.outer_rate, configuration.steps)
    )
    return configuration, jm.fit(
        keys(seed)[0],
        made.algorithm,
        made.sample,
        optimiser,
        configuration.steps,
        tasks=configuration.tasks,
        validation=made.validation,
        validate_every=configuration.steps // VALIDATIONS,
        episodes=VALIDATION,
        folder=folder,
        configuration=dataclasses.asdict(configuration),
        resume=folder is not None,
        progress=training.console(),
    )


def keys(seed: int):
    """Of training and of the test."""
    return jax.random.split(jax.random.key(seed))


def run(name: str, cell: Cell, seed: int, folder: pathlib.Path | None) -> dict:
    """Trains one cell and judges it."""
    configuration, fitted = trained(cell.settings, seed, folder)
    dataset = data.load(configuration.data)
    walked = adaptation(configuration, fitted.theta, dataset, cell) if cell.most else {}
    if walked:
        rate = max(walked, key=lambda rate: max(walked[rate]))
        configuration = dataclasses.replace(
            configuration, evaluation_rate=rate, evaluation_steps=int(np.argmax(walked[rate]))
        )
    result = {
        "configuration": dataclasses.asdict(configuration),
        "seed": seed,
        "command": f"python -m benchmarks.fewshot {' '.join(sys.argv[1:])}",
        "environment": environment("jax", "jaxlib", "flax", "optax"),
        "seconds": fitted.seconds,
        "compile seconds": fitted.compile_seconds,
        "best": {"step": fitted.best.step, "accuracy": fitted.best.value},
        "validation accuracy by inner rate and steps": walked,
        "tests": {},
    }
    for ways, shots in cell.tests:
        for kind, changed in KINDS.items():
            judged = dataclasses.replace(
                configuration,
                evaluation_ways=ways,
                evaluation_shots=shots,
                queries=QUERIES,
                **changed,
            )
            bilevel, sample = experiment.evaluation(judged, dataset, "test")
            theta = experiment.at_evaluation(judged, fitted.theta, bilevel)
            values = evaluate(
                keys(seed)[1], bilevel, theta, sample, EPISODES, experiment.mapper(EPISODES)
            ).values
            mean, half, _ = interval(values["accuracy"])
            result["tests"].setdefault(f"{ways}-way {shots}-shot", {})[kind] = {
                "accuracy": mean,
                "half": half,
                "loss": float(values["loss"].mean()),
                "hits": np.rint(values["accuracy"] * ways * QUERIES).astype(int).tolist(),
            }
            print(
                f"{name} {ways}-way {shots}-shot {kind}: {100 * mean:.2f} +- {100 * half:.2f} % of "
                f"{EPISODES} test episodes, trained {fitted.seconds / 60:.1f} min",
                flush=True,
            )
    return result


def adaptation(configuration, theta, dataset, cell: Cell) -> dict[float, list[float]]:
    """Accuracy on validation episodes, at each inner rate after 0, 1, ... inner steps."""
    found = {}
    for rate in (configuration.inner_rate * times for times in cell.rates):
        tried = dataclasses.replace(configuration, evaluation_rate=rate)
        bilevel, sample = experiment.evaluation(tried, dataset, "validation")
        start = experiment.at_evaluation(tried, theta, bilevel)
        walked = curve(
            keys(configuration.seed)[0],
            bilevel,
            start,
            sample,
            EPISODES,
            cell.most,
            experiment.mapper(EPISODES),
        )
        found[rate] = [each.mean for each in walked.summary["accuracy"]]
    return found


def table(cells: dict[str, dict]) -> str:
    """Ours and the published accuracies side by side, and the paired difference from the first cell
    of the same test."""
    columns = (
        "",
        "",
        *KINDS,
        "published (transductive, turned)",
        "over the first, inductive",
        "minutes",
    )
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for test in sorted(
        {test for cell in cells.values() for test in cell["tests"]},
        key=lambda test: (len(test), test),
    ):
        first = None
        for name, cell in cells.items():
            if test not in cell["tests"]:
                continue
            kinds = cell["tests"][test]
            ways, shots = (int(part.split("-")[0]) for part in test.split())
            value, source = PUBLISHED.get(
                (cell["configuration"]["algorithm"], ways, shots), ("", "")
            )
            scores = np.array(kinds["inductive"]["hits"]) / (ways * QUERIES)
            first = scores if first is None else first
            gain, half, _ = paired_difference(scores, first)
            ours = (_percent(**kinds[kind]) if kind in kinds else "" for kind in KINDS)
            lines.append(
                f"| {test} | {name} | {' | '.join(ours)} | {value} {source} | "
                f"{'' if scores is first else f'{100 * gain:+.2f} ± {100 * half:.2f}'} | "
                f"{cell['seconds'] / 60:.0f} |"
            )
    return "\n".join(lines)


def _percent(accuracy, half, **rest):
    return f"{100 * accuracy:.2f} ± {100 * half:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=PRESETS, default="quick")
    parser.add_argument("--only", nargs="+", help="cells of the preset, instead of all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--runs",
        type=pathlib.Path,
        default=pathlib.Path("runs/fewshot"),
        help="folder of the run folders",
    )
    parser.add_argument(
        "--devices", type=int, default=2, help="CPU devices that tasks are shared out over"
    )
    parser.add_argument(
        "--table", action="store_true", help="print the preset's table instead of running it"
    )
    given = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", given.devices)
    name = f"fewshot_{given.preset}"
    cells = PRESETS[given.preset]

    for cell in given.only or cells:
        if cell not in cells:
            parser.error(
                f"preset {given.preset} has no cell {cell!r}; choose among {', '.join(cells)}"
            )
        if given.table or cell in read(
            name
        ):  # anew each time: another process may have added a cell
            continue
        result = run(
            cell, cells[cell], given.seed, given.runs / f"{given.preset}_{cell}_{given.seed}"
        )
        found = read(name) | {cell: result}
        write(name, {each: found[each] for each in cells if each in found})
    print(table(read(name)))


if __name__ == "__main__":
    main()
