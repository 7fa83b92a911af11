"""The outer loop: compiled steps, and between them validation, checkpoints, records and
progress."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Key, PyTree

from jaxmeta import _check
from jaxmeta._episodes import default_over, metrics, partial
from jaxmeta._programs import run
from jaxmeta._pytree import moving, paths
from jaxmeta.base import Algorithm
from jaxmeta.parallel import Mapper
from jaxmeta.training import _checkpoint, _run
from jaxmeta.training._calls import compiled_steps, compiled_validation
from jaxmeta.training._endings import interrupted, non_finite
from jaxmeta.training._faults import deferred_signals
from jaxmeta.training._progress import Progress, default
from jaxmeta.training._session import Session, advance, log, restore, save, tell, validate
from jaxmeta.training._source import source_of
from jaxmeta.training._state import Fitted, Metric, metric as metric_named
from jaxmeta.training._step import given, initial_state

# seconds a call of compiled steps should take: the bar moves and Ctrl-C is answered about as often.
# Not less, as each call of Conv4's steps costs two CPU cores some 40 ms, however many they are: its
# buffers' pages are new to it.
_CALL = 2.0

_CAPACITY = 100

_RATE = "the outer rate is the optimiser's, as in optax.adam(0.001), the inner one the learner's"


@_check.takes(
    {"key": _check.key, "algorithm": _check.algorithm, "optimiser": _check.optimiser},
    epochs="there are no epochs, tasks are drawn: steps counts meta-batches",
    lr=_RATE,
    learning_rate=_RATE,
    batch_size="the tasks of a meta-batch are tasks",
    params="parameters to begin from are theta",
    optimizer="it is called optimiser",
)
def fit(
    key: Key[Array, ""],
    algorithm: Algorithm,
    sample,
    optimiser: optax.GradientTransformation,
    steps: int,
    *,
    theta: PyTree | None = None,
    tasks: int = 32,
    validation=None,
    validate_every: int | None = None,
    episodes: int = 600,
    metric: str | Metric | None = None,
    over: Mapper | None = None,
    folder: str | os.PathLike | None = None,
    configuration: dict[str, Any] | None = None,
    checkpoint_every: int | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    log_every: int = 50,
    steps_per_call: int | None = None,
) -> Fitted:
    """Meta-trains: `steps` times
    `theta <- theta + optimiser(d/d(theta) mean_t outer_t(phi_K(theta)))`.

    Tasks are drawn, the derivative estimated and theta moved in one compiled program that takes
    several steps a call. The randomness of step i comes from `fold_in(key, i)`, so that a resumed
    run gives the numbers of an unbroken one, bit for bit. Validation always sees the same episodes.
    A further call that comes to the same programs compiles nothing.

    Args:
      key: Of everything random.
      algorithm: The bilevel problem and the estimator of its derivative.
      sample: `key -> Task`, preferably a `jax.tree_util.Partial` (what a plain function closes over
        is compiled in as constants); or an iterable of Tasks with a leading axis T, such as
        `jaxmeta.stream`.
      optimiser: Moves theta; schedules and clipping are in it (see `outer_adam`).
      steps: Outer steps in all, those of a resumed run's earlier sessions included.
      theta: Where to begin, as `bilevel.init` gives it: what another run learned, or weights from
        elsewhere. Default: drawn. A resumed run goes on from its checkpoint all the same.
      tasks: T, the meta-batch; a stream brings its own.
      validation: `key -> Task` over held-out classes, or None.
      validate_every: Steps between validations, default a tenth of all; the last step is always
        followed by one.
      episodes: E, of a validation.
      metric: Tells the best theta: a `Metric`, or a name (less is better if 'loss' or 'error' is in
        it, else more is). Default: 'accuracy' if the outer objective reports it, else 'loss'.
      over: How validation maps tasks, from `over_tasks`; training does it as the estimator says.
      folder: Of the run: configuration, environment, metrics, TensorBoard events and checkpoints.
        None writes nothing.
      configuration: JSON values that a resumed run must find unchanged. Leave out what may change,
        such as `steps`.
      checkpoint_every: Steps between checkpoints, default `validate_every`; a better theta and the
        last step are saved always.
      resume: Go on from the newest whole checkpoint of the folder; start where there is none.
      progress: Told `Event`s; default a bar on a terminal, else silence (see `console`).
      log_every: Steps that a line of `metrics.jsonl` averages.
      steps_per_call: The most steps a call. Default: as many as take two seconds, at most 100; 1
        for a stream.

    Returns:
      A `Fitted`.

    Raises:
      ValueError: If an argument is refused, the folder cannot be written, holds a run and resume is
        False, or was made with another configuration; and for labels of the first task that are no
        class of the model. All of it before the training itself is compiled.
      NonFinite: If a loss or gradient is NaN or infinite; the state is not moved by it.
      Interrupted: After SIGINT or SIGTERM: the call is finished and a checkpoint saved first. A
        `KeyboardInterrupt`.
    """
    steps = _check.whole_number("steps", steps)
    tasks = _check.whole_number("tasks", tasks, least=1)
    episodes = _check.whole_number("episodes", episodes, least=1)
    log_every = _check.whole_number("log_every", log_every, least=1)
    tenth, most = max(1, steps // 10), _CAPACITY if callable(sample) else 1
    validate_every = _check.whole_number("validate_every", _or(validate_every, tenth), least=1)
    checkpoint_every = _check.whole_number(
        "checkpoint_every", _or(checkpoint_every, validate_every), least=1
    )
    capacity = _check.whole_number("steps_per_call", _or(steps_per_call, most), least=1)
    validation = None if validation is None else partial(validation)
    folder = None if folder is None else _run.open_folder(folder, resume)
    key_start, key_steps, key_validation = jax.random.split(key, 3)
    source = source_of(sample, tasks, capacity)
    examples = source.example(key_start)
    first = jax.tree.map(lambda leaf: leaf[0], examples)
    _check.sampled(first)
    shapes = jax.eval_shape(algorithm.bilevel.init, key, first)
    begin = None if theta is None else given(theta, shapes)
    _without_search(optimiser, shapes)
    measured = metrics(key, algorithm.bilevel, shapes, first)
    if validation is not None:
        metrics(key, algorithm.bilevel, shapes, run(validation, key))
        chosen = _chosen(metric, measured)
    if folder:
        leaves = {
            path: f"{leaf.dtype}{list(leaf.shape)}"
            for path, leaf in zip(paths(shapes), jax.tree.leaves(shapes))
        }
        settings = _run.plain(
            {
                **(configuration or {}),
                "fit": {
                    "key": _run.key_data(key),
                    "tasks": source.size,
                    "theta": leaves,
                    **({} if theta is None else {"start": "given"}),
                },
            }
        )
        _run.check_configuration(folder, settings)

    with contextlib.ExitStack() as stack:
        came = stack.enter_context(deferred_signals())
        state = initial_state(key_start, algorithm, optimiser, examples, begin)
        session = Session(state, source, steps, folder, default() if progress is None else progress)
        if folder:
            _checkpoint.clean(folder)
            if resume:
                restore(session)
            _run.write_json(folder / "configuration.json", settings)
            _run.write_environment(folder, key)
        session.history = _run.read_metrics(folder, lambda record: _before(record, session))
        session.write = stack.enter_context(_run.recorder(folder, session.step))
        stack.callback(lambda: tell(session, "end", {"seconds": session.seconds}))
        tell(session, "start", {}, f"resumed after step {session.step}" if session.step else "")
        if session.step < steps and not came:
            began = time.monotonic()
            call = compiled_steps(session, algorithm, optimiser, capacity, key_steps)
            measure = validation and compiled_validation(
                session, key_validation, algorithm, validation, episodes, over or default_over
            )
            session.compile_seconds = time.monotonic() - began
            tell(
                session,
                "compiled",
                {"seconds": session.compile_seconds},
                f"compiled in {session.compile_seconds:.1f} s",
            )

        pace = capacity if steps_per_call else 1
        stops = (
            (log_every, checkpoint_every)
            if validation is None
            else (log_every, checkpoint_every, validate_every)
        )
        while session.step < steps and not came:
            due = min(steps, *(_next_multiple(session.step, every) for every in stops))
            count, before = min(pace, due - session.step), session.seconds
            if not advance(session, call, count):
                raise non_finite(session, algorithm, key_steps)
            if not steps_per_call:
                pace = max(
                    1, min(capacity, int(_CALL * count / max(session.seconds - before, 1e-9)))
                )
            last, better = session.step == steps, False
            if session.step % log_every == 0:
                log(session)
            if validation is not None and (last or session.step % validate_every == 0):
                better = validate(session, measure, chosen, episodes)
            if better or last or session.step % checkpoint_every == 0:
                save(session, "saved {path}" if last else "")
        if came:
            raise interrupted(session, came[0])
        # After the last checkpoint, which keeps the steps of a line that a longer run would go on
        # with.
        log(session)
        return session.fitted()


def _without_search(optimiser, theta) -> None:
    """Refuses an optimiser that wants to evaluate the outer loss by itself."""

    def step(theta):
        zero = jnp.zeros(())
        return optax.with_extra_args_support(optimiser).update(
            theta, optimiser.init(theta), theta, value=zero, grad=theta
        )

    try:
        jax.eval_shape(step, moving(theta))
    except TypeError as error:
        raise ValueError(
            "the outer optimiser must do with a gradient, the parameters and the value of the "
            f"loss, got one that does not ({error}); take one without a line search, such as "
            "optax.adam(0.001)"
        ) from None


def _chosen(metric, measured) -> Metric:
    if metric is None:
        metric = "accuracy" if "accuracy" in measured else "loss"
    chosen = metric_named(metric) if isinstance(metric, str) else metric
    if chosen.name not in measured:
        raise ValueError(
            f"metric must be one of {', '.join(measured)}, got {chosen.name!r}; take one of these, "
            "or let the outer objective return it in its aux"
        )
    return chosen


def _before(record, session: Session) -> bool:
    """Whether a record belongs to what was restored; the line of steps that are pending again does
    not."""
    partial_line = record["step"] == session.step and record["split"] == "train" and session.pending
    return 0 < record["step"] <= session.step and not partial_line


def _or(value, default):
    return default if value is None else value


def _next_multiple(step: int, every: int) -> int:
    return (step // every + 1) * every
