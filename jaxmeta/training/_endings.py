"""What a run that ends before its last step tells: what happened, and what was saved."""

from __future__ import annotations

import signal

from jaxmeta.base import Algorithm
from jaxmeta.training import _checkpoint
from jaxmeta.training._faults import Interrupted, NonFinite, examined
from jaxmeta.training._session import Session, log, save


def non_finite(session: Session, algorithm: Algorithm, key) -> NonFinite:
    """The exception for a step that was not taken, with the cause that was found."""
    log(session)
    step = session.step + 1
    tasks, why = examined(algorithm, session.state, key, *session.failed, session.source.drawn)
    saved = _checkpoint.steps_in(session.run) if session.run else []
    checkpoint = _checkpoint.folder_of(session.run) / str(saved[-1]) if saved else None
    which = f"task {', '.join(map(str, tasks))}" if tasks else "no task by itself"
    return NonFinite(
        f"the outer loss or its gradient is not finite at step {step}, in {which} of the "
        f"meta-batch; {why}; the last good checkpoint is {checkpoint or 'none'}",
        step,
        tasks,
        why,
        checkpoint,
        session.fitted(),
    )


def interrupted(session: Session, number: int) -> Interrupted:
    """The exception for a signal, after a checkpoint is saved."""
    path = save(session)
    name = signal.Signals(number).name
    how = (
        f"saved {path}; resume with resume=True and the same settings"
        if path
        else "nothing was saved, because the run has no folder"
    )
    return Interrupted(
        f"{name} after step {session.step} of {session.steps}: {how}", number, session.fitted()
    )
