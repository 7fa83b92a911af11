"""Checkpoints by Orbax: the last two and the best, and whatever is damaged is passed over.

A checkpoint is a folder `checkpoints/<step>`: the item `arrays` has every leaf of the state by its
path, the item `record` the rest of what a run needs to go on. Orbax writes under another name and
renames; the digests of all files, written last, tell whether they still are what they were. Orbax
alone would read some missing data as zeros.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxmeta._pytree import paths
from jaxmeta._random import of_words, words
from jaxmeta.training._run import write_json

_DIGESTS = "sha256.json"


class Restored(NamedTuple):
    """A checkpoint read back: the state on the host, and the record saved beside it."""

    state: PyTree
    record: dict[str, Any]


def folder_of(run: Path) -> Path:
    """Where a run's checkpoints are."""
    return run / "checkpoints"


def steps_in(run: Path) -> list[int]:
    """The steps that have a checkpoint, ascending."""
    folder = folder_of(run)
    return (
        sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())
        if folder.is_dir()
        else []
    )


def save(run: Path, state: PyTree, record: dict[str, Any]) -> Path:
    """Writes the checkpoint of `state.step` and drops those that are neither of the last two nor
    their best.

    Args:
      run: The run's folder.
      state: A `TrainState`.
      record: JSON values; `record["best"]["step"]` names the best checkpoint where there is one.
    """
    target = _path(run, int(state.step))
    if target.exists():
        return target
    _write(target, state, record)
    last = steps_in(run)[-2:]
    bests = {
        _best_of(run, kept) for kept in last
    }  # Of both: a run that falls back to the first needs its best.
    for old in set(steps_in(run)) - set(last) - bests:
        shutil.rmtree(_path(run, old))
    return target


def save_theta(folder: str | os.PathLike, theta: PyTree, configuration: dict[str, Any]) -> Path:
    """Writes theta as a run that is over, for `restore_theta` and `jaxmeta evaluate`: to hand on
    what was learned without what learning it further would need.

    Args:
      folder: A new one, or one that is empty.
      theta: As trained.
      configuration: JSON values, such as `dataclasses.asdict` of an experiment's complete
        `Configuration`.

    Returns:
      The checkpoint's folder.

    Raises:
      ValueError: If the folder holds something.
    """
    run = Path(folder)
    if run.exists() and any(run.iterdir()):
        raise ValueError(f"the folder must be new or empty, got {run}; choose another one")
    target = _path(run, 0)
    _write(target, _OnlyTheta(theta), {"best": None})
    write_json(run / "configuration.json", configuration)
    return target


def _write(target: Path, state: PyTree, record: dict[str, Any]) -> None:
    import orbax.checkpoint as ocp

    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        checkpointer.save(
            target,
            ocp.args.Composite(
                arrays=ocp.args.StandardSave(_flatten(state)), record=ocp.args.JsonSave(record)
            ),
        )
    write_json(target / _DIGESTS, _digests(target))


def clean(run: Path) -> None:
    """Removes what an interrupted save left half-written."""
    folder = folder_of(run)
    for path in folder.iterdir() if folder.is_dir() else ():
        if "orbax-checkpoint-tmp" in path.name:
            shutil.rmtree(path)


def newest(run: Path, like: PyTree) -> Restored | None:
    """The newest checkpoint that is whole, or None; every damaged one is set aside with a warning
    that says so.

    Raises:
      ValueError: If the newest whole checkpoint is of another structure than `like`.
    """
    for step in reversed(steps_in(run)):
        restored = load(run, step, like)
        if restored is not None:
            return restored
        path = _path(run, step)
        aside = path.with_name(f"{step}.damaged")
        if aside.exists():
            shutil.rmtree(aside)
        path.rename(
            aside
        )  # Or a later run would meet it again, and a save at this step would find it in its place.
        earlier = steps_in(run)
        instead = (
            f"the checkpoint of step {earlier[-1]} is tried"
            if earlier
            else "training starts from the beginning"
        )
        warnings.warn(
            f"the checkpoint of step {step} in {folder_of(run)} is damaged and was set aside as "
            f"{aside.name}; {instead} instead",
            stacklevel=2,
        )
    return None


def load(run: Path, step: int, like: PyTree) -> Restored | None:
    """One checkpoint, or None if it is damaged. `like` gives structure, shapes and dtypes; None
    leaves any part out."""
    import orbax.checkpoint as ocp

    path = _path(run, step)
    if not _is_whole(path):
        return None
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        items = checkpointer.restore(
            path,
            ocp.args.Composite(arrays=ocp.args.StandardRestore(), record=ocp.args.JsonRestore()),
        )
    return Restored(_unflatten(items["arrays"], like, path), items["record"])


def restore_theta(folder: str | os.PathLike, like: PyTree, best: bool = True) -> PyTree:
    """Theta of a run: the best by its validation metric where it had one, else the last.

    Args:
      folder: The run's folder, as given to `fit`.
      like: Theta's structure, shapes and dtypes; `jax.eval_shape(bilevel.init, key, task)` is
        enough.
      best: False for the last in any case.

    Raises:
      ValueError: If the folder has no whole checkpoint, or theta is not like `like`.
    """
    run = Path(folder)
    for step in reversed(steps_in(run)):
        steps = [_best_of(run, step), step] if best else [step]
        for wanted in steps:
            restored = None if wanted is None else load(run, wanted, _OnlyTheta(like))
            if restored is not None:
                return jax.device_put(restored.state.theta)
            if wanted is not None:
                warnings.warn(
                    f"the checkpoint of step {wanted} in {folder_of(run)} is damaged; another is "
                    "taken",
                    stacklevel=2,
                )
    raise ValueError(
        f"the folder must hold a run with a whole checkpoint, got {folder} that holds none; give a "
        "folder that fit has written"
    )


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _OnlyTheta:
    theta: PyTree


def _flatten(state: PyTree) -> dict[str, np.ndarray]:
    leaves = jax.device_get(jax.tree.leaves(jax.tree.map(words, state)))
    return dict(zip(_names(state), map(np.asarray, leaves)))


def _unflatten(arrays: dict[str, np.ndarray], like: PyTree, where: Path) -> PyTree:
    leaves = []
    for name, leaf in zip(_names(like), jax.tree.leaves(like)):
        plain = jax.eval_shape(words, leaf)
        got = arrays.get(name)
        if got is None or got.shape != jnp.shape(plain) or got.dtype != plain.dtype:
            found = "nothing" if got is None else f"{got.dtype}{list(got.shape)}"
            raise ValueError(
                f"the checkpoint {where} is from another configuration: '{name}' must be "
                f"{plain.dtype}{list(plain.shape)}, got {found}; take the settings it was made with"
            )
        leaves.append(of_words(got, leaf))
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _names(tree) -> list[str]:
    names = [path.replace("/", ".") for path in paths(tree)]
    return [
        name if names.count(name) == 1 else f"{name}#{place}" for place, name in enumerate(names)
    ]


def _digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != _DIGESTS
    }


def _is_whole(folder: Path) -> bool:
    try:
        return json.loads((folder / _DIGESTS).read_text()) == _digests(folder)
    except (OSError, ValueError):
        return False


def _best_of(run: Path, step: int) -> int | None:
    import orbax.checkpoint as ocp

    if not _is_whole(_path(run, step)):
        return None
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        items = checkpointer.restore(
            _path(run, step), ocp.args.Composite(record=ocp.args.JsonRestore())
        )
    best = items["record"]["best"]
    return best and best["step"]


def _path(run: Path, step: int) -> Path:
    return (folder_of(run) / str(step)).absolute()
