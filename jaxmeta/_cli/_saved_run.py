"""The configuration of a run: of the options given, or of the run that a folder holds."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from jaxmeta._cli._console import Refusal, read_json

GOAL = "goal.json"  # the one setting of a run that may change: how many meta-batches


def configuration_of(out: Path, given: dict, resume: bool):
    """The configuration of the options, or of the run to be resumed."""
    from jaxmeta.experiment import Configuration

    if not (out / "configuration.json").exists():
        return Configuration(**given)
    if not resume:
        raise Refusal(
            f"{out} already holds a run; go on with it by --resume, or choose another --out"
        )
    configuration = saved_configuration(out)
    for name, value in given.items():
        was = getattr(configuration, name)
        if name != "steps" and was != value:
            raise Refusal(
                f"the run in {out} was made with {name} {was}, got {value}; leave out "
                f"--{name.replace('_', '-')}, or choose another --out"
            )
    return dataclasses.replace(
        configuration, steps=given.get("steps") or read_json(out / GOAL)["steps"]
    )


def saved_configuration(folder: Path):
    """The configuration that a run was made with, complete."""
    from jaxmeta.experiment import Configuration

    path = folder / "configuration.json"
    return Configuration.recorded(
        {name: value for name, value in read_json(path).items() if name != "fit"}, path
    )
