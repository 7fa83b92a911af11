"""What a run says while it goes: events to any function, a bar or lines to a person."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple


class Event(NamedTuple):
    """Something that a run tells.

    Args:
      kind: 'start', 'compiled', 'train', 'validation', 'checkpoint' or 'end'; an 'end' comes
        whatever ends the run.
      step: Outer steps taken.
      steps: Outer steps in all.
      values: Numbers by name: of 'train' the means over the last call, tasks_per_second and
        seconds; of 'validation' the means, half intervals under `name_half`; of 'compiled' the
        seconds it took.
      message: A line for a person, or ''.
    """

    kind: str
    step: int
    steps: int
    values: dict[str, Any]
    message: str = ""


Progress = Callable[[Event], None]
"""What `fit` tells its events to."""


def silent(event: Event) -> None:
    """The progress that says nothing."""


def console(file=None, every: float = 10.0) -> Progress:
    """A bar with loss, accuracy, tasks a second and time left on a terminal; plain lines elsewhere.

    Args:
      file: Default: standard error.
      every: Seconds between two lines of training where there is no terminal.
    """
    file = sys.stderr if file is None else file
    return _bar(file) if file.isatty() else _lines(file, every)


def default() -> Progress:
    """A bar if standard error is a terminal, else silence."""
    return console() if sys.stderr.isatty() else silent


def _lines(file, every):
    last = [time.monotonic()]

    def progress(event: Event):
        if event.kind == "train":
            if time.monotonic() - last[0] < every:
                return
            last[0] = time.monotonic()
        text = event.message or " ".join(_numbers(event.values))
        if text:
            print(f"step {event.step}/{event.steps}: {text}", file=file, flush=True)

    return progress


def _bar(file):
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress as Bar,
        TextColumn,
        TimeRemainingColumn,
    )

    bar = Bar(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[numbers]}"),
        TimeRemainingColumn(),
        console=Console(file=file),
    )
    stack, shown = contextlib.ExitStack(), []

    def progress(event: Event):
        if event.kind == "start":
            stack.enter_context(bar)
            shown.append(
                bar.add_task("compiling", total=event.steps, completed=event.step, numbers="")
            )
        if shown and event.kind == "compiled":
            # Starts its clock anew: time left is reckoned without compilation.
            bar.reset(shown[0], total=event.steps, completed=event.step, description="training")
        if shown and event.kind == "train":
            bar.update(shown[0], completed=event.step, numbers="  ".join(_numbers(event.values)))
        if event.message:
            bar.console.print(event.message, markup=False, highlight=False)
        if event.kind == "end":
            stack.close()

    return progress


def _numbers(values) -> list[str]:
    rest = {
        name: value for name, value in values.items() if name not in ("tasks_per_second", "seconds")
    }
    numbers = [f"{name} {value:.4g}" for name, value in rest.items() if isinstance(value, float)]
    rate = values.get("tasks_per_second")
    return numbers + ([f"{rate:.4g} tasks/s"] if rate else [])
