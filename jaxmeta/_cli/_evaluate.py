"""`jaxmeta evaluate` and `jaxmeta algorithms`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from jaxmeta._cli._console import refusing, say, show_json, start_jax, table
from jaxmeta._cli._saved_run import saved_configuration


def evaluate(
    run: Annotated[
        Path, typer.Argument(help="Folder that was the --out of jaxmeta train.", show_default=False)
    ],
    data: Annotated[
        str | None,
        typer.Option(help="Another set of inputs of the same shape.", show_default="the run's"),
    ] = None,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    ways: Annotated[
        int | None,
        typer.Option(
            min=2,
            help=(
                "Classes in an episode. With more than in training the new outputs of the head "
                "start as the mean of the learned ones; protonet and r2d2 need none."
            ),
            show_default="the run's",
        ),
    ] = None,
    shots: Annotated[
        int | None,
        typer.Option(min=1, help="Examples of each class to learn from.", show_default="the run's"),
    ] = None,
    queries: Annotated[
        int | None,
        typer.Option(
            min=1, help="Examples of each class to be judged on.", show_default="the run's"
        ),
    ] = None,
    rotations: Annotated[
        bool | None,
        typer.Option(
            "--rotations/--no-rotations",
            help=(
                "Images turned by 90, 180 or 270 degrees are classes too, as in papers on Omniglot."
            ),
            show_default="the run's",
        ),
    ] = None,
    inner_rate: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help=(
                "Step size within an episode; with fewer ways than in training a smaller one "
                "serves better."
            ),
            show_default="the run's",
        ),
    ] = None,
    inner_steps: Annotated[
        int | None, typer.Option(min=0, help="Steps within an episode.", show_default="the run's")
    ] = None,
    episodes: Annotated[int, typer.Option(min=1, help="How many.")] = 600,
    seed: Annotated[int, typer.Option(min=0, help="Of the episodes.")] = 1,
    lake: Annotated[
        Path | None,
        typer.Option(
            help=(
                "Instead of episodes the runs of Lake's within-alphabet one-shot protocol: an "
                "archive in the layout of Omniglot's all_runs.zip."
            ),
            show_default=False,
        ),
    ] = None,
    views: Annotated[
        int,
        typer.Option(
            min=1,
            help=(
                "With --lake: judge each run so often, its images bent anew at random, and average."
            ),
        ),
    ] = 1,
    compilation_cache: Annotated[
        bool, typer.Option(help="Keep compiled programs for the next time.")
    ] = True,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the results as JSON on standard output.")
    ] = False,
) -> None:
    """Test a trained run on other episodes: more ways, more shots, more steps, other data.

    Examples:

        jaxmeta evaluate runs/a

        jaxmeta evaluate runs/a --ways 20 --shots 5 --episodes 600

        jaxmeta evaluate runs/a --data digits --ways 3 --json

        jaxmeta evaluate runs/a --lake all_runs.zip --views 16
    """
    import jax

    from jaxmeta import data as sets, evaluation, experiment, training

    with refusing():
        trained = saved_configuration(run)
        wanted = {
            "data": data,
            "evaluation_ways": ways,
            "evaluation_shots": shots,
            "queries": queries,
            "evaluation_rotations": rotations,
            "evaluation_rate": inner_rate,
            "evaluation_steps": inner_steps,
        }
        if lake is None and views > 1:
            raise ValueError(
                f"--views are of the runs of --lake, got {views} without it; leave it out, or give "
                "the archive"
            )
        runs = None if lake is None else sets.one_shot_runs(lake)
        if runs is not None:
            if any(value is not None for value in (data, ways, shots, queries, rotations)):
                raise ValueError(
                    "the runs of --lake bring their own data, ways, shots, queries and classes, "
                    "got one of these beside it; leave it out"
                )
            wanted |= {"evaluation_ways": len(runs.targets[0]), "evaluation_shots": 1, "queries": 1}
        configuration = dataclasses.replace(
            trained, **{name: value for name, value in wanted.items() if value is not None}
        )
        configuration = experiment.checked(configuration)
        start_jax(compilation_cache)
        if runs is None:
            dataset = sets.load(configuration.data)
            bilevel, sample = experiment.evaluation(configuration, dataset, split)
        else:  # the data that it was trained on need not be there
            experiment.checked_inputs(configuration, lake.name, runs.support.shape[2:])
            bilevel = experiment.judged(configuration)
        task = experiment.shapes(configuration, configuration.ways)
        like = jax.eval_shape(
            experiment.trained(configuration).bilevel.init, jax.random.key(0), task
        )
        theta = experiment.at_evaluation(configuration, training.restore_theta(run, like), bilevel)
    resized = [
        now.shape
        for was, now in zip(jax.tree.leaves(like), jax.tree.leaves(theta))
        if was.shape != now.shape
    ]
    head = (
        "as trained"
        if not resized
        else f"{'extended' if configuration.evaluation_ways > configuration.ways else 'cut'} "
        f"from {configuration.ways} to {configuration.evaluation_ways} outputs"
    )
    if resized:
        say(f"jaxmeta: head {head}")
    if runs is not None:
        return _lake(
            run, configuration, head, runs, (jax.random.key(seed), bilevel, theta), views, as_json
        )
    measured = evaluation.evaluate(
        jax.random.key(seed), bilevel, theta, sample, episodes, experiment.mapper()
    ).summary
    results = {name: {"mean": each.mean, "half": each.half} for name, each in measured.items()}
    if as_json:
        show_json(
            {
                "run": str(run),
                "data": configuration.data,
                "split": split,
                "ways": configuration.evaluation_ways,
                "shots": configuration.evaluation_shots,
                "queries": configuration.queries,
                "inner_rate": configuration.evaluation_rate,
                "inner_steps": configuration.evaluation_steps,
                "episodes": episodes,
                "seed": seed,
                "head": head,
                **results,
            }
        )
        return
    table(
        f"{run}: {configuration.algorithm} on '{dataset.name}', split {split}, "
        f"{configuration.evaluation_ways}-way {configuration.evaluation_shots}-shot, {episodes} "
        "episodes",
        ["", "mean ± 95 % interval"],
        [
            ["accuracy (%)", _interval(results["accuracy"], 100)],
            ["loss (nats)", _interval(results["loss"], 1)],
        ],
    )


def _lake(run, configuration, head, runs, judged, views, as_json):
    """Errors of a run by Lake's protocol."""
    from jaxmeta.experiment import one_shot_errors

    errors = one_shot_errors(*judged, runs, views)
    results = {
        name: {
            "error": each.mean,
            "half": each.half,
            "runs": {run: float(value) for run, value in zip(runs.names, of)},
        }
        for name, (of, each) in errors._asdict().items()
    }
    if as_json:
        return show_json(
            {
                "run": str(run),
                "protocol": "lake",
                "views": views,
                "ways": configuration.evaluation_ways,
                "inner_rate": configuration.evaluation_rate,
                "inner_steps": configuration.evaluation_steps,
                "head": head,
                **results,
            }
        )
    words = {
        "alone": "each query by itself",
        "assigned": "the queries of a run dealt out one to one",
    }
    table(
        f"{run}: {configuration.algorithm}, {len(runs.names)} runs of within-alphabet "
        f"{configuration.evaluation_ways}-way one-shot",
        ["error (%)", "mean ± 95 % interval over runs"],
        [
            [words[name], f"{100 * each['error']:.4g} ± {100 * each['half']:.2g}"]
            for name, each in results.items()
        ],
    )


def algorithms(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print them as JSON on standard output.")
    ] = False,
) -> None:
    """List the methods: what each learns, how the outer loss's derivative returns, the defaults,
    the paper, what is ours."""
    from jaxmeta.experiment import METHODS

    if as_json:
        show_json(
            {
                name: {
                    field: value
                    for field, value in method._asdict().items()
                    if field not in ("build", "optimiser", "sample")
                }
                for name, method in METHODS.items()
            }
        )
        return
    table(
        "Methods of --algorithm (inner rate on images, on windows; steps in training, in "
        "evaluation; episodes a meta-batch)",
        [
            "name",
            "what is learned",
            "how the derivative returns",
            "rate",
            "steps",
            "tasks",
            "paper",
        ],
        [
            [
                name,
                method.learned,
                method.derivative,
                "{:g}, {:g}".format(*method.inner_rate),
                f"{method.inner_steps}, {method.evaluation_steps}",
                str(method.tasks),
                method.paper,
            ]
            for name, method in METHODS.items()
        ],
    )
    table(
        "What of them is ours (beside budgets, outer rates and tasks a meta-batch)",
        ["name", "what deviates from the paper"],
        [[name, method.ours or "nothing known"] for name, method in METHODS.items()],
    )


def _interval(measured: dict[str, float], unit: float) -> str:
    return f"{unit * measured['mean']:.4g} ± {unit * measured['half']:.2g}"
