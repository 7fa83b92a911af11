"""`digits`: the 8x8 handwritten digits that scikit-learn ships, the smallest real set of images."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from jaxmeta import _extras

from ._dataset import Dataset
from ._images import resized
from ._recipe import Recipe


def build(files: dict[str, Path], cache: Path) -> Dataset:
    with _extras.needed("the set 'digits'"):
        from sklearn.datasets import load_digits

    bunch = load_digits()
    grey = np.rint(bunch.images * (255 / 16)).astype(np.uint8)  # the source counts ink in 0 to 16
    return Dataset(
        name="digits",
        inputs=np.stack([resized(image) for image in grey])[..., None],
        labels=bunch.target,
        groups=np.zeros(len(grey), np.int32),
        class_names=tuple(map(str, range(10))),
        group_names=("digits",),
        by="class",
        splits={"train": np.arange(5), "validation": np.arange(5, 7), "test": np.arange(7, 10)},
        protocol="digits 0-4, 5-6, 7-9",
    )


RECIPES = (
    Recipe(
        name="digits",
        kind="image",
        classes=10,
        groups=1,
        group="set",
        by="class",
        build=build,
        description="1,797 handwritten digits of 8x8 pixels, enlarged to 28x28.",
        origin=(
            "Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI 1998 (CC BY "
            "4.0), test part, as shipped by scikit-learn."
        ),
    ),
)
