"""Recordings of sensors cut into windows, each of which knows its bout and its recording."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from . import _tfds
from ._dataset import Dataset

CHANNELS = 6  # accelerometer x, y, z, then gyroscope x, y, z


class Segment(NamedTuple):
    """A stretch of one recording with one label, whose windows are a bout: signal [t, channels],
    names of its class and group, the number of the recording among all, the name of its domain."""

    signal: np.ndarray
    label: str
    group: str
    recording: int
    domain: str = "all"


class Windows(NamedTuple):
    """Windows `inputs` [n, length, channels] float32; of each the label, the recording and the
    bout, [n] int32."""

    inputs: np.ndarray
    labels: np.ndarray
    recordings: np.ndarray
    bouts: np.ndarray


def windows(signal: np.ndarray, length: int) -> np.ndarray:
    """Returns windows [w, length, channels] of a signal [t, channels], each overlapping the next by
    half.

    >>> windows(np.arange(9.0)[:, None], 4)[..., 0].tolist()
    [[0.0, 1.0, 2.0, 3.0], [2.0, 3.0, 4.0, 5.0], [4.0, 5.0, 6.0, 7.0]]
    """
    starts = np.arange(0, len(signal) - length + 1, length // 2)
    return signal[starts[:, None] + np.arange(length)].astype(np.float32)


def stretches(labels: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yields (first, end) of every longest run of samples with one label, of the labels [t] of a
    recording.

    >>> list(stretches(np.array([2, 2, 5, 2])))
    [(0, 2), (2, 3), (3, 4)]
    """
    edges = np.flatnonzero(labels[1:] != labels[:-1]) + 1
    return itertools.pairwise(np.unique([0, *edges, len(labels)]).tolist())


def cut_windows(
    recordings: Sequence[np.ndarray], labels: Sequence[np.ndarray], length: int
) -> Windows:
    """Cuts recordings into windows that lie wholly in a stretch of one label, each overlapping the
    next by half.

    A stretch is a bout: windows of different bouts share no sample, so that
    `jaxmeta.pool(inputs, labels, bouts=bouts)` draws episodes whose query has seen nothing of the
    support.

    Args:
      recordings: signals [t, channels], each of its own t.
      labels: of each recording [t] integers, the class of every sample.
      length: samples a window, at least 2.

    Raises:
      ValueError: for recordings that have not one integer a sample as label, or no stretch of that
        length.

    >>> cut = cut_windows([np.arange(7.0)[:, None]], [np.array([0, 0, 0, 0, 1, 1, 1])], 2)
    >>> cut.inputs[:, 0, 0].tolist(), cut.labels.tolist(), cut.bouts.tolist()
    ([0.0, 1.0, 2.0, 4.0, 5.0], [0, 0, 0, 1, 1], [0, 0, 0, 1, 1])
    """
    labels = [np.asarray(of) for of in labels]
    expected, got = [(len(signal),) for signal in recordings], [of.shape for of in labels]
    if expected != got or any(of.dtype.kind not in "iu" for of in labels):
        raise ValueError(
            f"labels must be an integer a sample of each recording, of shapes {expected}, got "
            f"{got} of {', '.join({str(of.dtype) for of in labels})}; give the class of every "
            "sample"
        )
    if length < 2:
        raise ValueError(f"length must be at least 2 samples, got {length}; cut longer windows")
    pieces, about = [], []
    for number, (signal, of) in enumerate(zip(recordings, labels)):
        for first, end in stretches(of):
            pieces.append(windows(signal[first:end], length))
            about += [(of[first], number, len(pieces) - 1)] * len(pieces[-1])
    if not about:
        raise ValueError(
            f"no recording has {length} samples of one label in a row; cut shorter windows"
        )
    return Windows(np.concatenate(pieces), *np.array(about, np.int32).T)


def cut(segments: Iterator[Segment], length: int) -> Iterator[tuple[int, dict]]:
    """Yields (key, features) of every window that lies wholly in a segment, in the form of
    `builder`."""
    key = itertools.count()
    for bout, (signal, *about) in enumerate(segments):
        features = dict(zip(Segment._fields[1:], about)) | {"bout": bout}
        for window in windows(signal, length):
            yield next(key), {"window": window} | features


def complete(
    examples: Iterator[tuple[int, dict]], names: Mapping[str, list[str]], path: Path
) -> Iterator[tuple[int, dict]]:
    """Yields the examples, and refuses at the end where a name had none: then the archive is not
    the whole set."""
    missing = {(feature, name) for feature, known in names.items() for name in known}
    for key, example in examples:
        missing -= {(feature, example[feature]) for feature in names}
        yield key, example
    if missing:
        feature, name = min(missing)
        raise ValueError(
            f"{path} must hold windows of every {feature}, got none of '{name}'; give the whole set"
        )


def builder(
    name: str,
    version: str,
    length: int,
    names: Mapping[str, list[str]],
    segments: Callable[[Path], Iterator[Segment]],
    path: Path,
    description: str,
    homepage: str,
) -> type:
    """Returns a tfds builder of windows: one split 'windows' with features 'window', 'label',
    'group', 'domain', 'recording' and 'bout'.

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
        return tfds.core.DatasetInfo(
            builder=self,
            description=description,
            homepage=homepage,
            features=(
                tfds.features.FeaturesDict(
                    {
                        "window": tfds.features.Tensor(shape=(length, CHANNELS), dtype=np.float32),
                        "recording": tfds.features.Scalar(np.int32),
                        "bout": tfds.features.Scalar(np.int32),
                        **{
                            feature: tfds.features.ClassLabel(names=known)
                            for feature, known in names.items()
                        },
                    }
                )
            ),
        )

    with tfds.core.registered.skip_registration():
        base = type(
            name,
            (tfds.core.GeneratorBasedBuilder,),
            {
                "name": name,
                "__module__": __name__,
                "VERSION": tfds.core.Version(version),
                "_info": info,
                "_split_generators": None,
                "_generate_examples": None,
            },
        )
    return _tfds.local(
        base, {"windows": lambda: complete(cut(segments(path), length), names, path)}
    )


def dataset(
    folder: Path,
    name: str,
    splits: Mapping[str, np.ndarray],
    protocol: str,
    classes: int | None = None,
) -> Dataset:
    """Reads what `builder` made: the first `classes` of its classes (all by default), split by
    group."""
    source, features = _tfds.read(folder, "windows")
    names = {feature: tuple(features[feature].names) for feature in ("label", "group", "domain")}
    class_names = names["label"][:classes]
    examples = [example for example in source if example["label"] < len(class_names)]
    ids = {
        feature: np.array([example[feature] for example in examples])
        for feature in (*names, "recording", "bout")
    }
    order = np.lexsort((ids["domain"], ids["label"], ids["group"]))
    return Dataset(
        name=name,
        inputs=np.stack([example["window"] for example in examples])[order],
        labels=ids["label"][order],
        groups=ids["group"][order],
        domains=ids["domain"][order],
        class_names=class_names,
        group_names=names["group"],
        domain_names=names["domain"],
        by="group",
        splits=splits,
        protocol=protocol,
        bouts=ids["bout"][order],
        recordings=ids["recording"][order],
    )
