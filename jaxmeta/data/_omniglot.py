"""`omniglot`, its background set and its two small ones: 1,623 handwritten characters of 50
alphabets, 20 people each."""

from __future__ import annotations

import functools
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from . import _tfds
from ._dataset import Dataset, seeded_split
from ._images import grey, png, resized
from ._recipe import Recipe
from ._source import File, members

_CLASSES, _ALPHABETS = 1623, 50
_SIZES = (1028, 172, 423)
_GITHUB = "https://github.com/brendenlake/omniglot/raw/master/python/"
_TORCHMETA = "https://raw.githubusercontent.com/tristandeleu/pytorch-meta/master/torchmeta/datasets/assets/omniglot/"
_ARCHIVES = {  # tfds split -> archive, with the size and sha256 that tfds gives
    "train": File(
        "omniglot",
        "images_background.zip",
        _GITHUB + "images_background.zip",
        9464212,
        "ad41ab679c8b5d90b271ef46be6987cc81211774a695c29dcc5367b2b26ee640",
    ),
    "test": File(
        "omniglot",
        "images_evaluation.zip",
        _GITHUB + "images_evaluation.zip",
        6462886,
        "1f61a8f3366785b057fc117d9228e78a16e3d976c8953b2a10fcc74cf0609cee",
    ),
    "small1": File(
        "omniglot",
        "images_background_small1.zip",
        _GITHUB + "images_background_small1.zip",
        1319022,
        "f38eb80f801274ac2b4dff5b24289016bfaba4a7d5bb50deebf27104ad6cb8a4",
    ),
    "small2": File(
        "omniglot",
        "images_background_small2.zip",
        _GITHUB + "images_background_small2.zip",
        1580917,
        "3ccaa407515a8778e5d0861875af38b17e418f301ad5bb3b5a6b65d901a41c7f",
    ),
}
_SPLITS = {
    which: File(
        "splits", f"torchmeta_omniglot_{short}.json", f"{_TORCHMETA}{short}.json", needed=False
    )
    for which, short in (("train", "train"), ("validation", "val"), ("test", "test"))
}
_DRAWING = re.compile(r"[^/]+/([^/]+)/character(\d+)/(\d+)_(\d+)\.png")


def build(files: dict[str, Path], cache: Path, *, name: str, parts: Sequence[str]) -> Dataset:
    folder = _tfds.built(cache, "omniglot", "3.0.0", functools.partial(_builder, files))
    images, labels, keys = [], [], []
    for part in parts:
        source, features = _tfds.read(folder, part, raw=("image",))
        for example in source:
            # ink becomes bright: the archives draw in black on white
            images.append(resized(255 - grey(example["image"])))
            labels.append(example["label"])
            keys.append((example["alphabet"], example["alphabet_char_id"]))
    order = np.argsort(
        labels, kind="stable"
    )  # tfds shuffles; a character's drawings stand together again
    inputs, labels = np.stack(images)[order, ..., None], np.asarray(labels)[order]
    _, first, classes = np.unique(labels, return_index=True, return_inverse=True)
    keys = np.asarray(keys)[order]
    present, groups = np.unique(keys[:, 0], return_inverse=True)
    alphabets = [features["alphabet"].int2str(int(i)) for i in present]
    class_names = tuple(
        f"{alphabets[groups[row]]}/character{keys[row, 1] + 1:02d}" for row in first
    )
    splits, protocol = _splits(files, class_names, whole=name == "omniglot")
    return Dataset(
        name=name,
        inputs=inputs,
        labels=classes,
        groups=groups,
        class_names=class_names,
        group_names=tuple(alphabets),
        by="class",
        splits=splits,
        protocol=protocol,
    )


def drawings(path: Path) -> list[tuple[str, dict]]:
    """Returns (key, tfds features) of each drawing in an archive laid out as
    Alphabet/characterNN/NNNN_MM.png.

    The features are those of tfds's own builder; the image is given as 8-bit RGB, for the archives'
    1-bit images decode to 0 and 1.

    Raises:
      ValueError: the archive is damaged, or holds no such drawing.
    """
    from PIL import Image

    found = []
    for name, content in members(path):
        if match := _DRAWING.fullmatch(name):
            alphabet, character, label, _ = match.groups()
            found.append(
                (
                    f"{alphabet}_{int(character) - 1}_{Path(name).name}",
                    {
                        "image": png(Image.open(io.BytesIO(content)).convert("RGB")),
                        "alphabet": alphabet,
                        "alphabet_char_id": int(character) - 1,
                        "label": int(label) - 1,
                    },
                )
            )
    if not found:
        raise ValueError(
            f"{path} holds no drawing named folder/Alphabet/characterNN/NNNN_MM.png; "
            f"give Omniglot's own {path.name}"
        )
    return found


def _builder(files: dict[str, Path]) -> type:
    import tensorflow_datasets as tfds

    parts = {part: drawings(files[file.name]) for part, file in _ARCHIVES.items()}
    features = [features for part in parts.values() for _, features in part]
    labels = {f["label"]: f"{f['alphabet']}_{f['alphabet_char_id']}" for f in features}
    alphabets = sorted({f["alphabet"] for f in features})
    if (len(labels), len(alphabets)) != (_CLASSES, _ALPHABETS):
        where = ", ".join(str(files[file.name]) for file in _ARCHIVES.values())
        raise ValueError(
            f"Omniglot must have {_CLASSES} characters in {_ALPHABETS} alphabets, got "
            f"{len(labels)} in {len(alphabets)} from {where}; give the whole archives"
        )
    return _tfds.local(
        tfds.builder_cls("omniglot"),
        {part: functools.partial(iter, examples) for part, examples in parts.items()},
        {"alphabet": alphabets, "label": [labels[i] for i in sorted(labels)]},
    )


def _splits(
    files: dict[str, Path], class_names: tuple[str, ...], whole: bool
) -> tuple[dict[str, np.ndarray], str]:
    count = len(class_names)
    if not whole:  # 3 / 1 / 1 of the characters, drawn by seed
        sizes = (count - 2 * (count // 5), count // 5, count // 5)
    elif all(file.name in files for file in _SPLITS.values()):
        place = {name: i for i, name in enumerate(class_names)}
        return (
            {which: _listed(files[file.name], place) for which, file in _SPLITS.items()},
            "torchmeta, after Vinyals et al. 2016: 1028/172/423 characters, of which only "
            "Gurmukhi is in two splits",
        )
    else:
        sizes = _SIZES
    return seeded_split(
        class_names, sizes
    ), f"seeded_split of characters, {'/'.join(map(str, sizes))}, seed 0"


def _listed(path: Path, place: dict[str, int]) -> np.ndarray:
    try:
        halves = json.loads(path.read_text(encoding="utf-8"))
        return np.sort(
            [
                place[f"{alphabet}/{character}"]
                for half in halves.values()
                for alphabet, characters in half.items()
                for character in characters
            ]
        )
    except (ValueError, AttributeError, TypeError, KeyError) as error:
        raise ValueError(
            f"{path} must list half -> alphabet -> characters of Omniglot, got {error!r}; replace "
            "it, or remove all three split files for a seeded split"
        ) from error


_ORIGIN = (
    "Lake, Salakhutdinov and Tenenbaum, Human-level concept learning through probabilistic "
    "program induction, Science 2015 (MIT), https://github.com/brendenlake/omniglot"
)


def _recipe(name: str, description: str, classes: int, groups: int, parts: Sequence[str]) -> Recipe:
    return Recipe(
        name=name,
        kind="image",
        description=description,
        classes=classes,
        groups=groups,
        group="alphabet",
        by="class",
        origin=_ORIGIN,
        build=functools.partial(build, name=name, parts=parts),
        files=(*_ARCHIVES.values(), *_SPLITS.values()),
    )


RECIPES = (
    _recipe(
        "omniglot",
        "Handwritten characters, 20 drawings each by 20 people, 28x28: the whole set.",
        _CLASSES,
        _ALPHABETS,
        ("train", "test"),
    ),
    _recipe(
        "omniglot_background",
        "Omniglot's background set, which one-shot learners may learn from: 30 alphabets.",
        964,
        30,
        ("train",),
    ),
    _recipe(
        "omniglot_small1",
        "Omniglot's first small background set: five alphabets.",
        136,
        5,
        ("small1",),
    ),
    _recipe(
        "omniglot_small2",
        "Omniglot's second small background set: five alphabets.",
        156,
        5,
        ("small2",),
    ),
)
