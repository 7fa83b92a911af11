"""`phone_watch`: a smartphone and a smartwatch worn together by 23 people who stand up, walk, turn
and sit down.

Windows are 64 samples (0.64 s at about 100 Hz), cut every 32 within a stretch of one label: the
stretches are short (half of the turns last under 1.2 s), and with 64 samples every person has every
class. Samples are taken as evenly spaced, for the phone hands its timestamps over in batches.
Channels are acceleration in m/s^2 (x, y, z; gravity included) and angular velocity in rad/s (x, y,
z), as in the source. The device is the domain. Neighbouring windows of a stretch, a bout, share
half their samples, and phone and watch record the same moment; the split is by person, so neither
straddles. What both devices record of one execution is one recording; everyone has six or more.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from . import _tfds, _windows
from ._dataset import Dataset, seeded_split
from ._recipe import Recipe
from ._source import File, members

_LENGTH = 64
_VERSION = "1.1.0"  # in tfds
_ACTIVITIES = {
    name.upper(): name for name in ("seated", "standing_up", "walking", "turning", "sitting_down")
}
_DEVICES = {"sp": "phone", "sw": "watch"}
_PEOPLE = [f"person{i:02d}" for i in range(1, 24)]
_SIZES = (14, 3, 6)
_COLUMNS = b"x_acc,y_acc,z_acc,x_gyro,y_gyro,z_gyro,timestamp,label"
ARCHIVE = File("sp_sw_har", "sp_sw_har_DATA.tar.xz")
_EXECUTION = re.compile(r"s(\d+)_(\d+)_(sp|sw)\.csv")


def build(files: dict[str, Path], cache: Path) -> Dataset:
    folder = _tfds.built(
        cache, "phone_watch", _VERSION, functools.partial(_builder, files[ARCHIVE.name])
    )
    return _windows.dataset(
        folder,
        "phone_watch",
        seeded_split(tuple(_PEOPLE), _SIZES),
        f"seeded_split of people, {'/'.join(map(str, _SIZES))}, seed 0",
    )


def segments(path: Path) -> Iterator[_windows.Segment]:
    """Yields each stretch of one label in an archive of sNN_MM_sp.csv and sNN_MM_sw.csv.

    Raises:
      ValueError: the archive is damaged, or holds no such recording or one of another form.
    """
    nothing = True
    for name, content in members(path):
        if (match := _EXECUTION.fullmatch(Path(name).name)) and 1 <= int(match[1]) <= len(_PEOPLE):
            nothing, person, execution = False, int(match[1]), int(match[2])
            signal, labels = _recording(path, name, content)
            for first, end in _windows.stretches(labels):
                yield _windows.Segment(
                    signal[first:end],
                    _ACTIVITIES[labels[first]],
                    _PEOPLE[person - 1],
                    1000 * person + execution,
                    _DEVICES[match[3]],
                )
    if nothing:
        raise ValueError(
            f"{path} holds no recording named sNN_MM_sp.csv or sNN_MM_sw.csv; give the set's own "
            "archive"
        )


def _recording(path: Path, name: str, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    head, _, body = content.partition(b"\n")
    try:
        rows = [line.split(",") for line in body.decode("ascii").split()]
        signal = np.array([row[: _windows.CHANNELS] for row in rows], np.float64)
        labels = np.array([row[-1] for row in rows])
    except ValueError as error:
        raise ValueError(
            f"{path}: {name} must be a table of numbers and a label ({error}); replace the archive"
        ) from error
    if head.strip() != _COLUMNS or not rows or not set(labels) <= set(_ACTIVITIES):
        raise ValueError(
            f"{path}: {name} must have the columns {_COLUMNS.decode()} and rows labelled "
            f"{', '.join(_ACTIVITIES)}; replace the archive"
        )
    return signal, labels


def _builder(path: Path) -> type:
    return _windows.builder(
        "phone_watch",
        _VERSION,
        _LENGTH,
        {"label": list(_ACTIVITIES.values()), "group": _PEOPLE, "domain": list(_DEVICES.values())},
        segments,
        path,
        description="Windows of a smartphone and a smartwatch worn together.",
        homepage="https://zenodo.org",
    )


RECIPES = (
    Recipe(
        name="phone_watch",
        kind="window",
        classes=5,
        groups=23,
        group="person",
        by="group",
        build=build,
        files=(ARCHIVE,),
        version=2,
        description=(
            "Smartphone and smartwatch worn together, accelerometer (m/s^2) and gyroscope "
            "(rad/s), 100 Hz, 0.64 s: 5 activities; the device is the domain."
        ),
        origin=(
            "Matey-Sanz, Casteleyn and Granell, Dataset of inertial measurements of smartphones "
            "and smartwatches for human activity recognition, Data in Brief 2023, and Zenodo (CC "
            "BY 4.0)."
        ),
    ),
)
