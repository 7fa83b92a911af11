"""`hapt` and `hapt_transitions`: a smartphone at the waist, 30 people, 6 activities and the 6
transitions between them.

Windows are 128 samples (2.56 s at 50 Hz), cut every 64 within a labelled segment. Channels are
acceleration in g (x, y, z; gravity included) and angular velocity in rad/s (x, y, z), as in the
source. Neighbouring windows of a segment share half their samples; the split is by person, so none
of it straddles, and a segment is a bout. Everyone has each of the 6 activities in two recordings,
between which the phone was put on anew. Transitions last about 3.5 s: their 519 windows are few and
are left out of `hapt`.
"""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from . import _tfds, _windows
from ._dataset import Dataset, seeded_split
from ._recipe import Recipe
from ._source import File, members

_LENGTH = 128
_VERSION = "1.1.0"  # in tfds
_ACTIVITIES = [
    "walking",
    "walking_upstairs",
    "walking_downstairs",
    "sitting",
    "standing",
    "laying",
    "stand_to_sit",
    "sit_to_stand",
    "sit_to_lie",
    "lie_to_sit",
    "stand_to_lie",
    "lie_to_stand",
]
_PEOPLE = [f"person{i:02d}" for i in range(1, 31)]
_SIZES = (18, 4, 8)
_HOME = "https://archive.ics.uci.edu/dataset/341"
# Either form will do: the raw recordings alone, or the archive as UCI publishes it, which is what
# is fetched.
RAW = File(
    "hapt",
    "hapt_raw.tar.xz",
    "https://archive.ics.uci.edu/static/public/341/smartphone+based+recognition+of+"
    "human+activities+and+postural+transitions.zip",
)
_RECORDING = re.compile(r"(acc|gyro)_exp(\d+)_user(\d+)\.txt")


def build(files: dict[str, Path], cache: Path, *, name: str, classes: int) -> Dataset:
    folder = _tfds.built(cache, "hapt", _VERSION, functools.partial(_builder, files[RAW.name]))
    return _windows.dataset(
        folder,
        name,
        seeded_split(tuple(_PEOPLE), _SIZES),
        f"seeded_split of people, {'/'.join(map(str, _SIZES))}, seed 0",
        classes,
    )


def segments(path: Path) -> Iterator[_windows.Segment]:
    """Yields each labelled stretch of the raw recordings in an archive.

    Raises:
      ValueError: the archive is damaged, lacks labels.txt or a recording, or its labels do not fit
        them.
    """
    contents = {Path(name).name: content for name, content in members(path)}
    recordings: dict[tuple[int, int], dict[str, np.ndarray]] = {}
    for name, content in contents.items():
        if match := _RECORDING.fullmatch(name):
            sensor, experiment, user = match[1], int(match[2]), int(match[3])
            recordings.setdefault((experiment, user), {})[sensor] = _table(path, name, content, 3)
    if not recordings or "labels.txt" not in contents:
        raise ValueError(
            f"{path} must hold acc_expNN_userMM.txt, gyro_expNN_userMM.txt and labels.txt; "
            "give HAPT's raw recordings"
        )
    for experiment, user, activity, first, last in _table(
        path, "labels.txt", contents["labels.txt"], 5
    ).astype(int):
        signals = recordings.get((experiment, user), {})
        if set(signals) != {"acc", "gyro"} or last > min(map(len, signals.values())):
            raise ValueError(
                f"{path}: labels.txt names samples {first} to {last} of experiment {experiment}, "
                f"user {user}, which its recordings do not hold; replace the archive with a whole "
                "one"
            )
        if not 1 <= activity <= len(_ACTIVITIES) or not 1 <= user <= len(_PEOPLE):
            raise ValueError(
                f"{path}: labels.txt names activity {activity} of user {user}, but there are "
                f"{len(_ACTIVITIES)} activities and {len(_PEOPLE)} people; replace the archive"
            )
        yield _windows.Segment(
            np.hstack([signals[sensor][first - 1 : last] for sensor in ("acc", "gyro")]),
            _ACTIVITIES[activity - 1],
            _PEOPLE[user - 1],
            int(experiment),
        )


def _table(path: Path, name: str, content: bytes, columns: int) -> np.ndarray:
    try:
        table = np.loadtxt(io.BytesIO(content), ndmin=2)
    except ValueError as error:
        raise ValueError(
            f"{path}: {name} must be a table of numbers ({error}); replace the archive"
        ) from error
    if table.shape[1] != columns:
        raise ValueError(
            f"{path}: {name} must have {columns} columns, got {table.shape[1]}; replace the archive"
        )
    return table


def _builder(path: Path) -> type:
    return _windows.builder(
        "hapt",
        _VERSION,
        _LENGTH,
        {"label": _ACTIVITIES, "group": _PEOPLE, "domain": ["all"]},
        segments,
        path,
        description="Windows of the raw recordings of HAPT.",
        homepage=_HOME,
    )


def _recipe(name: str, classes: int, what: str) -> Recipe:
    return Recipe(
        name=name,
        kind="window",
        classes=classes,
        groups=30,
        group="person",
        by="group",
        files=(RAW,),
        version=2,
        build=functools.partial(build, name=name, classes=classes),
        description=(
            "Smartphone at the waist, accelerometer (g) and gyroscope (rad/s), 50 Hz, 2.56 s: "
            f"{what}."
        ),
        origin=(
            "Reyes-Ortiz, Oneto, Sama, Parra and Anguita, Transition-aware human activity "
            f"recognition using smartphones, Neurocomputing 2016 (non-commercial; cite), {_HOME}"
        ),
    )


RECIPES = (
    _recipe("hapt", 6, "the 6 basic activities"),
    _recipe(
        "hapt_transitions", 12, "the 6 basic activities and the 6 transitions between postures"
    ),
)
