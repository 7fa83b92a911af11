"""The run's folder: configuration, environment, metrics.

configuration.json   the caller's settings, and under 'fit' what training itself must find unchanged
environment.json     versions, device, key, start; one entry in 'resumed' for every later session
metrics.jsonl        one JSON object a line: step, split, loss, ..., tasks_per_second, seconds
tensorboard/         the same as TensorBoard events
checkpoints/         see `_checkpoint.py`
"""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import json
import math
import os
import platform
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxmeta._random import words


def open_folder(folder: str | os.PathLike, resume: bool) -> Path:
    """Makes the folder, proves that it can be written, and refuses one that holds another run.

    Raises:
      ValueError: If the folder cannot be written, or holds a run that is not to be resumed.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(
            f"the run's folder must be one that can be written, got {folder} ({error.strerror}); "
            "choose another folder"
        ) from None
    if not resume and any(
        (folder / name).exists() for name in ("configuration.json", "metrics.jsonl", "checkpoints")
    ):
        raise ValueError(
            f"the run's folder must be a new one, got {folder} that already holds a run; resume it "
            "with resume=True, or choose another folder"
        )
    return folder


def check_configuration(folder: Path, configuration: dict[str, Any]) -> None:
    """Refuses to resume a run that was made with other settings, naming the first that differs.

    Raises:
      ValueError: If a setting differs, or the saved configuration cannot be read.
    """
    path = folder / "configuration.json"
    if not path.exists():
        return
    try:
        saved = _flat(json.loads(path.read_text()))
    except ValueError:
        raise ValueError(
            f"the run's configuration must be JSON, got a damaged {path}; put it back, or choose "
            "another folder"
        ) from None
    given = _flat(configuration)
    for name in [*given, *(name for name in saved if name not in given)]:
        old, new = (side.get(name, "nothing") for side in (saved, given))
        if old != new:
            raise ValueError(
                f"the run in {folder} was made with {name} = {_short(old)}, got {_short(new)}; "
                "resume it with the settings it was made with, or choose another folder"
            )


def plain(configuration: dict[str, Any]) -> dict[str, Any]:
    """The configuration as JSON gives it back: tuples are lists, what JSON does not know is its
    repr."""
    return json.loads(json.dumps(configuration, default=_jsonable))


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file whole or not at all."""
    _replace(path, json.dumps(value, indent=2, default=_jsonable) + "\n")


def write_environment(folder: Path, key) -> None:
    """Records versions, device, key and start time; a resumed run adds an entry."""
    path, now = folder / "environment.json", environment(key)
    try:
        first = json.loads(path.read_text())
    except (OSError, ValueError):
        write_json(path, now)
    else:
        write_json(path, {**first, "resumed": [*first.get("resumed", []), now]})


def environment(key) -> dict[str, Any]:
    """What the numbers of a run may depend on beside its settings."""
    device = jax.devices()[0]
    packages = ("jax", "jaxlib", "flax", "optax", "numpy", "orbax-checkpoint", "jaxmeta")
    return {
        "start": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "key": key_data(key),
        "versions": {
            "python": platform.python_version(),
            **{name: _version(name) for name in packages},
        },
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "backend": jax.default_backend(),
        "device": device.device_kind,
        "devices": jax.device_count(),
        "x64": jax.config.jax_enable_x64,
    }


def key_data(key) -> list[int]:
    """A key as numbers."""
    return np.asarray(words(key)).tolist()


def read_metrics(folder: Path | None, keep=lambda record: True) -> list[dict[str, Any]]:
    """The records of `metrics.jsonl` that `keep` means; the others, and a line cut short, are
    dropped from the file."""
    path = None if folder is None else folder / "metrics.jsonl"
    if path is None or not path.exists():
        return []
    text = path.read_text()
    records = [
        record for record in map(_parsed, text.splitlines()) if record is not None and keep(record)
    ]
    kept = "".join(_line(record) for record in records)
    if kept != text:
        _replace(path, kept)
    return records


@contextlib.contextmanager
def recorder(folder: Path | None, step: int):
    """Within it, what it gives takes records to `metrics.jsonl` and to TensorBoard; both go on
    after `step`."""
    if folder is None:
        yield lambda record: None
        return
    with (folder / "metrics.jsonl").open("a") as file, _board(folder, step) as board:

        def write(record: dict[str, Any]) -> None:
            file.write(_line(record))
            # Before the checkpoint of this step: a killed run then has lines too many, never too
            # few.
            file.flush()
            for name, value in record.items() if board else ():
                if name not in ("step", "split"):
                    board.add_scalar(f"{record['split']}/{name}", value, record["step"])

        yield write


def _board(folder: Path, step: int):
    """What takes TensorBoard's events, or nothing where its extra is not installed."""
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        return contextlib.nullcontext()
    return SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1 if step else None)


def _line(record) -> str:
    # JSON has no infinity and no NaN.
    return (
        json.dumps(
            {
                name: None if isinstance(value, float) and not math.isfinite(value) else value
                for name, value in record.items()
            }
        )
        + "\n"
    )


def _parsed(line: str):
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and "step" in record else None


def _replace(path: Path, text: str) -> None:
    half = path.with_name(path.name + ".half")
    with half.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    half.replace(path)


def _flat(tree, prefix="") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix: tree}
    return {
        name: value
        for key, part in tree.items()
        for name, value in _flat(part, f"{prefix}.{key}" if prefix else str(key)).items()
    }


def _jsonable(value):
    if isinstance(value, np.generic):
        return value.item()
    return str(value) if isinstance(value, os.PathLike) else repr(value)


def _short(value) -> str:
    return text if len(text := str(value)) < 80 else text[:77] + "..."


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
