r"""Within-alphabet 20-way one-shot classification of Omniglot (Lake et al.), trained on 5 or 25
alphabets.

    # what is shipped
    JAXMETA_DATA=../shared/data python -m benchmarks.lake small1 background
    # what makes it
    JAXMETA_DATA=../shared/data python -m benchmarks.lake small1 --steps 1500 \
        --without warps reflections
    # on official runs
    jaxmeta evaluate benchmarks/models/lake_small1 --lake all_runs.zip

Five of the background set's alphabets are set aside for all runs, to be reported on: drawn from the
eight that are in no small set and on whose trials no recipe was ever chosen. Of the others a run
has those it trains on and, with a small set, those on whose trials recipes are chosen. Trials have
the protocol's form, 20 characters of one alphabet, one drawing of each to learn from and another to
classify; only that data sets do not tell people apart. No official run is among the data: nothing
is tuned to them.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import shutil

import jax
import numpy as np

import jaxmeta as jm
from benchmarks._record import environment, write
from jaxmeta import data, experiment, training

COMMON = experiment.Configuration(
    data="omniglot_background",
    algorithm="local_matching_net",
    width=64,
    ways=60,
    shots=1,
    queries=1,
    tasks=1,
    rotations=True,
    reflections=True,
    warps=True,
    inductive=True,
    outer_rate=5e-3,
    steps=2400,
)
NUMBERS = (
    "ways",
    "queries",
    "tasks",
    "steps",
    "seed",
)  # of a Configuration, that the command line may change
PARTS = ("rotations", "reflections", "warps")  # of the recipe, that --without takes out
WAYS, TRIALS, VIEWS = 20, 400, (1, 4)
REPORTED = ("Braille", "Burmese_(Myanmar)", "Gujarati", "Hebrew", "Japanese_(hiragana)")
MODELS = pathlib.Path(__file__).parent / "models"


def dealt(which: str) -> data.Dataset:
    """The background set with the alphabets of a small one, or all but those reported, as its
    training split."""
    background = data.load("omniglot_background")
    names = np.array(background.group_names)
    reported = np.flatnonzero(np.isin(names, REPORTED))
    others = np.setdiff1d(np.arange(len(names)), reported)
    training_set = (
        others
        if which == "background"
        else np.flatnonzero(np.isin(names, data.load(f"omniglot_{which}").group_names))
    )
    parts = {
        "train": training_set,
        "validation": np.setdiff1d(others, training_set),
        "test": reported,
    }
    return dataclasses.replace(
        background,
        splits={
            part: np.flatnonzero(np.isin(background.class_groups, alphabets)).astype(np.int32)
            for part, alphabets in parts.items()
        },
    )


def run(
    which: str, settings: dict, folder: pathlib.Path | None
) -> tuple[dict, experiment.Configuration, object]:
    """Trains on one set of alphabets and judges trials of the others."""
    dataset = dealt(which)
    configuration = experiment.complete(dataclasses.replace(COMMON, **settings), dataset)
    over = experiment.mapper(configuration.tasks)
    fitted = jm.fit(
        jax.random.key(configuration.seed),
        experiment.trained(configuration, over),
        experiment.training_sampler(configuration, dataset),
        training.outer_muon(configuration.outer_rate, configuration.steps),
        configuration.steps,
        tasks=configuration.tasks,
        folder=folder,
        resume=folder is not None,
        configuration=dataclasses.asdict(configuration),
        progress=training.console(),
    )
    found = {
        "configuration": dataclasses.asdict(configuration),
        "seconds": fitted.seconds,
        "alphabets": {
            part: list(dataset.split(part).group_names)
            for part in dataset.splits
            if len(dataset.splits[part])
        },
    }
    judged = experiment.judged(dataclasses.replace(configuration, evaluation_ways=WAYS))
    for part in ("validation", "test"):
        if not len(dataset.splits[part]):
            continue
        trials = experiment.one_shot_trials(dataset.split(part), TRIALS, WAYS)
        for views in VIEWS:
            errors = experiment.one_shot_errors(
                jax.random.key(1), judged, fitted.theta, trials, views
            )
            alphabet = np.array([name[:-3] for name in trials.names])
            found.setdefault(part, {})[f"{views} views"] = {
                kind: {
                    "error": each.mean,
                    "half": each.half,
                    "by alphabet": {
                        name: float(values[alphabet == name].mean()) for name in np.unique(alphabet)
                    },
                }
                for kind, (values, each) in errors._asdict().items()
            }
            print(
                f"{which}, {part}, {views} views: "
                + ", ".join(
                    f"{kind} {100 * each.mean:.2f} +- {100 * each.half:.2f} %"
                    for kind, (_, each) in errors._asdict().items()
                )
                + f", trained {fitted.seconds / 60:.1f} min",
                flush=True,
            )
    return found, configuration, fitted.theta


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("which", nargs="+", choices=("small1", "small2", "background"))
    parser.add_argument(
        "--without", nargs="+", choices=PARTS, default=(), help="parts of the recipe to leave out"
    )
    parser.add_argument(
        "--algorithm", choices=(COMMON.algorithm, "protonet"), default=COMMON.algorithm
    )
    parser.add_argument(
        "--model", choices=("conv_places", "conv4", "conv4_margin"), help="default the algorithm's"
    )
    for field in NUMBERS:
        parser.add_argument(f"--{field}", type=int, default=getattr(COMMON, field))
    parser.add_argument(
        "--runs", type=pathlib.Path, help="folder of run folders, so that a run cut short goes on"
    )
    parser.add_argument(
        "--devices", type=int, default=2, help="CPU devices that tasks are shared out over"
    )
    given = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", given.devices)
    chosen = {field: getattr(given, field) for field in ("algorithm", "model", *NUMBERS)}
    settings = dict.fromkeys(given.without, False) | {
        field: value for field, value in chosen.items() if value != getattr(COMMON, field)
    }
    for which in given.which:
        name = "_".join(
            [
                "lake",
                which,
                *(
                    f"no_{field}"
                    if value is False
                    else f"{value}_{field}"
                    if field in NUMBERS
                    else value
                    for field, value in settings.items()
                ),
            ]
        )
        found, configuration, theta = run(which, settings, given.runs and given.runs / name)
        write(name, {"environment": environment("jax", "jaxlib", "flax", "optax"), "run": found})
        if not settings:  # what is shipped, in the place of the one before
            shutil.rmtree(MODELS / name, ignore_errors=True)
            training.save_theta(MODELS / name, theta, dataclasses.asdict(configuration))


if __name__ == "__main__":
    main()
