"""Recordings of sensors cut into windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from . import _tfds
from ._dataset import Dataset

CHANNELS = 6  # accelerometer x, y, z, then gyroscope x, y, z


class Segment(NamedTuple):
    """A stretch of one recording with one label: signal [t, channels], names of its class, group and domain, and the number
    of the recording where the source tells it."""

    signal: np.ndarray
    label: str
    group: str
    domain: str = "all"
    recording: int = 0


def windows(signal: np.ndarray, length: int) -> np.ndarray:
    """Returns windows [w, length, channels] of a signal [t, channels], each overlapping the next by half.

    >>> windows(np.arange(9.0)[:, None], 4)[..., 0].tolist()
    [[0.0, 1.0, 2.0, 3.0], [2.0, 3.0, 4.0, 5.0], [4.0, 5.0, 6.0, 7.0]]
    """
    starts = np.arange(0, len(signal) - length + 1, length // 2)
    return signal[starts[:, None] + np.arange(length)].astype(np.float32)


def cut(segments: Iterator[Segment], length: int) -> Iterator[tuple[int, dict]]:
    """Yields (key, features) of every window that lies wholly in a segment, in the form of `builder`."""
    key = 0
    for segment in segments:
        for window in windows(segment.signal, length):
            yield key, {"window": window, "label": segment.label, "group": segment.group, "domain": segment.domain}
            key += 1


def complete(examples: Iterator[tuple[int, dict]], names: Mapping[str, list[str]],
             path: Path) -> Iterator[tuple[int, dict]]:
    """Yields the examples, and refuses at the end where a name had none: then the archive is not the whole set."""
    missing = {(feature, name) for feature, known in names.items() for name in known}
    for key, example in examples:
        missing -= {(feature, example[feature]) for feature in names}
        yield key, example
    if missing:
        feature, name = min(missing)
        raise ValueError(f"{path} must hold windows of every {feature}, got none of '{name}'; give the whole set")


def builder(name: str, version: str, length: int, names: Mapping[str, list[str]],
            segments: Callable[[Path], Iterator[Segment]], path: Path, description: str, homepage: str) -> type:
    """Returns a tfds builder of windows: one split 'windows' with features 'window', 'label', 'group' and 'domain'.

    Args:
      name: of the set in tfds.
      version: likewise.
      length: samples a window.
      names: 'label', 'group', 'domain' -> names.
      segments: reads what is cut from an archive.
      path: the archive.
      description: for the tfds metadata.
      homepage: likewise.
    """
    import tensorflow_datasets as tfds

    def info(self):
        return tfds.core.DatasetInfo(builder=self, description=description, homepage=homepage, features=(
            tfds.features.FeaturesDict({
                "window": tfds.features.Tensor(shape=(length, CHANNELS), dtype=np.float32),
                **{feature: tfds.features.ClassLabel(names=known) for feature, known in names.items()}})))

    with tfds.core.registered.skip_registration():
        base = type(name, (tfds.core.GeneratorBasedBuilder,), {
            "name": name, "__module__": __name__, "VERSION": tfds.core.Version(version), "_info": info,
            "_split_generators": None, "_generate_examples": None})
    return _tfds.local(base, {"windows": lambda: complete(cut(segments(path), length), names, path)})


def dataset(folder: Path, name: str, splits: Mapping[str, np.ndarray], protocol: str,
            classes: int | None = None) -> Dataset:
    """Reads what `builder` made: the first `classes` of its classes (all by default), split by group."""
    source, features = _tfds.read(folder, "windows")
    names = {feature: tuple(features[feature].names) for feature in ("label", "group", "domain")}
    class_names = names["label"][:classes]
    examples = [example for example in source if example["label"] < len(class_names)]
    ids = {feature: np.array([example[feature] for example in examples]) for feature in names}
    order = np.lexsort((ids["domain"], ids["label"], ids["group"]))
    return Dataset(
        name=name, inputs=np.stack([example["window"] for example in examples])[order], labels=ids["label"][order],
        groups=ids["group"][order], domains=ids["domain"][order], class_names=class_names, group_names=names["group"],
        domain_names=names["domain"], by="group", splits=splits, protocol=protocol)
