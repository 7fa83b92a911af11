"""The cache folder: where prepared sets live, written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ._dataset import Dataset

_ARRAYS = ("inputs", "labels", "groups", "domains")
_WINDOWS = ("bouts", "recordings")  # where examples are windows
_MAKING = ".making-"
_ABANDONED = 24 * 3600.0  # seconds after which a folder in the making belongs to a killed process


def cache_folder(cache: str | os.PathLike | None = None) -> Path:
    """Returns `cache`, else $JAXMETA_CACHE, else $XDG_CACHE_HOME/jaxmeta, else ~/.cache/jaxmeta."""
    chosen = cache or os.environ.get("JAXMETA_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute() / "jaxmeta"


@contextlib.contextmanager
def building(target: Path) -> Iterator[Path]:
    """Yields an empty folder that becomes `target` when the block ends, and is gone when the block
    fails.

    Every process builds in a folder of its own and the rename is atomic, so two that build the same
    set at once do not meet: the first to end wins, and the other's equal result is dropped.

    Raises:
      OSError: the cache folder cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=_MAKING + target.name, dir=target.parent))
    except OSError as error:
        raise OSError(
            f"the cache folder {target.parent} cannot be written ({error.strerror}); "
            "set JAXMETA_CACHE or cache= to a folder that can"
        ) from error
    try:
        yield folder
        with contextlib.suppress(OSError):
            os.replace(folder, target)
        if not target.is_dir():
            raise OSError(
                f"{folder} could not be moved to {target}; remove what stands there and try again"
            )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _sweep(target.parent)


def _sweep(parent: Path) -> None:
    """Removes what a killed process left half-made; what another process is making now is
    younger."""
    for left in parent.glob(_MAKING + "*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _ABANDONED:
                shutil.rmtree(left)


def write_arrays(folder: Path, dataset: Dataset) -> None:
    """Writes `dataset` into `folder`: one .npy an array, and the rest in about.json."""
    more = [name for name in _WINDOWS if getattr(dataset, name) is not None]
    for name in (*_ARRAYS, *more):
        np.save(folder / f"{name}.npy", getattr(dataset, name))
    about = {
        "name": dataset.name,
        "class_names": dataset.class_names,
        "group_names": dataset.group_names,
        "domain_names": dataset.domain_names,
        "by": dataset.by,
        "protocol": dataset.protocol,
        "splits": {which: ids.tolist() for which, ids in dataset.splits.items()},
    }
    if more:  # a set without is written as it always was
        about["more"] = more
    (folder / "about.json").write_text(json.dumps(about), encoding="utf-8")


def read_arrays(folder: Path) -> Dataset:
    """Returns what `write_arrays` wrote.

    Raises:
      ValueError: the folder is damaged.
    """
    try:
        about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        arrays = {
            name: np.load(folder / f"{name}.npy", allow_pickle=False)
            for name in (*_ARRAYS, *about.pop("more", ()))
        }
        names = {
            key: tuple(about.pop(key)) for key in ("class_names", "group_names", "domain_names")
        }
        splits = {which: np.asarray(ids, np.int32) for which, ids in about.pop("splits").items()}
        return Dataset(**arrays, **names, **about, splits=splits)
    except (OSError, EOFError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"the prepared set in {folder} is damaged ({error}); delete this folder and load again"
        ) from error
