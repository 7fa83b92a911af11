"""Lake's within-alphabet one-shot classification: the official runs, from an archive in the layout
of `all_runs.zip`.

Axes: `R` runs, `W` ways.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ._images import grey, resized
from ._source import members

_IMAGE = re.compile(r"(?:.*/)?(run\d+)/(training|test)/([^/]+\.png)")
_LABELS = re.compile(r"(?:.*/)?(run\d+)/class_labels\.txt")


class OneShotRuns(NamedTuple):
    """Trials of one alphabet and two people each, one image of every class to learn from and one to
    classify.

    Args:
      support: `[R, W, 28, 28, 1]` uint8, bright on dark; image w is the example of class w.
      query: `[R, W, 28, 28, 1]` uint8, in the order of `class_labels.txt`.
      targets: `[R, W]`, the class of each query.
      names: R names.
    """

    support: np.ndarray
    query: np.ndarray
    targets: np.ndarray
    names: tuple[str, ...]


def one_shot_runs(path: str | os.PathLike) -> OneShotRuns:
    """Reads runs laid out as `runNN/training/*.png`, `runNN/test/*.png` and
    `runNN/class_labels.txt`, a line of which names a test image and the training image of its
    class.

    Args:
      path: Of the zip (or tar) archive, such as Omniglot's `all_runs.zip`.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the archive is damaged, holds no run, a run lacks an image that its labels name,
        or runs differ in their ways.

    Reference: Lake, Salakhutdinov and Tenenbaum, The Omniglot challenge: a 3-year progress report,
    2019.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; give Omniglot's all_runs.zip")
    images, labels = {}, {}
    for name, content in members(path):
        if match := _IMAGE.fullmatch(name):
            images[match.groups()] = content
        elif match := _LABELS.fullmatch(name):
            labels[match.group(1)] = content.decode()
    if not labels:
        raise ValueError(
            f"{path} holds no runNN/class_labels.txt; give Omniglot's own all_runs.zip"
        )
    runs = [_run(path, run, text, images) for run, text in sorted(labels.items())]
    if len({len(targets) for _, _, targets in runs}) > 1:
        raise ValueError(
            f"the runs of {path} must have the same number of classes, got "
            f"{sorted({len(targets) for _, _, targets in runs})}; give whole runs"
        )
    return OneShotRuns(*(np.stack(part) for part in zip(*runs)), tuple(sorted(labels)))


def _run(path, run, text, images):
    pairs = [line.split() for line in text.splitlines() if line.strip()]
    if not pairs or any(len(pair) != 2 for pair in pairs):
        raise ValueError(
            f"{run}/class_labels.txt of {path} must have a test and a training image on every "
            f"line, got {next((' '.join(pair) for pair in pairs if len(pair) != 2), 'nothing')!r}"
        )
    files = [(Path(test).name, Path(training).name) for test, training in pairs]
    classes = sorted({training for _, training in files})

    def image(part, name):
        if (run, part, name) not in images:
            raise ValueError(
                f"{path} lacks {run}/{part}/{name}, which {run}/class_labels.txt names; give whole "
                "runs"
            )
        return resized(255 - grey(images[run, part, name]))[..., None]

    return (
        np.stack([image("training", name) for name in classes]),
        np.stack([image("test", name) for name, _ in files]),
        np.array([classes.index(training) for _, training in files], np.int32),
    )
