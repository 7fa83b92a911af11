"""`mnist`: 70,000 handwritten digits."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from . import _tfds
from ._dataset import Dataset
from ._images import grey, png
from ._recipe import Recipe
from ._source import File, gunzipped

_BUCKET = "https://storage.googleapis.com/cvdf-datasets/mnist/"
_PARTS = {"train": ("train", 60_000), "test": ("t10k", 10_000)}
_FILES = tuple(
    File("mnist", name, _BUCKET + name, size, sha256)
    for name, size, sha256 in (
        (
            "train-images-idx3-ubyte.gz",
            9912422,
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        ),
        (
            "train-labels-idx1-ubyte.gz",
            28881,
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        ),
        (
            "t10k-images-idx3-ubyte.gz",
            1648877,
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        ),
        (
            "t10k-labels-idx1-ubyte.gz",
            4542,
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
    )
)


def build(files: dict[str, Path], cache: Path) -> Dataset:
    folder = _tfds.built(cache, "mnist", "3.0.1", functools.partial(_builder, files))
    examples = [
        (part, example)
        for part in _PARTS
        for example in _tfds.read(folder, part, raw=("image",))[0]
    ]
    labels = np.array([example["label"] for _, example in examples])
    order = np.argsort(labels, kind="stable")
    return Dataset(
        name="mnist",
        inputs=np.stack([grey(example["image"]) for _, example in examples])[order, ..., None],
        labels=labels[order],
        groups=np.zeros(len(order), np.int32),
        domains=np.array([part == "test" for part, _ in examples], np.int32)[order],
        class_names=tuple(map(str, range(10))),
        group_names=("mnist",),
        domain_names=tuple(_PARTS),
        by="class",
        splits={"train": np.arange(5), "validation": np.arange(5, 7), "test": np.arange(7, 10)},
        protocol="digits 0-4, 5-6, 7-9; the official train and test parts are the domains",
    )


def idx(path: Path) -> np.ndarray:
    """Returns the uint8 array of a gzipped idx file.

    Raises:
      ValueError: the file is damaged, or is no idx file of bytes.
    """
    content = gunzipped(path)
    axes = content[3] if content[:3] == b"\0\0\x08" and len(content) > 3 else 0
    shape = (
        np.frombuffer(content[4 : 4 + 4 * axes], ">u4")
        if len(content) >= 4 + 4 * axes
        else np.zeros(0, int)
    )
    if not axes or len(content) != 4 + 4 * axes + int(shape.prod()):
        raise ValueError(
            f"{path} must be an idx file of bytes whose header gives its size, got {len(content)} "
            f"bytes; give MNIST's own {path.name}"
        )
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)


def _builder(files: dict[str, Path]) -> type:
    import tensorflow_datasets as tfds

    return _tfds.local(
        tfds.builder_cls("mnist"),
        {part: functools.partial(_examples, files, *known) for part, known in _PARTS.items()},
    )


def _examples(files: dict[str, Path], prefix: str, count: int) -> Iterator[tuple[int, dict]]:
    from PIL import Image

    images, labels = (
        idx(files[f"{prefix}-images-idx3-ubyte.gz"]),
        idx(files[f"{prefix}-labels-idx1-ubyte.gz"]),
    )
    if images.shape != (count, 28, 28) or labels.shape != (count,):
        raise ValueError(
            f"MNIST's {prefix} files must hold {count} images of 28x28 and as many labels, got "
            f"{list(images.shape)} and {list(labels.shape)}; give MNIST's own four files"
        )
    for i, (image, label) in enumerate(zip(images, labels)):
        yield i, {"image": png(Image.fromarray(image)), "label": int(label)}


RECIPES = (
    Recipe(
        name="mnist",
        kind="image",
        classes=10,
        groups=1,
        group="set",
        by="class",
        build=build,
        files=_FILES,
        description="70,000 handwritten digits, 28x28.",
        origin=(
            "LeCun, Cortes and Burges, The MNIST database of handwritten digits, 1998 (CC BY-SA "
            "3.0)."
        ),
    ),
)
