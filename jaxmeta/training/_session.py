"""What a run does between calls of the compiled steps: log, validate, save."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxmeta._random import of_words, words
from jaxmeta.evaluation import summarised
from jaxmeta.training import _checkpoint
from jaxmeta.training._progress import Event, Progress
from jaxmeta.training._source import Source
from jaxmeta.training._state import Best, Fitted, Metric, TrainState


@dataclass
class Session:
    """A run as the host sees it; mutable, and never seen by compiled code.

    `pending` has the metrics of every step since the last line, so that lines are the same wherever
    calls were cut.
    """

    state: TrainState
    source: Source
    steps: int
    run: Path | None
    progress: Progress
    step: int = 0
    best: Best | None = None
    pending: dict[str, list[float]] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    write: Callable[[dict[str, Any]], None] = lambda record: None
    seconds: float = 0.0
    compile_seconds: float = 0.0
    failed: tuple[Any, int] | None = (
        None  # what the call was given, and the place in it of the step not taken
    )
    recent: tuple[int, float] = (0, 0.0)  # steps and seconds in this session since the last line

    def fitted(self) -> Fitted:
        """What was reached so far."""
        theta = self.state.theta if self.best is None else self.best.theta
        return Fitted(
            self.state, theta, self.best, self.history, self.run, self.seconds, self.compile_seconds
        )


def tell(session: Session, kind: str, values: dict[str, float], message: str = "") -> None:
    """Tells the progress an event."""
    session.progress(Event(kind, session.step, session.steps, values, message))


def restore(session: Session) -> None:
    """Puts the newest whole checkpoint of the run into the session, where there is one."""
    restored = _checkpoint.newest(session.run, session.state)
    if restored is None:
        return
    record = restored.record
    session.state = jax.device_put(restored.state)
    session.step = int(restored.state.step)
    session.pending, session.seconds = record["pending"], record["seconds"]
    session.source.seek(record["place"], session.step)
    if record["best"]:
        step, value = record["best"]["step"], record["best"]["value"]
        best = (
            restored
            if step == session.step
            else _checkpoint.load(session.run, step, restored.state)
        )
        if best is None:
            warnings.warn(
                f"the best checkpoint, of step {step}, in {_checkpoint.folder_of(session.run)} is "
                "damaged or gone; the best is sought anew among the coming steps",
                stacklevel=3,
            )
        else:
            session.best = Best(step, value, jax.tree.map(_copied, best.state.theta))


def save(session: Session, message: str = "") -> Path | None:
    """Saves a checkpoint of the session, if the run has a folder."""
    if session.run is None:
        return None
    best = session.best and {"step": session.best.step, "value": session.best.value}
    path = _checkpoint.save(
        session.run,
        session.state,
        {
            "pending": session.pending,
            "seconds": session.seconds,
            "place": session.source.place(),
            "best": best,
        },
    )
    tell(session, "checkpoint", {}, message and message.format(path=path))
    return path


def advance(session: Session, call, count: int) -> bool:
    """One call of `count` compiled steps. Returns whether all were finite; the state is that of the
    last finite one."""
    began = time.monotonic()
    given = session.source.take(count)
    session.state, report = call(session.state, given, count)
    report = jax.device_get(report)  # The one transfer of a call.
    taken, spent = int(report.steps), time.monotonic() - began
    session.step += taken
    session.seconds += spent
    session.recent = (session.recent[0] + taken, session.recent[1] + spent)
    values = {}
    for name, column in report.metrics.items():
        session.pending.setdefault(name, []).extend(column[:taken].tolist())
        values[name] = float(column[:taken].mean()) if taken else math.nan
    if not report.finite:
        session.failed = (given, taken)
    rate = session.source.size * taken / max(spent, 1e-9)
    tell(session, "train", {**values, "tasks_per_second": rate, "seconds": session.seconds})
    return bool(report.finite)


def log(session: Session) -> None:
    """Records the means over the steps since the last line."""
    taken, spent = session.recent
    means = {name: float(np.mean(column)) for name, column in session.pending.items() if column}
    if means:
        _record(
            session,
            {
                "step": session.step,
                "split": "train",
                **means,
                "tasks_per_second": session.source.size * taken / max(spent, 1e-9),
                "seconds": session.seconds,
            },
        )
    session.pending, session.recent = {}, (0, 0.0)


def validate(session: Session, measure, metric: Metric, episodes: int) -> bool:
    """Measures theta on the validation episodes. Returns whether it is the best so far."""
    began = time.monotonic()
    summary = summarised(measure(session.state.theta)).summary
    spent = time.monotonic() - began
    session.seconds += spent
    values = {name: part.mean for name, part in summary.items()}
    values |= {f"{name}_half": part.half for name, part in summary.items()}
    _record(
        session,
        {
            "step": session.step,
            "split": "validation",
            **values,
            "tasks_per_second": episodes / max(spent, 1e-9),
            "seconds": session.seconds,
        },
    )
    text = ", ".join(f"{name} {part.mean:.4g} ± {part.half:.2g}" for name, part in summary.items())
    tell(session, "validation", values, f"validation after step {session.step}: {text}")
    value = values[metric.name]
    better = math.isfinite(value) and (
        session.best is None or metric.better(value, session.best.value)
    )
    if better:
        session.best = Best(session.step, value, jax.tree.map(_copied, session.state.theta))
    return better


def _record(session: Session, record: dict[str, Any]) -> None:
    session.history.append(record)
    session.write(record)


def _copied(leaf):
    """By way of the host: the state is donated, and lies where training wants it."""
    return of_words(jax.device_put(np.array(jax.device_get(words(leaf)))), leaf)
