"""`watch`: a smartwatch during 7 shoulder exercises by 10 people; real sensor data that a package
ships.

Windows are 128 samples (2.56 s at 50 Hz), cut every 64 within one of the 140 recordings. Channels
are acceleration in g (x, y, z; gravity included) and angular velocity in rad/s (x, y, z), as in the
source. The arm is the domain. Neighbouring windows share half their samples; the split is by
person, so none of it straddles. A recording is of one exercise, and so a bout; everyone has two of
each exercise, one an arm.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from jaxmeta import _extras

from ._dataset import Dataset, seeded_split
from ._recipe import Recipe
from ._windows import windows

_LENGTH = 128
_SIZES = (6, 2, 2)
_EXERCISES = (
    "pendulum",
    "abduction",
    "forward_elevation",
    "internal_rotation",
    "external_rotation",
    "trapezius_extension",
    "upright_row",
)  # the source's PEN, ABD, FEL, IR, ER, TRAP, ROW


def build(files: dict[str, Path], cache: Path) -> Dataset:
    # Read from its file: importing seglearn needs pandas, which it does not ask for.
    with _extras.needed("the set 'watch'"):
        if (found := importlib.util.find_spec("seglearn")) is None:
            raise ModuleNotFoundError("No module named 'seglearn'", name="seglearn")
    folder = Path(found.origin).parent
    source = np.load(folder / "data" / "watch_dataset.npy", allow_pickle=True).item()
    pieces = [windows(signal, _LENGTH) for signal in source["X"]]
    each = [len(piece) for piece in pieces]
    recordings = np.repeat(np.arange(len(each)), each)
    people = tuple(f"person{i:02d}" for i in range(1, 11))
    return Dataset(
        name="watch",
        inputs=np.concatenate(pieces),
        labels=np.repeat(source["y"], each),
        groups=np.repeat(source["subject"] - 1, each),
        domains=np.repeat(source["side"].astype(np.int32), each),
        class_names=_EXERCISES,
        group_names=people,
        domain_names=("left", "right"),
        by="group",
        splits=seeded_split(people, _SIZES),
        bouts=recordings,
        recordings=recordings,
        protocol=f"seeded_split of people, {'/'.join(map(str, _SIZES))}, seed 0",
    )


RECIPES = (
    Recipe(
        name="watch",
        kind="window",
        classes=7,
        groups=10,
        group="person",
        by="group",
        build=build,
        version=2,
        description=(
            "Smartwatch, accelerometer (g) and gyroscope (rad/s), 50 Hz, 2.56 s: 7 shoulder "
            "exercises; the arm is the domain."
        ),
        origin=(
            "Burns, Leung, Hardisty, Whyne, Henry and McLachlin, Shoulder physiotherapy exercise "
            "recognition, Physiological Measurement 2018, arXiv:1802.01489, as shipped by "
            "seglearn 1.2.5 (BSD)."
        ),
    ),
)
