"""`jaxmeta train`."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import typer

from jaxmeta._cli._console import refusing, say, show_json, start_jax, table
from jaxmeta._cli._saved_run import GOAL, configuration_of
from jaxmeta._extras import MissingExtra

_TASK, _NET, _LEARNING, _RUN = "The tasks", "The model", "Learning", "The run"


def _option(panel: str, text: str, *names: str, **more):
    return typer.Option(*names, rich_help_panel=panel, help=text, show_default=False, **more)


def train(
    out: Annotated[
        Path,
        _option(
            _RUN, "Folder of the run; a new one, or with --resume that of a run.", "--out", "-o"
        ),
    ],
    algorithm: Annotated[
        str | None,
        _option(
            _LEARNING, "Which method; see `jaxmeta algorithms`. Default maml.", "--algorithm", "-a"
        ),
    ] = None,
    data: Annotated[
        str | None,
        _option(_TASK, "Which set; see `jaxmeta data list`. Default glyphs.", "--data", "-d"),
    ] = None,
    ways: Annotated[int | None, _option(_TASK, "Classes in an episode. Default 5.", min=2)] = None,
    shots: Annotated[
        int | None,
        _option(
            _TASK, "Examples of each class to learn from. Default: the method's, mostly 1.", min=1
        ),
    ] = None,
    queries: Annotated[
        int | None, _option(_TASK, "Examples of each class to be judged on. Default 5.", min=1)
    ] = None,
    evaluation_ways: Annotated[
        int | None, _option(_TASK, "Ways of the test. Default: --ways.", min=2)
    ] = None,
    evaluation_shots: Annotated[
        int | None, _option(_TASK, "Shots of validation and test. Default: --shots, else 1.", min=1)
    ] = None,
    rotations: Annotated[
        bool | None,
        _option(
            _TASK,
            "In training an image turned by 90, 180 or 270 degrees is another class.",
            "--rotations",
        ),
    ] = None,
    reflections: Annotated[
        bool | None, _option(_TASK, "In training a mirror image is another class.", "--reflections")
    ] = None,
    evaluation_rotations: Annotated[
        bool | None,
        _option(
            _TASK, "In validation and test too, as papers on Omniglot do.", "--evaluation-rotations"
        ),
    ] = None,
    warps: Annotated[
        bool | None,
        _option(_TASK, "In training bend images at random, as by another hand.", "--warps"),
    ] = None,
    inductive: Annotated[
        bool | None,
        _option(
            _LEARNING,
            "Normalise a query by the support's statistics alone, not by those of the other "
            "queries.",
            "--inductive",
        ),
    ] = None,
    model: Annotated[
        str | None,
        _option(
            _NET,
            "conv4, conv4_margin, conv_places, resnet12, conv1d or mlp. Default the method's for "
            "images, mostly conv4; for sensor windows conv1d.",
        ),
    ] = None,
    width: Annotated[
        int | None, _option(_NET, "Channels of its first layers. Default 32.", min=1)
    ] = None,
    norm: Annotated[
        str | None, _option(_NET, "batch, layer or none. Default: the method's, mostly batch.")
    ] = None,
    inner_rate: Annotated[
        float | None,
        _option(_LEARNING, "Step size within an episode. Default: the method's.", min=0.0),
    ] = None,
    evaluation_rate: Annotated[
        float | None,
        _option(_LEARNING, "Step size within a test episode. Default: --inner-rate.", min=0.0),
    ] = None,
    inner_steps: Annotated[
        int | None,
        _option(_LEARNING, "Steps within a training episode. Default: the method's.", min=0),
    ] = None,
    evaluation_steps: Annotated[
        int | None, _option(_LEARNING, "Steps within a test episode. Default: the method's.", min=0)
    ] = None,
    outer_rate: Annotated[
        float | None,
        _option(_LEARNING, "Step size across episodes. Default: the method's.", min=0.0),
    ] = None,
    tasks: Annotated[
        int | None, _option(_LEARNING, "Episodes a meta-batch. Default: the method's.", min=1)
    ] = None,
    steps: Annotated[
        int | None,
        _option(
            _LEARNING,
            "Meta-batches in all; more of them prolong a resumed run. Default 600.",
            "--steps",
            "-n",
            min=1,
        ),
    ] = None,
    seed: Annotated[int | None, _option(_RUN, "Of all that is random. Default 0.", min=0)] = None,
    resume: Annotated[
        bool,
        _option(
            _RUN, "Go on with the run in --out, whose settings need not be repeated.", "--resume"
        ),
    ] = False,
    episodes: Annotated[int, _option(_RUN, "Test episodes at the end. Default 600.", min=1)] = 600,
    validate_every: Annotated[
        int | None,
        _option(_RUN, "Meta-batches between validations. Default a tenth of --steps.", min=1),
    ] = None,
    chunk: Annotated[
        int | None,
        _option(_RUN, "Episodes computed at a time on a device. Default: what suits it.", min=1),
    ] = None,
    compilation_cache: Annotated[
        bool,
        _option(
            _RUN,
            "Keep compiled programs for the next time, in JAXMETA_CACHE or ~/.cache/jaxmeta. "
            "Default on.",
            "--compilation-cache/--no-compilation-cache",
        ),
    ] = True,
    as_json: Annotated[
        bool, _option(_RUN, "Print the results as JSON on standard output.", "--json")
    ] = False,
) -> None:
    """Meta-train on episodes of a data set, then test on classes or persons never seen.

    Examples:

        jaxmeta train --out runs/a

        jaxmeta train --algorithm protonet --ways 20 --evaluation-ways 5 --out runs/proto

        jaxmeta train --algorithm anil --data watch --shots 3 --steps 200 --out runs/watch

        jaxmeta train --resume --steps 1200 --out runs/a
    """
    given = {
        name: value
        for name, value in locals().items()
        if value is not None
        and name
        not in (
            "out",
            "resume",
            "episodes",
            "validate_every",
            "chunk",
            "compilation_cache",
            "as_json",
        )
    }
    say("jaxmeta: starting")
    import jax

    from jaxmeta import data as sets, experiment, report, training

    started = []
    show = training.console(sys.stderr)
    with refusing(still=lambda: not started):
        configuration = configuration_of(out, given, resume)
        start_jax(compilation_cache)
        dataset = sets.load(configuration.data)
        configuration = experiment.complete(configuration, dataset)
        made = experiment.build(
            configuration, dataset, experiment.mapper(configuration.tasks, chunk)
        )
        unchanging = dataclasses.asdict(configuration)
        steps = unchanging.pop("steps")

        def progress(event):
            if event.kind == "start":
                started.append(True)
                (out / GOAL).write_text(f'{{"steps": {steps}}}\n', encoding="utf-8")
            show(event)

        try:
            key_fit, key_judge, key_play = jax.random.split(jax.random.key(configuration.seed), 3)
            fitted = training.fit(
                key_fit,
                made.algorithm,
                made.sample,
                made.optimiser,
                steps,
                tasks=configuration.tasks,
                validation=made.validation,
                validate_every=validate_every,
                episodes=_VALIDATION,
                over=experiment.mapper(),
                folder=out,
                configuration=unchanging,
                resume=resume,
                progress=progress,
                log_every=_LOG,
            )
            say(f"jaxmeta: testing on {episodes} episodes")
            results = experiment.judge(key_judge, configuration, made, fitted.theta, episodes)
            episode = report.Episode(
                *experiment.play(key_play, configuration, made.test, fitted.theta)
            )
        except training.NonFinite as error:
            say(f"jaxmeta: {error}")
            raise typer.Exit(1) from None
        except KeyboardInterrupt as error:
            saved = (
                str(error).split(":")[0]
                if isinstance(error, training.Interrupted)
                else "interrupted"
            )
            how = (
                f"resume with: jaxmeta train --resume --out {out}"
                if started
                else "nothing was saved"
            )
            say(f"jaxmeta: {saved}; {how}")
            raise typer.Exit(getattr(error, "exit_code", 130)) from None
    try:
        picture = report.write(out, results, episode)
    except MissingExtra as error:  # what was learned is written by then
        picture = None
        say(f"jaxmeta: {error}")
    summary = {
        "folder": str(out),
        "report": picture and str(picture),
        "steps": steps,
        "seconds": fitted.seconds,
        "compile_seconds": fitted.compile_seconds,
        "configuration": dataclasses.asdict(configuration),
        **results,
    }
    if as_json:
        show_json(summary)
    else:
        _print(configuration, results, out, picture)


_VALIDATION = 100  # episodes of each validation

_LOG = 10  # meta-batches that a point of the training curve averages

_NAMES = {
    "trained": "meta-trained",
    "untrained": "the same, untrained",
    "from_scratch": "without meta-learning: trained on the support from scratch",
    "raw_means": "without meta-learning: nearest class mean of the raw inputs",
}


def _print(configuration, results: dict, out: Path, picture: Path | None) -> None:
    rows = [
        [text, f"{100 * results[name]['accuracy']:.1f} ± {100 * results[name]['half']:.1f}"]
        for name, text in _NAMES.items()
    ]
    table(
        f"{configuration.algorithm} on {configuration.data}, {results['ways']}-way "
        f"{results['shots']}-shot, {results['episodes']} test episodes",
        ["", "accuracy (%), 95 % interval"],
        rows,
    )
    if picture:
        print(f"picture: {picture}")
    print(f"results: {out / 'results.json'}", flush=True)
