"""`shl`: four smartphones at the body of three people on the way through southern England, 8 modes
of locomotion.

The layout of the SHL challenge 2020, as its published readers read it (the reader of github
alphaequivalence/hierarchicalSHL and the folders in github 54108/HASCA): `train/` (user 1) and
`validation/` (users 2 and 3) hold a folder a position (Bag, Hand, Hips, Torso) with a text file a
channel (Acc_x.txt, ..., Pressure.txt) and Label.txt. A row is a frame of 5 s: 500 samples at 100
Hz, parted by blanks; a label stands at every sample, 1 Still to 8 Subway. `test/` has neither
positions nor labels and is not read.

Files are read a line at a time, so that memory holds the frames kept and one row. The set in the
catalogue keeps one frame a minute (`STEP`), acceleration (m/s^2, gravity included) and angular
velocity (rad/s), in the files' order. The positions are the groups and record the same moments; so
a fair test on other people goes by the domains, the parts of the challenge.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from ._dataset import Dataset, seeded_split
from ._recipe import Recipe
from ._source import File

CLASSES = ("still", "walk", "run", "bike", "car", "bus", "train", "subway")
POSITIONS = ("Bag", "Hand", "Hips", "Torso")
PARTS = ("train", "validation")
SENSORS = ("Acc_x", "Acc_y", "Acc_z", "Gyr_x", "Gyr_y", "Gyr_z")
LENGTH = 500
STEP = 12
_HOME = "http://www.shl-dataset.org/activity-recognition-challenge-2020/"


def majority(labels: np.ndarray) -> int:
    """The label that most samples of a frame have; of several the smallest.

    >>> majority(np.array([2, 5, 5]))
    5
    """
    return int(np.bincount(labels).argmax())


def constant(labels: np.ndarray) -> int | None:
    """The one label of a frame; None, which leaves the frame out, where it has several.

    >>> constant(np.array([5, 5])), constant(np.array([2, 5]))
    (5, None)
    """
    return int(labels[0]) if (labels == labels[0]).all() else None


def whole(signal: np.ndarray) -> np.ndarray:
    """A row as it is, so that one with a missing sample is refused."""
    return signal


def interpolated(signal: np.ndarray) -> np.ndarray:
    """A row with its missing samples on the line between their neighbours, level at the ends
    (ours).

    >>> interpolated(np.array([np.nan, 1.0, np.nan, 3.0])).tolist()
    [1.0, 1.0, 2.0, 3.0]
    """
    there = np.isfinite(signal)
    if there.all() or not there.any():
        return signal
    return np.interp(np.arange(len(signal)), np.flatnonzero(there), signal[there])


def read(
    folder: Path,
    channels: Sequence[str] = SENSORS,
    step: int = 1,
    label: Callable[[np.ndarray], int | None] = majority,
    missing: Callable[[np.ndarray], np.ndarray] = whole,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns (frames [n, 500, channels] float32, their labels [n] int32 from 0) of one position,
    in the files' order.

    Args:
      folder: Of one position, with Label.txt and a file a channel.
      channels: Names of files without .txt: Acc, Gyr, Mag, LAcc, Gra with _x, _y, _z; Ori with _w
        besides; Pressure.
      step: Every how manieth row is kept.
      label: A frame's label from those of its samples, 1 to 8; None leaves the frame out:
        `majority` or `constant`.
      missing: A row with NaN to one without: `whole`, which refuses it, or `interpolated`.

    Raises:
      ValueError: naming file and row, for a row of another length, text that is no number, a sample
        that is missing, an unknown label, or files of another number of rows.
      FileNotFoundError: for a file that is not there.
    """
    paths = {name: folder / f"{name}.txt" for name in ("Label", *channels)}
    absent = [path for path in paths.values() if not path.is_file()]
    if absent:
        raise FileNotFoundError(
            f"{absent[0]} is not there; unpack all of the position's files into {folder}"
        )
    rows, labels, count = _labelled(paths["Label"], step, label)
    frames = np.empty((len(rows), LENGTH, len(channels)), np.float32)
    for number, name in enumerate(channels):
        _fill(frames[..., number], paths[name], rows, count, missing)
    return frames, labels


def build(files: dict[str, Path], cache: Path) -> Dataset:
    places = list(itertools.product(PARTS, POSITIONS))
    kept = [
        _labelled(files[f"{part}/{position}/Label.txt"], STEP, majority)
        for part, position in places
    ]
    ends = np.cumsum([0, *(len(rows) for rows, _, _ in kept)])
    inputs = np.empty((ends[-1], LENGTH, len(SENSORS)), np.float32)
    for (part, position), (rows, _, count), start, end in zip(places, kept, ends[:-1], ends[1:]):
        for number, name in enumerate(SENSORS):
            _fill(
                inputs[start:end, :, number],
                files[f"{part}/{position}/{name}.txt"],
                rows,
                count,
                interpolated,
            )
    sizes = np.diff(ends)
    return Dataset(
        name="shl",
        inputs=inputs,
        labels=np.concatenate([labels for _, labels, _ in kept]),
        groups=np.repeat([POSITIONS.index(position) for _, position in places], sizes),
        domains=np.repeat([PARTS.index(part) for part, _ in places], sizes),
        class_names=CLASSES,
        group_names=tuple(map(str.lower, POSITIONS)),
        domain_names=PARTS,
        by="class",
        splits=seeded_split(CLASSES, (4, 2, 2)),
        protocol=(
            "seeded_split of classes, 4/2/2, seed 0; the challenge's train and validation parts "
            "are the domains"
        ),
    )


def _labelled(
    path: Path, step: int, label: Callable[[np.ndarray], int | None]
) -> tuple[np.ndarray, np.ndarray, int]:
    """(rows kept, their labels from 0, number of rows) of a Label.txt."""
    rows, labels, row = [], [], -1
    for row, samples in _rows(path):
        if row % step:
            continue
        each = _numbers(path, row, samples)
        wrong = each[~np.isin(each, range(1, len(CLASSES) + 1))]
        if wrong.size:
            raise ValueError(
                f"{path}, row {row + 1}: a label must be 1 to {len(CLASSES)}, got {wrong[0]:g}; "
                "give the challenge's own file"
            )
        one = label(each.astype(int))
        if one is not None:
            rows.append(row)
            labels.append(one - 1)
    return np.array(rows, int), np.array(labels, np.int32), row + 1


def _fill(out: np.ndarray, path: Path, rows: np.ndarray, count: int, missing) -> None:
    """Writes some rows of a channel's file into `out` [rows, 500]."""
    places, row = iter(zip(rows, out)), -1
    wanted, place = next(places, (None, None))
    for row, samples in _rows(path):
        if row == wanted:
            signal = missing(_numbers(path, row, samples))
            if not np.isfinite(signal).all():
                raise ValueError(
                    f"{path}, row {row + 1}: sample {np.argmin(np.isfinite(signal)) + 1} is "
                    "missing or infinite; repair the row, or read with missing=interpolated"
                )
            place[:] = signal
            wanted, place = next(places, (None, None))
    if row + 1 != count:
        raise ValueError(
            f"{path} must have {count} rows as Label.txt beside it has, got {row + 1}; "
            "give the whole file of the same part and position"
        )


def _rows(path: Path) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as file:
        yield from enumerate(file)


def _numbers(path: Path, row: int, line: bytes) -> np.ndarray:
    samples = line.split()
    if len(samples) != LENGTH:
        raise ValueError(
            f"{path}, row {row + 1}: a row must have {LENGTH} samples, got {len(samples)}; "
            "replace the file with a whole one"
        )
    try:
        return np.array(samples, np.float64)
    except ValueError as error:
        raise ValueError(
            f"{path}, row {row + 1}: samples must be numbers ({error}); replace the file"
        ) from error


RECIPES = (
    Recipe(
        name="shl",
        kind="window",
        classes=8,
        groups=4,
        group="position",
        by="class",
        build=build,
        files=tuple(
            File("shl", f"{part}/{position}/{name}.txt", home=_HOME)
            for part, position, name in itertools.product(PARTS, POSITIONS, (*SENSORS, "Label"))
        ),
        description=(
            "Smartphones at bag, hand, hips and torso, accelerometer (m/s^2) and gyroscope "
            "(rad/s), 100 Hz, 5 s, one frame a minute: 8 modes of locomotion."
        ),
        origin=(
            "Gjoreski, Ciliberto, Wang, Ordonez Morales, Mekki, Valentin and Roggen, The "
            "University of Sussex-Huawei locomotion and transportation dataset for multimodal "
            f"analytics with mobile devices, IEEE Access 2018; for research, by hand from {_HOME}"
        ),
    ),
)
